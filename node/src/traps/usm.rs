//! SNMP version 3: messages signed and encrypted for one user (RFC 3412, 3414, 3826, 7860).
//!
//! HMAC and hashes are ring's, AES the `aes` crate's, since ring has no bare AES; CFB is ten lines here.
//! As sender of traps the array is its own authority: one engine id for all hosts, the term of the leader
//! as its boots, seconds since it took over as its time (docs/adr/0038). For informs the manager is.

use aes::Aes128;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use ring::{digest, hmac};

use super::ber::{self, Reader, SEQUENCE, integer, octets, of_parts};
use super::mib::ENTERPRISE;
use super::pdu::{self, Answer};
use crate::config::Auth;

const V3: u64 = 3;
/// The user-based security model.
const USM: u64 = 3;
/// Largest message that we take; every manager's is as large.
const MAX_MESSAGE: u64 = 65_507;
const SIGNED_AND_SECRET: u8 = 0x03;
/// Asks for a report of what is wrong.
pub const REPORTABLE: u8 = 0x04;
/// Over so many bytes a password is repeated and hashed (RFC 3414, A.2).
const STRETCH: usize = 1_048_576;
/// `usmStats` of RFC 3414, whose members say in a report what is wrong.
pub const STATS: [u32; 9] = [1, 3, 6, 1, 6, 3, 15, 1, 1];
/// Bytes of an AES key, of a block, and of the salt.
const KEY: usize = 16;
const SALT: usize = 8;

/// Whose clock a message counts by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// Its id; empty while it is not known.
    pub id: Vec<u8>,
    /// How often it has started.
    pub boots: u32,
    /// Seconds since then.
    pub time: u32,
}

/// The engine of the array.
pub fn own_engine(array: [u8; 16], term: u64, up_s: u64) -> Engine {
    let [a, b, c, d] = (ENTERPRISE | 0x8000_0000).to_be_bytes();
    // 5: octets of our own choice follow.
    let mut id = vec![a, b, c, d, 5];
    id.extend_from_slice(&array);
    // Above this a clock never runs: nobody would believe it again.
    let most = 0x7fff_ffff_u32 - 1;
    let bounded = |value| u32::try_from(value).unwrap_or(most).min(most);
    Engine {
        id,
        boots: bounded(term),
        time: bounded(up_s),
    }
}

/// A user's passwords, stretched; shown nowhere.
#[derive(Clone)]
pub struct User {
    name: String,
    auth: Auth,
    sign: Vec<u8>,
    hide: Vec<u8>,
}

