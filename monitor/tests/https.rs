//! The test object `https` against a real server: whose certificate counts, and what is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/tls.rs"]
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use monitor::judge::{Look, ObjectId, Outcome, Reading, Run, Task};
use monitor::probe::Prober;
use statemachine::TestKind;
use tls::{Authority, serve};
use tokio::task::LocalSet;

const NAME: &str = "www.example";

/// What is asked.
struct Asked {
    address: SocketAddr,
    host: Option<&'static str>,
    ca: Option<String>,
    verify: bool,
    text: Option<&'static str>,
}

impl Asked {
    fn of(address: SocketAddr, ca: &str) -> Self {
        Self {
            address,
            host: Some(NAME),
            ca: Some(ca.to_owned()),
            verify: true,
            text: None,
        }
    }

    /// Looks twice, as the same prober does each interval; the outcomes.
    fn twice(&self) -> [Outcome; 2] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let prober = Rc::new(Prober::default());
            let first = Rc::clone(&prober).perform(self.run()).await.outcome;
            [first, prober.perform(self.run()).await.outcome]
        })
    }

    fn once(&self) -> Outcome {
        self.twice()[0].clone()
    }

    fn run(&self) -> Run {
        let kind = TestKind::Https {
            url: format!("https://{}/health", self.address),
            host: self.host.map(str::to_owned),
            ca: self.ca.clone(),
            verify: self.verify,
            expect_status: 200,
            expect_body: self.text.map(str::to_owned),
        };
        Run {
            object: ObjectId(1),
            run: 1,
            task: Task {
                look: Look::Test(kind),
                of: Vec::new(),
            },
            timeout_ms: 400,
        }
    }
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("rais-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

/// Goal: the service is asked for its name, in the handshake and in the request, and answers; a second look
/// costs no whole handshake.
#[test]
fn a_service_is_asked_by_its_name_and_the_second_look_is_cheap() {
    let authority = Authority::new("ours");
    let ca = file("name.pem", &authority.pem());
    let address = serve(authority.sign(NAME, |_| {}), || {});
    let mut asked = Asked::of(address, &ca.display().to_string());
    for text in [
        "name www.example",
        "GET /health HTTP/1.1",
        "Host: www.example\r\n",
    ] {
        asked.text = Some(text);
        assert_eq!(asked.once(), Ok(Reading::Passed), "{text}");
    }
    let lacks = || Err("status 200, but the body lacks the text asked for".to_owned());
    asked.text = Some("kind Full");
    assert_eq!(asked.twice(), [Ok(Reading::Passed), lacks()]);
    asked.text = Some("kind Resumed");
    assert_eq!(asked.twice(), [lacks(), Ok(Reading::Passed)]);
    std::fs::remove_file(ca).unwrap();
}

/// Goal: another's certificate, one that ran out and one for another name fail the test, and the words say
/// so; `verify = false` takes each of them.
#[test]
fn a_certificate_counts_only_if_it_is_good() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another's"));
    let ca = file("good.pem", &authority.pem());
    let ca_file = ca.display().to_string();
    let last_year = |params: &mut rcgen::CertificateParams| {
        params.not_after = rcgen::date_time_ymd(2025, 1, 1);
    };
    let wrong = [
        (stranger.sign(NAME, |_| {}), "UnknownIssuer"),
        (authority.sign(NAME, last_year), "certificate expired"),
        (authority.sign("mail.example", |_| {}), "not valid for name"),
    ];
    for (config, words) in wrong {
        let mut asked = Asked::of(serve(config, || {}), &ca_file);
        let failed = asked.once().unwrap_err();
        assert!(
            failed.starts_with("no TLS: ") && failed.contains(words),
            "{failed}"
        );
        asked.verify = false;
        assert_eq!(asked.once(), Ok(Reading::Passed), "{words}");
    }
    // The system does not know our authority, nor would a certificate hold this address.
    let mut asked = Asked::of(serve(authority.sign(NAME, |_| {}), || {}), &ca_file);
    asked.host = None;
    assert!(asked.once().unwrap_err().contains("not valid for name"));
    asked.ca = None;
    assert!(asked.once().is_err());
    std::fs::remove_file(ca).unwrap();
}

/// Goal: what is no TLS and a file that is not there are told as what they are.
#[test]
fn what_is_no_tls_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _gone = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad\r\n\r\n");
        }
    });
    let ca = file("plain.pem", &Authority::new("ours").pem());
    let mut asked = Asked::of(address, &ca.display().to_string());
    let words = asked.once().unwrap_err();
    assert!(words.starts_with("no TLS: "), "{words}");
    asked.ca = Some("/nowhere/ca.pem".into());
    let words = asked.once().unwrap_err();
    assert!(words.starts_with("/nowhere/ca.pem: "), "{words}");
    let empty = file("empty.pem", "nothing\n");
    asked.ca = Some(empty.display().to_string());
    assert!(asked.once().unwrap_err().ends_with("holds no certificate"));
    std::fs::remove_file(ca).unwrap();
    std::fs::remove_file(empty).unwrap();
}

/// Goal: a file of authorities that is a pipe, a device or endless holds up no other test. Method: a pipe into
/// which nobody writes, `/dev/null`, and a good file that is followed by more than is read.
#[test]
fn a_file_of_authorities_cannot_stop_the_thread() {
    let authority = Authority::new("ours");
    let address = serve(authority.sign(NAME, |_| {}), || {});
    let pipe = std::env::temp_dir().join(format!("rais-{}-pipe.pem", std::process::id()));
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    let long = file("long.pem", &(authority.pem() + &"\n".repeat(1 << 20)));
    for (ca, words) in [
        (pipe.display().to_string(), "it is no file"),
        ("/dev/null".to_owned(), "it is no file"),
        (long.display().to_string(), "is longer than 1 MiB"),
    ] {
        let said = Asked::of(address, &ca).once().unwrap_err();
        assert!(said.starts_with(&ca) && said.ends_with(words), "{said}");
    }
    std::fs::remove_file(pipe).unwrap();
    std::fs::remove_file(long).unwrap();
}
