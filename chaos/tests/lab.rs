//! The lab on this machine's kernel: namespaces, faults, observer. Root only; says so and passes
//! otherwise. Each test has a lab of its own, so they run side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chaos::lab::{
    Endpoint, Fault, Gap, Injected, Lab, LabSpec, MAX_HOSTS, Network, Observer, Scope, Space, Step,
    Targets, Wire, host_name, now,
};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

const PORT: u16 = 80;
const V4: &str = "10.77.0.101/24";
const V6: &str = "fd00:77::101/64";
const SOON: Duration = Duration::from_secs(3);

fn lab(hosts: u8, name: &str) -> Option<Lab> {
    if let Err(error) = chaos::lab::available() {
        // Past the capture of the test harness: a test that tests nothing says so.
        let _ = writeln!(
            std::io::stderr(),
            "\n!!! SKIPPED chaos/tests/lab.rs: {error}\n"
        );
        return None;
    }
    let name = name.to_owned();
    Some(Lab::up(&LabSpec { hosts, name }).unwrap())
}

fn ip(address: &str) -> IpAddr {
    address.split('/').next().unwrap().parse().unwrap()
}

fn get(from: &Space, to: SocketAddr) -> Option<String> {
    let ask = move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(300)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    };
    from.inside(ask).unwrap()
}

/// Tries again until it works: who asked before the address was there waits for its next ARP.
fn reaches(from: &Space, to: IpAddr) -> bool {
    let end = now().after(SOON);
    while now() < end {
        if reaches_at_once(from, to) {
            return true;
        }
    }
    false
}

fn reaches_at_once(from: &Space, to: IpAddr) -> bool {
    get(from, (to, PORT).into()).is_some()
}

fn machine(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn spaces_of(base: &str) -> usize {
    let all = machine(&["netns", "list"]);
    all.iter().filter(|line| line.starts_with(base)).count()
}

/// Goal: a lab is a working network of its own, and nothing of it stays.
/// Method: HTTP from the client to each host, v4 and v6, and between hosts on the second network;
/// namespaces and the machine's links before and after.
#[test]
fn client_reaches_each_host_and_nothing_is_left_behind() {
    let links = machine(&["-brief", "link"]);
    let Some(lab) = lab(3, "up") else { return };
    let base = lab.base().to_owned();
    assert_eq!(spaces_of(&base), 3 + 2 + 3);
    let _services: Vec<_> = lab.hosts().iter().map(|h| h.serve(PORT).unwrap()).collect();
    for number in 1..=3 {
        let addresses: [IpAddr; 2] = [
            Network::Lan.v4(number).into(),
            Network::Lan.v6(number).into(),
        ];
        for address in addresses {
            let text = get(lab.client(), (address, PORT).into()).unwrap();
            let says = format!(
                "{{\"host\":\"{}\",\"address\":\"{address}\"}}",
                host_name(number)
            );
            assert!(text.ends_with(&format!("{says}\n")), "{text}");
        }
    }
    let second = Network::Control.v4(2).into();
    assert!(reaches(lab.host(1).unwrap(), second));
    assert!(!reaches_at_once(lab.client(), second));
    assert!(lab.host(0).is_err() && lab.host(4).is_err());

    let logs = lab.logs().to_owned();
    let echo = &mut lab.host(1).unwrap().command("echo");
    let process = lab
        .host(1)
        .unwrap()
        .spawn("echo", echo.arg("hello"))
        .unwrap();
    assert!(process.wait_exit(SOON));
    assert_eq!(std::fs::read_to_string(process.log()).unwrap(), "hello\n");
    drop((_services, lab));
    assert_eq!(spaces_of(&base), 0);
    assert!(!logs.exists());
    assert_eq!(machine(&["-brief", "link"]), links);
}

/// Goal: labs end with their test, however it ends, and those of killed runs are swept.
/// Method: a panic with a lab and a process in it; a namespace in the name of a process that is
/// not; numbers of hosts out of range.
#[test]
fn lab_goes_in_a_panic_and_leftovers_of_dead_runs_are_swept() {
    let Some(one) = lab(1, "panic") else { return };
    let base = one.base().to_owned();
    let sleep = &mut one.host(1).unwrap().command("sleep");
    let process = one
        .host(1)
        .unwrap()
        .spawn("sleep", sleep.arg("600"))
        .unwrap();
    let logs = one.logs().to_owned();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _lab = one;
        panic!("on purpose");
    }));
    assert!(ended.is_err());
    assert_eq!(spaces_of(&base), 0);
    assert!(process.wait_exit(SOON));
    std::fs::remove_dir_all(logs).unwrap();

    // Above any process id that the kernel gives.
    let dead = format!("raislab-{}-1-0-dead", u32::MAX - std::process::id());
    let add = Command::new("ip")
        .args(["netns", "add", &format!("{dead}-h1")])
        .status();
    assert!(add.unwrap().success());
    Lab::sweep().unwrap();
    assert_eq!(spaces_of(&dead), 0);
    for hosts in [0, MAX_HOSTS + 1] {
        let name = "range".to_owned();
        assert!(Lab::up(&LabSpec { hosts, name }).is_err());
    }
}

