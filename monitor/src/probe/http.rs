//! A small HTTP client: one GET, one answer, bounded, no redirects.
//!
//! Our own and not hyper's: that would be a connection pool and an executor for a request without a
//! body. HTTP/1.1 with `Connection: close`; what is sent in chunks is put together.
//!
//! Limits: heads of 16 KiB, bodies of 256 KiB; a redirect is a status like any other. A test that
//! asks for no text reads the head only.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tcp::{connect, short};
use crate::judge::{Outcome, Reading};

/// Longest head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Longest body, in bytes.
const MAX_BODY: usize = 256 * 1024;
/// Read at once, in bytes.
const CHUNK: usize = 4 * 1024;
/// Port of `http`.
const PORT: u16 = 80;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// Whether `url` answers with `status` and a body that holds `text`.
pub(super) async fn test(url: &str, status: u16, text: Option<&str>) -> Result<(), String> {
    let answer = get(url, text.is_some()).await?;
    if answer.status != status {
        return Err(format!("status {} instead of {status}", answer.status));
    }
    match text {
        Some(text) if !String::from_utf8_lossy(&answer.body).contains(text) => Err(format!(
            "status {status}, but the body lacks the text asked for"
        )),
        _ => Ok(()),
    }
}

/// The number at the dotted path `field` of the JSON document at `url`.
pub(super) async fn load(url: &str, field: &str, capacity: u64) -> Outcome {
    let answer = get(url, true).await?;
    if answer.status != 200 {
        return Err(format!("status {} instead of 200", answer.status));
    }
    let value: serde_json::Value =
        serde_json::from_slice(&answer.body).map_err(|error| format!("not JSON: {error}"))?;
    let found = field.split('.').try_fold(&value, |value, key| match value {
        serde_json::Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    });
    let number = found.and_then(|value| value.as_f64());
    match number {
        // A float holds every load that makes sense exactly enough.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(number) if number >= 0.0 => Ok(Reading::Load {
            load: number.round() as u64,
            capacity,
        }),
        _ => Err(format!("no number at `{field}`")),
    }
}

/// Host and port, as they are connected to and as the server is told, and the path.
fn parts(url: &str) -> Result<(String, &str, &str), String> {
    let rest = url.strip_prefix("http://");
    let rest = rest.ok_or_else(|| format!("`{url}` is not a plain http URL"))?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    let bare =
        host.parse::<std::net::IpAddr>().is_ok() || (host.starts_with('[') && host.ends_with(']'));
    let target = match bare {
        true => format!("{host}:{PORT}"),
        false => host.to_owned(),
    };
    Ok((target, host, path))
}

async fn get(url: &str, with_body: bool) -> Result<Answer, String> {
    let (target, host, path) = parts(url)?;
    let target = match super::socket(&target) {
        Ok(_) => target,
        Err(_) => resolve(host).await?,
    };
    let mut stream = connect(&target).await?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rais\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let written = stream.write_all(request.as_bytes()).await;
    written.map_err(|error| format!("cannot ask: {}", short(&error)))?;
    let answer = read(&mut stream, with_body).await?;
    let _farewell = stream.set_zero_linger();
    Ok(answer)
}

/// A name in a URL, by the system's resolver.
async fn resolve(host: &str) -> Result<String, String> {
    let named = match host.rsplit_once(':') {
        Some(_) => host.to_owned(),
        None => format!("{host}:{PORT}"),
    };
    let mut found = tokio::net::lookup_host(&named)
        .await
        .map_err(|error| format!("cannot resolve {host}: {}", short(&error)))?;
    let first = found.next();
    first
        .map(|address| address.to_string())
        .ok_or_else(|| format!("{host} has no address"))
}

