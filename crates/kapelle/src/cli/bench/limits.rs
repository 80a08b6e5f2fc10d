//! The disk's syncs and SQLite's commits, measured in turns, so that all see the same weather.

use std::path::Path;
use std::time::{Duration, Instant};

use kapelle_store::limits::{Appended, Bare, Load};

use super::Measured;
use super::workload::Shape;
use crate::cli::exit::{Exit, Stop};

/// About what a step adds to the journal.
const ROW: usize = 500;
/// How long one of them works before the next has its turn.
const TURN: Duration = Duration::from_millis(200);

/// What one of the measures came to.
#[derive(Default)]
struct Sum {
    rows: usize,
    commits: usize,
    time: Duration,
    times: Vec<Duration>,
}

impl Sum {
    /// Repeats something for a turn.
    fn repeat(&mut self, mut once: impl FnMut() -> Result<usize, Stop>) -> Result<(), Stop> {
        let began = Instant::now();
        while began.elapsed() < TURN {
            let one = Instant::now();
            self.rows += once()?;
            self.times.push(one.elapsed());
            self.commits += 1;
        }
        self.time += began.elapsed();
        Ok(())
    }

    fn measured(self, name: &str) -> Measured {
        let seconds = self.time.as_secs_f64();
        Measured { commits: self.commits, ..Measured::new(name, self.rows, seconds, self.times) }
    }
}

pub(super) async fn measure(
    folder: Option<&Path>,
    shape: &Shape,
    at_least: Duration,
) -> Result<Measured, Stop> {
    let Some(folder) = folder else {
        return Err(Stop::usage("`limits` are those of a disk: give a folder as the store"));
    };
    let failed = |error| Stop::new(Exit::Store, format!("`{}`: {error}", folder.display()));
    let mut appended = Appended::create(folder).map_err(failed)?;
    let mut bare = Bare::create(folder)?;
    let [mut syncs, mut single, mut together, mut bulk] = [(); 4].map(|()| Sum::default());
    let began = Instant::now();
    while began.elapsed() < at_least {
        syncs.repeat(|| appended.append(ROW).map(|()| 1).map_err(failed))?;
        let mut commit = |rows| bare.commit(Load { rows, bytes: rows * ROW }).map(|()| rows);
        single.repeat(|| Ok(commit(1)?))?;
        bulk.repeat(|| Ok(commit(1_000)?))?;
        let (back, rows, commits) = bare.serve(shape.concurrency, ROW, TURN).await?;
        bare = back;
        together.rows += rows;
        together.commits += commits;
        together.time += TURN;
    }
    let clients = format!("{}clients", shape.concurrency);
    let parts =
        vec![syncs.measured("sync"), together.measured(&clients), bulk.measured("1000rows")];
    Ok(Measured { parts, ..single.measured("limits") })
}
