//! Several hosts in one process: election, failover, catching up, members, reads, restart.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openraft::storage::RaftLogStorage;

use super::support::{Cluster, entry, large_entry, node, serial, until};
use crate::raft::{ChangeError, Compaction, ProposeError, ReadError};

fn set(ids: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    ids.into_iter().collect()
}

/// Goal: a host alone commits, answers with what it applied, and knows it all after a restart.
/// Method: found, propose, stop, start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_alone_commits_and_remembers() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(1).await;
    for number in 1..=50 {
        let applied = hosts[0].propose(entry(1, number)).await.unwrap();
        assert_eq!(applied.outcomes, vec![Ok(())]);
        assert_eq!(serial(&hosts[0].state(), 1), number);
    }
    let read = hosts[0].linearizable().await.unwrap();
    assert!(read >= 51);
    let before = hosts[0].state();
    let view = hosts[0].view().borrow().clone();
    assert!(view.quorum_ok(Instant::now(), Duration::from_secs(1)));
    assert_eq!(view.nodes[&1], node(1));
    cluster.stop_all().await;
    assert!(matches!(
        hosts[0].propose(entry(1, 51)).await,
        Err(ProposeError::Stopped(_))
    ));
    drop(hosts);

    let again = cluster.start(1).await;
    again
        .wait_for_recovery(Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(serial(&again.state(), 1), 50);
    assert_eq!(again.state().sessions, before.sessions);
    assert!(
        cluster
            .steps
            .lock()
            .unwrap()
            .iter()
            .any(|(_, step)| step.replay)
    );
    again.propose(entry(1, 51)).await.unwrap();
    cluster.stop_all().await;
}

/// Goal: a store that has seen an array can't found another. Method: found twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_founding_is_refused() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(1).await;
    let again = hosts[0].initialize_single(node(1)).await;
    assert!(matches!(again, Err(ChangeError::Refused(_))));
    cluster.stop_all().await;
}

/// Goal: three hosts agree; a follower says who leads; a lost leader is replaced and what was
/// acknowledged is there; the old leader catches up and has the same state.
/// Method: isolate the leader, write through the new one, heal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hosts_fail_over_and_come_together_again() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(3).await;
    for number in 1..=20 {
        hosts[0].propose(entry(1, number)).await.unwrap();
    }
    until(&hosts[1], "a follower knows the leader", |view| {
        view.leader == Some(1)
    })
    .await;
    let elsewhere = hosts[1].propose(entry(2, 1)).await;
    assert_eq!(elsewhere, Err(ProposeError::NotLeader { leader: Some(1) }));
    let elsewhere = hosts[1].linearizable().await;
    assert_eq!(elsewhere, Err(ReadError::NotLeader { leader: Some(1) }));

    cluster.hub.isolate(1, true);
    let lost = until(&hosts[1], "another leader", |view| {
        matches!(view.leader, Some(2 | 3))
    })
    .await;
    let leader = &hosts[lost.leader.unwrap() as usize - 1];
    until(leader, "it leads", |view| view.am_leader).await;
    leader.propose(entry(1, 21)).await.unwrap();
    assert_eq!(serial(&leader.state(), 1), 21);
    let stale = hosts[0].linearizable().await;
    assert!(
        stale.is_err(),
        "a leader without a quorum must not read: {stale:?}"
    );
    let age = hosts[0].view().borrow().quorum_age(Instant::now());
    assert!(
        age.is_none_or(|age| age > Duration::from_millis(100)),
        "{age:?}"
    );

    cluster.hub.isolate(1, false);
    until(&hosts[0], "the old leader follows", |view| {
        view.leader == lost.leader
    })
    .await;
    let index = leader.linearizable().await.unwrap();
    for host in &hosts {
        until(host, "all have applied", |view| view.last_applied >= index).await;
    }
    assert_eq!(hosts[0].state(), leader.state());
    cluster.stop_all().await;
}

