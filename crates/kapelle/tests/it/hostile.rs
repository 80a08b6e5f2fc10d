//! Clients that mean no good, at the socket of a real server: whatever they send, it serves on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::serve::Server;
use crate::support::Folder;

/// How long an answer may take: heads of requests have 5 s.
const PATIENCE: Duration = Duration::from_secs(9);

/// What a server says to `bytes`, until it closes the connection or its answer is there.
pub(crate) fn said(at: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may answer, and close, before it has read all.
    stream.write_all(bytes).ok();
    read(&mut stream)
}

fn read(stream: &mut TcpStream) -> String {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => all.extend(&piece[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("no end of an answer: {error}: {}", String::from_utf8_lossy(&all)),
        }
        if is_whole(&String::from_utf8_lossy(&all)) {
            break;
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let len = header(head, "content-length").and_then(|len| len.parse().ok());
    header(head, "connection") != Some("close") && len.is_some_and(|len: usize| body.len() >= len)
}

pub(crate) fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

fn with(head: &str) -> Vec<u8> {
    format!("POST /runs HTTP/1.1\r\nHost: localhost\r\n{head}").into_bytes()
}

fn body(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = with(&format!("Content-Length: {}\r\n\r\n", body.len()));
    request.extend(body);
    request
}

/// Requests whose end can be seen in two places.
fn smuggled() -> Vec<Vec<u8>> {
    let behind = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    [
        format!("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{behind}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n{behind}"),
        format!("Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\n{{}}\r\n{behind}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{behind}"),
        format!(
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{behind}"
        ),
        format!("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{behind}"),
        format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{behind}"),
        format!("X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{behind}"),
        format!("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}{behind}"),
        format!("Content-Length: 2, 3\r\n\r\n{{}}{behind}"),
        format!("Content-Length: +2\r\n\r\n{{}}{behind}"),
        format!("Content-Length: -2\r\n\r\n{{}}{behind}"),
        format!("Content-Length: 0x2\r\n\r\n{{}}{behind}"),
        format!("Content-Length: 2 \x0b\r\n\r\n{{}}{behind}"),
        format!("Content-Length: 18446744073709551617\r\n\r\n{{}}{behind}"),
        format!("Content-Length : 2\r\n\r\n{{}}{behind}"),
        format!("Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{{}}\r\n0\r\n\r\n{behind}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-2\r\n{{}}\r\n0\r\n\r\n{behind}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0x2\r\n{{}}\r\n0\r\n\r\n{behind}"),
        format!("Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}X0\r\n\r\n{behind}"),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n2;{}\r\n{{}}\r\n0\r\n\r\n{behind}",
            "x".repeat(99_999)
        ),
        format!("Transfer-Encoding: chunked\r\n\r\n0\r\n{}: y\r\n\r\n{behind}", "x".repeat(99_999)),
    ]
    .map(|head| with(&head))
    .to_vec()
}

/// Heads that are none, or of somebody else.
fn heads() -> Vec<Vec<u8>> {
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    [
        "\r\n\r\n\r\n".to_owned(),
        "GET /runs\r\n\r\n".to_owned(),
        "GET /runs HTTP/9.9\r\nHost: localhost\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}".to_owned() + &"\0".repeat(600),
        "GET /runs HTTP/1.1\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost/../x\r\n\r\n".to_owned(),
        "GET http://evil.example/runs HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET http://localhost/runs HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(),
        "CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "TRACE /runs HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "get /runs HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        format!("{} /runs HTTP/1.1\r\nHost: localhost\r\n\r\n", "M".repeat(5_000)),
        format!("GET /runs HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        format!("GET /runs HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(40_000)),
        format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "p".repeat(40_000)),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nnone\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic eDp5\r\n\r\n".to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nAuthorization: y\r\n\r\n"
            .to_owned(),
        "GET /runs HTTP/1.1\r\nHost: localhost\r\nAuth".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn paths() -> Vec<Vec<u8>> {
    let odd = [
        "/runs/%00",
        "/runs/%ff",
        "/runs/..%2f..%2fetc%2fpasswd",
        "//runs",
        "/runs/",
        "/RUNS",
        "/runs/../keys",
        "/runs/%2e%2e/keys",
        "/healthz/../keys",
        "/keys/healthz",
        "/x/healthz",
        "/runs%3flimit=1",
        "/runs?limit=0",
        "/runs?limit=99999999999999999999",
        "/runs?limit=1&limit=2",
        "/runs?nothing=1",
        "/runs?cursor=%00",
        "/runs/'%20OR%201=1--",
        "/artifacts/../../kapelle.db",
        "/artifacts/sha256:..%2f",
        "/agents/%2e%2e%2f",
        "/openapi.json/",
        "/runs/none/events",
        "/audit?cursor=-1",
        "/runs/\u{202e}",
        "/%",
    ];
    let long = format!("/runs/{}", "a".repeat(8_000));
    odd.iter().map(|path| get(path)).chain([get(&long)]).collect()
}

fn bodies() -> Vec<Vec<u8>> {
    let deep = |n: usize| format!("{{\"inputs\":{}{}}}", "[".repeat(n), "]".repeat(n));
    let workflow = |text: &str| serde_json::json!({ "workflow": text }).to_string();
    let bomb =
        (0..20).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(",")));
    let bomb: String = bomb.collect::<String>().replace("*a-1", "x");
    vec![
        body(deep(100)),
        body(deep(200)),
        body(deep(100_000)),
        body("{\"inputs\":".repeat(50_000)),
        body("{\"workflow\":\"\\ud800\"}"),
        body("{\"workflow\":\"\\udfff\\ud800\"}"),
        body("{\"workflow\":\"\0\"}"),
        body("{\"workflow\":\"\\u0000\"}"),
        body("{\"max_parallel\":1e999999}"),
        body("{\"max_parallel\":-1}"),
        body(format!("{{\"max_parallel\":{}}}", "9".repeat(100_000))),
        body(format!("{{\"inputs\":{{\"a\":{}}}}}", "9".repeat(100_000))),
        body(b"{\"workflow\":\"\xff\xfe\"}"),
        body(b"\xef\xbb\xbf{}"),
        body("[]"),
        body("null"),
        body("\"x\""),
        body("{}{}"),
        body("{} x"),
        body("{\"workflow\":1}"),
        body("{\"nothing\":1}"),
        body("{\"workflow\":\"a\",\"workflow\":\"b\"}"),
        body("{\"__proto__\":{}}"),
        body("{"),
        body(" "),
        body(workflow("")),
        body(workflow("{")),
        body(workflow(&"[".repeat(100_000))),
        body(workflow(&bomb)),
        body(workflow("id: x\ntasks: !!python/object/apply:os.system [id]")),
        body("{\"plan\":{}}"),
        body("{\"plan\":[]}"),
        body("{\"task_id\":\"\"}"),
        with(&format!("Content-Length: 2\r\nIdempotency-Key: {}\r\n\r\n{{}}", "k".repeat(999))),
        with("Content-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}"),
        b"POST /runs/x/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{"
            .to_vec(),
        [
            b"POST /runs/x/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
                .to_vec(),
            vec![b' '; 2_000_000],
        ]
        .concat(),
    ]
}

