//! Where an answer sends us, and what goes along.
//!
//! **Invariant:** another origin sees no header that could be a secret.

use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Method, StatusCode};
use url::Url;

use super::{Error, Request, Response, host_of};

/// What another origin may see; anything else may be a secret.
const HARMLESS: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::USER_AGENT];
/// The same for the two that are ours.
const OURS: [&str; 2] = ["idempotency-key", "kapelle-attempt"];

/// Where `answer` leads; `None` if it is the end.
pub(super) fn target(request: &Request, answer: &Response) -> Result<Option<Url>, Error> {
    let leads = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    if !leads || request.keep.contains(&answer.status) {
        return Ok(None);
    }
    let Some(location) = answer.headers.get(header::LOCATION) else { return Ok(None) };
    let bad = |why| Error::BadUrl { url: String::from_utf8_lossy(location.as_bytes()).into(), why };
    let text = location.to_str().map_err(|_| bad("a redirect that is no text"))?;
    let next = request.url.join(text).map_err(|_| bad("a redirect to what is no URL"))?;
    Ok(Some(next))
}

/// Refuses what leads from a safe connection to another.
pub(super) fn check(request: &Request, next: &Url) -> Result<(), Error> {
    if request.url.scheme() == "https" && next.scheme() != "https" {
        let why = "a redirect from https to less".into();
        return Err(Error::Denied { host: host_of(next), why });
    }
    Ok(())
}

/// Makes of `request` the one that goes to `next`: as browsers do, a POST becomes a GET unless the status says
/// that it stays one.
pub(super) fn follow(request: &mut Request, status: StatusCode, next: Url) {
    let becomes_get = match status.as_u16() {
        301 | 302 => request.method == Method::POST,
        303 => request.method != Method::HEAD,
        _ => false,
    };
    if becomes_get {
        request.method = Method::GET;
        request.body = None;
        request.headers.remove(header::CONTENT_TYPE);
    }
    if next.origin() != request.url.origin() {
        request.headers = harmless(&request.headers);
    }
    request.url = next;
}

fn harmless(headers: &HeaderMap) -> HeaderMap {
    let stays = |name: &HeaderName| HARMLESS.contains(name) || OURS.contains(&name.as_str());
    headers
        .iter()
        .filter(|(name, _)| stays(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