fn watch(lab: &Lab) -> Observer {
    let targets = Targets::new(&[ip(V4), ip(V6)]).with_http(PORT);
    lab.observe(&targets).unwrap()
}

/// Goal: the observer tells gap and owners of a move, ms-exact, by ARP, ND and HTTP.
/// Method: an address of each family moved by hand with a pause between.
#[test]
fn observer_sees_the_gap_of_an_address_moved_by_hand() {
    let Some(lab) = lab(2, "move") else { return };
    let _services: Vec<_> = lab.hosts().iter().map(|h| h.serve(PORT).unwrap()).collect();
    let (from, to) = (lab.host(1).unwrap(), lab.host(2).unwrap());
    let observer = watch(&lab);
    for address in [V4, V6] {
        assert!(observer.wait(ip(address), &[], SOON));
        from.add_address(address).unwrap();
        assert!(observer.wait(ip(address), &[1], SOON));
        // The client has learnt where the address is.
        assert!(reaches(lab.client(), ip(address)));
    }
    let mut pauses = Vec::new();
    for address in [V4, V6] {
        let before = now();
        let gone = from.delete_address(address).unwrap();
        chaos::lab::wait_until(gone.after(Duration::from_millis(150)));
        let asked = now();
        let there = to.add_address(address).unwrap();
        assert!(observer.wait(ip(address), &[2], SOON));
        pauses.push((address, before, asked.since(gone), there.since(before)));
    }
    let report = observer.stop().unwrap();
    assert_eq!(report.dual_probes(), 0, "{}", report.json());
    let slack = Duration::from_micros(2 * report.coarsest_us) + Duration::from_millis(20);
    for (address, before, least, most) in pauses {
        let seen = report.address(ip(address)).unwrap();
        let gap = seen.gap_after(before).as_ref().map(Gap::length).unwrap();
        assert!(
            gap >= least && gap <= most + slack,
            "{gap:?}, {least:?} to {most:?} {slack:?}"
        );
        let owners: Vec<_> = seen.tenures.iter().map(|t| t.host.as_str()).collect();
        assert_eq!(owners, ["h1", "h2"]);
        assert!(seen.taken_by("h2", before).is_some());
        let http = report.endpoint((ip(address), PORT).into()).unwrap();
        assert!(http.answers.contains_key("h1"), "{http:?}");
    }
}

/// Goal: two holders are seen, for as long as they hold.
/// Method: both hosts get the address, one loses it; both families.
#[test]
fn observer_sees_a_dual_answer_while_two_hosts_hold_an_address() {
    let Some(lab) = lab(2, "dual") else { return };
    let observer = lab.observe(&Targets::new(&[ip(V4), ip(V6)])).unwrap();
    let mut times = Vec::new();
    for address in [V4, V6] {
        lab.host(1).unwrap().add_address(address).unwrap();
        assert!(observer.wait(ip(address), &[1], SOON));
        let began = now();
        let fault = add(2, address);
        let injected = lab.inject(&fault).unwrap();
        assert!(injected.began >= began && injected.done >= injected.began);
        let both = injected.done;
        assert!(observer.wait(ip(address), &[1, 2], SOON));
        chaos::lab::wait_until(both.after(Duration::from_millis(100)));
        let ends = now();
        let ended = injected.undo().unwrap();
        assert!(observer.wait(ip(address), &[1], SOON));
        times.push((address, ends.since(both), ended.since(began)));
    }
    let report = observer.stop().unwrap();
    for (address, least, most) in times {
        let seen = report.address(ip(address)).unwrap();
        let dual = seen.duals.first().unwrap();
        assert_eq!(dual.hosts, ["h1", "h2"]);
        let length = dual.to.since(dual.from);
        let slack = Duration::from_micros(2 * report.coarsest_us);
        assert!(
            length + slack >= least && length <= most,
            "{length:?} {least:?} {most:?}"
        );
        assert_eq!(seen.gaps, []);
    }
}