impl User {
    /// From its passwords, of which neither is empty. Costs some milliseconds.
    pub fn new(name: &str, auth: Auth, (sign, hide): (&str, &str)) -> Self {
        let stretch = |password: &str| {
            let mut context = digest::Context::new(auth.digest());
            let bytes: Vec<u8> = password.bytes().cycle().take(STRETCH).collect();
            context.update(&bytes);
            context.finish().as_ref().to_vec()
        };
        Self {
            name: name.to_owned(),
            auth,
            sign: stretch(sign),
            hide: stretch(hide),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its keys at an engine.
    fn keys(&self, engine: &[u8]) -> (hmac::Key, Aes128) {
        let local = |key: &[u8]| {
            let all = [key, engine, key].concat();
            digest::digest(self.auth.digest(), &all)
        };
        let mut key = [0; KEY];
        let hide = local(&self.hide);
        // A hash has 32 bytes or more.
        hide.as_ref()
            .iter()
            .zip(&mut key)
            .for_each(|(from, to)| *to = *from);
        let sign = hmac::Key::new(self.auth.hmac(), local(&self.sign).as_ref());
        (sign, Aes128::new(&GenericArray::from(key)))
    }

    /// A message to or from `engine`: signed and encrypted, unless the engine is not known yet.
    pub fn message(
        &self,
        engine: &Engine,
        flags: u8,
        number: u32,
        salt: u64,
        pdu: Vec<u8>,
    ) -> Vec<u8> {
        let scoped = of_parts(SEQUENCE, &[octets(&engine.id), octets(&[]), pdu]);
        if engine.id.is_empty() {
            let security = security(engine, "", &[], &[]);
            return of_parts(
                SEQUENCE,
                &[integer(V3), head(number, flags), security, scoped],
            );
        }
        let (sign, hide) = self.keys(&engine.id);
        let salt = salt.to_be_bytes();
        let mut secret = scoped;
        cfb(&hide, initial(engine, salt), &mut secret, Way::Encrypt);
        let data = octets(&secret);
        let empty = vec![0; self.auth.mac_len()];
        let security = security(engine, &self.name, &empty, &salt);
        let head = head(number, flags | SIGNED_AND_SECRET);
        let mut message = of_parts(SEQUENCE, &[integer(V3), head, security, data.clone()]);
        let tag = hmac::sign(&sign, &message);
        // What is signed ends with the signature, the salt with its two bytes of head, and the data.
        let end = message.len() - data.len() - SALT - 2;
        let start = end - self.auth.mac_len();
        if let Some(place) = message.get_mut(start..end) {
            place
                .iter_mut()
                .zip(tag.as_ref())
                .for_each(|(to, from)| *to = *from);
        }
        message
    }

    /// Reads an answer; nothing when it is none, or is not what this user may believe.
    pub fn read(&self, bytes: &[u8]) -> Option<Heard> {
        let mut message = Reader(bytes).inside(SEQUENCE)?;
        (message.integer()? == V3).then_some(())?;
        let mut head = message.inside(SEQUENCE)?;
        let (number, _size) = (head.integer()?, head.integer()?);
        let flags = *head.take(ber::OCTETS)?.first()?;
        let mut security = Reader(message.take(ber::OCTETS)?).inside(SEQUENCE)?;
        let engine = Engine {
            id: security.take(ber::OCTETS)?.to_vec(),
            boots: u32::try_from(security.integer()?).ok()?,
            time: u32::try_from(security.integer()?).ok()?,
        };
        let (name, mac, salt) = (
            security.take(ber::OCTETS)?,
            security.take(ber::OCTETS)?,
            security.take(ber::OCTETS)?,
        );
        let (sign, hide) = self.keys(&engine.id);
        let signed = flags & 1 != 0;
        if signed {
            let whole = name == self.name.as_bytes() && mac.len() == self.auth.mac_len();
            (whole && is_signed(&sign, bytes, mac)).then_some(())?;
        }
        let answer = match flags & 2 {
            0 => scoped(&mut message)?,
            _ => {
                let mut data = message.take(ber::OCTETS)?.to_vec();
                let salt = salt.try_into().ok()?;
                cfb(&hide, initial(&engine, salt), &mut data, Way::Decrypt);
                scoped(&mut Reader(&data))?
            }
        };
        Some(Heard {
            number,
            signed,
            engine,
            answer,
        })
    }
}

/// An answer of a manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Number of the message that it answers.
    pub number: u64,
    /// It is from somebody who knows the user's password.
    pub signed: bool,
    /// Who answers, by its own clock.
    pub engine: Engine,
    /// What it says.
    pub answer: Answer,
}

impl Heard {
    /// The member of `usmStats` that a report names; 0 for none.
    pub fn complaint(&self) -> u8 {
        let stats = pdu::name_of(&STATS);
        match self.answer.first.strip_prefix(stats.as_slice()) {
            Some([which, 0]) if self.answer.tag == pdu::REPORT => *which,
            _ => 0,
        }
    }
}

fn head(number: u32, flags: u8) -> Vec<u8> {
    let parts = [
        integer(number.into()),
        integer(MAX_MESSAGE),
        octets(&[flags]),
        integer(USM),
    ];
    of_parts(SEQUENCE, &parts)
}

fn security(engine: &Engine, user: &str, mac: &[u8], salt: &[u8]) -> Vec<u8> {
    let parts = [
        octets(&engine.id),
        integer(engine.boots.into()),
        integer(engine.time.into()),
        octets(user.as_bytes()),
        octets(mac),
        octets(salt),
    ];
    octets(&of_parts(SEQUENCE, &parts))
}

fn scoped(reader: &mut Reader<'_>) -> Option<Answer> {
    let mut inside = reader.inside(SEQUENCE)?;
    let (_engine, _context) = (inside.take(ber::OCTETS)?, inside.take(ber::OCTETS)?);
    pdu::read(&mut inside)
}

/// Whether `mac`, a part of `message`, is the signature of the message without it.
fn is_signed(key: &hmac::Key, message: &[u8], mac: &[u8]) -> bool {
    // Where it stands, as an offset: it was read from there.
    let start = (mac.as_ptr() as usize).wrapping_sub(message.as_ptr() as usize);
    let mut blank = message.to_vec();
    match blank.get_mut(start..start.wrapping_add(mac.len())) {
        Some(place) => place.fill(0),
        None => return false,
    }
    let wanted = hmac::sign(key, &blank);
    // All bytes are compared, however early two differ.
    let differ = wanted
        .as_ref()
        .iter()
        .zip(mac)
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    differ == 0
}

/// The initial block of RFC 3826: the engine's clock and the salt.
fn initial(engine: &Engine, salt: [u8; SALT]) -> [u8; KEY] {
    let mut block = [0; KEY];
    let (boots, time) = (engine.boots.to_be_bytes(), engine.time.to_be_bytes());
    let all = boots.into_iter().chain(time).chain(salt);
    block.iter_mut().zip(all).for_each(|(to, from)| *to = from);
    block
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Encrypt,
    Decrypt,
}

/// AES in cipher feedback with whole blocks (CFB-128).
fn cfb(key: &Aes128, initial: [u8; KEY], data: &mut [u8], way: Way) {
    let mut feedback = initial;
    for chunk in data.chunks_mut(KEY) {
        let mut mask = GenericArray::from(feedback);
        key.encrypt_block(&mut mask);
        for ((byte, mask), fed) in chunk.iter_mut().zip(mask).zip(&mut feedback) {
            let out = *byte ^ mask;
            *fed = if way == Way::Encrypt { out } else { *byte };
            *byte = out;
        }
    }
}
