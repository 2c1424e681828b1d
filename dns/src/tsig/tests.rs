//! Signatures: what is genuine, what is told to who is not.
#![allow(clippy::unwrap_used)]
use super::*;

const NOW: u64 = 1_800_000_000;

fn key(secret: &[u8]) -> Arc<Key> {
    Arc::new(Key::new("Xfer-Key.", Algorithm::HmacSha256, secret).unwrap())
}

fn keys() -> Keys {
    let other = Key::new("other", Algorithm::HmacSha512, &[9; 64]).unwrap();
    Keys::new(vec![
        other,
        Key::new("xfer-key", Algorithm::HmacSha256, &[7; 32]).unwrap(),
    ])
}

/// A query for the SOA of `web.example.`, with `tail` after it.
fn query() -> Vec<u8> {
    let mut query = vec![0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x03web\x07example\x00\x00\x06\x00\x01");
    query
}

fn signed(key: Arc<Key>, at: u64) -> (Vec<u8>, Signer) {
    let (mut message, mut signer) = (query(), Signer::new(key));
    let length = message.len() + signer.room();
    signer.sign(&mut message, at);
    assert_eq!(message.len(), length);
    (message, signer)
}

fn refused(message: &[u8]) -> (Fault, Vec<u8>) {
    match check(&keys(), message, NOW).unwrap() {
        Checked::Refused { fault, reply } => (fault, reply),
        other => panic!("{other:?}"),
    }
}

/// Goal: a genuine request is known, its reply and a stream after it are believed, each message
/// by the one before.
/// Method: sign a query, check it, sign three replies; verify them in order, and one twice.
#[test]
fn a_stream_is_believed_message_by_message() {
    let (message, mut client) = signed(key(&[7; 32]), NOW);
    let Checked::Genuine {
        message: bare,
        mut signer,
    } = check(&keys(), &message, NOW).unwrap()
    else {
        panic!("not genuine");
    };
    assert_eq!(bare, query());
    let mut replies = Vec::new();
    for _ in 0..3 {
        let mut reply = query();
        reply[2] |= 0x80;
        signer.sign(&mut reply, NOW + 1);
        replies.push(reply);
    }
    let mut impatient = client.clone();
    for (number, reply) in replies.iter().enumerate() {
        let first = number == 0;
        assert!(client.verify(reply, NOW, first).is_ok(), "{number}");
    }
    impatient.verify(&replies[0], NOW, true).unwrap();
    let skipped = impatient.verify(&replies[2], NOW, false);
    assert_eq!(skipped, Err(Fault::BadSig), "one was left out");
}

/// Goal: what is not genuine is told why, in the form that RFC 8945 wants.
/// Method: another secret, an unknown key, a late message, a changed bit.
#[test]
fn what_is_not_genuine_is_told_why() {
    let (fault, reply) = refused(&signed(key(&[8; 32]), NOW).0);
    assert_eq!((fault, reply[3] & 15), (Fault::BadSig, NOTAUTH));
    let mac_len = &reply[reply.len() - 8..reply.len() - 6];
    assert_eq!(mac_len, [0, 0], "unsigned");
    let stranger = Key::new("stranger", Algorithm::HmacSha256, &[7; 32]).unwrap();
    assert_eq!(refused(&signed(Arc::new(stranger), NOW).0).0, Fault::BadKey);
    let wrong = Key::new("xfer-key", Algorithm::HmacSha512, &[7; 32]).unwrap();
    assert_eq!(refused(&signed(Arc::new(wrong), NOW).0).0, Fault::BadKey);
    let mut bent = signed(key(&[7; 32]), NOW).0;
    bent[13] ^= 1;
    assert_eq!(refused(&bent).0, Fault::BadSig);
}

/// The same message with only the first `kept` bytes of its MAC.
fn shortened(mut message: Vec<u8>, kept: usize) -> Vec<u8> {
    // After the name: type, class, TTL, then the length of what follows.
    let length_at = query().len() + key(&[7; 32]).wire().len() + 8;
    let mac_at = message.len() - 6 - 32;
    for at in [length_at, mac_at - 2] {
        let length = u16::from_be_bytes([message[at], message[at + 1]]) - (32 - kept as u16);
        message[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    message.drain(mac_at + kept..mac_at + 32);
    message
}

/// Goal: a MAC that is genuine but shortened is told so, and the client can believe it; shorter than half
/// it is malformed, and one that is not genuine stays that. RFC 8945, 5.2.2.1 and 5.2.4.
/// Method: cut a good signature's MAC to 16 and 15 bytes, and a bad one's to 16.
#[test]
fn a_shortened_mac_is_told_so() {
    let (message, mut client) = signed(key(&[7; 32]), NOW);
    let short = shortened(message.clone(), 16);
    let (fault, reply) = refused(&short);
    assert_eq!((fault, reply[3] & 15), (Fault::BadTrunc, NOTAUTH));
    // The reply is over the MAC that came.
    client.prior.truncate(16);
    assert!(client.verify(&reply, NOW, true).is_ok());
    assert_eq!(
        check(&keys(), &shortened(message, 15), NOW).unwrap_err(),
        Malformed
    );
    let forged = shortened(signed(key(&[8; 32]), NOW).0, 16);
    assert_eq!(refused(&forged).0, Fault::BadSig);
}

/// Goal: who has the wrong time learns ours, and can believe it.
/// Method: a query 301 s late and one 300 s early.
#[test]
fn a_wrong_clock_is_told_the_time() {
    let (message, mut client) = signed(key(&[7; 32]), NOW - 301);
    let (fault, reply) = refused(&message);
    assert_eq!(fault, Fault::BadTime);
    assert_eq!(reply[reply.len() - 6..], NOW.to_be_bytes()[2..]);
    assert!(client.verify(&reply, NOW - 301, true).is_ok());
    let early = signed(key(&[7; 32]), NOW + 300).0;
    assert!(matches!(
        check(&keys(), &early, NOW),
        Ok(Checked::Genuine { .. })
    ));
}

/// Goal: a message without a signature is as it is; one with it in a wrong place is malformed.
/// Method: none; a record after it; cut short at every length.
#[test]
fn a_signature_is_the_last_record_or_none() {
    assert!(matches!(
        check(&keys(), &query(), NOW),
        Ok(Checked::Unsigned)
    ));
    let whole = signed(key(&[7; 32]), NOW).0;
    let mut followed = whole.clone();
    followed.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    followed[11] += 1;
    assert_eq!(check(&keys(), &followed, NOW).unwrap_err(), Malformed);
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(check(&keys(), &longer, NOW).unwrap_err(), Malformed);
    for length in 0..whole.len() {
        let cut = check(&keys(), &whole[..length], NOW);
        assert!(
            matches!(cut, Ok(Checked::Unsigned) | Err(Malformed)),
            "{length}"
        );
    }
}

/// Goal: secrets are never shown, and what can't be a key is refused.
/// Method: print one; a short secret, a bad name.
#[test]
fn secrets_are_not_shown() {
    let key = key(b"a secret of test");
    let text = format!("{key:?} {:?}", Keys::default());
    assert_eq!(text, "Key(Xfer-Key. hmac-sha256) Keys([])");
    assert!(matches!(
        Key::new("k", Algorithm::HmacSha256, b"short"),
        Err(KeyError::Secret { bytes: 5, .. })
    ));
    assert!(Key::new("a..b", Algorithm::HmacSha256, &[1; 32]).is_err());
}
