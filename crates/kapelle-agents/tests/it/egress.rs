//! Where requests may go, against real servers on this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request as Asked};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use kapelle_agents::egress::{Egress, Error, Limits, Policy, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::serve;

fn request(url: &str) -> Request {
    Request {
        method: reqwest::Method::GET,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: None,
        keep: Vec::new(),
    }
}

async fn fetch(policy: Policy, url: &str) -> Result<Response, Error> {
    Egress::new(policy).send(request(url)).await
}

#[tokio::test]
async fn only_the_operator_reaches_this_machine() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server =
        serve(Router::new().route(
            "/",
            get(move || async move { count.fetch_add(1, Ordering::SeqCst).to_string() }),
        ))
        .await;
    let port = server.rsplit(':').next().unwrap();
    let names = ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"];
    for name in names {
        let url = format!("http://{name}:{port}/");
        let denied = fetch(Policy::Global, &url).await;
        assert!(matches!(denied, Err(Error::Denied { .. })), "{url}: {denied:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody was asked");
    for name in names {
        let url = format!("http://{name}:{port}/");
        assert!(fetch(Policy::Operator, &url).await.is_ok(), "{url}");
    }
}

#[tokio::test]
async fn some_addresses_are_reached_by_nobody() {
    for host in [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "169.254.1.1",
        "0.0.0.0",
        "0",
        "[::]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
        "[ff02::1]",
    ] {
        for policy in [Policy::Operator, Policy::Global] {
            let end = fetch(policy, &format!("http://{host}/latest/meta-data/")).await;
            assert!(matches!(end, Err(Error::Denied { .. })), "{host}: {end:?}");
        }
    }
}

#[tokio::test]
async fn only_plain_web_addresses_are_taken() {
    for url in
        ["ftp://example.com/", "file:///etc/passwd", "data:text/plain,x", "http://a:b@127.0.0.1/"]
    {
        let end = fetch(Policy::Operator, url).await;
        let Err(Error::BadUrl { url: shown, .. }) = end else { panic!("{url}: {end:?}") };
        assert!(!shown.contains("a:b"), "{shown}");
    }
}

#[tokio::test]
async fn three_redirects_are_followed_and_not_a_fourth() {
    let hop = |Path(n): Path<u32>| async move {
        if n == 0 {
            return "there".into_response();
        }
        (StatusCode::FOUND, [(header::LOCATION, format!("/{}", n - 1))]).into_response()
    };
    let server = serve(Router::new().route("/{n}", get(hop))).await;
    let there = fetch(Policy::Operator, &format!("{server}/3")).await.unwrap();
    assert_eq!((&there.body[..], there.url.path()), (&b"there"[..], "/0"));
    let end = fetch(Policy::Operator, &format!("{server}/4")).await;
    assert!(matches!(end, Err(Error::TooManyRedirects { max: 3, .. })), "{end:?}");
    let mut kept = request(&format!("{server}/1"));
    kept.keep = vec![reqwest::StatusCode::FOUND];
    let kept = Egress::new(Policy::Operator).send(kept).await.unwrap();
    assert_eq!(kept.status, 302);
}

#[tokio::test]
async fn a_redirect_is_checked_like_a_first_request() {
    for target in
        ["http://169.254.169.254/", "http://[fe80::1]/", "//0.0.0.0/", "http://2852039166/"]
    {
        let away = move || async move { (StatusCode::FOUND, [(header::LOCATION, target)]) };
        let server = serve(Router::new().route("/", get(away))).await;
        let end = fetch(Policy::Operator, &server).await;
        assert!(matches!(end, Err(Error::Denied { .. })), "{target}: {end:?}");
    }
    for target in ["file:///etc/passwd", "http://a:b@127.0.0.1/", "http://[", "gopher://x"] {
        let away = move || async move { (StatusCode::FOUND, [(header::LOCATION, target)]) };
        let server = serve(Router::new().route("/", get(away))).await;
        let end = fetch(Policy::Operator, &server).await;
        assert!(matches!(end, Err(Error::BadUrl { .. })), "{target}: {end:?}");
    }
}

