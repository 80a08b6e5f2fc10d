//! Hostile pages and servers: each ends with its reason, in bounded memory and time.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures_util::stream;
use kapelle_agents::egress::Policy;
use kapelle_agents::web::{Settings, Web};
use kapelle_core::port::agent::{Agent, Failure, FailureKind};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

use super::{agent, perform, quick, read, read_file, read_html};
use crate::support::serve;

/// What any of this may take: parsing gives up after 5 s, and these machines are slow.
const TIME_MAX: Duration = Duration::from_secs(60);
/// What any of this may cost in memory: the limits' sum, and far from what is sent.
const MEMORY_MAX: u64 = 400 << 20;

/// The most memory that this process ever had.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn expect(end: Result<kapelle_core::Json, Failure>, kind: FailureKind, code: &str, what: &str) {
    let failure = match end {
        Err(failure) => failure,
        Ok(page) => panic!("{what}: {} characters were read", page["text"].to_string().len()),
    };
    assert_eq!((failure.kind, &*failure.code), (kind, code), "{what}: {failure}");
}

/// Eight times what a page may have.
const BLANKS: usize = 64 << 20;

fn pack(mut to: impl std::io::Write) {
    let blanks = vec![b' '; 1 << 20];
    for _ in 0..BLANKS >> 20 {
        to.write_all(&blanks).unwrap();
    }
    to.flush().unwrap();
}

fn gzip_bomb() -> Bytes {
    let mut to = GzEncoder::new(Vec::new(), Compression::fast());
    pack(&mut to);
    to.finish().unwrap().into()
}

fn deflate_bomb() -> Bytes {
    let mut to = ZlibEncoder::new(Vec::new(), Compression::fast());
    pack(&mut to);
    to.finish().unwrap().into()
}

fn brotli_bomb() -> Bytes {
    let mut packed = Vec::new();
    pack(brotli::CompressorWriter::new(&mut packed, 1 << 20, 0, 22));
    packed.into()
}

/// `piece` for ever, or as often as said.
fn flood(piece: &'static [u8], times: usize) -> Body {
    let pieces = std::iter::repeat_n(Ok::<_, Infallible>(Bytes::from_static(piece)), times);
    Body::from_stream(stream::iter(pieces))
}

async fn server() -> String {
    const HTML: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/html")];
    const MIB: &[u8] = &[b'x'; 1 << 20];
    let packed = |how: &'static str, body: Bytes| {
        get(move || async move { (HTML, [(header::CONTENT_ENCODING, how)], body) })
    };
    let to = |to: &'static str| {
        get(move || async move { (StatusCode::FOUND, [(header::LOCATION, to)]) })
    };
    let slow = || async {
        let pieces = stream::unfold((), |()| async {
            // A slow server is what this one is to be.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"<p>")), ()))
        });
        Body::from_stream(pieces).into_response()
    };
    let router = Router::new()
        .route("/gib", get(|| async { (HTML, flood(MIB, 1024)) }))
        .route("/endless", get(|| async { (HTML, flood(MIB, usize::MAX)) }))
        .route("/slow", get(slow))
        .route(
            "/silent",
            get(|| async { Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()) }),
        )
        .route("/gzip", packed("gzip", gzip_bomb()))
        .route("/deflate", packed("deflate", deflate_bomb()))
        .route("/br", packed("br", brotli_bomb()))
        .route("/twice", packed("gzip, gzip", gzip_bomb()))
        .route("/loop", to("/loop"))
        .route("/metadata", to("http://169.254.169.254/latest/meta-data/"))
        .route("/nowhere", to("http://0.0.0.0/"))
        .route("/file", to("file:///etc/passwd"));
    serve(router).await
}

#[tokio::test]
async fn hostile_servers_end_with_their_reason() {
    let (url, since) = (server().await, Instant::now());
    let settings = Settings { page_time: Duration::from_secs(20), ..quick() };
    let agent = agent(settings);
    for (path, kind, code) in [
        ("gib", FailureKind::Refused, "too_large"),
        ("endless", FailureKind::Refused, "too_large"),
        ("gzip", FailureKind::Refused, "too_large"),
        ("deflate", FailureKind::Refused, "too_large"),
        ("br", FailureKind::Refused, "too_large"),
        ("twice", FailureKind::Refused, "not_a_page"),
        ("loop", FailureKind::Refused, "too_many_redirects"),
        ("metadata", FailureKind::Denied, "egress_denied"),
        ("nowhere", FailureKind::Denied, "egress_denied"),
        ("file", FailureKind::Invalid, "bad_url"),
    ] {
        let input = json!({"url": format!("{url}/{path}")});
        expect(perform(&agent, "read", input, Path::new("/")).await, kind, code, path);
    }
    assert!(since.elapsed() < TIME_MAX, "it took {:?}", since.elapsed());
    assert!(peak_memory() < MEMORY_MAX, "{} MiB", peak_memory() >> 20);
}

#[tokio::test]
async fn a_page_that_never_ends_is_given_up_in_time() {
    let url = server().await;
    let settings = Settings { page_time: Duration::from_secs(1), ..quick() };
    let agent = agent(settings);
    // Certificates and the rules of the host are read before the first page.
    let first = json!({"url": format!("{url}/loop")});
    expect(
        perform(&agent, "read", first, Path::new("/")).await,
        FailureKind::Refused,
        "too_many_redirects",
        "loop",
    );
    for (path, wanted) in [("slow", " bytes of it came"), ("silent", "nothing of it came")] {
        let input = json!({"url": format!("{url}/{path}")});
        let end = perform(&agent, "read", input, Path::new("/")).await;
        let message = end.as_ref().err().map(|failure| failure.message.clone()).unwrap_or_default();
        assert!(message.contains("more than 1s") && message.ends_with(wanted), "{message}");
        expect(end, FailureKind::Timeout, "too_slow", path);
    }
}