/// Goal: a host alone can't raise its term for ever (pre-vote fails when nobody is reached).
/// Method: isolate a follower for many elections; heal; the leader and its term are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolated_follower_neither_raises_its_term_nor_disturbs_on_return() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(3).await;
    let term = until(&hosts[2], "it follows", |view| view.leader == Some(1))
        .await
        .term;
    cluster.hub.isolate(3, true);
    // Three times the longest wait for a silent leader plus an election.
    let writing = Instant::now();
    let mut number = 0;
    while writing.elapsed() < Duration::from_millis(1800) {
        number += 1;
        hosts[0].propose(entry(1, number)).await.unwrap();
    }
    assert_eq!(hosts[2].view().borrow().term, term);
    cluster.hub.isolate(3, false);
    let index = hosts[0].linearizable().await.unwrap();
    until(&hosts[2], "it caught up", |view| view.last_applied >= index).await;
    assert_eq!(
        (
            hosts[0].view().borrow().term,
            hosts[0].view().borrow().am_leader
        ),
        (term, true)
    );
    cluster.stop_all().await;
}

/// Goal: members grow from learner to voter, a voter steps back and leaves; each host sees it.
/// Method: 1 -> 3 voters with a fourth learner; then 4 for 2; then remove 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learner_becomes_voter_and_a_voter_leaves() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(3).await;
    let view = until(&hosts[0], "three voters", |view| {
        view.voters == [set(1..=3)]
    })
    .await;
    assert!(view.membership.is_some());
    let fourth = cluster.start(4).await;
    hosts[0].add_learner(4, node(4)).await.unwrap();
    let seen = until(&fourth, "the learner knows the array", |view| {
        view.nodes.len() == 4
    })
    .await;
    assert!(!seen.is_voter(4));
    let refused = hosts[0].change_voters(set([1, 9])).await;
    assert!(
        matches!(refused, Err(ChangeError::Refused(_))),
        "{refused:?}"
    );
    hosts[0].change_voters(set([1, 3, 4])).await.unwrap();
    until(&fourth, "it votes", |view| view.voters == [set([1, 3, 4])]).await;
    let view = hosts[0].view().borrow().clone();
    assert!(
        view.nodes.contains_key(&2) && !view.is_voter(2),
        "a former voter stays as learner"
    );
    let refused = hosts[0].remove_node(3).await;
    assert!(matches!(refused, Err(ChangeError::Refused(_))));
    hosts[0].remove_node(2).await.unwrap();
    until(&hosts[0], "gone", |view| !view.nodes.contains_key(&2)).await;
    let elsewhere = fourth.add_learner(5, node(5)).await;
    assert_eq!(elsewhere, Err(ChangeError::NotLeader { leader: Some(1) }));
    hosts[0].change_node(4, node(7)).await.unwrap();
    until(&fourth, "its node changed", |view| {
        view.nodes[&4] == node(7)
    })
    .await;
    let index = hosts[0].linearizable().await.unwrap();
    until(&hosts[0], "progress is known", |view| {
        view.matched.get(&4) >= Some(&index)
    })
    .await;
    assert_eq!(
        Some(hosts[0].state().membership.index),
        hosts[0].view().borrow().membership.map(|id| id.index())
    );
    cluster.stop_all().await;
}

/// Goal: leadership can be handed over without an interruption worth the name.
/// Method: transfer to 2, to 3, back to 1, writing after each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(3).await;
    let (mut from, mut number) = (0, 0);
    for to in [2_u64, 3, 1] {
        number += 1;
        hosts[from].propose(entry(1, number)).await.unwrap();
        hosts[from].transfer_leader(to).await.unwrap();
        from = to as usize - 1;
        until(&hosts[from], "it leads", |view| view.am_leader).await;
    }
    hosts[0].propose(entry(1, 9)).await.unwrap();
    let refused = hosts[0].transfer_leader(8).await;
    assert!(matches!(refused, Err(ChangeError::Refused(_))));
    cluster.stop_all().await;
}

