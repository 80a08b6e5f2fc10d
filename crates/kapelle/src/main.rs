//! The `kapelle` command.

use std::process::ExitCode;

// Values are made by one thread and dropped by another all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: the child of a process agent is one thread and no more.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == kapelle_agents::child::ARG) {
        return kapelle_agents::child::main();
    }
    kapelle::cli::main()
}