fn add(host: u8, address: &str) -> Fault {
    let address = address.to_owned();
    Fault::AddAddress { host, address }
}

fn seen_by(observer: &Observer, hosts: &[u8], what: &str) {
    for address in [V4, V6] {
        let came = observer.wait(ip(address), hosts, SOON);
        assert!(came, "{what}: {address} is not answered by {hosts:?}");
    }
}

/// Goal: each fault of the network cuts what it says, and its undo mends it.
/// Method: an address on host 1; the observer and hosts look, before, in between and after.
#[test]
fn network_faults_cut_what_they_say_and_undo_mends_it() {
    let Some(lab) = lab(3, "faults") else { return };
    let _services: Vec<_> = lab.hosts().iter().map(|h| h.serve(PORT).unwrap()).collect();
    let observer = lab.observe(&Targets::new(&[ip(V4), ip(V6)])).unwrap();
    let host = lab.host(1).unwrap();
    let keep = |address: &str| host.add_address(address).unwrap();
    let (_, _) = (keep(V4), keep(V6));
    seen_by(&observer, &[1], "to begin with");
    let (host_1, network) = (1, Network::Lan);
    let faults = [
        Fault::Carrier {
            host: host_1,
            network,
        },
        Fault::Partition {
            host: host_1,
            network,
        },
        Fault::Mute {
            host: host_1,
            network,
        },
        Fault::Deaf {
            host: host_1,
            network,
        },
    ];
    for fault in &faults {
        let injected = lab.inject(fault).unwrap();
        seen_by(&observer, &[], &injected.fault);
        assert!(reaches(host, Network::Control.v4(2).into()), "{fault}");
        let carrier = host.ip(&["-brief", "link", "show", "eth0"]).unwrap();
        let is_down = carrier.contains("NO-CARRIER");
        assert_eq!(is_down, matches!(fault, Fault::Carrier { .. }), "{carrier}");
        injected.undo().unwrap();
        seen_by(&observer, &[1], "mended");
    }
    let injected = lab.inject(&Fault::LinkDown { host: 1, network }).unwrap();
    seen_by(&observer, &[], "link down");
    injected.undo().unwrap();
    let v6: IpAddr = Network::Lan.v6(1).into();
    assert!(reaches(lab.client(), v6));
    assert!(observer.wait(ip(V4), &[1], SOON));
}

