//! Gets what is at an address: politely from a host, carefully from a folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kapelle_core::port::agent::{Failure, FailureKind};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::sync::Semaphore;
use url::Url;

use super::input::{Target, shown};
use super::pace::{self, Host};
use super::patience::Patience;
use super::robots::Rules;
use super::{Fetched, Media, Settings, file};
use crate::egress::{Egress, Error, Hosts, Request, Response, Way};
use crate::http;

/// How many pages are on their way at once, over all steps: with their size, what bounds memory.
const ON_THE_WAY_MAX: usize = 32;
/// How much of a `robots.txt` is read, in bytes.
const ROBOTS_MAX: usize = 512 << 10;
const ACCEPT: &str = "text/html,application/xhtml+xml,text/*;q=0.8,*/*;q=0.1";

/// How often a page may lead on to another one.
pub(super) const LEADS_MAX: u32 = 5;

/// Where a page is looked for, from the address that was given on.
#[derive(Debug)]
pub(super) enum Road {
    Web {
        way: Box<Way>,
        /// How long it may still take.
        time: Duration,
    },
    File {
        path: PathBuf,
        root: Option<PathBuf>,
        /// How often it may still lead on.
        left: u32,
    },
}

/// Gets pages.
#[derive(Debug)]
pub(super) struct Fetcher {
    egress: Egress,
    settings: Settings,
    hosts: pace::Hosts,
    on_the_way: Semaphore,
}

impl Fetcher {
    pub(super) fn new(egress: Egress, settings: Settings) -> Self {
        let (hosts, on_the_way) = (pace::Hosts::default(), Semaphore::new(ON_THE_WAY_MAX));
        Self { egress, settings, hosts, on_the_way }
    }

    /// Where the page at `target` begins to be looked for.
    pub(super) fn road(&self, target: Target, hosts: Option<Hosts>) -> Road {
        match target {
            Target::Web(url) => {
                let way = Box::new(self.egress.way(request(url)).only(hosts));
                Road::Web { way, time: self.settings.page_time }
            }
            Target::File { path, root } => Road::File { path, root, left: LEADS_MAX },
        }
    }

    /// The page at the end of `way`, as soon as its host may be asked, and each that it is sent to. A
    /// host that has too much to do is asked again, while other pages go on.
    pub(super) async fn fetch(
        &self,
        way: &mut Way,
        time: &mut Duration,
    ) -> Result<Fetched, Failure> {
        let mut patience = Patience::new(self.settings.patience);
        loop {
            way.check().map_err(http::failure)?;
            let host = self.hosts.get(way.url(), self.settings.at_once);
            match self.ask(&host, way, time, &mut patience).await {
                Ok(Some(answer)) => return fetched(answer),
                Ok(None) => (),
                Err(failure) => {
                    if let Some(wait) = failure.retry_after_ms {
                        host.leave_alone(Duration::from_millis(wait));
                    }
                    patience.after(failure).await?;
                }
            }
        }
    }

    /// Asks the host once, in its turn. `None`: `way` leads elsewhere.
    async fn ask(
        &self,
        host: &Host,
        way: &mut Way,
        time: &mut Duration,
        patience: &mut Patience,
    ) -> Result<Option<Response>, Failure> {
        let _turn = host.turn().await;
        self.check_robots(host, way, patience).await?;
        let gap = host.gap(self.settings.gap).await;
        host.wait(gap, patience).await?;
        match self.go(way, time).await? {
            Some(answer) if !answer.status.is_success() => {
                Err(http::not_fine(&answer, Timestamp::now()))
            }
            answer => Ok(answer),
        }
    }

    /// Goes on to where a page says that it is now: as far as a redirect may, and from a file only
    /// to a file.
    pub(super) fn lead(&self, road: &mut Road, to: Url) -> Result<(), Failure> {
        match road {
            Road::Web { way, .. } => self.egress.lead(way, to).map_err(http::failure),
            Road::File { left: 0, .. } => {
                let message =
                    format!("files lead from one to the next more than {LEADS_MAX} times");
                Err(Failure::new(FailureKind::Refused, "too_many_redirects", message))
            }
            Road::File { path, left, .. } => {
                let Ok(next) = to.to_file_path() else {
                    let message = format!(
                        "the file `{}` sends its readers to `{}`, which is none",
                        path.display(),
                        shown(&to)
                    );
                    return Err(Failure::new(FailureKind::Refused, "moved", message));
                };
                (*path, *left) = (next, *left - 1);
                Ok(())
            }
        }
    }

    /// The file at `path`, if it is below the run's folder or a root of the operator's.
    pub(super) fn open(&self, path: &Path, root: Option<&Path>) -> Result<Fetched, Failure> {
        let roots = root.into_iter().chain(self.settings.roots.iter().map(AsRef::as_ref));
        let bytes = file::read(path, roots, self.settings.page_max)?;
        let url = Url::from_file_path(path)
            .map_err(|()| crate::input::invalid("bad_url", "the file has no address"))?;
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let media = match &*ending.to_ascii_lowercase() {
            "html" | "htm" | "xhtml" | "xht" => Media::Html,
            "md" | "markdown" => Media::Markdown,
            "txt" | "text" | "rst" | "adoc" | "csv" | "json" | "yaml" | "yml" | "toml" | "log" => {
                Media::Text
            }
            _ => sniff(&bytes).ok_or_else(|| no_page(&url, "holds no text"))?,
        };
        Ok(Fetched { url, bytes: bytes.into(), media, charset: None })
    }

