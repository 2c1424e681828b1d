//! A zone is pushed into primaries that people run, BIND and Knot, by dynamic updates with TSIG.
//!
//! Needs the Debian packages bind9 and knot; says which is missing. A process of its own, since it
//! starts children: see dig.rs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)]

mod common;
#[path = "update/named.rs"]
mod named;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use common::ask;
use dns::server::push::{PushError, Target, push};
use dns::tsig::{Algorithm, Key};
use dns::update::{UpdateError, Wanted};
use hickory_proto::op::{Message, ResponseCode};
use named::{KEY, Kind, Named, SECRET, ZONE};

const NOW: fn() -> u64 = || {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    since.as_secs()
};

fn key(name: &str, secret: &[u8]) -> Option<Arc<Key>> {
    Some(Arc::new(
        Key::new(name, Algorithm::HmacSha256, secret).unwrap(),
    ))
}

/// The zone at a serial: that many of nine hosts, one of them with an IPv6 address.
fn wanted(serial: u32) -> Wanted {
    let mut sets: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for host in (1..=9).filter(|host| serial & (1 << host) != 0) {
        let mut own: BTreeSet<IpAddr> = [IpAddr::from([10, 77, 1, host])].into();
        if host == 1 {
            own.insert("fd00:77::101".parse().unwrap());
        }
        sets.entry(format!("web.{ZONE}")).or_default().extend(&own);
        sets.insert(format!("h{host}.web.{ZONE}"), own);
    }
    Wanted {
        zone: ZONE.into(),
        apex: format!("web.{ZONE}"),
        ttl_s: 5,
        sets,
        array: "00ff".into(),
        serial,
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn send(server: &Named, key: Option<Arc<Key>>, wanted: &Wanted) -> Result<(), PushError> {
    let target = Target {
        address: server.address(),
        key,
    };
    run(push(&target, wanted, NOW))
}

fn answer(server: &Named, name: &str, rtype: u16) -> (ResponseCode, BTreeSet<String>) {
    let message: Message = server.udp(&ask(name, rtype).bytes()).unwrap();
    let data = message.answers.iter().map(|record| record.data.to_string());
    (message.response_code, data.collect())
}

/// What the primary answers is what was wanted, to the name.
fn assert_has(server: &Named, wanted: &Wanted) {
    let names = (1..=9).map(|host| format!("h{host}.web.{ZONE}"));
    for name in names.chain([wanted.apex.clone()]) {
        let set = wanted.sets.get(&name).cloned().unwrap_or_default();
        let of = |v6: bool| -> BTreeSet<String> {
            let own = set.iter().filter(|ip| ip.is_ipv6() == v6);
            own.map(ToString::to_string).collect()
        };
        assert_eq!(answer(server, &name, 1).1, of(false), "{name} A");
        assert_eq!(answer(server, &name, 28).1, of(true), "{name} AAAA");
    }
}

fn each(test: impl Fn(&mut Named)) {
    for kind in [Kind::Bind, Kind::Knot] {
        if let Some(mut server) = Named::start(kind) {
            test(&mut server);
        }
    }
}

/// Goal: the primary has each version whole, what is gone is gone, and its own records stay.
/// Method: sixty versions of changing hosts into BIND and Knot, among them none at all; looked at each time.
#[test]
fn a_primary_has_each_version_and_keeps_its_own_records() {
    each(|server| {
        for serial in (0..60).map(|step| 1 + step * 37) {
            let wanted = wanted(serial);
            send(server, key(KEY, SECRET), &wanted).unwrap();
            assert_has(server, &wanted);
        }
        assert_eq!(
            answer(server, &format!("mail.{ZONE}"), 1).1,
            ["192.0.2.25".to_owned()].into()
        );
        let nothing = Wanted {
            sets: BTreeMap::new(),
            ..wanted(9_000)
        };
        send(server, key(KEY, SECRET), &nothing).unwrap();
        assert_has(server, &nothing);
    });
}

/// Goal: an older version never replaces a newer one, nor one array another's names, nor a CNAME, and
/// nothing of a refused update is done.
/// Method: each in turn, and a look at what is there.
#[test]
fn what_speaks_against_an_update_leaves_everything_as_it_was() {
    each(|server| {
        let newest = wanted(0b1110);
        send(server, key(KEY, SECRET), &newest).unwrap();
        let older = send(server, key(KEY, SECRET), &wanted(0b0010)).unwrap_err();
        assert!(
            matches!(older, PushError::Update(UpdateError::Newer { .. })),
            "{older}"
        );
        let other = Wanted {
            array: "aa".into(),
            ..wanted(0b11110)
        };
        let other = send(server, key(KEY, SECRET), &other).unwrap_err();
        assert!(
            matches!(other, PushError::Update(UpdateError::OtherArray(_))),
            "{other}"
        );
        let mut alias = wanted(0b11110);
        alias.sets.insert(
            format!("alias.{ZONE}"),
            [IpAddr::from([10, 0, 0, 1])].into(),
        );
        let alias = send(server, key(KEY, SECRET), &alias).unwrap_err();
        assert!(
            matches!(alias, PushError::Update(UpdateError::Conflict)),
            "{alias}"
        );
        // A host that is called as a machine of theirs: that keeps its address.
        let mut theirs = wanted(0b11110);
        let own = [IpAddr::from([10, 0, 0, 1])].into();
        theirs.sets.insert(format!("mail.{ZONE}"), own);
        let theirs = send(server, key(KEY, SECRET), &theirs).unwrap_err();
        assert!(
            matches!(theirs, PushError::Update(UpdateError::Conflict)),
            "{theirs}"
        );
        assert_has(server, &newest);
    });
}

/// Goal: without the key, with a wrong secret or a wrong name nothing is changed, and the reason is told.
/// Method: each in turn; then a zone that the primary has not, and a port where nobody listens.
#[test]
fn who_may_not_update_is_told_why() {
    each(|server| {
        let bare = send(server, None, &wanted(2)).unwrap_err();
        assert!(
            matches!(
                bare,
                PushError::Update(UpdateError::Refused(
                    ResponseCode::Refused | ResponseCode::NotAuth,
                    _
                ))
            ),
            "{bare}"
        );
        let wrong = send(server, key(KEY, &[7; 32]), &wanted(2)).unwrap_err();
        assert!(matches!(wrong, PushError::KeyRefused(_)), "{wrong}");
        let unknown = send(server, key("nobodys-key", SECRET), &wanted(2)).unwrap_err();
        assert!(matches!(unknown, PushError::KeyRefused(_)), "{unknown}");
        assert!(![bare, wrong, unknown].iter().any(PushError::is_passing));
        assert_has(
            server,
            &Wanted {
                sets: BTreeMap::new(),
                ..wanted(0)
            },
        );
        server.stop();
        let gone = send(server, key(KEY, SECRET), &wanted(2)).unwrap_err();
        assert!(gone.is_passing(), "{gone}");
    });
}

/// Goal: of several that push at once each either wins or sees a newer version; the newest stands.
/// Method: eight threads, each with a serial of its own, again and again.
#[test]
fn of_several_that_push_at_once_the_newest_stands() {
    each(|server| {
        let shared: &Named = server;
        std::thread::scope(|scope| {
            for lane in 0..8 {
                scope.spawn(move || {
                    for step in 0..8 {
                        match send(shared, key(KEY, SECRET), &wanted(2 + step * 8 + lane)) {
                            Ok(())
                            | Err(PushError::Update(
                                UpdateError::Newer { .. } | UpdateError::Conflict,
                            )) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                });
            }
        });
        let newest = wanted(2 + 63);
        match send(server, key(KEY, SECRET), &newest) {
            Ok(()) => assert_has(server, &newest),
            Err(other) => panic!("{other}"),
        }
    });
}
