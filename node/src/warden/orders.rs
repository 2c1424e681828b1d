//! The orders that wait for the hands, and what the hands do with them.
//!
//! The hands' thread alone asks the kernel for what takes RTNL, its lock of all networks, so it may stand
//! still for as long as any program holds that. First come, first done, news of the gate before both.
//!
//! A release has shut its gate before it comes here (`Latch::bar`), and until it is done no order that
//! came before it can open that again; so two orders for one address may not overtake each other, and
//! don't.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control::{HostAction, Instant};
use host::netlink_driver::Latch;

use super::line::Cut;
use super::wire::Order;
use crate::clock;
use crate::daemon::hands::Hands;

/// Orders that may wait: an acquire and a release for each address that a host may hold, twice.
const WAITING: usize = 4_096;
/// An order that is not done after this long, in ms, is stuck: twice as long as programs were seen to hold
/// RTNL, and a sixth of the life that addresses have without a warden.
pub const STUCK_MS: u64 = 10_000;

/// The orders.
#[derive(Debug, Default)]
pub struct Orders {
    pile: Mutex<Pile>,
    some: Condvar,
}

#[derive(Debug, Default)]
struct Pile {
    waiting: VecDeque<Order>,
    /// One is being obeyed.
    busy: bool,
    /// When it, or the first that waits, became that.
    since: Instant,
    news: bool,
    over: bool,
}

/// What the hands are to do next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Obey(Order),
    /// A round, whether it is due or not.
    News,
    /// A round, if it is due.
    Round,
    End,
}

impl Orders {
    fn lock(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands one on.
    ///
    /// # Errors
    /// [`Cut`]: too many wait.
    pub fn push(&self, order: Order, now: Instant) -> Result<(), Cut> {
        let mut pile = self.lock();
        if pile.waiting.len() >= WAITING {
            return Err(Cut);
        }
        if pile.waiting.is_empty() && !pile.busy {
            pile.since = now;
        }
        pile.waiting.push_back(order);
        self.some.notify_one();
        Ok(())
    }

    /// Something happened at the gate.
    pub fn news(&self) {
        self.lock().news = true;
        self.some.notify_one();
    }

    /// No more: the hands let go of everything.
    pub fn end(&self) {
        self.lock().over = true;
        self.some.notify_one();
    }

    /// Whether an order has waited for [`STUCK_MS`], those before it not counted.
    pub fn are_stuck(&self, now: Instant) -> bool {
        let pile = self.lock();
        (pile.busy || !pile.waiting.is_empty()) && now.ms_since(pile.since) >= STUCK_MS
    }

    /// What is next; waits for it no longer than until `round`.
    fn next(&self, round: Instant) -> Next {
        let mut pile = self.lock();
        loop {
            if pile.over {
                return Next::End;
            }
            if std::mem::take(&mut pile.news) {
                return Next::News;
            }
            if let Some(order) = pile.waiting.pop_front() {
                pile.busy = true;
                return Next::Obey(order);
            }
            let left_us = round.us_since(clock::now());
            if left_us == 0 {
                return Next::Round;
            }
            let waited = self.some.wait_timeout(pile, Duration::from_micros(left_us));
            pile = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn done(&self, now: Instant) {
        let mut pile = self.lock();
        pile.busy = false;
        pile.since = now;
    }
}

/// The life of the hands' thread. False when something could not be let go of at its end.
pub fn obey(mut hands: Hands, orders: &Orders, latch: &Latch) -> bool {
    let mut round = Instant::default();
    loop {
        match orders.next(round) {
            Next::Obey(order) => {
                perform(&mut hands, latch, order);
                orders.done(clock::now());
            }
            Next::News => hands.alerted(),
            Next::Round => {}
            Next::End => return hands.end(),
        }
        round = hands.round(clock::now());
    }
}

fn perform(hands: &mut Hands, latch: &Latch, order: Order) {
    match order {
        Order::Act(action) => {
            let released = match &action {
                HostAction::Release { address, .. } => Some(*address),
                _ => None,
            };
            hands.perform(action);
            if let Some(address) = released {
                latch.unbar(address);
            }
        }
        Order::Interfaces(interfaces) => hands.place(interfaces),
        other => tracing::error!(?other, "no order for the hands; please report this"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn release(last: u8) -> Order {
        let address = IpAddr::from([10, 77, 0, last]);
        let (group, epoch) = ("web".into(), statemachine::Epoch(4));
        Order::Act(HostAction::Release {
            address,
            group,
            epoch,
        })
    }

    /// Goal: an order that waits too long is found out, however many were done before it; hands with nothing
    /// to do are never stuck.
    /// Method: orders by hand, with the clock as an argument.
    #[test]
    fn only_an_order_that_waits_too_long_is_stuck() {
        let orders = Orders::default();
        let at = |ms: u64| Instant(ms * 1000);
        assert!(!orders.are_stuck(at(60_000)));
        orders.push(release(1), at(60_000)).unwrap();
        orders.push(release(2), at(60_001)).unwrap();
        assert!(!orders.are_stuck(at(69_999)));
        assert!(orders.are_stuck(at(70_000)), "nobody took it up");
        assert_eq!(orders.next(at(0)), Next::Obey(release(1)));
        assert!(orders.are_stuck(at(70_000)), "it is not done");
        orders.done(at(71_000));
        assert!(!orders.are_stuck(at(80_999)), "the second has its own time");
        assert_eq!(orders.next(at(0)), Next::Obey(release(2)));
        orders.done(at(80_000));
        assert!(!orders.are_stuck(at(99_000)));
    }

    /// Goal: news goes before orders, an end before all, and what is too much is refused.
    #[test]
    fn news_goes_first_and_an_end_before_all() {
        let orders = Orders::default();
        for _ in 0..WAITING {
            orders.push(release(1), Instant(0)).unwrap();
        }
        assert_eq!(orders.push(release(1), Instant(0)), Err(Cut));
        orders.news();
        assert_eq!(orders.next(Instant(0)), Next::News);
        assert_eq!(orders.next(Instant(0)), Next::Obey(release(1)));
        orders.end();
        assert_eq!(orders.next(Instant(0)), Next::End);
    }
}
