//! Power cuts: `cargo xtask powercut [--cuts N] [--seed S] [--off] [--failing N] [--slow S]`.
//!
//! The store is on a disk that is a file. At a moment that the seed says that file is cloned while
//! all goes on: the clone is what the disk had when the power went. What was acknowledged before is
//! compared with what is recovered from the clone, and the runs go on there to their end, checked
//! as after kills. `--off` makes every sync a lie; then the same must find losses.
//!
//! **Invariant:** nothing is left behind, however it ends: all mounts and processes are in
//! namespaces that end with this process, and all files in a memory that does, see [`namespace`].

#![expect(clippy::unwrap_used, reason = "a campaign that cannot go on has failed")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what a campaign is to show")]

mod disk;
mod failing;
mod life;
mod namespace;
mod shift;
mod slow;
mod tally;

#[allow(dead_code, reason = "the kill test uses more of it")]
#[path = "../../tests/it/kill_check.rs"]
mod kill_check;
#[allow(dead_code, reason = "the kill test uses more of it")]
#[path = "../../tests/it/kill_node.rs"]
mod kill_node;
#[allow(dead_code, reason = "the kill test uses more of it")]
#[path = "../../tests/it/kill_round.rs"]
mod kill_round;
#[path = "../../tests/it/kill_server.rs"]
mod kill_server;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use disk::Shelf;
use kill_check::Journal;
use kill_node::kapelle;
use kill_round::Round;
use kill_server::Server;
use life::{Life, Model};
use tally::Tally;

/// How many machines lose their power at once.
const AT_ONCE: usize = 2;

/// How much is shown of what is wrong.
const WRONG_MAX: usize = 2_000;

/// What the command line says.
#[derive(Debug, clap::Parser)]
struct Args {
    /// How many cuts
    #[arg(long, default_value_t = 200)]
    cuts: u64,
    /// Which ones: the same moments, as far as the machine allows
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The control: every sync returns at once and does nothing
    #[arg(long)]
    off: bool,
    /// Instead: so many disks that fail in the middle, see [`failing`]
    #[arg(long, value_name = "N")]
    failing: Option<u32>,
    /// Instead: so many seconds on a disk that does 20 writes a second, see [`slow`]
    #[arg(long, value_name = "SECONDS")]
    slow: Option<u64>,
    /// What this process calls itself with
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    if !args.inside {
        let _fast_again = args.slow.map(|_| namespace::FastAgain::watch());
        return namespace::enter(args.off);
    }
    namespace::end_with_parent();
    if let Some(disks) = args.failing {
        return failing::play(disks, args.off);
    }
    if let Some(seconds) = args.slow {
        return slow::play(seconds);
    }
    let tally = play(&args);
    println!("{tally}");
    match (args.off, tally.lost()) {
        (false, 0) if tally.is_clean() => ExitCode::SUCCESS,
        (true, 1..) => ExitCode::SUCCESS,
        (true, 0) => {
            println!("without syncs nothing was lost: these cuts prove nothing");
            ExitCode::FAILURE
        }
        (false, _) => ExitCode::FAILURE,
    }
}

/// Cuts until there are enough.
fn play(args: &Args) -> Tally {
    let (shelf, model) = (Shelf::build(), model());
    let (next, tally) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while tally.lock().unwrap().cuts() < args.cuts {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let life = Life::new(&shelf, args.seed << 32 | number, args.off);
                    let lived = life.play(&model);
                    for wrong in lived.wrong.iter().filter(|_| !args.off) {
                        let begin: String = wrong.chars().take(WRONG_MAX).collect();
                        eprintln!("seed {}, life {number}: {begin}", args.seed);
                    }
                    let mut tally = tally.lock().unwrap();
                    tally.add(&lived);
                    eprintln!("{:>6} cuts, {} lost something", tally.cuts(), tally.lost());
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

/// A run that nothing happens to.
fn model() -> Model {
    let server = Server::start();
    let (place, told) = Round::new(&kapelle(), &server, 0).undisturbed();
    let journal = Journal::read(&place, &told[0].id);
    Model { output: journal.output().clone(), events: journal.events.len() as u64 }
}
