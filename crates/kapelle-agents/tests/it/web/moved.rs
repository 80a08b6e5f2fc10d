//! Pages that hold nothing but where something else is.

use std::path::Path;

use axum::Router;
use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::{IntoResponse as _, Response};
use kapelle_core::Json;
use kapelle_core::port::agent::{Failure, FailureKind};
use serde_json::json;
use tokio::sync::mpsc;

use super::{agent, perform, quick, read, read_file};
use crate::support::serve;

/// Sends the readers of `/lead?there` there, after telling that it was asked.
async fn answer(State(asked): State<mpsc::UnboundedSender<String>>, uri: Uri) -> Response {
    asked.send(uri.to_string()).unwrap();
    let to = uri.query().unwrap_or_default();
    let text = match uri.path() {
        "/robots.txt" => return "User-agent: *\nDisallow: /private".into_response(),
        "/lead" => {
            format!("<meta http-equiv=Refresh content='0; url={to}'><p>It is elsewhere now.")
        }
        "/later" => format!("<meta http-equiv=refresh content='60; url={to}'><p>A page of news."),
        "/scripts" => format!(
            "<noscript><meta http-equiv=refresh content='0; url={to}'></noscript><p>For all."
        ),
        path => format!("<p>This is {path}."),
    };
    ([(header::CONTENT_TYPE, "text/html")], text).into_response()
}

async fn server() -> (String, mpsc::UnboundedReceiver<String>) {
    let (tell, asked) = mpsc::unbounded_channel();
    (serve(Router::new().fallback(answer).with_state(tell)).await, asked)
}

fn code(end: Result<Json, Failure>) -> (FailureKind, String) {
    let failure = end.expect_err("nothing is there to be read");
    (failure.kind, failure.code.into())
}

#[tokio::test]
async fn a_page_that_refreshes_to_another_one_is_followed() {
    let (url, _asked) = server().await;
    let page = read(&format!("{url}/lead?/lead?/new/page")).await.unwrap();
    assert_eq!(
        (&page["url"], &page["text"]),
        (&json!(format!("{url}/new/page")), &json!("This is /new/page."))
    );
    for stays in ["later", "scripts"] {
        let page = read(&format!("{url}/{stays}?/new")).await.unwrap();
        assert_eq!(page["url"], format!("{url}/{stays}?/new"));
    }
    // News that refresh themselves are read as they are.
    let page = read(&format!("{url}/lead?")).await.unwrap();
    assert_eq!(page["text"], "It is elsewhere now.");
}

#[tokio::test]
async fn a_refresh_may_lead_where_a_redirect_may() {
    let (url, mut asked) = server().await;
    let agent = agent(quick());
    for (to, kind, why) in [
        ("/private/page", FailureKind::Refused, "robots"),
        ("http://169.254.169.254/", FailureKind::Denied, "egress_denied"),
        ("mailto:me@host", FailureKind::Invalid, "bad_url"),
        ("/lead?/lead?/lead?/lead?/lead?/lead?/new", FailureKind::Refused, "too_many_redirects"),
    ] {
        let ask = json!({"url": format!("{url}/lead?{to}")});
        let end = perform(&agent, "read", ask, Path::new("/")).await;
        assert_eq!(code(end), (kind, why.into()), "{to}");
    }
    asked.close();
    let mut rules = 0;
    while let Some(path) = asked.recv().await {
        assert!(!path.starts_with("/private") && path != "/new", "{path}");
        rules += usize::from(path == "/robots.txt");
    }
    assert_eq!(rules, 1);
}

#[tokio::test]
async fn files_lead_to_files_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let lead = |to: &str| format!("<meta http-equiv=refresh content='0; url={to}'>");
    let pages = [
        ("a.html", "docs/b.html"),
        ("out.html", "/etc/passwd"),
        ("web.html", "http://host/x"),
        ("x.html", "y.html"),
        ("y.html", "x.html"),
    ];
    std::fs::create_dir(folder.path().join("docs")).unwrap();
    std::fs::write(folder.path().join("docs/b.html"), "<p>There.").unwrap();
    for (name, to) in pages {
        std::fs::write(folder.path().join(name), lead(to)).unwrap();
    }
    let agent = agent(quick());
    let ask = |name: &str| perform(&agent, "read", json!({ "url": name }), folder.path());
    assert_eq!(ask("a.html").await.unwrap()["text"], "There.");
    assert_eq!(code(ask("out.html").await), (FailureKind::Denied, "outside_roots".into()));
    assert_eq!(code(ask("web.html").await), (FailureKind::Refused, "moved".into()));
    assert_eq!(code(ask("x.html").await), (FailureKind::Refused, "too_many_redirects".into()));
}

#[tokio::test]
async fn a_page_without_anything_to_read_is_none() {
    let moved = "<title>Old</title><p>This page has moved to <a href=new.html>a new place</a>.";
    for (html, why) in [
        (moved, "moved"),
        ("<script>location = 'new.html'</script>", "no_text"),
        ("<div id=app></div>", "no_text"),
        ("<title>T</title>", "no_text"),
        ("", "no_text"),
    ] {
        assert_eq!(code(read_file(html).await), (FailureKind::Refused, why.into()), "{html}");
    }
    let prose =
        "The office moved to a new place in May. ".repeat(10) + "See <a href=map>the map</a>.";
    read_file(prose).await.unwrap();
}
