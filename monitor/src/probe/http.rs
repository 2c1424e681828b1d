//! A small HTTP client: one GET, one answer, bounded, no redirects.
//!
//! Our own and not hyper's: that would be a connection pool and an executor for a request without a
//! body. Plain or over TLS. HTTP/1.1 with `Connection: close`; what is sent in chunks is put together.
//!
//! Limits: heads of 16 KiB, bodies of 256 KiB; a redirect is a status like any other. A test that
//! asks for no text reads the head only.

use std::io::ErrorKind;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tcp::{connect, short};
use super::tls::{Configs, Trust};
use crate::judge::{Outcome, Reading};

/// Longest head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Longest body, in bytes.
const MAX_BODY: usize = 256 * 1024;
/// Read at once, in bytes.
const CHUNK: usize = 4 * 1024;
/// Port of `http`.
const PORT: u16 = 80;
/// Port of `https`.
const TLS_PORT: u16 = 443;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// What passes.
pub(super) struct Expected<'a> {
    /// This status.
    pub(super) status: u16,
    /// A body that holds this.
    pub(super) text: Option<&'a str>,
}

impl Expected<'_> {
    fn judge(&self, answer: &Answer) -> Result<(), String> {
        let Self { status, text } = self;
        if answer.status != *status {
            return Err(format!("status {} instead of {status}", answer.status));
        }
        match text {
            Some(text) if !String::from_utf8_lossy(&answer.body).contains(text) => Err(format!(
                "status {status}, but the body lacks the text asked for"
            )),
            _ => Ok(()),
        }
    }
}

/// Whether `url` answers as expected.
pub(super) async fn test(url: &str, expected: Expected<'_>) -> Result<(), String> {
    let answer = get(url, expected.text.is_some()).await?;
    expected.judge(&answer)
}

/// As [`test`], over TLS; `host` is the name that is asked for, where it is not the URL's.
pub(super) async fn test_tls(
    configs: &Configs,
    trust: Trust,
    url: &str,
    host: Option<&str>,
    expected: Expected<'_>,
) -> Result<(), String> {
    let place = Place::of(url, "https://", TLS_PORT)?;
    let stream = place.connect().await?;
    let name = host.unwrap_or_else(|| place.name());
    let mut stream = configs.connect(trust, name, stream).await?;
    let asked = host.unwrap_or(place.host);
    let answer = converse(&mut stream, asked, place.path, expected.text.is_some()).await?;
    expected.judge(&answer)
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

/// A URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    /// Where to connect, when that needs no resolver.
    target: String,
    /// Host and port, as the server is told.
    host: &'a str,
    path: &'a str,
    port: u16,
}

impl<'a> Place<'a> {
    fn of(url: &'a str, scheme: &str, port: u16) -> Result<Self, String> {
        let rest = url.strip_prefix(scheme);
        let rest = rest.ok_or_else(|| format!("`{url}` does not start with {scheme}"))?;
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        let bare = host.parse::<std::net::IpAddr>().is_ok()
            || (host.starts_with('[') && host.ends_with(']'));
        let target = match bare {
            true => format!("{host}:{port}"),
            false => host.to_owned(),
        };
        Ok(Self {
            target,
            host,
            path,
            port,
        })
    }

    /// The host alone, as a certificate has it.
    fn name(&self) -> &'a str {
        let host = self.host;
        let host = match host.rsplit_once(':') {
            Some((name, _)) if !host.ends_with(']') => name,
            _ => host,
        };
        host.trim_start_matches('[').trim_end_matches(']')
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let stream = match super::socket(&self.target) {
            Ok(_) => connect(&self.target).await?,
            Err(_) => connect(&self.resolve().await?).await?,
        };
        // Hangs up with a reset: else each look would leave a socket in TIME_WAIT.
        let _farewell = stream.set_zero_linger();
        Ok(stream)
    }

    /// A name in a URL, by the system's resolver.
    async fn resolve(&self) -> Result<String, String> {
        let Self { host, port, .. } = self;
        let named = match host.rsplit_once(':') {
            Some(_) => (*host).to_owned(),
            None => format!("{host}:{port}"),
        };
        let mut found = tokio::net::lookup_host(&named)
            .await
            .map_err(|error| format!("cannot resolve {host}: {}", short(&error)))?;
        let first = found.next();
        first
            .map(|address| address.to_string())
            .ok_or_else(|| format!("{host} has no address"))
    }
}

async fn get(url: &str, with_body: bool) -> Result<Answer, String> {
    let place = Place::of(url, "http://", PORT)?;
    let mut stream = place.connect().await?;
    converse(&mut stream, place.host, place.path, with_body).await
}

async fn converse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    path: &str,
    with_body: bool,
) -> Result<Answer, String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rais\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let written = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    let written = written.await;
    written.map_err(|error| format!("cannot ask: {}", short(&error)))?;
    read(stream, with_body).await
}

async fn read(stream: &mut (impl AsyncRead + Unpin), with_body: bool) -> Result<Answer, String> {
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

async fn body(
    stream: &mut (impl AsyncRead + Unpin),
    head: &str,
    mut bytes: Vec<u8>,
) -> Result<Vec<u8>, String> {
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

/// Reads on. False at the end, which over TLS many do not announce.
async fn more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Result<bool, String> {
    let mut part = [0; CHUNK];
    match stream.read(&mut part).await {
        Ok(read) => {
            bytes.extend_from_slice(part.get(..read).unwrap_or_default());
            Ok(read > 0)
        }
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(format!("cannot read the answer: {}", short(&error))),
    }
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
        let ok = |url| {
            let place = Place::of(url, "http://", 80).unwrap();
            (place.target.clone(), place.host, place.path, place.name())
        };
        assert_eq!(
            ok("http://10.0.0.1/x?y"),
            ("10.0.0.1:80".into(), "10.0.0.1", "/x?y", "10.0.0.1")
        );
        assert_eq!(
            ok("http://[fd00::1]:81"),
            ("[fd00::1]:81".into(), "[fd00::1]:81", "", "fd00::1")
        );
        assert_eq!(
            ok("http://[fd00::1]/a"),
            ("[fd00::1]:80".into(), "[fd00::1]", "/a", "fd00::1")
        );
        assert_eq!(ok("http://www.example:81?q").2, "?q");
        assert_eq!(ok("http://www.example:81?q").3, "www.example");
        assert!(Place::of("https://10.0.0.1/", "http://", 80).is_err());
        let tls = Place::of("https://10.0.0.1/", "https://", 443).unwrap();
        assert_eq!(tls.target, "10.0.0.1:443");
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