/// Goal: one way means one way, and half lost means about half.
/// Method: what the other side still hears is counted by rules of the hosts; then 50 % loss, as
/// seen by the observer.
#[test]
fn one_way_faults_keep_the_other_way_and_loss_is_by_chance() {
    let Some(lab) = lab(3, "oneway") else { return };
    let _services: Vec<_> = lab.hosts().iter().map(|h| h.serve(PORT).unwrap()).collect();
    let network = Network::Lan;
    let counted = "table inet count {\n counter seen { }\n chain in {\n type filter hook input \
                   priority 0;\n ip saddr 10.77.0.2 counter name seen\n }\n}\n";
    lab.host(1).unwrap().nft(counted).unwrap();
    let heard = || {
        let list = ["list", "counter", "inet", "count", "seen"];
        let text = lab.host(1).unwrap().nft_list(&list).unwrap();
        !text.contains("packets 0 ")
    };
    // They know each other, so that what follows is about data and not about ARP.
    let (one, two): (IpAddr, IpAddr) = (network.v4(1).into(), network.v4(2).into());
    assert!(reaches(lab.host(2).unwrap(), one));
    assert!(heard());
    lab.host(1).unwrap().nft("reset counters\n").unwrap();
    let cut = lab
        .inject(&Fault::Cut {
            from: 1,
            to: 2,
            network,
        })
        .unwrap();
    assert!(!reaches_at_once(lab.host(2).unwrap(), one));
    assert!(heard(), "the way back was cut as well");
    assert!(
        reaches(lab.host(3).unwrap(), one),
        "others were cut as well"
    );
    assert!(reaches(lab.host(3).unwrap(), two));
    cut.undo().unwrap();
    assert!(reaches(lab.host(2).unwrap(), one));

    let side = vec![1];
    let split = lab.inject(&Fault::Split { side, network }).unwrap();
    assert!(!reaches_at_once(lab.host(2).unwrap(), one));
    assert!(!reaches_at_once(lab.host(1).unwrap(), two));
    assert!(reaches(lab.host(3).unwrap(), two) && reaches(lab.client(), one));
    split.undo().unwrap();
    assert!(reaches(lab.host(2).unwrap(), one));

    lab.host(1).unwrap().add_address(V4).unwrap();
    let loss = Fault::Loss {
        host: 1,
        network,
        percent: 30,
    };
    let injected = lab.inject(&loss).unwrap();
    let observer = lab.observe(&Targets::new(&[ip(V4)])).unwrap();
    chaos::lab::wait_until(now().after(Duration::from_secs(2)));
    let report = observer.stop().unwrap();
    injected.undo().unwrap();
    let seen = report.address(ip(V4)).unwrap();
    // 49 % arrive both ways; six standard deviations of 300 probes are 17 %.
    let share = seen.answered * 100 / seen.probes;
    assert!((32..=66).contains(&share), "{share} % of {}", seen.probes);
    assert!(
        lab.inject(&Fault::Loss {
            host: 1,
            network,
            percent: 0
        })
        .is_err()
    );
}

/// Port of control traffic, which alone goes over a bad wire.
const CONTROL: u16 = 7400;
const DATAGRAMS: u16 = 1_000;

/// Datagrams numbered from 0, one each ms, from host 1 to `port` of host 2: numbers and delays in ms, as
/// they come, until none has come for twice the longest delay.
fn stream(lab: &Lab, port: u16) -> Vec<(u16, u64)> {
    let bind = |host: u8| {
        let open = move || UdpSocket::bind((Network::Lan.v4(host), port)).unwrap();
        lab.host(host).unwrap().inside(open).unwrap()
    };
    let (from, to) = (bind(1), bind(2));
    let quiet = 2 * Duration::from_millis(Wire::bad(0).delay_ms.1);
    to.set_read_timeout(Some(quiet)).unwrap();
    let hear = std::thread::spawn(move || {
        let (mut all, mut bytes) = (Vec::new(), [0; 10]);
        while to.recv(&mut bytes).is_ok() {
            let (number, at) = bytes.split_at(2);
            let late = now().0 - u64::from_be_bytes(at.try_into().unwrap());
            let number = u16::from_be_bytes(number.try_into().unwrap());
            all.push((number, late / 1_000));
        }
        all
    });
    for number in 0..DATAGRAMS {
        let bytes = [&number.to_be_bytes()[..], &now().0.to_be_bytes()].concat();
        from.send_to(&bytes, (Network::Lan.v4(2), port)).unwrap();
        chaos::lab::wait_until(now().after(Duration::from_millis(1)));
    }
    hear.join().unwrap()
}

