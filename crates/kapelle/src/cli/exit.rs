//! How a command ends: the one list of exit codes.

use std::fmt;
use std::process::ExitCode;

use kapelle_api as api;
use kapelle_core::port::journal;

/// The exit codes, kept for ever: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// 0: done; the run is `completed` or `completed_with_errors`.
    Done = 0,
    /// 1: the run is `failed` or `cancelled`.
    Failed = 1,
    /// 2: the command line, a file or an input is wrong, or the request was refused.
    Usage = 2,
    /// 3: the configuration is wrong.
    Config = 3,
    /// 4: the node that was asked cannot be reached.
    Unreachable = 4,
    /// 5: the run goes on later: it is paused, or waits for a person.
    Paused = 5,
    /// 6: the store failed.
    Store = 6,
}

impl Exit {
    /// What a run's verdict means.
    pub(crate) fn of_verdict(verdict: &str) -> Self {
        match verdict {
            "completed" | "completed_with_errors" => Self::Done,
            _ => Self::Failed,
        }
    }

    /// What another process of ours ended with; of any other program, whether it did well.
    pub(crate) const fn of_code(code: i32) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::Config,
            4 => Self::Unreachable,
            5 => Self::Paused,
            6 => Self::Store,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    message: String,
    is_output: bool,
}

impl Stop {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), is_output: false }
    }

    /// Who reads our output has gone: there is nobody to tell.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// Stdout takes no more: its reader has gone, or the disk is full.
    pub(crate) fn output(error: std::io::Error) -> Self {
        Self { is_output: true, ..Self::usage(format_args!("stdout: {error}")) }
    }

    /// Whether it is only that stdout takes no more.
    pub(crate) const fn is_output(&self) -> bool {
        self.is_output
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<api::client::Error> for Stop {
    fn from(error: api::client::Error) -> Self {
        let exit = match error.code() {
            None | Some("draining" | "elsewhere") => Exit::Unreachable,
            Some(code) if code.starts_with("store_") => Exit::Store,
            Some("outcome_unknown" | "run_damaged") => Exit::Store,
            Some(_) => Exit::Usage,
        };
        match error.code() {
            Some("unauthenticated") => {
                Self::new(exit, format!("{error}; here the key is in `KAPELLE_KEY`"))
            }
            _ => Self::new(exit, error),
        }
    }
}

impl From<journal::Error> for Stop {
    fn from(error: journal::Error) -> Self {
        Self::new(Exit::Store, error)
    }
}

impl From<kapelle_engine::Error> for Stop {
    fn from(error: kapelle_engine::Error) -> Self {
        use kapelle_engine::Error;
        let exit = match error {
            Error::Store(_) | Error::Damaged(_) => Exit::Store,
            Error::Elsewhere(_) | Error::Draining => Exit::Unreachable,
            _ => Exit::Usage,
        };
        Self::new(exit, error)
    }
}

impl From<crate::node::Error> for Stop {
    fn from(error: crate::node::Error) -> Self {
        match error {
            crate::node::Error::Store(error) => error.into(),
            crate::node::Error::Engine(error) => error.into(),
            crate::node::Error::Agent(error) => Self::usage(error),
        }
    }
}

/// Writing to stdout or reading a file that was named failed.
impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::usage(""),
            _ => Self::usage(error),
        }
    }
}
