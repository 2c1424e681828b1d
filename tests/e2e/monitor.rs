//! Tests and loads of a group: a service that fails loses its address, and gets it back.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::array::{Array, service, until};

/// Adds `text` to the group's policy and applies it.
fn apply(array: &Array, text: &str) {
    let policy = array.rais(1, &["group", "show", "web"]).good();
    let file = array.dir.join("tested.toml");
    std::fs::write(&file, format!("{policy}\n{text}")).unwrap();
    let file = file.display().to_string();
    array.rais(1, &["group", "apply", &file]).good();
}

/// A service of host `number`'s address, and the one that it is tested at while it serves nothing.
fn listen(address: impl Into<SocketAddr>) -> TcpListener {
    TcpListener::bind(address.into()).unwrap()
}

fn healthy(array: &Array, asked: u8, host: &str) -> Option<bool> {
    let status = array.try_json(asked, &["status"])?;
    let members = status["groups"][0]["members"].as_array()?.clone();
    let member = members.into_iter().find(|member| member["host"] == host)?;
    member["healthy"].as_bool()
}

/// Goal: a host whose service fails lets go of its address by itself, another serves it, and it comes
/// home when the service is back. Method: a `tcp` test against listeners of this test's.
#[test]
fn a_service_that_fails_loses_its_address_and_gets_it_back() {
    let mut array = Array::start(3);
    let port = array.http_port() + 1;
    let mut services: Vec<Option<TcpListener>> = (1..=3)
        .map(|host| Some(listen((service(host), port))))
        .collect();
    apply(
        &array,
        &format!(
            "[[test]]\nname = \"port\"\ntcp = {{ target = \"{{address}}:{port}\" }}\n\
             interval = \"100ms\"\ntimeout = \"90ms\"\nrise = 2\nfall = 2\n"
        ),
    );
    services[1] = None;
    until("h2's address is served elsewhere", 10, || {
        let address = array.address(1, service(2))?;
        (address["state"] == "online" && address["host"] != "h2").then_some(())
    });
    assert_eq!(healthy(&array, 1, "h2"), Some(false));
    let status = array.json(1, &["status"]);
    assert!(
        status["hosts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|host| host["up"] == true)
    );
    until("the event is told", 5, || {
        let events = array.events(3);
        let failed =
            |event: &&serde_json::Value| event["kind"] == "testFailed" && event["host"] == "h2";
        events.iter().find(failed).map(|_| ())
    });
    let why = array.rais(1, &["why", &service(2).to_string()]).good();
    assert!(why.contains("tests fail"), "{why}");
    // Nothing is served there while it is away: the test looks at this host itself.
    let _here = listen((Ipv4Addr::LOCALHOST, port));
    services[1] = Some(listen((service(2), port)));
    array.whole();
    assert_eq!(healthy(&array, 3, "h2"), Some(true));
}
