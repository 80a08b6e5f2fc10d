//! A server in a process of its own, and beside it a bare one: what the machine does by itself.
//!
//! Both are asked over loopback by this process, so client and server share the same cores.

pub(super) mod bare;
pub(super) mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kapelle_core::Json;
use tokio::process::{Child, Command};

use super::recover::lines;
use crate::cli::exit::{Exit, Stop};
use wire::Line;

/// A process that answers HTTP, killed when this is dropped.
pub(super) struct Served {
    process: Child,
    pub(super) at: SocketAddr,
    key: Option<String>,
}

/// Where the store of a server is to be, which none in memory is.
pub(super) fn place<'a>(workload: &str, folder: Option<&'a Path>) -> Result<&'a Path, Stop> {
    folder.ok_or_else(|| {
        Stop::usage(format!("`{workload}` asks a server: give a folder as the store"))
    })
}

impl Served {
    /// `kapelle serve` on a store of its own, asked with a key.
    pub(super) async fn start(store: &Path) -> Result<Self, Stop> {
        let mut create = ours(&["keys", "create", "--name", "bench", "--role", "operator"])?;
        let made = create.arg("--store").arg(store).stderr(Stdio::null()).output().await?;
        let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        if !made.status.success() || key.is_empty() {
            return Err(failed(format!("`keys create` ended with {}", made.status)));
        }
        let (process, at) = serve(store).await?;
        Ok(Self { process, at, key: Some(key) })
    }

    /// A server that does nothing but answer.
    pub(super) async fn bare() -> Result<Self, Stop> {
        let (process, at) = listening(ours(&["bench", "--role", "bare"])?).await?;
        Ok(Self { process, at, key: None })
    }

    /// A request as it goes over the wire, with a body if there is one.
    pub(super) fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.at);
        if let Some(key) = &self.key {
            head += &format!("authorization: Bearer {key}\r\n");
        }
        if !body.is_empty() {
            head +=
                &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        format!("{head}\r\n{body}").into_bytes()
    }

    /// Asks once; what is answered, if it is a success.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &Json) -> Result<Json, Stop> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut line = Line::connect(self.at).await?;
        let answer = line.ask(&self.request(method, path, &body)).await?;
        serde_json::from_slice(answer.done()?).map_err(failed)
    }

    /// Begins a run of these steps; its id.
    pub(super) async fn submit(&self, body: &Json) -> Result<String, Stop> {
        let made = self.ask("POST", "/runs", body).await?;
        let id = made["id"].as_str().ok_or_else(|| failed("a run without an id"))?;
        Ok(id.to_owned())
    }

    /// What the process takes of memory now, in MiB, and has had of the processors.
    pub(super) fn takes(&self) -> (f64, Duration) {
        let id = self.process.id().unwrap_or(0);
        (super::memory_of(&id.to_string(), "VmRSS:"), spent(id))
    }

    /// `kill -9`.
    pub(super) async fn kill(mut self) -> Result<(), Stop> {
        Ok(self.process.kill().await?)
    }
}

/// `kapelle serve` on a store, as soon as it listens.
pub(super) async fn serve(store: &Path) -> Result<(Child, SocketAddr), Stop> {
    let mut command = ours(&["serve", "--listen", "127.0.0.1:0", "--store"])?;
    // All come from one address: what is measured is not the limit of an address.
    command.arg(store).env("KAPELLE_SERVER_REQUESTS_PER_SECOND", "1000000");
    command.env("KAPELLE_LOG_LEVEL", "warn");
    listening(command).await
}

/// This program with other arguments.
fn ours(args: &[&str]) -> Result<Command, Stop> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

async fn listening(mut command: Command) -> Result<(Child, SocketAddr), Stop> {
    let mut process = command.spawn()?;
    let line = lines(&mut process).next_line().await?.unwrap_or_default();
    let at = line.trim().strip_prefix("listening on http://").and_then(|at| at.parse().ok());
    Ok((process, at.ok_or_else(|| failed("the measured server did not start"))?))
}

/// How long a process has had a processor.
fn spent(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
    let per_second = rustix::param::clock_ticks_per_second();
    Duration::from_millis(ticks.sum::<u64>() * 1_000 / per_second)
}

/// Lets this process have as many files open as it may; those it starts may then as well.
pub(super) fn raise_files(needs: usize) -> Result<(), Stop> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
    let may = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needs = needs as u64 + 100;
    if may < needs {
        let more = format!("it needs {needs} open files, and may have {may}: raise `ulimit -n`");
        return Err(Stop::usage(more));
    }
    Ok(())
}

pub(super) fn failed(why: impl std::fmt::Display) -> Stop {
    Stop::new(Exit::Failed, why.to_string())
}

/// What clients did, one after another each, all at once.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) time: Duration,
    pub(super) times: Vec<Duration>,
}

impl Sum {
    /// Has so many clients send these requests, one after another, for a while. Each has a connection of its own.
    pub(super) async fn turn(
        &mut self,
        at: SocketAddr,
        requests: &std::sync::Arc<[Vec<u8>]>,
        clients: usize,
        time: Duration,
    ) -> Result<(), Stop> {
        let mut lines = Vec::new();
        for _ in 0..clients {
            lines.push(Line::connect(at).await?);
        }
        let began = Instant::now();
        let client = |(n, mut line): (usize, Line)| {
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                for request in requests.iter().cycle().skip(n) {
                    let since = Instant::now();
                    line.ask(request).await?.done()?;
                    times.push(since.elapsed());
                    if began.elapsed() >= time {
                        break;
                    }
                }
                Ok::<_, Stop>(times)
            })
        };
        let clients: Vec<_> = lines.into_iter().enumerate().map(client).collect();
        for client in clients {
            self.times.extend(client.await.map_err(failed)??);
        }
        self.time += began.elapsed();
        Ok(())
    }

    pub(super) fn per_second(&self) -> f64 {
        super::number(self.times.len()) / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The figures, with those of a limit beside them.
    pub(super) fn measured(self, name: &str, limit: Option<f64>) -> super::Measured {
        let of_limit = limit.map(|limit| self.per_second() / limit);
        let steps = self.times.len();
        let seconds = self.time.as_secs_f64();
        super::Measured { of_limit, ..super::Measured::new(name, steps, seconds, self.times) }
    }
}
