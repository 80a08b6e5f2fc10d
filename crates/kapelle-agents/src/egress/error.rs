//! Why there is no answer, told by what is known of the request: whether anything was sent.

use std::error::Error as StdError;

use url::Url;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none that could be asked.
    #[error("`{url}`: {why}")]
    BadUrl {
        /// As given, without credentials.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A policy of ours forbids it.
    #[error("`{host}` is not to be reached: {why}")]
    Denied {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// Nothing was sent.
    #[error("`{host}` cannot be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// What the system says.
        why: String,
    },
    /// Sent, and then silence. It is not known what happened.
    #[error("`{host}` did not answer in time")]
    Silent {
        /// The host.
        host: String,
    },
    /// Sent, and then the connection broke. It is not known what happened.
    #[error("the connection to `{host}` broke: {why}")]
    Broken {
        /// The host.
        host: String,
        /// What the system says.
        why: String,
    },
    /// The answer is longer than allowed.
    #[error("the answer of `{host}` is longer than {max} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit.
        max: usize,
    },
    /// It led from one place to the next.
    #[error("`{host}` redirects more than {max} times")]
    TooManyRedirects {
        /// The last host.
        host: String,
        /// The limit.
        max: u32,
    },
    /// There can be no requests at all.
    #[error("requests cannot be made here: {0}")]
    Setup(String),
}

/// A name of which an address is not allowed; found again among the causes of a failed request.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotAllowed(pub(super) String);

impl Error {
    /// The same, that names the port as well where nobody listens at it.
    pub(super) fn with_port(self, url: &Url) -> Self {
        match (self, url.port_or_known_default()) {
            (Self::Unreachable { host, why }, Some(port)) => {
                Self::Unreachable { host: format!("{host}:{port}"), why }
            }
            (error, _) => error,
        }
    }
}

/// What a failed request to `host` means.
pub(super) fn explain(host: &str, error: &reqwest::Error) -> Error {
    let host = host.to_owned();
    if let Some(denied) = causes(error).find_map(|cause| cause.downcast_ref::<NotAllowed>()) {
        return Error::Denied { host, why: denied.0.clone() };
    }
    let why = deepest(error).to_string();
    match () {
        () if error.is_builder() => {
            Error::BadUrl { url: host, why: "no request can be made of it" }
        }
        () if error.is_connect() => Error::Unreachable { host, why },
        () if error.is_timeout() => Error::Silent { host },
        () => Error::Broken { host, why },
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// What is at the bottom of `error`.
pub(super) fn deepest(error: &reqwest::Error) -> &dyn StdError {
    causes(error).last().unwrap_or(error)
}
