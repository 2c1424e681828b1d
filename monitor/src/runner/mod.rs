//! `rais runner`: the process that runs programs of the operator's: `exec` tests and loads, scripts.
//!
//! The node has given up its privileges, and must not fork: it is large and its threads are urgent. So
//! before that it starts this small process (the same binary), which keeps only the right to be another
//! user and to end what it started; no right over the network or over files.
//!
//! ```text
//! node (monitor thread) -- run this, as long as that --> runner -- own group, user, no shell --> program
//!                       <-- how it ended, what it said --
//! ```
//!
//! When the node ends the line closes: the runner ends every test and load that runs, and itself.

mod hired;
mod job;
mod path;
mod serve;
mod user;
pub mod wire;

pub use hired::{NoRunner, Programs, Runner};
pub use path::{Unsafe, check_path};
pub use serve::run;
pub use user::find as find_user;
