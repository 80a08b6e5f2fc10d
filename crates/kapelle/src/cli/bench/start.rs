//! How long a process takes from its start to the end of its first step.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Measured;
use crate::cli::exit::{Exit, Stop};

const WORKFLOW: &str = "\
id: start
tasks:
  - id: first
    agentName: echo
    input: { value: 1 }
";

pub(super) async fn measure(folder: Option<&Path>, at_least: Duration) -> Result<Measured, Stop> {
    let Some(folder) = folder.map(Path::to_path_buf) else {
        return Err(Stop::usage("`start` reads a file: give a folder as the store"));
    };
    let repeat = move || {
        std::fs::write(folder.join("start.yaml"), WORKFLOW)?;
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < at_least || times.is_empty() {
            times.push(once(&folder)?);
        }
        let seconds = times.iter().sum::<Duration>().as_secs_f64();
        let runs = times.len();
        Ok(Measured { runs, ..Measured::new("start", runs, seconds, times) })
    };
    tokio::task::spawn_blocking(repeat).await.map_err(std::io::Error::other)?
}

/// Runs a workflow of one step in a process of its own.
fn once(folder: &Path) -> Result<Duration, Stop> {
    let began = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["run", "start.yaml", "--json", "--store", "store"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut took = None;
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let event: Value = serde_json::from_str(&line?).unwrap_or_default();
        if event["type"] == "step_completed" {
            took.get_or_insert(began.elapsed());
        }
    }
    let status = child.wait()?;
    took.filter(|_| status.success())
        .ok_or_else(|| Stop::new(Exit::Failed, format!("the run of one step ended with {status}")))
}
