//! Who stands at a door in the network: looked at before anything else is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use kapelle_core::{Tenant, Timestamp};

use super::Caller;
use super::audit::{Asked, Outcome, Recorder};
use super::keys::Keys;
use super::permission::Permissions;
use crate::server::problem::Problem;

/// What a door in the network knows.
pub(crate) struct Guard {
    pub(crate) keys: Arc<Keys>,
    pub(crate) audit: Arc<Recorder>,
    /// Where it listens.
    pub(crate) at: SocketAddr,
    /// Other names that it is called by.
    pub(crate) hosts: Vec<String>,
    /// Pages of these origins may ask.
    pub(crate) origins: Vec<String>,
    /// Whoever has no key may come in, wherever from.
    pub(crate) open: bool,
}

/// Where whoever asks is, if it is in the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Lets nobody pass who is not known, but to what is open to all.
pub(crate) async fn look(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let asked = Asked {
        method: parts.method.clone(),
        route: None,
        needs: None,
        peer: parts.extensions.get::<Peer>().map(|peer| peer.0),
        path: parts.uri.clone(),
    };
    let (caller, answer) = match guard.caller(parts.uri.authority(), &parts.headers).await {
        Ok(caller) => {
            parts.extensions.insert(caller.clone());
            (caller, next.run(Request::from_parts(parts, body)).await)
        }
        Err(problem) => (Arc::new(Caller::nobody()), problem.into_response()),
    };
    let outcome = Outcome::of(&answer);
    if caller.is_nobody() && outcome.is_refusal() {
        guard.audit.refused(&caller, asked, outcome).await;
    }
    answer
}

impl Guard {
    async fn caller(
        &self,
        authority: Option<&Authority>,
        headers: &HeaderMap,
    ) -> Result<Arc<Caller>, Problem> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
        let host = host.or_else(|| authority.cloned());
        if !host.is_some_and(|host: Authority| self.is_called(&host)) {
            return Err(Problem::strange_host());
        }
        if let Some(origin) = headers.get(header::ORIGIN)
            && !self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes())
        {
            return Err(Problem::strange_origin());
        }
        let Some(shown) = headers.get(header::AUTHORIZATION) else {
            return self.without_key().await;
        };
        let shown = shown.to_str().ok().and_then(|shown| shown.split_once(' '));
        let key = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let now = Timestamp(jiff::Timestamp::now().as_microsecond());
        let known = match key {
            Some((_, key)) => self.keys.caller(key.trim(), now).await?,
            None => None,
        };
        // A wrong key opens what is open to all, and nothing else: not even what is open without one.
        Ok(known.unwrap_or_else(|| Arc::new(Caller::nobody())))
    }

    /// Whoever shows no key is nobody, unless there are none: then it is somebody on this machine.
    async fn without_key(&self) -> Result<Arc<Caller>, Problem> {
        let is_near = self.at.ip().is_loopback() && !self.keys.are_there().await?;
        if !self.open && !is_near {
            return Ok(Arc::new(Caller::nobody()));
        }
        let may = Permissions::of_roles(["operator"].into_iter()).unwrap_or(Permissions::NONE);
        let (name, tenant) = ("somebody without a key".into(), Tenant::default());
        let person = "somebody".into();
        Ok(Arc::new(Caller { name, person, tenant, may, ..Caller::nobody() }))
    }

    fn is_called(&self, host: &Authority) -> bool {
        let name = host.host().trim_matches(['[', ']']);
        let own = match name.parse::<IpAddr>() {
            Ok(ip) => ip == self.at.ip() || ip.is_loopback() || self.at.ip().is_unspecified(),
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        };
        let named = |known: &String| {
            known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host.as_str())
        };
        own || self.hosts.iter().any(named)
    }
}
