//! Who stands at a door in the network: looked at before anything else is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use kapelle_core::Tenant;

use super::Caller;
use super::audit::{Asked, Outcome, Recorder};
use super::jwt::Tokens;
use super::keys::Keys;
use super::limits::Limits;
use super::permission::Permissions;
use super::tickets::{Tickets, shown_in};
use crate::server::problem::Problem;

/// What a door in the network knows.
pub(crate) struct Guard {
    pub(crate) keys: Arc<Keys>,
    /// Of somebody else, which open as well.
    pub(crate) tokens: Option<Tokens>,
    pub(crate) audit: Arc<Recorder>,
    pub(crate) tickets: Arc<Tickets>,
    /// Where it listens.
    pub(crate) at: SocketAddr,
    /// Other names that it is called by.
    pub(crate) hosts: Vec<String>,
    /// Pages of these origins may ask.
    pub(crate) origins: Vec<String>,
    /// How much is taken of each who asks.
    pub(crate) limits: Arc<Limits>,
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
    let peer = asked.peer;
    let mut origin = None;
    let known = match guard.place(parts.uri.authority(), &parts.headers) {
        Ok(known) => {
            origin = known;
            guard.caller(&parts).await
        }
        Err(problem) => Err(problem),
    };
    let asks_for_a_page = origin.is_some()
        && parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let (caller, answer) = match known {
        Ok(caller) if asks_for_a_page => (caller, preflight()),
        Ok(caller) => {
            parts.extensions.insert(caller.clone());
            (caller, next.run(Request::from_parts(parts, body)).await)
        }
        Err(problem) => (Arc::new(Caller::nobody()), problem.into_response()),
    };
    let outcome = Outcome::of(&answer);
    let is_unknown = caller.is_nobody() && outcome.is_refusal();
    let answer = match peer.filter(|_| is_unknown).map(|peer| guard.limits.take_unknown(peer)) {
        _ if !is_unknown => answer,
        Some(Err(problem)) => problem.into_response(),
        _ => {
            guard.audit.refused(&caller, asked, outcome).await;
            answer
        }
    };
    dressed(answer, origin)
}

/// With what tells browsers to do nothing of their own with it.
fn dressed(mut answer: Response, origin: Option<HeaderValue>) -> Response {
    let headers = answer.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What a page or a file needs it says itself.
    let usual = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in usual {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("retry-after, etag, idempotency-replayed");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    answer
}

/// What a browser is told that asks whether a page of a known origin may ask.
fn preflight() -> Response {
    let told = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, idempotency-key, last-event-id, if-none-match",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, told).into_response()
}

/// The one header of that name; `Err` if there are several.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, ()> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() { Err(()) } else { Ok(first) }
}

impl Guard {
    /// Refuses what is meant for somebody else, or comes from a strange page; the origin of a known one.
    fn place(
        &self,
        authority: Option<&Authority>,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Problem> {
        let host = one(headers, header::HOST).map_err(|()| Problem::strange_host())?;
        let host = host.map(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let hosts = [host, authority.cloned().map(Some)];
        let mut hosts = hosts.into_iter().flatten().peekable();
        if hosts.peek().is_none()
            || hosts.any(|host| host.is_none_or(|host| !self.is_called(&host)))
        {
            return Err(Problem::strange_host());
        }
        let origin = one(headers, header::ORIGIN).map_err(|()| Problem::strange_origin())?;
        let Some(origin) = origin else { return Ok(None) };
        // A page of our own.
        let own = headers.get(header::HOST).is_some_and(|host| {
            let scheme = |scheme: &[u8]| origin.as_bytes().strip_prefix(scheme);
            let of = scheme(b"http://").or_else(|| scheme(b"https://"));
            of == Some(host.as_bytes())
        });
        if own {
            return Ok(None);
        }
        let known = self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes());
        if known { Ok(Some(origin.clone())) } else { Err(Problem::strange_origin()) }
    }

    async fn caller(&self, Parts { uri, headers, .. }: &Parts) -> Result<Arc<Caller>, Problem> {
        let Ok(shown) = one(headers, header::AUTHORIZATION) else {
            return Ok(Arc::new(Caller::nobody()));
        };
        match (shown, uri.query().and_then(shown_in)) {
            (Some(shown), _) => self.with_key(shown).await,
            (None, Some(ticket)) => self.with_ticket(ticket, uri.path()).await,
            (None, None) => self.without_key().await,
        }
    }

    async fn with_key(&self, shown: &HeaderValue) -> Result<Arc<Caller>, Problem> {
        let shown = shown.to_str().ok().and_then(|shown| shown.split_once(' '));
        let key = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let now = crate::now();
        let known = match key.map(|(_, key)| key.trim()) {
            // Keys have no points in them, and tokens two.
            Some(token) if token.contains('.') => {
                self.tokens.as_ref().and_then(|tokens| tokens.caller(token, now))
            }
            Some(key) => self.keys.caller(key, now).await?,
            None => None,
        };
        // A wrong key opens what is open to all, and nothing else: not even what is open without one.
        Ok(known.unwrap_or_else(|| Arc::new(Caller::nobody())))
    }

    /// Whoever shows a ticket is who asked for it, as far as they are still known.
    async fn with_ticket(&self, ticket: &str, path: &str) -> Result<Arc<Caller>, Problem> {
        match self.tickets.redeem(ticket, path) {
            None => Ok(Arc::new(Caller::nobody())),
            Some(ticket) if ticket.caller.is_owner => Ok(ticket.caller),
            Some(ticket) => match ticket.shown {
                Some(shown) => self.with_key(&shown).await,
                None => self.without_key().await,
            },
        }
    }

    /// Whoever shows no key is nobody, unless there are none: then it is somebody on this machine.
    async fn without_key(&self) -> Result<Arc<Caller>, Problem> {
        let is_near =
            self.at.ip().is_loopback() && self.tokens.is_none() && !self.keys.are_there().await?;
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
