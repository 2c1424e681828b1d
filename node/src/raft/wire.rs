//! What two hosts say to each other about Raft: our own messages, whatever openraft's look like.
//!
//! A message is a version byte and one bincode value of at most 4 MiB. The receiver checks what
//! openraft would assert: consecutive entries, no term behind the vote's, no foreign sender.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::{Ballot, Blob, Coverage, Position, RecordError, StoredEntry, decode, encode};
use super::types::{LogEntry, LogId, TypeConfig};

/// Longest message. The transport's frames need not be longer.
pub const MAX_FRAME: usize = 4 << 20;
/// Encoded entries in one message: leaves room for the last, which may be 1 MiB, and the rest.
const ENTRY_BUDGET: usize = 2 << 20;
/// Bytes of a snapshot in one message.
pub(crate) const SNAPSHOT_CHUNK: usize = 1 << 20;
/// Grows when the messages change.
const VERSION: u8 = 1;
/// Longest text of a failure.
const MAX_TEXT: usize = 500;

/// A candidate's question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteAsk {
    pub(crate) vote: Ballot,
    last: Option<Position>,
    transfer: bool,
}

/// Entries for a follower, or none: a heartbeat or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) vote: Ballot,
    prev: Option<Position>,
    entries: Vec<StoredEntry>,
    commit: Option<Position>,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) vote: Ballot,
    pub(crate) coverage: Coverage,
    pub(crate) transfer: u64,
    pub(crate) total: u64,
    pub(crate) offset: u64,
    pub(crate) sum: u32,
    pub(crate) bytes: Blob,
}

/// A leader's wish that `to` lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handover {
    pub(crate) vote: Ballot,
    to: u64,
    last: Option<Position>,
}

/// All that one host asks another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    Vote(VoteAsk),
    PreVote(VoteAsk),
    Append(Append),
    Snapshot(Box<Piece>),
    Transfer(Handover),
}

/// An answer to a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteAnswer {
    vote: Ballot,
    pub(crate) granted: bool,
    last: Option<Position>,
}

/// An answer to a leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppendAnswer {
    Success,
    Partial(Option<Position>),
    Conflict,
    HigherVote(Ballot),
}

/// An answer to a leader that wants to hand over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HandoverAnswer {
    Done,
    VoteChanged {
        expected: Ballot,
        actual: Ballot,
    },
    NotFlushed {
        expected: Option<Position>,
        actual: Option<Position>,
    },
}

/// All answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Response {
    Vote(VoteAnswer),
    Append(AppendAnswer),
    /// Go on with the next piece.
    Piece,
    /// The snapshot is installed, or refused for a higher vote.
    Snapshot(Ballot),
    Transfer(HandoverAnswer),
    /// The host could not do it.
    Failed(String),
}

/// Encodes a message.
pub(crate) fn seal<T: Serialize>(message: &T) -> Result<Vec<u8>, RecordError> {
    let mut bytes = encode::<_, { MAX_FRAME - 1 }>(message)?;
    bytes.insert(0, VERSION);
    Ok(bytes)
}

/// Decodes a message.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => decode::<_, { MAX_FRAME - 1 }>(body),
        Some((version, _)) => Err(RecordError::Malformed(format!(
            "message version {version}, we speak {VERSION}"
        ))),
        None => Err(RecordError::Malformed("empty message".into())),
    }
}

impl Request {
    /// Whose message this is by its own account: a candidate's or leader's vote names it.
    pub(crate) fn sender(&self) -> u64 {
        match self {
            Self::Vote(ask) | Self::PreVote(ask) => ask.vote.node,
            Self::Append(append) => append.vote.node,
            Self::Snapshot(piece) => piece.vote.node,
            Self::Transfer(handover) => handover.vote.node,
        }
    }
}

impl Response {
    pub(crate) fn failed(why: &impl ToString) -> Self {
        Self::Failed(why.to_string().chars().take(MAX_TEXT).collect())
    }
}

impl From<VoteRequest<TypeConfig>> for VoteAsk {
    fn from(ask: VoteRequest<TypeConfig>) -> Self {
        let last = ask.last_log_id.map(Into::into);
        Self {
            vote: ask.vote.into(),
            last,
            transfer: ask.leadership_transfer,
        }
    }
}

impl From<VoteAsk> for VoteRequest<TypeConfig> {
    fn from(ask: VoteAsk) -> Self {
        let mut request = Self::new(ask.vote.into(), ask.last.map(Into::into));
        request.leadership_transfer = ask.transfer;
        request
    }
}

impl From<VoteResponse<TypeConfig>> for VoteAnswer {
    fn from(answer: VoteResponse<TypeConfig>) -> Self {
        let last = answer.last_log_id.map(Into::into);
        Self {
            vote: answer.vote.into(),
            granted: answer.vote_granted,
            last,
        }
    }
}