    /// Goes one hop in the `time` that is left for the page.
    async fn go(&self, way: &mut Way, time: &mut Duration) -> Result<Option<Response>, Failure> {
        let _permit = self.on_the_way.acquire().await.expect("it is never closed");
        let since = Instant::now();
        let answer = tokio::time::timeout(*time, self.egress.go(way)).await;
        *time = time.saturating_sub(since.elapsed());
        match answer {
            // Who says nothing is given up by whichever of the two looks first.
            Ok(Err(Error::Silent { .. })) | Err(_) => Err(self.too_slow(way.url(), way.came())),
            Ok(answer) => answer.map_err(http::failure),
        }
    }

    /// What it means that only so many bytes `came` in time.
    fn too_slow(&self, url: &Url, came: usize) -> Failure {
        let (host, time) = (url.host_str().unwrap_or_default(), self.settings.page_time);
        let message = match came {
            0 => format!("`{host}` took more than {time:?} to send a page: nothing of it came"),
            _ => {
                format!("`{host}` took more than {time:?} to send a page: {came} bytes of it came")
            }
        };
        Failure::new(FailureKind::Timeout, "too_slow", message).uncertain()
    }

    /// Refuses what the host's `robots.txt` does not want to be read.
    async fn check_robots(
        &self,
        host: &Host,
        way: &Way,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        let mut known = host.rules().await;
        if !known.is_fresh() {
            host.wait(self.settings.gap, patience).await?;
            known.set(self.rules_of(way).await?);
        }
        let url = way.url();
        if known.allow(url) {
            return Ok(());
        }
        let message = format!("`{}` asks robots not to read `{}`", host.name, url.path());
        Err(Failure::new(FailureKind::Refused, "robots", message))
    }

    /// What the host's `robots.txt` says; it is followed wherever it leads.
    async fn rules_of(&self, way: &Way) -> Result<Rules, Failure> {
        let robots = way.url().join("/robots.txt");
        let robots = robots.map_err(|error| crate::input::invalid("bad_url", error.to_string()))?;
        let mut way = self.egress.aside(way, request(robots));
        let permit = self.on_the_way.acquire().await.expect("it is never closed");
        let answer =
            tokio::time::timeout(self.settings.page_time, self.egress.walk(&mut way)).await;
        drop(permit);
        let answer = match answer {
            Ok(Err(Error::Silent { .. })) | Err(_) => {
                return Err(self.too_slow(way.url(), way.came()));
            }
            Ok(Err(Error::TooManyRedirects { .. })) => return Ok(Rules::default()),
            Ok(answer) => answer.map_err(http::failure)?,
        };
        match answer.status {
            status if status.is_success() => {
                let start = &answer.body[..answer.body.len().min(ROBOTS_MAX)];
                Ok(Rules::parse(&String::from_utf8_lossy(start)))
            }
            // No rules means that all may be read; no answer, that nobody knows.
            StatusCode::TOO_MANY_REQUESTS => Err(http::not_fine(&answer, Timestamp::now())),
            status if status.is_server_error() => Err(http::not_fine(&answer, Timestamp::now())),
            _ => Ok(Rules::default()),
        }
    }
}

fn request(url: Url) -> Request {
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(ACCEPT))]);
    Request { method: Method::GET, url, headers, body: None, keep: Vec::new() }
}

fn fetched(answer: Response) -> Result<Fetched, Failure> {
    // What egress could decompress says so no longer.
    if let Some(encoding) = answer.headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let how = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
        return Err(no_page(&answer.url, &format!("is packed as `{how}`")));
    }
    let said = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let said = said.unwrap_or_default().to_ascii_lowercase();
    let (essence, rest) = said.split_once(';').unwrap_or((&said, ""));
    let media = match essence.trim() {
        "text/html" | "application/xhtml+xml" | "application/xml" | "text/xml" => Media::Html,
        "" | "application/octet-stream" | "unknown/unknown" => sniff(&answer.body)
            .ok_or_else(|| no_page(&answer.url, "holds no text and says not what it is"))?,
        "text/markdown" | "text/x-markdown" => Media::Markdown,
        // A server that does not know Markdown calls it text.
        "text/plain" if is_called_markdown(&answer.url) => Media::Markdown,
        json if json == "application/json" || json.ends_with("+json") => Media::Text,
        text if text.starts_with("text/") => Media::Text,
        other => return Err(no_page(&answer.url, &format!("is `{other}`, no page"))),
    };
    let charset = rest.split(';').find_map(|one| one.trim().strip_prefix("charset="));
    let charset = charset.map(str::to_owned);
    Ok(Fetched { url: answer.url, bytes: answer.body, media, charset })
}

fn is_called_markdown(url: &Url) -> bool {
    let path = url.path().to_ascii_lowercase();
    path.ends_with(".md") || path.ends_with(".markdown")
}

fn no_page(url: &Url, why: &str) -> Failure {
    Failure::new(FailureKind::Refused, "not_a_page", format!("`{}` {why}", shown(url)))
}

/// What bytes are that nobody says it of; `None` if they are no text.
fn sniff(bytes: &[u8]) -> Option<Media> {
    let start = &bytes[..bytes.len().min(1024)];
    let has_mark = encoding_rs::Encoding::for_bom(start).is_some();
    if !has_mark && (start.contains(&0) || start.starts_with(b"%PDF")) {
        return None;
    }
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace() && byte.is_ascii());
    Some(if first == Some(&b'<') { Media::Html } else { Media::Text })
}