/// Goal: a bad wire loses, doubles, delays and reorders control traffic and nothing else, connections get
/// over it whole, and with its handle it goes.
/// Method: numbered datagrams to the control port and to another; 200 kB over TCP; then without it.
#[test]
fn a_bad_wire_harms_control_traffic_only_and_goes_with_its_handle() {
    let Some(lab) = lab(2, "wire") else { return };
    let (network, wire) = (Network::Lan, Wire::bad(7));
    let other = Network::Control;
    let injected = lab.inject(&Fault::Wire { network, wire }).unwrap();
    let second = lab
        .inject(&Fault::Wire {
            network: other,
            wire,
        })
        .unwrap();
    assert!(lab.inject(&Fault::Wire { network, wire }).is_err(), "twice");

    let in_order: Vec<u16> = (0..DATAGRAMS).collect();
    let numbers = |all: &[(u16, u64)]| all.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    assert_eq!(numbers(&stream(&lab, CONTROL + 1)), in_order);

    let came = stream(&lab, CONTROL);
    let distinct = came
        .iter()
        .map(|(number, _)| *number)
        .collect::<BTreeSet<_>>();
    let (share, doubled) = (distinct.len(), came.len() - distinct.len());
    // Six standard deviations.
    assert!((610..=790).contains(&share), "{share} of {DATAGRAMS} came");
    assert!((255..=445).contains(&doubled), "{doubled} were doubled");
    assert!(!numbers(&came).is_sorted(), "nothing was out of order");
    let late: u64 = came.iter().map(|(_, late)| late).sum();
    let mean = late / came.len() as u64;
    assert!((60..=90).contains(&mean), "{mean} ms late, wanted 70");

    // Nothing is lost for this one: what counts is that its frames are whole, large segments too.
    injected.undo().unwrap();
    let wire = Wire { loss: 0, ..wire };
    let injected = lab.inject(&Fault::Wire { network, wire }).unwrap();
    let to = (network.v4(2), CONTROL);
    let listen = move || TcpListener::bind(to).unwrap();
    let listener = lab.host(2).unwrap().inside(listen).unwrap();
    let read = std::thread::spawn(move || {
        let mut text = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut text).unwrap();
        text
    });
    let text: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let sent = text.clone();
    let send = move || TcpStream::connect(to).unwrap().write_all(&sent).unwrap();
    lab.host(1).unwrap().inside(send).unwrap();
    assert!(read.join().unwrap() == text, "it was garbled");

    drop((injected, second));
    assert_eq!(numbers(&stream(&lab, CONTROL)), in_order);
    assert!(
        lab.inject(&Fault::Wire {
            network,
            wire: Wire { loss: 100, ..wire }
        })
        .is_err()
    );
}

/// Goal: RTNL is held for its time, and let go with its handle.
/// Method: a change of another namespace waits for the first hold, and not for a longer one that was undone.
#[test]
fn rtnl_is_held_for_its_time_or_until_it_is_undone() {
    let Some(lab) = lab(1, "rtnl") else { return };
    let change = || {
        let began = now();
        let host = lab.host(1).unwrap();
        host.ip(&["link", "set", "lo", "up"]).unwrap();
        now().since(began)
    };
    let ms = 300;
    let held = lab.inject(&Fault::Rtnl { ms }).unwrap();
    let waited = change();
    held.undo().unwrap();
    // Half: this thread may have been slow to ask.
    assert!(waited >= Duration::from_millis(ms / 2), "{waited:?}");
    let ms = 30_000;
    drop(lab.inject(&Fault::Rtnl { ms }).unwrap());
    let waited = change();
    assert!(waited < Duration::from_millis(ms / 2), "{waited:?}");
    assert!(lab.inject(&Fault::Rtnl { ms: ms + 1 }).is_err());
}

/// Goal: tables flushed by hand come back with their sets empty; addresses likewise, or not at all.
/// Method: a table with a set in it, flushed and restored; an address deleted, and added again by
/// someone else before the undo.
#[test]
fn rules_and_addresses_changed_by_hand_are_undone() {
    let Some(lab) = lab(1, "hand") else { return };
    let host = lab.host(1).unwrap();
    let gate = "table inet gate {\n set leased { type ipv4_addr; flags timeout;\n elements = { \
                10.77.0.101 timeout 60s } }\n chain c { type filter hook input priority -300;\n \
                ip daddr @leased accept\n }\n}\ntable arp gate {\n chain c { }\n}\n";
    host.nft(gate).unwrap();
    let rules = || host.nft_list(&["list", "ruleset"]).unwrap();
    assert!(rules().contains("10.77.0.101"));
    let flush = lab.inject(&Fault::FlushRules { host: 1 }).unwrap();
    assert_eq!(rules(), "");
    host.nft("table arp gate { }\n").unwrap();
    flush.undo().unwrap();
    let mended = rules();
    assert!(mended.contains("ip daddr @leased accept"), "{mended}");
    assert!(
        !mended.contains("10.77.0.101"),
        "a lease came back: {mended}"
    );
    assert!(
        !mended.contains("chain c {\n\t}"),
        "a mended table was touched: {mended}"
    );

    for address in [V4, V6] {
        host.add_address(address).unwrap();
        let has = || host.ip(&["addr"]).unwrap().contains(address);
        let host = 1;
        let address = address.to_owned();
        let deleted = lab.inject(&Fault::DeleteAddress { host, address }).unwrap();
        assert!(!has());
        deleted.undo().unwrap();
        assert!(has());
    }
    let added = lab.inject(&add(1, "10.77.0.102/24")).unwrap();
    host.delete_address("10.77.0.102/24").unwrap();
    added.undo().unwrap();
}

fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn until(mut came: impl FnMut() -> bool) {
    let end = now().after(SOON);
    while !came() {
        assert!(now() < end, "it never came");
        chaos::lab::wait_until(now().after(Duration::from_millis(1)));
    }
}

fn child_of(text: &str) -> Option<u32> {
    text.lines().next()?.parse().ok()
}

/// Goal: signals reach whom they should and nobody else, at their time.
/// Method: a shell with a child; stop the family for a while by a schedule, then kill the head
/// alone, and another family as a whole.
#[test]
fn signals_reach_the_process_or_its_family() {
    let Some(lab) = lab(2, "signals") else { return };
    let start = |host: u8| {
        let host = lab.host(host).unwrap();
        let script = "sleep 600 & echo $!; wait";
        let process = host
            .spawn("sh", host.command("sh").args(["-c", script]))
            .unwrap();
        let said = || std::fs::read_to_string(process.log()).unwrap();
        until(|| child_of(&said()).is_some());
        let child = child_of(&said()).unwrap();
        (process, child)
    };
    let (process, child) = start(1);
    let scope = Scope::Family;
    let stop = Fault::Stop {
        process: process.clone(),
        scope,
    };
    assert_eq!(stop.to_string(), "SIGSTOP sh on h1 and its children");
    let injected = lab.inject(&stop).unwrap();
    for pid in [process.pid(), child] {
        until(|| state(pid) == Some('T'));
    }
    injected.undo().unwrap();
    until(|| state(child) == Some('S'));
    let (after, lasts) = (Duration::from_millis(20), Some(Duration::from_millis(30)));
    let began = now();
    let applied = lab
        .run(&[Step {
            after,
            fault: stop,
            lasts,
        }])
        .unwrap();
    let first = &applied[0];
    let (done, undone) = (first.done.since(began), first.undone.unwrap().since(began));
    assert!(
        done >= after && undone >= Duration::from_millis(50),
        "{done:?} {undone:?}"
    );

    let alone = Fault::Kill {
        process: process.clone(),
        scope: Scope::Alone,
    };
    let killed: Injected = lab.inject(&alone).unwrap();
    assert!(killed.done >= killed.began && !process.is_running());
    assert!(state(child).is_some(), "its child was killed as well");
    assert!(lab.inject(&alone).is_err(), "a dead process took a signal");
    let (process, child) = start(2);
    process.kill(Scope::Family).unwrap();
    // Its parent is dead, so it lies with init until that reaps it.
    until(|| matches!(state(child), None | Some('Z' | 'X')));
}

/// Goal: TCP is watched too, and an endpoint that is not there is not answered.
/// Method: a connection to a host's service and to a port without one.
#[test]
fn tcp_endpoints_are_watched_from_the_client() {
    let Some(lab) = lab(1, "tcp") else { return };
    let _service = lab.host(1).unwrap().serve(PORT).unwrap();
    let address: IpAddr = Network::Lan.v4(1).into();
    let mut targets = Targets::new(&[address]);
    let (open, shut) = ((address, PORT).into(), (address, PORT + 1).into());
    targets.endpoints = vec![Endpoint::Tcp(open), Endpoint::Http(shut)];
    let observer = lab.observe(&targets).unwrap();
    assert!(observer.wait(address, &[1], SOON));
    chaos::lab::wait_until(now().after(Duration::from_millis(300)));
    let report = observer.stop().unwrap();
    let seen = report.endpoint(open).unwrap();
    assert!(seen.probes > 5 && seen.gaps.is_empty(), "{seen:?}");
    assert_eq!(report.endpoint(shut).unwrap().answered, 0);
}