impl From<VoteAnswer> for VoteResponse<TypeConfig> {
    fn from(answer: VoteAnswer) -> Self {
        let vote: super::types::Vote = answer.vote.into();
        Self::new(vote, answer.last.map(Into::into), answer.granted)
    }
}

impl Append {
    /// As many of the entries as fit in one message; says the last of them when some stayed out.
    pub(crate) fn fill(
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> Result<(Self, Option<LogId>), RecordError> {
        let mut entries = Vec::with_capacity(request.entries.len());
        let (mut bytes, mut cut) = (0, None);
        for entry in &request.entries {
            let stored = StoredEntry::try_from(entry)?;
            bytes += stored.weight();
            if bytes > ENTRY_BUDGET && !entries.is_empty() {
                break;
            }
            entries.push(stored);
            cut = Some(entry.log_id);
        }
        let whole = entries.len() == request.entries.len();
        let append = Self {
            vote: request.vote.into(),
            prev: request.prev_log_id.map(Into::into),
            entries,
            commit: request.leader_commit.map(Into::into),
        };
        Ok((append, if whole { None } else { cut }))
    }

    /// Checks what openraft takes for granted.
    fn check(&self) -> Result<(), RecordError> {
        let fault = |what: &str| Err(RecordError::Malformed(format!("append: {what}")));
        if !self.vote.committed {
            return fault("not from a leader");
        }
        let (mut next, mut term) = match self.prev {
            None => (Some(0), 0),
            Some(prev) => (prev.index.checked_add(1), prev.term),
        };
        for entry in &self.entries {
            if Some(entry.at.index) != next {
                return fault("entries are not consecutive");
            }
            if entry.at.term < term || entry.at.term > self.vote.term {
                return fault("terms are out of order");
            }
            (next, term) = (entry.at.index.checked_add(1), entry.at.term);
        }
        Ok(())
    }
}

impl TryFrom<Append> for AppendEntriesRequest<TypeConfig> {
    type Error = RecordError;

    fn try_from(append: Append) -> Result<Self, RecordError> {
        append.check()?;
        let entries: Result<Vec<LogEntry>, _> =
            append.entries.into_iter().map(LogEntry::try_from).collect();
        Ok(Self {
            vote: append.vote.into(),
            prev_log_id: append.prev.map(Into::into),
            entries: entries?,
            leader_commit: append.commit.map(Into::into),
        })
    }
}

impl From<AppendEntriesResponse<TypeConfig>> for AppendAnswer {
    fn from(answer: AppendEntriesResponse<TypeConfig>) -> Self {
        match answer {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(last) => Self::Partial(last.map(Into::into)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<AppendAnswer> for AppendEntriesResponse<TypeConfig> {
    fn from(answer: AppendAnswer) -> Self {
        match answer {
            AppendAnswer::Success => Self::Success,
            AppendAnswer::Partial(last) => Self::PartialSuccess(last.map(Into::into)),
            AppendAnswer::Conflict => Self::Conflict,
            AppendAnswer::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<&TransferLeaderRequest<TypeConfig>> for Handover {
    fn from(request: &TransferLeaderRequest<TypeConfig>) -> Self {
        let last = request.last_log_id().copied().map(Into::into);
        Self {
            vote: (*request.from_leader()).into(),
            to: *request.to_node_id(),
            last,
        }
    }
}

impl From<Handover> for TransferLeaderRequest<TypeConfig> {
    fn from(handover: Handover) -> Self {
        Self::new(
            handover.vote.into(),
            handover.to,
            handover.last.map(Into::into),
        )
    }
}

impl From<Result<(), TransferLeaderError<TypeConfig>>> for HandoverAnswer {
    fn from(result: Result<(), TransferLeaderError<TypeConfig>>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => Self::VoteChanged {
                expected: expected.into(),
                actual: actual.into(),
            },
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Self::NotFlushed {
                expected: expected.map(Into::into),
                actual: actual.map(Into::into),
            },
        }
    }
}

impl From<HandoverAnswer> for Result<(), TransferLeaderError<TypeConfig>> {
    fn from(answer: HandoverAnswer) -> Self {
        match answer {
            HandoverAnswer::Done => Ok(()),
            HandoverAnswer::VoteChanged { expected, actual } => {
                Err(TransferLeaderError::VoteChanged {
                    expected: expected.into(),
                    actual: actual.into(),
                })
            }
            HandoverAnswer::NotFlushed { expected, actual } => {
                Err(TransferLeaderError::LogNotFlushed {
                    expected: expected.map(Into::into),
                    actual: actual.map(Into::into),
                })
            }
        }
    }
}
