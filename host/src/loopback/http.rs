//! As much of HTTP/1.x as the demo's responder needs: one request head in, one answer out.
//!
//! Pure: bytes to values and back. A library would bring an async runtime or a tree of crates for
//! forty lines of grammar.
//!
//! Limits: a request with a body is answered and its connection closed, since nothing here reads
//! bodies and the next request would otherwise be read out of the middle of one. Bare LF is taken
//! as a line end (RFC 9112, 2.2), so that `nc` works.

use std::fmt::Write as _;

/// Most bytes of a request head, line ends included: the usual limit of web servers.
pub(super) const MAX_HEAD: usize = 8 * 1024;

/// What the bytes that came so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The head has not ended yet.
    Incomplete,
    /// A whole request head of `length` bytes.
    Request { length: usize, request: Request },
    /// No request that we serve: answer this and close.
    Refused(Status),
}

/// A request that gets the service's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// HEAD: the same head as for GET, without the body.
    pub head_only: bool,
    /// The client wants the connection to stay, and it can.
    pub keep_alive: bool,
}

/// The answers that this responder gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    MethodNotAllowed,
    HeadTooLarge,
    VersionNotSupported,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// Reads a request head from the start of `input`.
pub(super) fn parse(input: &[u8]) -> Parsed {
    let Some(length) = head_length(input) else {
        return if input.len() >= MAX_HEAD {
            Parsed::Refused(Status::HeadTooLarge)
        } else {
            Parsed::Incomplete
        };
    };
    let Some(head) = input
        .get(..length)
        .and_then(|head| std::str::from_utf8(head).ok())
    else {
        return Parsed::Refused(Status::BadRequest);
    };
    match parse_head(head) {
        Ok(request) => Parsed::Request { length, request },
        Err(status) => Parsed::Refused(status),
    }
}

/// Writes a whole response.
pub(super) fn respond(status: Status, body: &str, head_only: bool, keep_alive: bool) -> Vec<u8> {
    let mut text = String::with_capacity(256 + body.len());
    let connection = if keep_alive { "keep-alive" } else { "close" };
    // Writing to a String never fails.
    let _ = write!(
        text,
        "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: {connection}\r\n",
        status.line(),
        body.len(),
    );
    if status == Status::MethodNotAllowed {
        text.push_str("Allow: GET, HEAD\r\n");
    }
    text.push_str("\r\n");
    if !head_only {
        text.push_str(body);
    }
    text.into_bytes()
}

/// Length of the head up to and including the empty line that ends it.
fn head_length(input: &[u8]) -> Option<usize> {
    let mut start = 0;
    for (at, byte) in input.iter().enumerate() {
        if *byte != b'\n' {
            continue;
        }
        let line = input.get(start..at).unwrap_or_default();
        if start > 0 && matches!(line, b"" | b"\r") {
            return Some(at + 1);
        }
        start = at + 1;
    }
    None
}

fn parse_head(head: &str) -> Result<Request, Status> {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Status::BadRequest);
    };
    if target.is_empty() || !is_token(method) {
        return Err(Status::BadRequest);
    }
    let mut keep_alive = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ if version.starts_with("HTTP/") => return Err(Status::VersionNotSupported),
        _ => return Err(Status::BadRequest),
    };
    let mut has_body = false;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Status::BadRequest)?;
        if !is_token(name) {
            return Err(Status::BadRequest);
        }
        let value = value.trim();
        if name.eq_ignore_ascii_case("connection") {
            keep_alive = wants_keep_alive(value, keep_alive);
        } else if name.eq_ignore_ascii_case("content-length") {
            has_body |= value != "0";
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            has_body = true;
        }
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Status::MethodNotAllowed),
    };
    Ok(Request {
        head_only,
        keep_alive: keep_alive && !has_body,
    })
}

fn wants_keep_alive(value: &str, before: bool) -> bool {
    let mut options = value.split(',').map(str::trim);
    if options.clone().any(|o| o.eq_ignore_ascii_case("close")) {
        return false;
    }
    before || options.any(|o| o.eq_ignore_ascii_case("keep-alive"))
}

/// A token of RFC 9110, 5.6.2: what methods and field names are made of.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Parsed {
        parse(text.as_bytes())
    }

    fn ok(text: &str, head_only: bool, keep_alive: bool) {
        let expected = Parsed::Request {
            length: text.len(),
            request: Request {
                head_only,
                keep_alive,
            },
        };
        assert_eq!(request(text), expected, "{text:?}");
    }

    /// Goal: a connection stays exactly when RFC 9112 says it may and we can.
    /// Method: each version with each wish, and heads that announce a body.
    #[test]
    fn connection_stays_only_when_asked_and_when_no_body_follows() {
        ok("GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, true);
        ok("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", false, false);
        ok("GET / HTTP/1.0\r\n\r\n", false, false);
        ok("GET / HTTP/1.0\nConnection: keep-alive\n\n", false, true);
        ok("HEAD /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n", true, true);
        ok("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", false, false);
        ok(
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
            false,
        );
    }

    /// Goal: bad input gets the answer that names its fault.
    /// Method: one request for each fault.
    #[test]
    fn what_is_no_request_of_ours_is_refused_with_its_reason() {
        let refused = |text: &str, status| {
            assert_eq!(request(text), Parsed::Refused(status), "{text:?}");
        };
        refused("\r\n\r\n", Status::BadRequest);
        refused("GET /\r\n\r\n", Status::BadRequest);
        refused("GET  HTTP/1.1\r\n\r\n", Status::BadRequest);
        refused("GET / HTTP/1.1\r\nno colon\r\n\r\n", Status::BadRequest);
        refused("GET / HTTP/1.1\r\nbad name: x\r\n\r\n", Status::BadRequest);
        refused("GET / HTTP/2.0\r\n\r\n", Status::VersionNotSupported);
        refused("POST / HTTP/1.1\r\n\r\n", Status::MethodNotAllowed);
        assert_eq!(
            parse(b"GET /\xff HTTP/1.1\r\n\r\n"),
            Parsed::Refused(Status::BadRequest)
        );
        assert_eq!(
            parse(&[b'a'; MAX_HEAD]),
            Parsed::Refused(Status::HeadTooLarge)
        );
    }

    /// Goal: a head that comes byte by byte is one request, and a second one behind it stays.
    /// Method: every prefix is incomplete; the whole has the length of the first head.
    #[test]
    fn a_request_in_pieces_is_incomplete_until_its_empty_line() {
        let first = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let both = format!("{first}GET /two HTTP/1.1\r\n\r\n");
        for end in 0..first.len() {
            assert_eq!(request(&both[..end]), Parsed::Incomplete, "{end}");
        }
        assert!(matches!(request(&both), Parsed::Request { length, .. } if length == first.len()));
    }
}
