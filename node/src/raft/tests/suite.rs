//! openraft's own suite for stores, on ours.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use statemachine::State;

use super::support::TempDir;
use crate::raft::machine::Machine;
use crate::raft::store::{LogStore, NoWatch, Store};
use crate::raft::types::TypeConfig;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = TempDir::new();
        let store = Store::open(dir.path(), Arc::new(NoWatch)).unwrap();
        let state = Arc::new(ArcSwap::from_pointee(State::default()));
        let machine = Machine::new(
            store.clone(),
            state,
            Arc::new(|_| {}),
            Arc::new(AtomicBool::new(false)),
        );
        Ok((dir, store.log(), machine))
    }
}

/// Goal: the store keeps every promise that openraft relies on.
/// Method: the suite that openraft publishes for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_passes_the_storage_suite_of_openraft() {
    Suite::test_all(Builder).await.unwrap();
}
