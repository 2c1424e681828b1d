//! Tests of sealed datagrams, with secrets made up instead of exported.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const A: HostId = HostId(1);
const B: HostId = HostId(2);

fn keys(seed: u8) -> SessionKeys {
    SessionKeys::from_secret(&core::array::from_fn(|at| {
        seed.wrapping_mul(31).wrapping_add(at as u8)
    }))
}

/// A dials B: the tables of A and of B.
fn pair() -> (Arc<Sessions>, Arc<Sessions>) {
    let (at_a, at_b) = (Sessions::new(), Sessions::new());
    at_b.install(A, Boot(1), Role::Acceptor, &keys(1)).unwrap();
    at_a.install(B, Boot(1), Role::Dialer, &keys(1)).unwrap();
    (at_a, at_b)
}

fn sealed(from: &Sessions, to: HostId, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(from.seal(to, plain, &mut out));
    out
}

fn opened(at: &Sessions, packet: &[u8]) -> Result<(HostId, Vec<u8>), OpenError> {
    let mut out = vec![1, 2, 3];
    at.open(packet, &mut out).map(|host| (host, out))
}

/// Goal: both directions work, under different keys, and nothing of the content shows.
/// Method: seal both ways; hand a packet back to its sender.
#[test]
fn sealed_packets_are_opened_by_the_other_end_only() {
    let (at_a, at_b) = pair();
    let packet = sealed(&at_a, B, b"heartbeat of a");
    assert!(!packet.windows(9).any(|window| window == b"heartbeat"));
    assert_eq!(opened(&at_b, &packet), Ok((A, b"heartbeat of a".to_vec())));
    assert_eq!(opened(&at_a, &packet), Err(OpenError::Forged), "reflected");
    let back = sealed(&at_b, A, b"ack");
    assert_eq!(opened(&at_a, &back), Ok((B, b"ack".to_vec())));
    assert_eq!(sealed(&at_a, B, &[0; MAX_PLAIN]).len(), MAX_SEALED);
    let mut out = vec![9];
    assert!(!at_a.seal(B, &[0; MAX_PLAIN + 1], &mut out) && out.is_empty());
    assert!(!at_a.seal(HostId(9), b"x", &mut out));
    assert_eq!(at_a.counts().unsealable, 2);
}

/// Goal: a packet counts once, whatever the order; old ones are refused.
/// Method: deliver out of order, again, and one from before the window.
#[test]
fn replayed_and_too_old_packets_are_refused_and_counted() {
    let (at_a, at_b) = pair();
    let packets: Vec<_> = (0..1100).map(|_| sealed(&at_a, B, b"x")).collect();
    for at in [5, 3, 4, 0] {
        assert!(opened(&at_b, &packets[at]).is_ok());
        assert_eq!(opened(&at_b, &packets[at]), Err(OpenError::Replayed));
    }
    assert!(opened(&at_b, &packets[1099]).is_ok());
    assert_eq!(opened(&at_b, &packets[1]), Err(OpenError::TooOld));
    assert!(opened(&at_b, &packets[1099 - 1023]).is_ok());
    assert_eq!((at_b.counts().replayed, at_b.counts().too_old), (4, 1));
}

/// Goal: each bit of a packet is protected, and a forged one does not move the window.
/// Method: flip each bit in turn; then the true packet must still pass.
#[test]
fn each_flipped_bit_is_refused_and_the_true_packet_passes_after() {
    let (at_a, at_b) = pair();
    let packet = sealed(&at_a, B, b"abc");
    for bit in 0..packet.len() * 8 {
        let mut wrong = packet.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(opened(&at_b, &wrong).is_err(), "bit {bit}");
    }
    for length in 0..packet.len() {
        assert!(opened(&at_b, &packet[..length]).is_err());
    }
    assert!(opened(&at_b, &packet).is_ok());
    let counts = at_b.counts();
    assert!(counts.forged > 0 && counts.unknown_session > 0 && counts.malformed > 0);
}

/// Goal: after a restart of the peer its old sessions are dead, and can't come back.
/// Method: a newer boot, then an older one; a packet sealed under the old session.
#[test]
fn newer_boot_ends_older_sessions_and_older_boot_is_refused() {
    let (at_a, at_b) = pair();
    let old = sealed(&at_a, B, b"before");
    at_b.install(A, Boot(2), Role::Acceptor, &keys(2)).unwrap();
    assert_eq!(opened(&at_b, &old), Err(OpenError::UnknownSession));
    let refused = at_b.install(A, Boot(1), Role::Acceptor, &keys(3));
    assert_eq!(
        refused,
        Err(InstallError::OldBoot {
            host: A,
            known: Boot(2),
            offered: Boot(1)
        })
    );
    assert_eq!(at_b.boot_of(A), Some(Boot(2)));
}

