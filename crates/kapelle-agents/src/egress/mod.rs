//! The one way out: every HTTP request that Kapelle makes.
//!
//! **Invariants:** a name is resolved once, refused unless *every* address is allowed, and only the
//! checked addresses are connected to. Metadata and link-local addresses are never reached. A
//! redirect is checked like a first request and never leads from a global address to another kind.
//! Connections are not kept unless it is said for how long: a request on a connection that the other
//! side just closed would leave its outcome unknown. The environment's proxies are ignored.
//!
//! Which addresses are what is in [`address`].

pub mod address;
mod error;
mod redirect;
mod stream;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use url::{Host, Url};

use address::{Reach, reach};
pub use error::Error;
use error::{NotAllowed, deepest, explain};
pub use stream::Stream;

/// Whose wish a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The operator's own: loopback and private addresses are allowed.
    Operator,
    /// Anyone else's: only global unicast addresses.
    Global,
}

impl Policy {
    /// Why `address` is not to be reached; `None` if it may be.
    fn denies(self, address: std::net::IpAddr) -> Option<&'static str> {
        match (reach(address), self) {
            (Reach::Global, _) | (Reach::Private, Self::Operator) => None,
            (Reach::Private, Self::Global) => Some("a private address"),
            (Reach::Never(what), _) => Some(what),
        }
    }

    /// What holds after a redirect by `peer`: whoever is out in the world sends us nowhere else.
    fn after(self, peer: Option<SocketAddr>) -> Self {
        let at_home = peer.is_some_and(|peer| reach(peer.ip()) == Reach::Private);
        if at_home { self } else { Self::Global }
    }
}

/// How long and how much a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until there is a connection.
    pub connect: Duration,
    /// Between two signs of life of the other side.
    pub idle: Duration,
    /// The longest body of an answer, decompressed, in bytes.
    pub body_max: usize,
    /// How many redirects are followed.
    pub redirects_max: u32,
    /// How long a connection is kept for the next request; zero: not at all.
    pub keep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            body_max: 1 << 20,
            redirects_max: 3,
            keep: Duration::ZERO,
        }
    }
}

/// What is asked of the other side.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// `http` or `https`, without credentials.
    pub url: Url,
    /// All headers, secret ones too: another origin gets only harmless ones.
    pub headers: HeaderMap,
    /// The body, if there is one.
    pub body: Option<Bytes>,
    /// The statuses besides 2xx that are an answer: a redirect among them is not followed, and the
    /// body has to be whole. That of any other status is cut at the limit.
    pub keep: Vec<StatusCode>,
}

/// What the other side said.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Bytes,
    /// Where it came from in the end.
    pub url: Url,
}

/// Which hosts may be asked, besides what the policy says of their addresses.
#[derive(Clone)]
pub struct Hosts(Arc<dyn Fn(&Url) -> bool + Send + Sync>);

impl Hosts {
    /// Those of the URLs for which `may` is true.
    #[must_use]
    pub fn new(may: impl Fn(&Url) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(may))
    }
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hosts")
    }
}

/// A request between two hops: what is asked next, and where that may lead.
#[derive(Clone, Debug)]
pub struct Way {
    request: Request,
    policy: Policy,
    /// Those that may be asked; `None`: all.
    hosts: Option<Hosts>,
    redirects_left: u32,
    came: usize,
}

impl Way {
    /// How many bytes of the last answer came, also if who waited for it has given up.
    #[must_use]
    pub const fn came(&self) -> usize {
        self.came
    }

    /// Where the next request goes.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.request.url
    }

    /// Whether what is asked next may be, as far as the URL tells; nobody is asked for that.
    pub fn check(&self) -> Result<(), Error> {
        check_url(&self.request.url, self.policy)?;
        match &self.hosts {
            Some(hosts) if !(hosts.0)(&self.request.url) => {
                let why = "it is none of the hosts that are granted".into();
                Err(Error::Denied { host: host_of(&self.request.url), why })
            }
            _ => Ok(()),
        }
    }

    /// The same way, which leads to no host but these, wherever it is sent.
    #[must_use]
    pub fn only(self, hosts: Option<Hosts>) -> Self {
        Self { hosts, ..self }
    }
}