async fn read(stream: &mut TcpStream, with_body: bool) -> Result<Answer, String> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > MAX_HEAD {
            return Err("its head is too long".to_owned());
        }
        if !more(stream, &mut bytes).await? {
            return Err("it hung up without an answer".to_owned());
        }
    };
    let text = String::from_utf8_lossy(bytes.get(..head).unwrap_or_default()).into_owned();
    let status = status(&text)?;
    let body = match with_body {
        true => body(stream, &text, bytes.split_off(head + 4)).await?,
        false => Vec::new(),
    };
    Ok(Answer { status, body })
}

async fn body(stream: &mut TcpStream, head: &str, mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let length = header(head, "content-length").and_then(|value| value.parse::<usize>().ok());
    let chunked = header(head, "transfer-encoding").is_some_and(|value| value.contains("chunked"));
    loop {
        let whole = match (chunked, length) {
            (true, _) => bytes.starts_with(b"0\r\n") || find(&bytes, b"\r\n0\r\n").is_some(),
            (false, Some(length)) => bytes.len() >= length,
            (false, None) => false,
        };
        if whole || bytes.len() > MAX_BODY || !more(stream, &mut bytes).await? {
            break;
        }
    }
    if chunked {
        return unchunk(&bytes);
    }
    bytes.truncate(length.unwrap_or(MAX_BODY).min(MAX_BODY));
    Ok(bytes)
}

/// Reads on. False at the end.
async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<bool, String> {
    let mut part = [0; CHUNK];
    let read = stream.read(&mut part).await;
    let read = read.map_err(|error| format!("cannot read the answer: {}", short(&error)))?;
    bytes.extend_from_slice(part.get(..read).unwrap_or_default());
    Ok(read > 0)
}

fn status(head: &str) -> Result<u16, String> {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse().ok());
    let status = status.filter(|_| version.starts_with("HTTP/1."));
    status.ok_or_else(|| "its answer is not HTTP".to_owned())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut found = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}

fn unchunk(mut bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let broken = || "its chunks are broken".to_owned();
    while let Some(end) = find(bytes, b"\r\n") {
        let line = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken())?;
        if size == 0 || body.len() > MAX_BODY {
            break;
        }
        let from = end + 2;
        let part = bytes
            .get(from..from.saturating_add(size))
            .unwrap_or_else(|| bytes.get(from..).unwrap_or_default());
        body.extend_from_slice(part);
        bytes = bytes
            .get(from.saturating_add(size).saturating_add(2)..)
            .unwrap_or_default();
    }
    Ok(body)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: addresses, ports, names and paths are taken apart as a server expects them.
    #[test]
    fn a_url_is_taken_apart() {
        let ok = |url| parts(url).unwrap();
        assert_eq!(
            ok("http://10.0.0.1/x?y"),
            ("10.0.0.1:80".into(), "10.0.0.1", "/x?y")
        );
        assert_eq!(
            ok("http://[fd00::1]:81"),
            ("[fd00::1]:81".into(), "[fd00::1]:81", "")
        );
        assert_eq!(
            ok("http://[fd00::1]/a"),
            ("[fd00::1]:80".into(), "[fd00::1]", "/a")
        );
        assert_eq!(ok("http://www.example?q").2, "?q");
        assert!(parts("https://10.0.0.1/").is_err());
    }

    /// Goal: chunks are put together, and broken ones are refused without a panic.
    #[test]
    fn chunks_are_put_together() {
        assert_eq!(
            unchunk(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").unwrap(),
            b"abcde"
        );
        assert_eq!(unchunk(b"ff\r\nabc").unwrap(), b"abc");
        assert!(unchunk(b"zz\r\nabc").is_err());
        assert_eq!(unchunk(b"ffffffffffffffff\r\nab").unwrap(), b"ab");
    }

    /// Goal: what is not HTTP is refused.
    #[test]
    fn only_http_has_a_status() {
        assert_eq!(status("HTTP/1.1 204 No Content").unwrap(), 204);
        assert_eq!(status("HTTP/1.0 200").unwrap(), 200);
        for wrong in ["", "SSH-2.0 200", "HTTP/1.1", "HTTP/1.1 abc"] {
            assert!(status(wrong).is_err(), "{wrong}");
        }
    }
}
