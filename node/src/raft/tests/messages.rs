//! Messages: what is sent arrives as it was; what makes no sense is refused.

use openraft::raft::{AppendEntriesRequest, VoteRequest, VoteResponse};

use super::storage::{id, normal};
use super::support::{Cluster, entry, large_entry};
use crate::raft::record::{Position, decode, encode};
use crate::raft::types::{TypeConfig, Vote};
use crate::raft::wire::{self, Append, AppendAnswer, Request, Response};
use crate::raft::{MAX_FRAME, RpcError};

/// A small generator, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn request(entries: u64) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: Vote::new_committed(5, 2),
        prev_log_id: Some(id(4, 9)),
        entries: (10..10 + entries).map(|index| normal(5, index)).collect(),
        leader_commit: Some(id(4, 8)),
    }
}

/// Requests and responses as they go over the wire.
pub(crate) fn examples() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (append, _) = Append::fill(&request(3)).unwrap();
    let ask = VoteRequest::new(Vote::new(5, 2), Some(id(4, 9)));
    let requests = [
        Request::Append(append),
        Request::Vote(VoteRequest::<TypeConfig>::clone(&ask).into()),
        Request::PreVote(ask.into()),
    ];
    let granted = VoteResponse::<TypeConfig>::new(Vote::new(5, 2), Some(id(4, 9)), true);
    let responses = [
        Response::Vote(granted.into()),
        Response::Append(AppendAnswer::Success),
        Response::Piece,
        Response::failed(&"no room"),
    ];
    let requests = requests.iter().map(|one| wire::seal(one).unwrap());
    let responses = responses.iter().map(|one| wire::seal(one).unwrap());
    (requests.collect(), responses.collect())
}

/// Goal: an append survives the wire. Method: there and back.
#[test]
fn append_comes_back_as_it_was() {
    let (append, cut) = Append::fill(&request(3)).unwrap();
    assert_eq!(cut, None);
    let bytes = wire::seal(&Request::Append(append)).unwrap();
    let Request::Append(back) = wire::open(&bytes).unwrap() else {
        panic!("another message")
    };
    let back = AppendEntriesRequest::<TypeConfig>::try_from(back).unwrap();
    assert_eq!(format!("{back:?}"), format!("{:?}", request(3)));
}

/// Goal: no message is longer than a frame, however many entries openraft asks for.
/// Method: 12 entries of nearly 1 MiB; the cut must name the last that was taken.
#[test]
fn long_append_is_cut_to_a_frame() {
    let mut long = request(12);
    for one in &mut long.entries {
        let large = large_entry(1, 1, 1_000_000);
        one.payload = openraft::EntryPayload::Normal(crate::raft::types::Proposal(large.into()));
    }
    let (append, cut) = Append::fill(&long).unwrap();
    let bytes = wire::seal(&Request::Append(append)).unwrap();
    assert!(bytes.len() <= MAX_FRAME);
    assert!(cut.is_some_and(|last| (10..21).contains(&last.index())));
}

/// Goal: entries that openraft would stumble over are refused. Method: break each rule once.
#[test]
fn impossible_appends_are_refused() {
    type Breakage = fn(&mut AppendEntriesRequest<TypeConfig>);
    let breakages: [Breakage; 5] = [
        |r| r.entries.swap(0, 1),
        |r| r.entries[1].log_id = id(5, 13),
        |r| r.entries[0].log_id = id(3, 10),
        |r| r.entries[2].log_id = id(6, 12),
        |r| r.vote = Vote::new(5, 2),
    ];
    for breakage in breakages {
        let mut broken = request(3);
        breakage(&mut broken);
        let (append, _) = Append::fill(&broken).unwrap();
        assert!(AppendEntriesRequest::<TypeConfig>::try_from(append).is_err());
    }
}

/// Goal: left-over bytes are refused. Method: add one.
#[test]
fn trailing_byte_is_refused() {
    let position = Position {
        term: 1,
        leader: 2,
        index: 3,
    };
    let mut bytes = encode::<_, 64>(&position).unwrap();
    assert_eq!(decode::<Position, 64>(&bytes).unwrap(), position);
    bytes.push(0);
    assert!(decode::<Position, 64>(&bytes).is_err());
}

/// Goal: the bytes of version 1 never change. Method: one record and one message, written out.
#[test]
fn bytes_of_version_one_are_frozen() {
    let position = Position {
        term: 1,
        leader: 300,
        index: 70_000,
    };
    assert_eq!(
        encode::<_, 64>(&position).unwrap(),
        [1, 251, 44, 1, 252, 112, 17, 1, 0]
    );
    let answer = wire::seal(&Response::Piece).unwrap();
    assert_eq!(answer, [1, 2]);
}

/// Goal: garbage gives an error: no panic, no large allocation, and Raft goes on.
/// Method: random bytes, and valid messages with random bytes changed, through the real door.
#[tokio::test]
async fn garbage_is_refused_and_raft_goes_on() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(1).await;
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..5_000 {
        let length = (dice.roll() % 200) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| dice.roll() as u8).collect();
        if let Some(first) = bytes.first_mut().filter(|_| dice.0.is_multiple_of(2)) {
            *first = 1;
        }
        // Ids of hosts are small; a random message can name one only by chance.
        assert!(hosts[0].handle_rpc(1 << 40, &bytes).await.is_err());
    }
    let (append, _) = Append::fill(&request(3)).unwrap();
    let valid = wire::seal(&Request::Append(append)).unwrap();
    for _ in 0..5_000 {
        let mut bytes = valid.clone();
        for _ in 0..=dice.roll() % 3 {
            let at = (dice.roll() % bytes.len() as u64) as usize;
            bytes[at] = dice.roll() as u8;
        }
        let _ = wire::open::<Request>(&bytes).map(|request| match request {
            Request::Append(append) => AppendEntriesRequest::<TypeConfig>::try_from(append).is_ok(),
            _ => false,
        });
    }
    hosts[0].propose(entry(1, 1)).await.unwrap();
    cluster.stop_all().await;
}

/// Goal: one host can't speak for another. Method: send host 2's append as host 3.
#[tokio::test]
async fn message_of_another_host_is_refused() {
    let mut cluster = Cluster::new();
    let host = cluster.start(1).await;
    let (append, _) = Append::fill(&request(1)).unwrap();
    let bytes = wire::seal(&Request::Append(append)).unwrap();
    let refused = host.handle_rpc(3, &bytes).await;
    assert_eq!(
        refused,
        Err(RpcError::Impostor {
            from: 3,
            claimed: 2
        })
    );
    cluster.stop_all().await;
}