/// The one outgoing HTTP client.
#[derive(Debug)]
pub struct Egress {
    policy: Policy,
    limits: Limits,
    // Made at the first request: to read the certificates of the system takes its time.
    own: OnceLock<Result<reqwest::Client, String>>,
    global: OnceLock<Result<reqwest::Client, String>>,
}

impl Egress {
    /// A client for requests under `policy`, with the default limits.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::with_limits(policy, Limits::default())
    }

    /// The same, with limits of one's own.
    #[must_use]
    pub fn with_limits(policy: Policy, limits: Limits) -> Self {
        Self { policy, limits, own: OnceLock::new(), global: OnceLock::new() }
    }

    /// Asks, and follows where it is sent. Never asks twice.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        self.walk(&mut self.way(request)).await
    }

    /// Where `request` begins; goes nowhere yet.
    #[must_use]
    pub fn way(&self, request: Request) -> Way {
        let (policy, redirects_left) = (self.policy, self.limits.redirects_max);
        Way { request, policy, hosts: None, redirects_left, came: 0 }
    }

    /// Goes a way to its end.
    pub async fn walk(&self, way: &mut Way) -> Result<Response, Error> {
        loop {
            if let Some(answer) = self.go(way).await? {
                return Ok(answer);
            }
        }
    }

    /// Asks once. `None`: it was sent elsewhere, and `way` tells where to.
    pub async fn go(&self, way: &mut Way) -> Result<Option<Response>, Error> {
        way.check()?;
        let (answer, peer) = self.once(way).await?;
        // Wherever the way leads from here, whoever answered wants it.
        way.policy = way.policy.after(peer);
        let Some(next) = redirect::target(&way.request, &answer)? else { return Ok(Some(answer)) };
        self.turn(way, answer.status, next)?;
        Ok(None)
    }

    /// Leads `way` on to `next`, as what came at its end says: no further than a redirect may.
    pub fn lead(&self, way: &mut Way, next: Url) -> Result<(), Error> {
        self.turn(way, StatusCode::SEE_OTHER, next)
    }

    fn turn(&self, way: &mut Way, status: StatusCode, next: Url) -> Result<(), Error> {
        redirect::check(&way.request, &next)?;
        let Some(left) = way.redirects_left.checked_sub(1) else {
            let max = self.limits.redirects_max;
            return Err(Error::TooManyRedirects { host: host_of(&next), max });
        };
        way.redirects_left = left;
        redirect::follow(&mut way.request, status, next);
        Ok(())
    }

    /// The way of another request that comes before the next one of `way`, and may go no further
    /// than that.
    #[must_use]
    pub fn aside(&self, way: &Way, request: Request) -> Way {
        Way { policy: way.policy, hosts: way.hosts.clone(), ..self.way(request) }
    }

    /// One request to checked addresses.
    async fn once(&self, way: &mut Way) -> Result<(Response, Option<SocketAddr>), Error> {
        way.came = 0;
        let request = &way.request;
        let host = host_of(&request.url);
        let answer = self.ask(request, way.policy).await?;
        let peer = answer.remote_addr();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let whole = status.is_success() || request.keep.contains(&status);
        let body = match self.body(answer, &host, &mut way.came).await {
            (start, Some(Error::TooLarge { .. })) if !whole => start,
            (_, Some(error)) => return Err(error),
            (body, None) => body,
        };
        Ok((Response { status, headers, body, url: request.url.clone() }, peer))
    }

    /// The start of an answer from a checked address.
    async fn ask(&self, request: &Request, policy: Policy) -> Result<reqwest::Response, Error> {
        check_url(&request.url, policy)?;
        let client = self.client(policy)?;
        let mut builder = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let host = host_of(&request.url);
        let why = |error| explain(&host, &error).with_port(&request.url);
        let answer = builder.send().await.map_err(why)?;
        match answer.remote_addr().and_then(|peer| policy.denies(peer.ip())) {
            Some(why) => Err(Error::Denied { host, why: why.into() }),
            None => Ok(answer),
        }
    }

    /// The body as far as it could be read, and why not further.
    async fn body(
        &self,
        mut answer: reqwest::Response,
        host: &str,
        came: &mut usize,
    ) -> (Bytes, Option<Error>) {
        let max = self.limits.body_max;
        let mut body = BytesMut::new();
        loop {
            match answer.chunk().await {
                Ok(None) => return (body.freeze(), None),
                Ok(Some(piece)) if body.len() + piece.len() <= max => {
                    body.extend_from_slice(&piece);
                    *came = body.len();
                }
                Ok(Some(_)) => {
                    let error = Error::TooLarge { host: host.into(), max };
                    return (body.freeze(), Some(error));
                }
                Err(error) => return (body.freeze(), Some(explain(host, &error))),
            }
        }
    }

    fn client(&self, policy: Policy) -> Result<&reqwest::Client, Error> {
        let cell = if policy == self.policy { &self.own } else { &self.global };
        cell.get_or_init(|| build(policy, self.limits))
            .as_ref()
            .map_err(|why| Error::Setup(why.clone()))
    }
}

