//! The binary `rais`: reads the command line and does what it says.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use node::cli::{self, Console, Style};
use node::commands::Real;

fn main() -> ExitCode {
    let command_line = match cli::parse() {
        Ok(command_line) => command_line,
        Err(code) => return code,
    };
    // No runtime for the warden: it waits for its node and for its clock alone.
    if matches!(command_line.command, cli::Command::Warden) {
        return node::warden::keep::run();
    }
    if matches!(command_line.command, cli::Command::Runner) {
        return monitor::runner::run();
    }
    // One thread for everything asynchronous: an idle array wakes a hundred times a second, and each hop
    // to another thread costs as much as the work. What must not wait has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("rais: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (mut out, mut err) = (stdout(), stderr());
    let mut console = Console {
        out: &mut out,
        err: &mut err,
        style: Style::of_stdout(),
    };
    let code = runtime.block_on(cli::run(command_line, &Real, &mut console));
    // Reading standard input cannot be cancelled; the process ends with it pending.
    runtime.shutdown_background();
    code
}
