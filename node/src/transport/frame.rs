//! Frames: length, version, tag, request id, body; over any byte stream.
//!
//! ```text
//! u32 length of what follows | u8 version | u8 tag | u64 request id | body      (big-endian)
//! ```
//! The header is judged as a whole before anything is allocated for the body: its length against
//! the limit of its tag and of who sent it. After an error a stream has no next frame: the
//! connection must be closed.
//!
//! Limits: [`MAX_BODY`], [`MAX_CLIENT_BODY`], [`MAX_STRANGER_BODY`].

use tokio::io::{AsyncRead, AsyncReadExt};

use super::Kind;

/// Longest body of any frame, bytes. Four entries of the log of the greatest size (1 MiB).
pub const MAX_BODY: usize = 4 * 1024 * 1024;
/// Longest body of a request of the CLI or API, bytes.
pub const MAX_CLIENT_BODY: usize = 1024 * 1024;
/// Longest body that one without a certificate may send, bytes: a join request is about 500.
pub const MAX_STRANGER_BODY: usize = 16 * 1024;
/// Bytes before the body.
pub const HEADER: usize = 4 + AFTER_LENGTH;

/// Version, tag and request id: the part of the header that the length counts.
const AFTER_LENGTH: usize = 1 + 1 + 8;
const VERSION: u8 = 1;

const REPLY: u8 = 0x80;
const REFUSAL: u8 = 0x81;
const ITEM: u8 = 0x82;
const END: u8 = 0x83;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// A request.
    Ask(Kind),
    /// The answer to a request.
    Reply,
    /// The refusal of a request, or the end of a stream by an error.
    Refusal,
    /// One frame of a stream.
    Item,
    /// The good end of a stream.
    End,
}

impl Tag {
    fn to_wire(self) -> u8 {
        match self {
            Self::Reply => REPLY,
            Self::Refusal => REFUSAL,
            Self::Item => ITEM,
            Self::End => END,
            // Each kind stands in the table, which a test proves; 0 is no tag.
            Self::Ask(kind) => Kind::WIRE
                .iter()
                .find(|(known, _)| *known == kind)
                .map_or(0, |(_, wire)| *wire),
        }
    }

    fn from_wire(wire: u8) -> Option<Self> {
        match wire {
            REPLY => Some(Self::Reply),
            REFUSAL => Some(Self::Refusal),
            ITEM => Some(Self::Item),
            END => Some(Self::End),
            _ => Kind::WIRE
                .iter()
                .find(|(_, known)| *known == wire)
                .map(|(kind, _)| Self::Ask(*kind)),
        }
    }
}

/// Whose frames these are: decides how long they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A host of the array.
    Member,
    /// One without a certificate.
    Stranger,
}

impl Trust {
    /// Longest body of a frame with this tag, bytes.
    pub fn limit(self, tag: Tag) -> usize {
        match (self, tag) {
            (Self::Stranger, _) => MAX_STRANGER_BODY,
            (Self::Member, Tag::Ask(Kind::Client | Kind::Stream | Kind::Join)) => MAX_CLIENT_BODY,
            (Self::Member, Tag::Ask(Kind::Session | Kind::Ping)) => MAX_STRANGER_BODY,
            (Self::Member, _) => MAX_BODY,
        }
    }
}

/// Why a stream of bytes is not a stream of frames, or ended.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Another version of the protocol, or no rais at all.
    #[error("frame of version {0}, this is version 1: upgrade the older side, or this is no rais")]
    Version(u8),
    /// A tag that this version does not know.
    #[error("frame with unknown tag {0:#04x}: the peer is newer, or this is no rais")]
    Tag(u8),
    /// The length is smaller than a header.
    #[error("frame length {0} is shorter than a header")]
    Short(u32),
    /// The body is longer than allowed.
    #[error("frame of {length} bytes is longer than the {limit} allowed for {tag:?}")]
    TooLong {
        /// Length of the body that was announced.
        length: usize,
        /// Longest allowed.
        limit: usize,
        /// The frame's tag.
        tag: Tag,
    },
    /// A tag in the wrong direction: an answer at the server, a request at the client.
    #[error("frame with tag {0:?} in the wrong direction")]
    Direction(Tag),
    /// The stream ended within a frame.
    #[error("stream ended within a frame")]
    Truncated,
    /// The stream broke.
    #[error("{0}")]
    Io(std::io::Error),
    /// A frame was begun but not finished in time.
    #[error("frame was not finished in time")]
    Slow,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub tag: Tag,
    /// The request it belongs to.
    pub id: u64,
    /// Length of the body, bytes.
    pub length: usize,
}

impl Header {
    /// The header's bytes. A body longer than [`MAX_BODY`] has none that a reader would take; the
    /// callers check before.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0u8; HEADER];
        let length = u32::try_from(AFTER_LENGTH.saturating_add(self.length)).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes[4] = VERSION;
        bytes[5] = self.tag.to_wire();
        bytes[6..].copy_from_slice(&self.id.to_be_bytes());
        bytes
    }

    /// Reads and judges a header. Total.
    ///
    /// # Errors
    /// [`FrameError::Version`], [`FrameError::Tag`], [`FrameError::Short`], [`FrameError::TooLong`].
    pub fn decode(bytes: &[u8; HEADER], trust: Trust) -> Result<Self, FrameError> {
        let (mut length, mut id) = ([0u8; 4], [0u8; 8]);
        length.copy_from_slice(&bytes[..4]);
        id.copy_from_slice(&bytes[6..]);
        let length = u32::from_be_bytes(length);
        if bytes[4] != VERSION {
            return Err(FrameError::Version(bytes[4]));
        }
        let tag = Tag::from_wire(bytes[5]).ok_or(FrameError::Tag(bytes[5]))?;
        let Some(body) = (length as usize).checked_sub(AFTER_LENGTH) else {
            return Err(FrameError::Short(length));
        };
        let limit = trust.limit(tag);
        if body > limit {
            return Err(FrameError::TooLong {
                length: body,
                limit,
                tag,
            });
        }
        Ok(Self {
            tag,
            id: u64::from_be_bytes(id),
            length: body,
        })
    }
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub tag: Tag,
    /// The request it belongs to.
    pub id: u64,
    /// Its content.
    pub body: Vec<u8>,
}