#[tokio::test]
async fn another_origin_sees_no_secrets() {
    let show = |asked: Asked| async move {
        let names = asked.headers().keys().map(ToString::to_string).collect::<Vec<_>>();
        format!("{} {}", asked.method(), names.join(" "))
    };
    let other = serve(Router::new().route("/", any(show))).await;
    let there = format!("{other}/");
    let away = move |Path(code): Path<u16>| {
        let there = there.clone();
        async move { (StatusCode::from_u16(code).unwrap(), [(header::LOCATION, there)]) }
    };
    let server =
        serve(Router::new().route("/away/{code}", any(away)).route("/show", any(show))).await;
    for (code, method) in [(302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")] {
        let mut asked = request(&format!("{server}/away/{code}"));
        asked.method = reqwest::Method::POST;
        asked.body = Some("secret".into());
        for name in ["authorization", "cookie", "x-api-key", "idempotency-key", "accept"] {
            asked.headers.insert(name, "x".parse().unwrap());
        }
        let seen = Egress::new(Policy::Operator).send(asked).await.unwrap();
        let seen = String::from_utf8(seen.body.to_vec()).unwrap();
        assert!(seen.starts_with(method), "{code}: {seen}");
        assert!(seen.contains("idempotency-key") && seen.contains("accept"), "{seen}");
        for secret in ["authorization", "cookie", "x-api-key"] {
            assert!(!seen.contains(secret), "{code}: {seen}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_limit() {
    let zeros = |Path(len): Path<usize>| async move { vec![0; len] };
    let endless = || async {
        let piece = || Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[0; 4096]));
        Body::from_stream(futures_util::stream::repeat_with(piece))
    };
    let trouble = move || async move { (StatusCode::SERVICE_UNAVAILABLE, endless().await) };
    let router = Router::new()
        .route("/len/{len}", get(zeros))
        .route("/endless", get(endless))
        .route("/trouble", get(trouble));
    let server = serve(router).await;
    let whole = fetch(Policy::Operator, &format!("{server}/len/1048576")).await.unwrap();
    assert_eq!(whole.body.len(), 1 << 20);
    for path in ["len/1048577", "endless"] {
        let end = fetch(Policy::Operator, &format!("{server}/{path}")).await;
        assert!(matches!(end, Err(Error::TooLarge { .. })), "{path}: {end:?}");
    }
    let trouble = fetch(Policy::Operator, &format!("{server}/trouble")).await.unwrap();
    assert_eq!(trouble.status, 503, "a long error page does not hide the error");
}

#[tokio::test]
async fn what_went_wrong_says_whether_anything_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = fetch(Policy::Operator, &format!("http://{free}/")).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");

    let unknown = fetch(Policy::Operator, "http://no-such-name.invalid/").await;
    assert!(matches!(unknown, Err(Error::Unreachable { .. })), "{unknown:?}");

    let hangs_up = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", hangs_up.local_addr().unwrap());
    let server = async {
        let (mut socket, _) = hangs_up.accept().await.unwrap();
        socket.read_buf(&mut Vec::new()).await.unwrap();
    };
    let (broken, ()) = tokio::join!(fetch(Policy::Operator, &url), server);
    assert!(matches!(broken, Err(Error::Broken { .. })), "{broken:?}");

    let stops = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", stops.local_addr().unwrap());
    let server = async {
        let (mut socket, _) = stops.accept().await.unwrap();
        socket.read_buf(&mut Vec::new()).await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    };
    let (broken, ()) = tokio::join!(fetch(Policy::Operator, &url), server);
    assert!(matches!(broken, Err(Error::Broken { .. })), "{broken:?}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let limits = Limits { idle: Duration::from_millis(200), ..Limits::default() };
    let end = Egress::with_limits(Policy::Operator, limits).send(request(&url)).await;
    assert!(matches!(end, Err(Error::Silent { .. })), "{end:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_unreachable_over_https() {
    let server = serve(Router::new()).await.replace("http:", "https:");
    let end = fetch(Policy::Operator, &server).await;
    assert!(matches!(end, Err(Error::Unreachable { .. })), "{end:?}");
}
