//! The runner alone, for tests: `rais runner` without the rest of `rais`.

use std::process::ExitCode;

fn main() -> ExitCode {
    monitor::runner::run()
}
