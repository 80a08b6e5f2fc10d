//! How politely hosts are asked.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use kapelle_agents::contract;
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::web::Settings;
use kapelle_core::Json;
use kapelle_core::port::agent::FailureKind;
use serde_json::json;
use tokio::sync::watch;

use super::{agent, perform, quick};
use crate::support::serve;

/// What a server was asked, and when.
#[derive(Clone, Default)]
struct Asked {
    robots: (u16, &'static str),
    log: Arc<Mutex<Vec<(String, Instant)>>>,
    now: Arc<Mutex<(usize, usize)>>,
    /// How many were told to come later.
    refused: watch::Sender<usize>,
    /// How many pages were asked for so far.
    pages: watch::Sender<usize>,
    /// Answers wait until two pages were asked for here, and as many as this elsewhere.
    until: Option<(usize, watch::Receiver<usize>)>,
}

impl Asked {
    fn times(&self, path: &str) -> Vec<Instant> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|(asked, _)| asked.starts_with(path)).map(|(_, at)| *at).collect()
    }
}

async fn answer(State(asked): State<Asked>, uri: Uri) -> Response {
    let path = uri.path().to_owned();
    asked.log.lock().unwrap().push((path.clone(), Instant::now()));
    if path == "/robots.txt" {
        let (status, rules) = asked.robots;
        return (StatusCode::from_u16(status).unwrap(), rules).into_response();
    }
    if path == "/busy" {
        let wait = [("retry-after", "3600")];
        return (StatusCode::TOO_MANY_REQUESTS, wait, "later").into_response();
    }
    if let Some(wait) = path.strip_prefix("/twice") {
        let (last, turns) = (asked.times(&path).len(), if wait.is_empty() { 3 } else { 2 });
        if last < turns {
            let wait = [("retry-after", wait.trim_start_matches('/'))];
            return (StatusCode::SERVICE_UNAVAILABLE, wait, "too much to do").into_response();
        }
    }
    if path == "/never" {
        asked.refused.send_modify(|refused| *refused += 1);
        return (StatusCode::SERVICE_UNAVAILABLE, "too much to do").into_response();
    }
    if path == "/to" {
        let to = uri.query().unwrap_or_default().to_owned();
        return (StatusCode::FOUND, [("location", to)]).into_response();
    }
    {
        let mut now = asked.now.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
    }
    asked.pages.send_modify(|pages| *pages += 1);
    if let Some((pages, mut elsewhere)) = asked.until {
        asked.pages.subscribe().wait_for(|pages| *pages >= 2).await.unwrap();
        elsewhere.wait_for(|so_far| *so_far >= pages).await.unwrap();
    }
    asked.now.lock().unwrap().0 -= 1;
    format!("page {path}").into_response()
}

async fn server(status: u16, rules: &'static str) -> (String, Asked) {
    let asked = Asked { robots: (status, rules), ..Asked::default() };
    (serve_as(&asked).await, asked)
}

async fn serve_as(asked: &Asked) -> String {
    serve(Router::new().fallback(answer).with_state(asked.clone())).await
}