/// Goal: no nonce is ever used twice. Method: install the same keys again.
#[test]
fn session_is_installed_once() {
    let (at_a, _) = pair();
    let again = at_a.install(B, Boot(1), Role::Dialer, &keys(1));
    assert_eq!(again, Err(InstallError::Duplicate(B)));
}

/// Goal: the acceptor keeps sealing under a session that the dialer surely has.
/// Method: install a second session at the acceptor only; then let the dialer use it.
#[test]
fn acceptor_seals_under_a_new_session_only_after_the_dialer_did() {
    let (at_a, at_b) = pair();
    opened(&at_b, &sealed(&at_a, B, b"x")).unwrap();
    at_b.install(A, Boot(1), Role::Acceptor, &keys(2)).unwrap();
    assert!(
        opened(&at_a, &sealed(&at_b, A, b"y")).is_ok(),
        "dialer lacks the second yet"
    );
    at_a.install(B, Boot(1), Role::Dialer, &keys(2)).unwrap();
    let packet = sealed(&at_a, B, b"z");
    assert!(opened(&at_b, &packet).is_ok());
    assert_eq!(sealed(&at_b, A, b"w")[..9], packet[..9], "same session now");
}

/// Goal: sessions are bounded, and half-made ones never push out the one in use.
/// Method: many sessions that the dialer never got; then the first must still work.
#[test]
fn half_made_sessions_do_not_push_out_the_one_in_use() {
    let (at_a, at_b) = pair();
    opened(&at_b, &sealed(&at_a, B, b"x")).unwrap();
    for seed in 2..40 {
        at_b.install(A, Boot(1), Role::Acceptor, &keys(seed))
            .unwrap();
    }
    assert!(opened(&at_b, &sealed(&at_a, B, b"y")).is_ok());
    assert_eq!(lock(&at_b.table).by_id.len(), MAX_SESSIONS / 2);
}

/// Goal: two hosts that dial each other at the same time hear each other afterwards (found by stopping
/// leaders in the lab: a host was deaf to another one for as long as one looked).
/// Method: tables full of used sessions; then each end accepts before its own dial is answered.
#[test]
fn crossing_dials_leave_both_ends_a_session_in_common() {
    let (a, b) = (Sessions::new(), Sessions::new());
    let boot = Boot(1);
    let dial = |seed: u8| {
        b.install(A, boot, Role::Acceptor, &keys(seed)).unwrap();
        a.install(B, boot, Role::Dialer, &keys(seed)).unwrap();
        let packet = sealed(&a, B, b"x");
        opened(&b, &packet).unwrap();
    };
    for seed in 1..=8 {
        dial(seed);
    }
    b.install(A, boot, Role::Acceptor, &keys(20)).unwrap();
    a.install(B, boot, Role::Acceptor, &keys(21)).unwrap();
    a.install(B, boot, Role::Dialer, &keys(20)).unwrap();
    b.install(A, boot, Role::Dialer, &keys(21)).unwrap();
    let packet = sealed(&a, B, b"to b");
    assert_eq!(opened(&b, &packet).unwrap().1, b"to b");
    let packet = sealed(&b, A, b"to a");
    assert_eq!(opened(&a, &packet).unwrap().1, b"to a");
}

/// Goal: a forgotten host is mute and deaf for good, and the observer hears of each session.
/// Method: forget, then seal, open, install.
#[test]
fn forgotten_host_has_no_session_and_gets_none() {
    let (at_a, at_b) = pair();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    at_b.observe(Arc::new(move |host, boot| lock(&sink).push((host, boot))));
    at_b.install(A, Boot(1), Role::Acceptor, &keys(2)).unwrap();
    at_b.forget(A);
    assert!(!at_b.seal(A, b"x", &mut Vec::new()));
    assert_eq!(
        opened(&at_b, &sealed(&at_a, B, b"x")),
        Err(OpenError::UnknownSession)
    );
    let refused = at_b.install(A, Boot(9), Role::Acceptor, &keys(3));
    assert_eq!(refused, Err(InstallError::Forgotten(A)));
    assert_eq!(*lock(&heard), [(A, Boot(1))]);
}

proptest! {
    /// Goal: open is total. Method: random bytes, and random bytes after a true header.
    #[test]
    fn any_bytes_are_refused_without_panic(
        noise in prop::collection::vec(any::<u8>(), 0..1600), counter in any::<u64>(),
    ) {
        let (_, at_b) = pair();
        prop_assert!(opened(&at_b, &noise).is_err());
        let mut packet = header(keys(1).id, counter).to_vec();
        packet.extend_from_slice(&noise);
        prop_assert!(opened(&at_b, &packet).is_err());
    }

    /// Goal: any content comes back unchanged. Method: round trip.
    #[test]
    fn any_content_comes_back(plain in prop::collection::vec(any::<u8>(), 0..=MAX_PLAIN)) {
        let (at_a, at_b) = pair();
        prop_assert_eq!(opened(&at_b, &sealed(&at_a, B, &plain)), Ok((A, plain)));
    }
}