/// Goal: a host that is further behind than the log reaches gets a snapshot, in pieces that fit in
/// a frame, and ends with the same state; a restart after that works, from snapshot and log.
/// Method: snapshots every 100 entries, 50 kept; write until the log is purged; add a learner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_behind_the_log_catches_up_through_a_snapshot() {
    let mut cluster = Cluster::new();
    cluster.compaction = Compaction {
        every: 100,
        keep: 50,
    };
    let hosts = cluster.found(2).await;
    let mut number = 0;
    while hosts[0]
        .store()
        .log()
        .get_log_state()
        .await
        .unwrap()
        .last_purged_log_id
        .is_none()
    {
        number += 1;
        assert!(number < 10_000, "the log is never purged");
        hosts[0]
            .propose(entry((number % 200) as u8, number))
            .await
            .unwrap();
    }
    assert_eq!(
        cluster.hub.pieces.load(Ordering::Relaxed),
        0,
        "no snapshot was needed so far"
    );
    let third = cluster.start(3).await;
    hosts[0].add_learner(3, node(3)).await.unwrap();
    hosts[0].change_voters(set(1..=3)).await.unwrap();
    let index = hosts[0].linearizable().await.unwrap();
    until(&third, "it caught up", |view| view.last_applied >= index).await;
    assert!(
        cluster.hub.pieces.load(Ordering::Relaxed) > 0,
        "a snapshot was sent"
    );
    assert!(cluster.hub.longest.load(Ordering::Relaxed) <= crate::raft::MAX_FRAME);
    assert_eq!(third.state(), hosts[0].state());

    let state = third.state();
    cluster.stop(3).await;
    drop(third);
    let third = cluster.start(3).await;
    third
        .wait_for_recovery(Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(third.state().sessions, state.sessions);
    cluster.stop_all().await;
}

/// Goal: entries of many sizes reach the followers although openraft asks for more than fits.
/// Method: a follower away while 12 entries of 0.9 MiB are written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_entries_are_replicated_in_frames() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(3).await;
    cluster.hub.isolate(3, true);
    for number in 1..=12 {
        hosts[0]
            .propose(large_entry(1, number, 900_000))
            .await
            .unwrap();
    }
    cluster.hub.isolate(3, false);
    let index = hosts[0].linearizable().await.unwrap();
    until(&hosts[2], "it caught up", |view| view.last_applied >= index).await;
    assert_eq!(serial(&hosts[2].state(), 1), 12);
    assert!(cluster.hub.longest.load(Ordering::Relaxed) <= crate::raft::MAX_FRAME);
    cluster.stop_all().await;
}

/// Goal: an entry that can't be stored never reaches the log. Method: 1.5 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entry_above_the_limit_is_refused_and_raft_goes_on() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(1).await;
    let large = large_entry(1, 1, 1_500_000);
    assert!(matches!(
        hosts[0].propose(large).await,
        Err(ProposeError::Refused(_))
    ));
    hosts[0].propose(entry(1, 1)).await.unwrap();
    cluster.stop_all().await;
}

/// Goal: all hosts stopped and started again go on where they were.
/// Method: stop all three, start all three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_array_restarts() {
    let mut cluster = Cluster::new();
    let hosts = cluster.found(3).await;
    for number in 1..=30 {
        hosts[0].propose(entry(1, number)).await.unwrap();
    }
    let term = hosts[0].view().borrow().term;
    cluster.stop_all().await;
    drop(hosts);
    let mut hosts = Vec::new();
    for id in 1..=3 {
        hosts.push(cluster.start(id).await);
    }
    for host in &hosts {
        host.wait_for_recovery(Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(serial(&host.state(), 1), 30);
        assert!(host.view().borrow().term > term);
    }
    cluster.stop_all().await;
}