/// What is wrong with the answer to something hostile.
fn fault(answer: &str) -> Option<&'static str> {
    let kind = header(answer, "content-type");
    match status(answer) {
        // It was closed.
        0 if answer.is_empty() => None,
        400..=499 if kind == Some("application/problem+json") => {
            (header(answer, "x-content-type-options") != Some("nosniff")
                && header(answer, "connection") != Some("close"))
            .then_some("no security headers")
        }
        // Of what is no request nobody knows more.
        400 | 408 | 414 | 431 if header(answer, "connection") == Some("close") => None,
        400 | 414 | 431 if header(answer, "content-length") == Some("0") => None,
        _ => Some("neither a problem nor a closed connection"),
    }
}

#[test]
fn whatever_is_sent_is_answered_by_a_problem_or_a_closed_connection() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nbody_patience = \"1s\"\n");
    let server = Server::start(&folder);
    let (at, corpus) = (&*server.at(), [smuggled(), heads(), paths(), bodies()].concat());
    let count = corpus.len();
    let faults: Vec<String> = std::thread::scope(|scope| {
        let asked = corpus.iter().map(|bytes| scope.spawn(move || (bytes, said(at, bytes))));
        let asked: Vec<_> = asked.collect();
        let told = asked.into_iter().map(|thread| thread.join().unwrap());
        let faults = told.filter_map(|(bytes, answer)| {
            let fault = fault(&answer)?;
            let sent: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
            Some(format!("{fault}: {sent:?}\n  {answer:?}"))
        });
        faults.collect()
    });
    println!("{count} requests");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(status(&said(at, &get("/healthz"))), 200);
    assert_eq!(server.leave(), Some(0));
}

#[test]
fn nothing_that_is_hidden_behind_a_body_is_taken_for_a_request() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nbody_patience = \"1s\"\n");
    let server = Server::start(&folder);
    for bytes in smuggled() {
        let mut stream = TcpStream::connect(server.at()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&bytes).ok();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).ok();
        let (sent, said) = (String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&all));
        // Where one end alone is possible what comes next is a request; here nowhere.
        assert!(said.matches("HTTP/1.1 ").count() <= 1, "{sent}\n{said}");
        assert!(!said.contains("\"status\":\"ok\""), "{sent}\n{said}");
    }
}