#[tokio::test]
async fn who_may_reach_the_world_only_is_not_led_home() {
    let url = server().await;
    let agent: Arc<dyn Agent> = Arc::new(Web::new(Policy::Global, quick()));
    let end = perform(&agent, "read", json!({"url": url}), Path::new("/")).await;
    expect(end, FailureKind::Denied, "egress_denied", "loopback");
}

#[tokio::test]
async fn hostile_markup_ends_with_its_reason() {
    let since = Instant::now();
    let many = |piece: &str, times: usize| piece.repeat(times);
    let numbered = |piece: &str, times: usize| {
        (0..times).map(|n| piece.replace('N', &n.to_string())).collect::<String>()
    };
    let attributes = "<p ".to_owned() + &numbered("aN ", 400_000);
    for (what, html, code) in [
        ("nested", many("<div>", 100_000), "too_deep"),
        ("nested and closed", many("<b>", 100_000) + &many("</b>", 100_000), "too_deep"),
        ("nested tables", many("<table><tr><td>", 50_000), "too_deep"),
        ("nested templates", many("<template>", 100_000), "too_deep"),
        ("nested lists", many("<ul><li>", 50_000), "too_deep"),
        ("nested drawings", many("<svg><g>", 50_000), "too_deep"),
        (
            "nested behind the end",
            "</body>".to_owned() + &many("<div><!-- -->", 50_000),
            "too_deep",
        ),
        ("reopened marks", numbered("<p><font size=N>", 50_000), "too_deep"),
        ("attributes", attributes.clone(), "too_slow_to_parse"),
        ("many elements", many("<br>", 500_000), "too_many_elements"),
        ("nothing", many("\0", 1 << 20), "no_text"),
    ] {
        expect(read_file(html).await, FailureKind::Refused, code, what);
    }
    // One tag may not take all the time that a page has.
    let failure = read_file(attributes).await.unwrap_err();
    assert!(failure.message.contains("so many attributes"), "{failure}");
    assert!(since.elapsed() < TIME_MAX, "it took {:?}", since.elapsed());
    assert!(peak_memory() < MEMORY_MAX, "{} MiB", peak_memory() >> 20);
}

#[tokio::test]
async fn odd_markup_is_read_without_blowing_up() {
    let since = Instant::now();
    let attributes: String = (0..1_000).map(|n| format!(" a{n}=1")).collect();
    let entities = "<!DOCTYPE html [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><p>"
        .to_owned()
        + &"&b;&amp;&#x41;&#x110000;&#xD800;".repeat(20_000);
    let far = format!("<base href='http://h/{}/'>", "x".repeat(1_900));
    let links = far + &"<a href=y>z</a> ".repeat(25_000);
    let quotes = "<blockquote><ul><li>".repeat(100) + &"<p>deep</p>".repeat(20_000);
    for (what, html) in [
        ("attributes", format!("<p{attributes}>text")),
        ("entities", entities),
        ("links to far away", links),
        ("deep lists", quotes),
        ("long values", format!("<p title='{}'>text", "a=b ".repeat(1 << 18))),
        ("open comment", format!("<p>a<!--{}", "-".repeat(1 << 18))),
        ("open tag", format!("<p>a<p {}", "<".repeat(1 << 18))),
        ("open script", format!("<p>a<script>{}", "</scrip".repeat(25_000))),
        ("backticks", format!("<p><code>{}</code>", "`".repeat(1 << 20))),
        ("marks", "<b>".to_owned() + &"<p>x".repeat(50_000)),
    ] {
        let page = read_html(&html).await;
        let out = page.to_string().len();
        assert!(out < 3 * html.len() + (16 << 20), "{what}: {out} of {}", html.len());
    }
    assert!(since.elapsed() < TIME_MAX, "it took {:?}", since.elapsed());
}

#[tokio::test]
async fn a_host_that_is_not_there_is_named() {
    let failure = read("http://127.0.0.1:1/").await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Unavailable, "unreachable"));
}

#[tokio::test]
async fn the_pages_of_a_step_are_bounded_in_their_sum() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..20).map(|n| format!("{n}.txt")).collect();
    for name in &names {
        std::fs::write(folder.path().join(name), "A line of a log.\n".repeat(200_000)).unwrap();
    }
    let agent = agent(quick());
    let ask = |input| perform(&agent, "read", input, folder.path());
    let end = ask(json!({ "urls": names })).await;
    expect(end, FailureKind::Refused, "too_much", "twenty");
    let some = ask(json!({"urls": names, "partial": true})).await.unwrap();
    let (pages, failed) = (some["pages"].as_array().unwrap(), some["failed"].as_array().unwrap());
    assert!(pages.len() > 1 && pages.len() + failed.len() == names.len());
    assert!(some["pages"].to_string().len() <= 32 << 20);
    assert_eq!(
        (&failed[0]["url"], &failed[0]["code"]),
        (&json!(names[pages.len()]), &json!("too_much"))
    );
}