fn build(policy: Policy, limits: Limits) -> Result<reqwest::Client, String> {
    // The first one in this process wins; it is the same one everywhere.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
        .dns_resolver(Checked(policy))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(if limits.keep.is_zero() { 0 } else { usize::MAX })
        .pool_idle_timeout(limits.keep)
        .connect_timeout(limits.connect)
        .read_timeout(limits.idle)
        .user_agent(concat!("kapelle/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| deepest(&error).to_string())
}

/// Checks what can be seen in the URL; names are checked by [`Checked`] when they are resolved.
fn check_url(url: &Url, policy: Policy) -> Result<(), Error> {
    let bad = |why| Err(Error::BadUrl { url: shown(url), why });
    if !matches!(url.scheme(), "http" | "https") {
        return bad("only http and https are spoken");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return bad("credentials in a URL end up in logs; use a header");
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(_)) => return Ok(()),
        None => return bad("it names no host"),
    };
    policy
        .denies(address)
        .map_or(Ok(()), |why| Err(Error::Denied { host: host_of(url), why: why.into() }))
}

/// A URL without what may be a secret in it: credentials and the query; of one that has no host, all.
pub fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    if shown.cannot_be_a_base() {
        return format!("{}:…", url.scheme());
    }
    // A URL that can hold no credentials holds none.
    shown.set_password(None).ok();
    shown.set_username("").ok();
    shown.into()
}

fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// Resolves names, and refuses those of which any address is not allowed.
struct Checked(Policy);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &found {
                if let Some(why) = policy.denies(address.ip()) {
                    return Err(NotAllowed(format!("{} is {why}", address.ip())).into());
                }
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_without_what_may_be_a_secret() {
        for (url, told) in [
            ("ftp://user:pw@host/path?key=sk#x", "ftp://host/path"),
            ("http://host:8/v1?key=sk", "http://host:8/v1"),
            ("mailto:user:pw@host", "mailto:…"),
            ("foo://user:pw@host", "foo://host"),
        ] {
            assert_eq!(shown(&url.parse().unwrap()), told);
        }
    }

    #[test]
    fn a_redirect_from_the_world_leads_only_into_the_world() {
        let world = Some("93.184.216.34:443".parse().unwrap());
        let home = Some("10.0.0.1:80".parse().unwrap());
        assert_eq!(Policy::Operator.after(world), Policy::Global);
        assert_eq!(Policy::Operator.after(None), Policy::Global);
        assert_eq!(Policy::Operator.after(home), Policy::Operator);
        assert_eq!(Policy::Global.after(home), Policy::Global);
    }

    #[tokio::test]
    async fn a_name_is_refused_when_one_of_its_addresses_is() {
        let resolve = |policy| Checked(policy).resolve("localhost".parse().unwrap());
        let denied = resolve(Policy::Global).await.err().expect("localhost is no global name");
        assert!(denied.downcast_ref::<NotAllowed>().is_some(), "{denied}");
        assert!(resolve(Policy::Operator).await.is_ok_and(|found| found.count() > 0));
    }
}