#[test]
fn a_slow_client_is_cut_off() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nbody_patience = \"500ms\"\n");
    let server = Server::start(&folder);
    // Nothing more comes.
    let mut stream = TcpStream::connect(server.at()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&with("Content-Length: 100\r\n\r\n{")).unwrap();
    let answer = read(&mut stream);
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(answer.contains("body_too_slow"), "{answer}");
    assert_eq!(header(&answer, "connection"), Some("close"));
    // A byte now and then is not enough.
    let mut stream = TcpStream::connect(server.at()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream.write_all(&with("Content-Length: 100000\r\n\r\n{")).unwrap();
    let (mut answer, mut sent) = (Vec::new(), 0);
    while !answer.ends_with(b"}") {
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => answer.extend(&piece[..len]),
            Err(_) => {
                stream.write_all(b" ").unwrap();
                sent += 1;
            }
        }
        assert!(sent < 80, "it is still listened to");
    }
    assert_eq!(status(&String::from_utf8_lossy(&answer)), 408);
    // Nor is half a head.
    assert_eq!(said(&server.at(), b"GET /healthz HTT"), "");
    assert_eq!(server.leave(), Some(0));
}

/// What is said to the same request a hundred times, on one connection and without waiting.
fn all_said(at: &str, request: &[u8]) -> Vec<String> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(&[&request.repeat(100), last.as_bytes()].concat()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all.split("HTTP/1.1 ").skip(1).take(100).map(|answer| format!("HTTP/1.1 {answer}")).collect()
}

#[test]
fn who_asks_too_much_is_told_to_wait_and_may_still_stop_things() {
    let folder = Folder::new();
    let rates = "[server]\nrequests_per_second = 5\nunknown_per_second = 3\n";
    folder.write("kapelle.toml", rates);
    let server = Server::start(&folder);
    let answers = all_said(&server.at(), &get("/runs"));
    let refused: Vec<_> = answers.iter().filter(|answer| status(answer) == 429).collect();
    assert!(!refused.is_empty() && status(&answers[0]) == 200, "{answers:?}");
    assert!(refused[0].contains("too_many_requests"), "{}", refused[0]);
    assert!(header(refused[0], "retry-after").is_some());
    let cancel =
        b"POST /runs/abcdef/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(status(&said(&server.at(), cancel)), 404);
    assert_eq!(status(&said(&server.at(), &get("/healthz"))), 200);
    // Whoever guesses keys is told so three times a second.
    folder.run("keys create --name a --role viewer").expect(0);
    let guessed = all_said(&server.at(), &get("/keys"));
    let guessed: Vec<_> = guessed.iter().map(|answer| status(answer)).collect();
    assert!(guessed.contains(&429) && guessed.contains(&401), "{guessed:?}");
    folder.write("bad.toml", "[server]\nrequests_per_second = 9999999\n");
    let bad = folder.run("--config bad.toml serve").expect(3);
    assert!(bad.err.contains("server.requests_per_second"), "{}", bad.err);
}

#[test]
fn browsers_are_told_what_they_may() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nallow_origins = [\"https://a.example\"]\n");
    let server = Server::start(&folder);
    let ask = |method: &str, more: &str| {
        let request = format!("{method} /runs HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        said(&server.at(), request.as_bytes())
    };
    let plain = ask("GET", "");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        assert_eq!(header(&plain, name), Some(value), "{plain}");
    }
    assert_eq!(header(&plain, "access-control-allow-origin"), None);
    let known = ask("GET", "Origin: https://a.example\r\n");
    assert_eq!(header(&known, "access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(header(&known, "access-control-allow-credentials"), None);
    let wish = "Access-Control-Request-Method: POST\r\n";
    let preflight = ask("OPTIONS", &format!("Origin: https://a.example\r\n{wish}"));
    assert_eq!(status(&preflight), 204, "{preflight}");
    let allowed = header(&preflight, "access-control-allow-headers").unwrap();
    assert!(allowed.contains("authorization") && allowed.contains("last-event-id"), "{allowed}");
    let strange = ask("OPTIONS", &format!("Origin: https://b.example\r\n{wish}"));
    assert_eq!((status(&strange), header(&strange, "access-control-allow-origin")), (403, None));
    // A page of the server itself.
    assert_eq!(status(&ask("GET", "Origin: http://localhost\r\n")), 200);
}
