//! Our end of [`crate::child`]: starts it, talks to it, waits for it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kapelle_core::port::agent::{Call, Desk, Failure, FailureKind};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::input::Input;
use super::{stderr, stdout};
use crate::child::{ARG, End, KIDS, NAME, OUT, Report, Spec};
use crate::input::{cancelled, invalid};

/// What a command has between the wish that it should end and its death.
const GRACE_MS: u64 = 8_000;
/// What passes from our environment.
const PASSED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Where a command runs and what it sees.
pub(super) struct Surroundings {
    pub(super) cwd: String,
    /// `$KAPELLE_OUT`, for this attempt alone.
    pub(super) out: TempDir,
    passed: Vec<(&'static str, OsString)>,
}

impl Surroundings {
    pub(super) fn of(call: &Call, input: &Input, kids: Option<&Path>) -> Result<Self, Failure> {
        let root = Path::new(&*call.root);
        let cwd = input.cwd.as_ref().map_or_else(|| root.to_owned(), |cwd| root.join(cwd));
        let cwd = cwd.to_string_lossy().into_owned();
        if !Path::new(&cwd).is_dir() {
            return Err(invalid("no_such_folder", format!("there is no folder `{cwd}`")));
        }
        let out = out_folder(kids).map_err(|error| {
            let message = format!("no folder could be made for what the command leaves: {error}");
            Failure::new(FailureKind::Unavailable, "no_temp_folder", message)
        })?;
        let value = |name: &'static str| Some((name, std::env::var_os(name)?));
        let passed = PASSED.into_iter().filter_map(value).collect();
        Ok(Self { cwd, out, passed })
    }

    /// Where programs are looked for.
    pub(super) fn search_path(&self, input: &Input) -> String {
        let own = input.env().ok().and_then(|mut env| env.remove("PATH"));
        let passed = || self.passed.iter().find(|(name, _)| *name == "PATH");
        own.or_else(|| passed().map(|(_, path)| path.to_string_lossy().into_owned()))
            .unwrap_or_default()
    }
}

/// A folder for one attempt, beside the lock of this node's processes: who removes that after our
/// death removes what is left of this too.
fn out_folder(kids: Option<&Path>) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("kapelle-out-");
    let Some(all) = kids.map(|kids| kids.with_extension("out")) else { return builder.tempdir() };
    match std::fs::create_dir(&all) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io::Error::new(error.kind(), format!("{error} at `{}`", all.display())))
        }
        _ => builder.tempdir_in(all),
    }
}

/// How a command ended, and what it said.
pub(super) struct Ended {
    pub(super) report: Report,
    pub(super) stdout: stdout::Stdout,
    pub(super) stderr_tail: String,
}

/// A command under way.
pub(crate) struct Launched {
    child: Child,
    hears: OwnedReadHalf,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

/// Our word to the command. Dropped, it and all it started are killed.
pub(crate) struct Says(OwnedWriteHalf);

impl Says {
    /// Hears a command to its end, also where it is told to stop: as nobody wants it any more, or as
    /// `limit` is over. Whether it was that.
    pub(crate) async fn hear<T>(
        &mut self,
        ended: impl Future<Output = Result<T, Failure>>,
        limit: Option<Duration>,
        desk: &dyn Desk,
    ) -> (Result<T, Failure>, bool) {
        let over = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(ended);
        tokio::select! {
            ended = &mut ended => (ended, false),
            () = over => {
                self.cancel().await;
                (ended.await, true)
            }
            () = desk.cancelled() => {
                self.cancel().await;
                // It is heard to its end: a last word must not meet a closed pipe.
                drop(ended.await);
                (Err(cancelled()), false)
            }
        }
    }

    /// Asks the command to end; after the grace it is killed.
    pub(crate) async fn cancel(&mut self) {
        self.0.write_all(b"c").await.ok();
    }
}

/// Starts the command.
pub(super) async fn start(
    launcher: &Path,
    kids: Option<&Path>,
    call: &Call,
    input: &Input,
    here: &Surroundings,
) -> Result<(Launched, Says), Failure> {
    let spec = Spec {
        argv: input.argv(),
        cwd: here.cwd.clone(),
        env: input.env()?,
        stdin: input.stdin(),
        grace_ms: GRACE_MS,
        confined: None,
    };
    let mut env = here.passed.clone();
    env.push(("KAPELLE_RUN", call.run.to_string().into()));
    env.push(("KAPELLE_STEP", call.step.to_string().into()));
    env.push(("KAPELLE_ATTEMPT", call.attempt.to_string().into()));
    env.push(("KAPELLE_KEY", OsString::from(&*call.key)));
    env.push((OUT, here.out.path().into()));
    launch(launcher, kids, &env, &spec).await
}

/// Starts what `spec` says, under a launcher that sees `env` and nothing else.
pub(crate) async fn launch(
    launcher: &Path,
    kids: Option<&Path>,
    env: &[(&'static str, OsString)],
    spec: &Spec,
) -> Result<(Launched, Says), Failure> {
    let text = serde_json::to_vec(spec).expect("strings and numbers are JSON");
    let (launched, mut says) = spawn(launcher, kids, env).map_err(|error| {
        let message = format!("the launcher `{}`: {error}", launcher.display());
        Failure::new(FailureKind::Unavailable, "no_launcher", message)
    })?;
    // If it is dead already it does not report either, which is told then.
    says.0.write_all(&(text.len() as u64).to_le_bytes()).await.ok();
    says.0.write_all(&text).await.ok();
    Ok((launched, says))
}

fn spawn(
    launcher: &Path,
    kids: Option<&Path>,
    env: &[(&'static str, OsString)],
) -> io::Result<(Launched, Says)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (hears, says) = UnixStream::from_std(ours)?.into_split();
    let mut command = Command::new(launcher);
    command.arg0(NAME).arg(ARG).env_clear();
    command.envs(kids.map(|kids| (KIDS, kids)));
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    Ok((Launched { child, hears, stdout, stderr }, Says(says)))
}

impl Launched {
    /// Reads what the command says until it has ended.
    pub(super) async fn ended(&mut self, input: &Input, desk: &dyn Desk) -> Result<Ended, Failure> {
        let (out, err) = self.said();
        let stderr = async { Ok(stderr::tail(err, desk).await) };
        let (report, stdout, stderr_tail) =
            tokio::try_join!(self.report(), stdout::read(out, input.parse, desk), stderr)?;
        Ok(Ended { report, stdout, stderr_tail })
    }

    /// Waits until nothing of the command is left.
    pub(crate) async fn gone(&mut self) {
        self.child.wait().await.ok();
    }

    /// What the command says; to be taken once.
    pub(crate) fn said(&mut self) -> (ChildStdout, ChildStderr) {
        let (out, err) = (self.stdout.take(), self.stderr.take());
        (out.expect("stdout is read once"), err.expect("stderr is read once"))
    }

    /// How the command ended, once it has.
    pub(crate) async fn report(&mut self) -> Result<Report, Failure> {
        Ok(self.end().await?.report)
    }

    /// The same, with what else there is to tell.
    pub(crate) async fn end(&mut self) -> Result<End, Failure> {
        let mut text = Vec::new();
        self.hears.read_to_end(&mut text).await.ok();
        serde_json::from_slice(&text).map_err(|_| {
            let message = "the process that looks after the command died";
            Failure::new(FailureKind::Crashed, "launcher_died", message).uncertain()
        })
    }
}