fn urls(server: &str, paths: &[&str]) -> Json {
    json!({"urls": paths.iter().map(|path| format!("{server}{path}")).collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_host_is_asked_by_a_few_at_once_and_with_a_gap_between() {
    // What another host is asked at the same pace tells that there was time for a third request.
    let (other, elsewhere) = server(404, "").await;
    let until = Some((4, elsewhere.pages.subscribe()));
    let asked = Asked { robots: (404, ""), until, ..Asked::default() };
    let here = serve_as(&asked).await;
    let gap = Duration::from_millis(20);
    let agent = agent(Settings { gap, ..Settings::default() });
    let both = [(&here, 1..=3), (&other, 1..=4), (&here, 4..=8)];
    let all = both.into_iter().flat_map(|(host, all)| all.map(move |n| format!("{host}/p{n}")));
    let input = json!({"urls": all.collect::<Vec<_>>()});
    let read = perform(&agent, "read", input, Path::new("/")).await.unwrap();
    assert_eq!(read["pages"].as_array().unwrap().len(), 12);
    assert_eq!(asked.now.lock().unwrap().1, 2, "two at once and no more");
    let times = asked.times("/p");
    // What is asked for early may arrive late, so each gap alone may be shorter.
    assert!(times[7] - times[0] > gap * 6, "{times:?}");
    assert_eq!(asked.times("/robots.txt").len(), 1);
}

#[tokio::test]
async fn what_a_host_does_not_want_to_be_read_is_not_read() {
    let (server, asked) = server(200, "User-agent: *\nDisallow: /private").await;
    let agent = agent(quick());
    let ask = |path: &str| json!({"url": format!("{server}{path}")});
    perform(&agent, "read", ask("/open"), Path::new("/")).await.unwrap();
    let refused = perform(&agent, "read", ask("/private/1"), Path::new("/")).await.unwrap_err();
    assert_eq!((refused.kind, &*refused.code), (FailureKind::Refused, "robots"));
    assert!(asked.times("/private").is_empty());
    assert_eq!(asked.times("/robots.txt").len(), 1);
}

#[tokio::test]
async fn a_redirect_leads_to_nothing_that_a_host_does_not_want_to_be_read() {
    let rules = "User-agent: *\nDisallow: /private";
    let ((here, asked), (other, elsewhere)) = (server(200, rules).await, server(200, rules).await);
    let agent = agent(quick());
    for to in ["/private/1", &format!("{other}/private/2")] {
        let ask = json!({"url": format!("{here}/to?{to}")});
        let refused = perform(&agent, "read", ask, Path::new("/")).await.unwrap_err();
        assert_eq!((refused.kind, &*refused.code), (FailureKind::Refused, "robots"), "{to}");
    }
    assert!(asked.times("/private").is_empty() && elsewhere.times("/private").is_empty());
    let ask = json!({"url": format!("{here}/to?{other}/open")});
    let page = perform(&agent, "read", ask, Path::new("/")).await.unwrap();
    assert_eq!(page["url"], format!("{other}/open"));
    assert_eq!(elsewhere.times("/robots.txt").len(), 1);
}

#[tokio::test]
async fn a_host_that_leads_to_itself_is_asked_with_a_gap_between() {
    let (server, asked) = server(404, "").await;
    let gap = Duration::from_millis(50);
    let agent = agent(Settings { gap, ..Settings::default() });
    let ask = json!({"url": format!("{server}/to?/to?/page")});
    perform(&agent, "read", ask, Path::new("/")).await.unwrap();
    // `robots.txt`, two that lead on, and the page: what is asked for early may arrive late.
    let (first, last) = (asked.times("/robots.txt")[0], asked.times("/page")[0]);
    assert_eq!(asked.times("/to").len(), 2);
    assert!(last - first > gap * 2, "{:?}", last - first);
}

#[tokio::test]
async fn an_address_with_credentials_is_refused_as_it_was_given() {
    let (server, asked) = server(200, "").await;
    let url = format!("{}/page", server.replace("http://", "http://me:secret@"));
    let refused = perform(&agent(quick()), "read", json!({"url": url}), Path::new("/")).await;
    let refused = refused.unwrap_err();
    assert_eq!((refused.kind, &*refused.code), (FailureKind::Invalid, "bad_url"));
    assert!(refused.message.contains(&format!("`{server}/page`")), "{refused}");
    assert!(!refused.message.contains("secret"), "{refused}");
    assert!(asked.times("/").is_empty());
}

#[tokio::test]
async fn where_nobody_knows_what_a_host_wants_nothing_is_read() {
    let (server, asked) = server(503, "").await;
    let ask = json!({"url": format!("{server}/page")});
    let failure = perform(&agent(hasty()), "read", ask, Path::new("/")).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Unavailable, "http_503"));
    assert!(asked.times("/page").is_empty());
    assert_eq!(asked.times("/robots.txt").len(), 4);
}

#[tokio::test]
async fn a_host_that_wants_to_be_left_alone_is() {
    let (server, asked) = server(404, "").await;
    let agent = agent(quick());
    let ask = |path: &str| json!({"url": format!("{server}{path}")});
    let busy = perform(&agent, "read", ask("/busy"), Path::new("/")).await.unwrap_err();
    assert_eq!((busy.kind, busy.retry_after_ms), (FailureKind::RateLimited, Some(3_600_000)));
    let after = perform(&agent, "read", ask("/page"), Path::new("/")).await.unwrap_err();
    assert_eq!((after.kind, &*after.code), (FailureKind::RateLimited, "host_asked_to_wait"));
    assert!(after.retry_after_ms.is_some_and(|wait| wait > 3_000_000));
    assert!(asked.times("/page").is_empty());
}

/// With little patience.
fn hasty() -> Settings {
    Settings { patience: Duration::from_millis(100), ..quick() }
}

#[tokio::test]
async fn a_host_with_too_much_to_do_is_asked_again_while_other_pages_go_on() {
    let (server, asked) = server(404, "").await;
    let agent = agent(Settings { at_once: 1, ..hasty() });
    let mut input = urls(&server, &["/twice", "/never", "/page"]);
    input["partial"] = true.into();
    let read = perform(&agent, "read", input, Path::new("/")).await.unwrap();
    let texts: Vec<_> = read["pages"].as_array().unwrap().iter().map(|p| &p["text"]).collect();
    assert_eq!(texts, ["page /twice", "page /page"]);
    assert_eq!((asked.times("/twice").len(), asked.times("/never").len()), (3, 4));
    // The one turn of the host is not kept while it is waited.
    assert!(asked.times("/page")[0] < asked.times("/twice")[1]);
    let failed = &read["failed"][0];
    assert_eq!(failed["code"], "http_503");
    assert!(failed["message"].as_str().unwrap().contains("asked 4 times"), "{failed}");
}

#[tokio::test]
async fn a_host_that_asks_for_a_little_time_has_it() {
    let (server, asked) = server(404, "").await;
    let ask = json!({"url": format!("{server}/twice/1")});
    let page = perform(&agent(quick()), "read", ask.clone(), Path::new("/")).await.unwrap();
    assert_eq!(page["text"], "page /twice/1");
    let times = asked.times("/twice");
    assert!(times.len() == 2 && times[1] - times[0] >= Duration::from_secs(1), "{times:?}");
    let (server, asked) = self::server(404, "").await;
    let ask = json!({"url": format!("{server}/twice/1")});
    let busy = perform(&agent(hasty()), "read", ask, Path::new("/")).await.unwrap_err();
    assert_eq!((&*busy.code, busy.retry_after_ms), ("http_503", Some(1000)));
    assert_eq!(asked.times("/twice").len(), 1);
}

#[tokio::test]
async fn a_cancelled_wait_for_a_host_ends_within_the_grace() {
    let (server, asked) = server(404, "").await;
    let patient = Settings { patience: Duration::from_secs(3600), ..quick() };
    let mut refused = asked.refused.subscribe();
    let begun = async move { drop(refused.wait_for(|refused| *refused > 0).await.unwrap()) };
    let input = json!({"url": format!("{server}/never")});
    contract::ends_when_cancelled(&agent(patient), "read", input, begun).await;
}

#[tokio::test]
async fn what_was_read_is_not_fetched_again_by_another_attempt() {
    let (server, asked) = server(404, "").await;
    let agent = agent(quick());
    let desk = ScratchDesk::new().unwrap();
    let call = || contract::call("read", urls(&server, &["/1", "/2", "/busy", "/3"]), "/");
    agent.perform(call(), &desk).await.unwrap_err();
    desk.next_attempt();
    agent.perform(call(), &desk).await.unwrap_err();
    for path in ["/1", "/2", "/busy"] {
        assert_eq!(asked.times(path).len(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_cancelled_read_ends_within_the_grace() {
    let (told, was_asked) = tokio::sync::oneshot::channel();
    let told = Arc::new(Mutex::new(Some(told)));
    let never = move || async move {
        if let Some(told) = told.lock().unwrap().take() {
            told.send(()).unwrap();
        }
        std::future::pending::<()>().await;
    };
    let server = serve(Router::new().fallback(never)).await;
    let begun = async { was_asked.await.unwrap() };
    contract::ends_when_cancelled(&agent(quick()), "read", json!({ "url": server }), begun).await;
}
