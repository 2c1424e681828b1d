//! What the server is given: time, a secret and its limits. All have defaults but the first two.

use std::num::NonZeroUsize;

use crate::limit::RateLimit;

/// Most threads that answer UDP; more would only fight for the network card's queues.
const MAX_THREADS: usize = 8;

/// Settings of a [`super::DnsServer`].
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Random and secret: makes cookies, and spreads clients over the rate limit's table.
    pub secret: [u8; 16],
    /// Microseconds since 1970. Cookies carry it to clients, so it is the wall clock.
    pub clock: fn() -> u64,
    /// Rates over UDP; `None`: no limit.
    pub rate: Option<RateLimit>,
    /// Threads that answer UDP.
    pub threads: NonZeroUsize,
    /// TCP connections open at once, over all addresses; then the idlest makes room.
    pub tcp_connections: NonZeroUsize,
    /// TCP connections of one client address; then its own idlest makes room.
    pub tcp_connections_of_one: NonZeroUsize,
}

impl Settings {
    /// The defaults: one UDP thread fewer than cores, so that one is always left to the
    /// control of the array; 512 connections, 64 of one client.
    pub fn new(secret: [u8; 16], clock: fn() -> u64) -> Settings {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let at_least_one = |count: usize| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        Settings {
            secret,
            clock,
            rate: Some(RateLimit::default()),
            threads: at_least_one((cores - 1).min(MAX_THREADS)),
            tcp_connections: at_least_one(512),
            tcp_connections_of_one: at_least_one(64),
        }
    }
}
