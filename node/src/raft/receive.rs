//! The receiving side of Raft's messages, and the place where a snapshot is put together.
//!
//! The transport has authenticated the sender; here a message must also say that it is his. What
//! does not decode or does not add up is an error for the sender and changes nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use openraft::raft::AppendEntriesRequest;
use statemachine::codec::MAX_STATE;

use super::machine::Machine;
use super::record::RecordError;
use super::types::{Snapshot, SnapshotBytes, SnapshotMeta, TypeConfig, Vote};
use super::wire::{self, Piece, Request, Response};

type Core = openraft::Raft<TypeConfig, Machine>;

/// Snapshots that may be on their way at once: the leader's, and one of a leader that does not know yet
/// that it lost. So at most 128 MiB wait here.
const MAX_TRANSFERS: usize = 2;

/// Why a message was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// Not a message of ours, or not a possible one.
    #[error("message refused: {0}")]
    Malformed(#[from] RecordError),
    /// The message speaks for another host than the one that sent it.
    #[error("host {from} sent a message of host {claimed}")]
    Impostor {
        /// Who sent it.
        from: u64,
        /// Whose it claims to be.
        claimed: u64,
    },
}

struct Transfer {
    from: u64,
    number: u64,
    total: u64,
    sum: u32,
    bytes: Vec<u8>,
}

/// Snapshots on their way.
#[derive(Default)]
pub(crate) struct Inbox {
    transfers: Mutex<VecDeque<Transfer>>,
}

fn fault(what: &str) -> RecordError {
    RecordError::Malformed(format!("snapshot: {what}"))
}

impl Inbox {
    /// Takes a piece; gives the whole when it was the last.
    fn take(&self, from: u64, piece: Piece) -> Result<Option<Vec<u8>>, RecordError> {
        let mut transfers = self
            .transfers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if piece.total > MAX_STATE as u64 {
            return Err(fault("longer than any state"));
        }
        if piece.offset == 0 {
            transfers.retain(|transfer| transfer.from != from);
            while transfers.len() >= MAX_TRANSFERS {
                transfers.pop_front();
            }
            transfers.push_back(Transfer {
                from,
                number: piece.transfer,
                total: piece.total,
                sum: piece.sum,
                bytes: Vec::new(),
            });
        }
        let fits = |transfer: &Transfer| {
            (
                transfer.from,
                transfer.number,
                transfer.total,
                transfer.sum,
                transfer.bytes.len() as u64,
            ) == (from, piece.transfer, piece.total, piece.sum, piece.offset)
        };
        let at = transfers
            .iter()
            .position(fits)
            .ok_or_else(|| fault("a piece out of turn"))?;
        let transfer = transfers
            .get_mut(at)
            .ok_or_else(|| fault("a piece out of turn"))?;
        transfer.bytes.extend_from_slice(&piece.bytes.0);
        let have = transfer.bytes.len() as u64;
        if have < transfer.total && !piece.bytes.0.is_empty() {
            return Ok(None);
        }
        let whole = transfers
            .remove(at)
            .map(|transfer| transfer.bytes)
            .unwrap_or_default();
        if have != piece.total || crc32c::crc32c(&whole) != piece.sum {
            return Err(fault("does not add up"));
        }
        Ok(Some(whole))
    }

    async fn snapshot(
        &self,
        core: &Core,
        from: u64,
        piece: Piece,
    ) -> Result<Response, RecordError> {
        let vote = Vote::from(piece.vote);
        if !vote.committed {
            return Err(fault("not from a leader"));
        }
        let mine =
            openraft::async_runtime::watch::WatchReceiver::borrow_watched(&core.metrics()).vote;
        if mine > vote {
            return Ok(Response::Snapshot(mine.into()));
        }
        let meta = SnapshotMeta::try_from(piece.coverage.clone())?;
        let Some(bytes) = self.take(from, piece)? else {
            return Ok(Response::Piece);
        };
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotBytes(std::sync::Arc::new(bytes)),
        };
        Ok(match core.install_full_snapshot(vote, snapshot).await {
            Ok(answer) => Response::Snapshot(answer.vote.into()),
            Err(error) => Response::failed(&error),
        })
    }

    /// Answers one message.
    pub(crate) async fn handle(
        &self,
        core: &Core,
        from: u64,
        body: &[u8],
    ) -> Result<Vec<u8>, RpcError> {
        let request: Request = wire::open(body)?;
        if request.sender() != from {
            return Err(RpcError::Impostor {
                from,
                claimed: request.sender(),
            });
        }
        let response = match request {
            Request::Vote(ask) => match core.vote(ask.into()).await {
                Ok(answer) => Response::Vote(answer.into()),
                Err(error) => Response::failed(&error),
            },
            Request::PreVote(ask) => match core.pre_vote(ask.into()).await {
                Ok(answer) => Response::Vote(answer.into()),
                Err(error) => Response::failed(&error),
            },
            Request::Append(append) => {
                let append = AppendEntriesRequest::try_from(append)?;
                match core.append_entries(append).await {
                    Ok(answer) => Response::Append(answer.into()),
                    Err(error) => Response::failed(&error),
                }
            }
            Request::Snapshot(piece) => self.snapshot(core, from, *piece).await?,
            Request::Transfer(handover) => match core.handle_transfer_leader(handover.into()).await
            {
                Ok(answer) => Response::Transfer(answer.into()),
                Err(error) => Response::failed(&error),
            },
        };
        Ok(wire::seal(&response)?)
    }
}