/// Reads one frame; `None` if the stream ended before its first byte.
///
/// Not safe to cancel: a reader that gives up within a frame must drop the stream.
///
/// # Errors
/// See [`FrameError`]; the stream must be closed then.
pub async fn read_frame<Stream>(
    stream: &mut Stream,
    trust: Trust,
) -> Result<Option<Frame>, FrameError>
where
    Stream: AsyncRead + Unpin,
{
    let mut bytes = [0u8; HEADER];
    let first = match stream.read(&mut bytes).await {
        Ok(0) => return Ok(None),
        Ok(count) => count,
        // A peer that goes without TLS's goodbye, between frames, has just gone.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(FrameError::Io(error)),
    };
    stream
        .read_exact(&mut bytes[first..])
        .await
        .map_err(within_frame)?;
    let header = Header::decode(&bytes, trust)?;
    let mut body = Vec::with_capacity(header.length);
    let mut rest = stream.take(header.length as u64);
    while body.len() < header.length {
        if rest.read_buf(&mut body).await.map_err(within_frame)? == 0 {
            return Err(FrameError::Truncated);
        }
    }
    Ok(Some(Frame {
        tag: header.tag,
        id: header.id,
        body,
    }))
}

fn within_frame(error: std::io::Error) -> FrameError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FrameError::Truncated,
        _ => FrameError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::RaftClass;
    use super::*;
    use proptest::prelude::*;

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn tags() -> Vec<Tag> {
        let asks = Kind::WIRE.iter().map(|(kind, _)| Tag::Ask(*kind));
        asks.chain([Tag::Reply, Tag::Refusal, Tag::Item, Tag::End])
            .collect()
    }

    fn bytes(tag: Tag, id: u64, body: &[u8]) -> Vec<u8> {
        let header = Header {
            tag,
            id,
            length: body.len(),
        };
        [&header.encode()[..], body].concat()
    }

    /// Goal: every tag has a number of its own. Method: round trip of all.
    #[test]
    fn every_tag_is_read_back() {
        for tag in tags() {
            assert_eq!(Tag::from_wire(tag.to_wire()), Some(tag));
        }
        let classes = [RaftClass::Append, RaftClass::Snapshot, RaftClass::Transfer];
        assert!(
            classes
                .iter()
                .all(|class| Tag::Ask(Kind::Raft { class: *class }).to_wire() != 0)
        );
    }

    /// Goal: the limit depends on kind and sender, and is judged before the body comes.
    /// Method: headers at and above each limit, with no body behind.
    #[test]
    fn oversized_frames_are_refused_by_their_header() {
        for trust in [Trust::Member, Trust::Stranger] {
            for tag in tags() {
                let limit = trust.limit(tag);
                let at = Header {
                    tag,
                    id: 1,
                    length: limit,
                };
                assert_eq!(Header::decode(&at.encode(), trust).unwrap(), at);
                let above = Header {
                    length: limit + 1,
                    ..at
                }
                .encode();
                let result = block(read_frame(&mut &above[..], trust));
                assert!(matches!(result, Err(FrameError::TooLong { .. })), "{tag:?}");
            }
        }
    }

    /// Goal: a stream cut anywhere within a frame is an error, at its edge the end.
    /// Method: cut a stream of one frame at each byte.
    #[test]
    fn truncated_frames_are_told_from_the_end() {
        let whole = bytes(Tag::Reply, 7, b"hello");
        for cut in 0..=whole.len() {
            let result = block(read_frame(&mut &whole[..cut], Trust::Member));
            match cut {
                0 => assert!(matches!(result, Ok(None))),
                _ if cut == whole.len() => assert_eq!(result.unwrap().unwrap().body, b"hello"),
                _ => assert!(matches!(result, Err(FrameError::Truncated)), "cut at {cut}"),
            }
        }
    }

    proptest! {
        /// Goal: frames come back, one after the other. Method: two random frames in a stream.
        #[test]
        fn frames_are_read_back(
            which in 0usize..16, id: u64, body in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let tag = tags()[which];
            let stream = [bytes(tag, id, &body), bytes(Tag::End, 1, b"")].concat();
            let mut stream = &stream[..];
            let frame = block(read_frame(&mut stream, Trust::Member)).unwrap().unwrap();
            prop_assert_eq!(frame, Frame { tag, id, body });
            let frame = block(read_frame(&mut stream, Trust::Member)).unwrap().unwrap();
            prop_assert_eq!(frame.tag, Tag::End);
        }

        /// Goal: reading is total. Method: random bytes, also behind a plausible start.
        #[test]
        fn any_bytes_are_read_without_panic(mut noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = block(read_frame(&mut &noise[..], Trust::Member));
            if noise.len() > 6 {
                noise[..5].copy_from_slice(&[0, 0, 0, 20, VERSION]);
                let _ = block(read_frame(&mut &noise[..], Trust::Stranger));
            }
        }
    }
}
