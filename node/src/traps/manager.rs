//! Tells one SNMP manager of an event: a trap is sent, an inform is sent and its answer awaited.
//!
//! An inform of version 3 counts by the manager's clock, which is asked for first and again when it has
//! changed. A socket for each event: events are seldom, and nothing of an old one is left to be misread.

use std::net::SocketAddr;
use std::time::Duration;

use control::Instant;
use statemachine::{SnmpSecurity, SnmpTarget};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::mib::{self, Origin};
use super::pdu::{self, Answer};
use super::usm::{self, Engine, User};
use super::{Failure, Tenure};
use crate::api::EventRecord;
use crate::{clock, random};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Messages for one inform: who are you, the event, the event by the right clock, and one to spare.
const MAX_ROUNDS: u32 = 4;
/// Longest answer, in bytes; longer ones are cut, and then make no sense.
const MAX_ANSWER: usize = 2_048;

/// As whom it is told.
enum Security {
    Community(String),
    User(User),
}

/// A manager.
pub struct Manager {
    address: SocketAddr,
    inform: bool,
    security: Security,
    /// Its clock, and when it showed that; for informs of version 3.
    engine: Option<(Engine, Instant)>,
}

impl Manager {
    /// One that is told as its target says.
    ///
    /// # Errors
    /// This host does not have the user's passwords.
    pub fn new(target: &SnmpTarget, users: &[User]) -> Result<Self, Failure> {
        let security = match &target.security {
            SnmpSecurity::Community(community) => Security::Community(community.clone()),
            SnmpSecurity::User(name) => {
                let found = users.iter().find(|user| user.name() == name);
                let words = || format!("this host's file has no [[traps.user]] named {name}");
                Security::User(found.cloned().ok_or_else(|| Failure::lasting(words()))?)
            }
        };
        Ok(Self {
            address: target.target,
            inform: target.inform,
            security,
            engine: None,
        })
    }

    /// Tells it.
    ///
    /// # Errors
    /// It could not be sent, was not answered, or was refused.
    pub async fn tell(
        &mut self,
        event: (u32, &EventRecord),
        tenure: &Tenure,
    ) -> Result<(), Failure> {
        let up_ms = clock::now().ms_since(tenure.since);
        let origin = Origin {
            array: &tenure.array,
            up_ticks: up_ms / 10,
        };
        let Some(bindings) = mib::bindings(event, origin) else {
            return Ok(());
        };
        let socket = connect(self.address).await;
        let socket = socket.map_err(|error| Failure::passing(error.to_string()))?;
        // Only told apart from others that wait at the same time: none do.
        let request = random::number() & 0x7fff_ffff;
        let tag = if self.inform { pdu::INFORM } else { pdu::TRAP };
        let pdu = pdu::pdu(tag, request, &bindings);
        match &self.security {
            Security::User(user) if self.inform => {
                inform(&socket, user, &mut self.engine, (request, &pdu)).await
            }
            Security::User(user) => {
                let own = usm::own_engine(tenure.id, tenure.term, up_ms / 1_000);
                send(&socket, &user.message(&own, 0, request, salt(), pdu)).await
            }
            Security::Community(community) => {
                send(&socket, &pdu::v2c(community, pdu)).await?;
                if !self.inform {
                    return Ok(());
                }
                let answers = |answer: &Answer| answer.request == u64::from(request);
                let answer = hear(&socket, |bytes| pdu::read_v2c(bytes).filter(answers));
                judge(&answer.await?)
            }
        }
    }
}

/// Informs a manager by its own clock.
async fn inform(
    socket: &UdpSocket,
    user: &User,
    known: &mut Option<(Engine, Instant)>,
    (request, pdu): (u32, &[u8]),
) -> Result<(), Failure> {
    for round in 0..MAX_ROUNDS {
        let number = request.wrapping_add(round) & 0x7fff_ffff;
        let (engine, pdu) = match known {
            Some((engine, at)) => {
                let since = clock::now().ms_since(*at) / 1_000;
                let passed = u32::try_from(since).unwrap_or(u32::MAX);
                let time = engine.time.saturating_add(passed);
                (
                    Engine {
                        time,
                        ..engine.clone()
                    },
                    pdu.to_vec(),
                )
            }
            // Empty bindings: nothing is told before it is known to whom.
            None => (Engine::default(), pdu::pdu(pdu::GET, request, &[0x30, 0])),
        };
        let message = user.message(&engine, usm::REPORTABLE, number, salt(), pdu);
        send(socket, &message).await?;
        let answers = |bytes: &[u8]| {
            user.read(bytes)
                .filter(|heard| heard.number == u64::from(number))
        };
        let heard = hear(socket, answers).await?;
        let asked_who = known.is_none();
        match heard.complaint() {
            0 if heard.signed && !asked_who => return judge(&heard.answer),
            // Which engine, said by anybody: only who has the user's keys for it understands the next message.
            4 => *known = Some((heard.engine, clock::now())),
            2 if heard.signed => *known = Some((heard.engine, clock::now())),
            3 => return Err(Failure::passing("it knows no such user")),
            5 => {
                return Err(Failure::passing(
                    "it has another password, or another way to sign",
                ));
            }
            6 => return Err(Failure::passing("it has another password to encrypt with")),
            1 => {
                return Err(Failure::passing(
                    "it does not take signed and encrypted messages",
                ));
            }
            _ => return Err(Failure::passing("its answer is none that was asked for")),
        }
    }
    *known = None;
    Err(Failure::passing(
        "its clock and its name change with every answer",
    ))
}

fn judge(answer: &Answer) -> Result<(), Failure> {
    match (answer.tag, answer.error) {
        (pdu::RESPONSE, 0) => Ok(()),
        (_, error) => Err(Failure::passing(format!("it answers with error {error}"))),
    }
}

async fn connect(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}

async fn send(socket: &UdpSocket, message: &[u8]) -> Result<(), Failure> {
    let sent = socket.send(message).await;
    sent.map(drop)
        .map_err(|error| Failure::passing(error.to_string()))
}

/// The first answer that `read` takes.
async fn hear<T>(socket: &UdpSocket, read: impl Fn(&[u8]) -> Option<T>) -> Result<T, Failure> {
    let heard = async {
        let mut buffer = [0; MAX_ANSWER];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if let Some(answer) = read(buffer.get(..length).unwrap_or_default()) {
                return Ok::<T, std::io::Error>(answer);
            }
        }
    };
    match timeout(PATIENCE, heard).await {
        Ok(answer) => answer.map_err(|error| Failure::passing(error.to_string())),
        Err(_) => Err(Failure::passing(format!(
            "no answer within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

/// Never the same with one key and one clock, but by a chance of 1 in 2^64.
fn salt() -> u64 {
    random::dice()
}
