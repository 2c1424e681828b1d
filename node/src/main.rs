//! The binary `rais`: reads the command line and does what it says.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use node::cli::{self, Command, Console, Style};
use node::commands::Real;

fn main() -> ExitCode {
    let command_line = match cli::parse() {
        Ok(command_line) => command_line,
        Err(code) => return code,
    };
    // The daemon works on all cores; everything else waits for answers.
    let runtime = match command_line.command {
        Command::Node { .. } => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build(),
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("rais: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (mut out, mut err) = (stdout(), stderr());
    let mut console = Console { out: &mut out, err: &mut err, style: Style::of_stdout() };
    let code = runtime.block_on(cli::run(command_line, &Real, &mut console));
    // Reading standard input cannot be cancelled; the process ends with it pending.
    runtime.shutdown_background();
    code
}
