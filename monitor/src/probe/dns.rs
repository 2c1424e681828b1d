//! Asks a name server for an address of a name; any answer that holds a record passes.
//!
//! Sent and read by hand: a question of one name and a look at the header of the answer. A name that
//! has no v4 address may have a v6 one, so both are asked for.
//!
//! Limits: over UDP; what the record says is not looked at.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::tcp::short;

/// Kinds of records that are asked for.
const A: u16 = 1;
const AAAA: u16 = 28;
/// Longest label and name, in bytes.
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 254;
/// Longest answer that is looked at: the header is all that counts.
const MAX_ANSWER: usize = 4_096;

/// Whether `server` answers for `name`.
pub(super) async fn test(server: &str, name: &str) -> Result<(), String> {
    let server = super::socket(server)?;
    let socket = open(server)
        .await
        .map_err(|error| format!("cannot ask {server}: {}", short(&error)))?;
    for (id, kind) in [(0x7261, A), (0x6973, AAAA)] {
        let question = question(id, kind, name)?;
        let records = ask(&socket, &question, id)
            .await
            .map_err(|error| format!("cannot ask {server}: {}", short(&error)))?;
        match records {
            (0, 0) => {}
            (0, _) => return Ok(()),
            (rcode, _) => return Err(format!("{server} says {} for {name}", rcode_word(rcode))),
        }
    }
    Err(format!("{server} has no address for {name}"))
}

async fn open(server: SocketAddr) -> std::io::Result<UdpSocket> {
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// The code of the answer and how many records it holds.
async fn ask(socket: &UdpSocket, question: &[u8], id: u16) -> std::io::Result<(u8, u16)> {
    socket.send(question).await?;
    let mut answer = [0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut answer).await?;
        let answer = answer.get(..length).unwrap_or_default();
        let [first, second, flags, code, _, _, high, low, ..] = *answer else {
            continue;
        };
        let ours = u16::from_be_bytes([first, second]) == id && flags & 0x80 != 0;
        if ours {
            return Ok((code & 0x0f, u16::from_be_bytes([high, low])));
        }
    }
}

/// A question with recursion desired, as clients ask.
fn question(id: u16, kind: u16, name: &str) -> Result<Vec<u8>, String> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let start = bytes.len();
    for label in name
        .trim_end_matches('.')
        .split('.')
        .filter(|label| !label.is_empty())
    {
        let length = u8::try_from(label.len()).ok();
        let fits = length.filter(|_| label.len() <= MAX_LABEL);
        bytes.push(fits.ok_or_else(|| format!("`{name}` has too long a label"))?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    if bytes.len() - start > MAX_NAME {
        return Err(format!("`{name}` is too long"));
    }
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    Ok(bytes)
}

fn rcode_word(code: u8) -> String {
    let words = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
    ];
    let word = words.get(usize::from(code)).copied();
    word.map_or_else(|| format!("rcode {code}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the bytes of a question are those of RFC 1035.
    #[test]
    fn a_question_is_written_as_the_rfc_has_it() {
        let bytes = question(0x0102, A, "www.example.").unwrap();
        let expected = b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01";
        assert_eq!(bytes, expected);
        assert!(question(1, A, &"a".repeat(64)).is_err());
        assert!(question(1, A, &["abcdefgh"; 40].join(".")).is_err());
        assert_eq!(question(1, A, ".").unwrap().len(), 17);
    }
}
