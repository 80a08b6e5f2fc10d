//! More than a server has room for: who is refused hears so at once, who was let in is served, and memory is bounded.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use kapelle_api::{Client, EventKind, RunsQuery, Wish};

use crate::hostile::{header, said, status};
use crate::serve::{Server, workflow};
use crate::support::Folder;

const GATE: &str = "{id: gate, tasks: [{id: gate, approval: {}}]}";
const PATIENCE: Duration = Duration::from_secs(60);

/// A submit of a run that ends by itself, in two pieces.
fn submit() -> [Vec<u8>; 2] {
    let one = "{id: one, tasks: [{id: a, agentName: echo, input: {value: 1}}]}";
    let body = serde_json::json!({ "workflow": one }).to_string();
    let head =
        format!("POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let (first, rest) = body.split_at(10);
    [[head.as_bytes(), first.as_bytes()].concat(), rest.as_bytes().to_vec()]
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.at()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One answer: its status, head and body.
fn answer(reader: &mut BufReader<TcpStream>) -> (u16, String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "it was closed after {head:?}");
    }
    let len = header(&head, "content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    reader.read_exact(&mut body).unwrap();
    (status(&head), head, String::from_utf8(body).unwrap())
}

/// Whether it says that there is no room, and when to come again.
#[track_caller]
fn assert_no_room(said: &str, setting: &str) {
    assert_eq!(status(said), 503, "{said}");
    assert_eq!(header(said, "retry-after"), Some("1"), "{said}");
    assert!(said.contains("\"overloaded\"") && said.contains(setting), "{said}");
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

async fn metric(client: &Client, name: &str) -> f64 {
    let text = client.metrics().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// Returns when a metric is as it should be.
async fn until(client: &Client, name: &str, fits: impl Fn(f64) -> bool) {
    while !fits(metric(client, name).await) {
        tokio::task::yield_now().await;
    }
}

const REQUESTS: &str = "kapelle_room_taken{of=\"requests\"}";
const STREAMS: &str = "kapelle_room_taken{of=\"streams\"}";
const BYTES: &str = "kapelle_room_taken{of=\"bytes\"}";
const REFUSED: &str = "kapelle_refused_total{code=\"overloaded\"}";

#[tokio::test]
async fn where_all_places_are_taken_it_is_said_at_once_and_words_get_through() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nrequests = 3\nbody_patience = \"10m\"\n");
    let server = Server::start(&folder);
    let client = server.client(None);
    let gate = client.submit(&workflow(GATE)).await.unwrap().id;
    // Three requests that have begun to come.
    let [first, rest] = submit();
    let mut begun: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    for stream in &mut begun {
        stream.write_all(&first).unwrap();
    }
    until(&client, REQUESTS, |taken| taken > 2.5).await;
    assert_no_room(&said(&server.at(), &get("/runs")), "server.requests");
    assert_no_room(&said(&server.at(), &submit().concat()), "server.requests");
    assert!(metric(&client, REFUSED).await > 1.5);
    // What is about what is under way has places of its own.
    client.cancel(&gate, &Wish::default()).await.unwrap();
    for open in ["/healthz", "/readyz"] {
        assert_eq!(status(&said(&server.at(), &get(open))), 200, "{open}");
    }
    // Those that were let in are served, and others then.
    for mut stream in begun {
        stream.write_all(&rest).unwrap();
        let (status, _, body) = answer(&mut BufReader::new(stream));
        assert_eq!(status, 201, "{body}");
    }
    assert_eq!(client.runs(&RunsQuery::default()).await.unwrap().items.len(), 4);
    assert_eq!(server.leave(), Some(0));
}

#[test]
fn where_all_connections_are_taken_a_word_still_gets_through() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nconnections = 4\n");
    let server = Server::start(&folder);
    let new = serde_json::json!({ "workflow": GATE }).to_string();
    let post = |path: &str, body: &str| {
        let len = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{body}"
        );
        said(&server.at(), request.as_bytes())
    };
    let made = post("/runs", &new);
    let (_, made) = made.split_once("\r\n\r\n").unwrap();
    let gate = serde_json::from_str::<serde_json::Value>(made).unwrap();
    let gate = gate["id"].as_str().unwrap().to_owned();
    // Those that came before have left.
    while !said(&server.at(), &get("/metrics"))
        .contains("kapelle_room_taken{of=\"connections\"} 1\n")
    {}
    let streams = open_streams(&server, &format!("/runs/{gate}/events"), 4);
    let crowded = said(&server.at(), &get("/runs"));
    assert_no_room(&crowded, "server.connections");
    assert_eq!(header(&crowded, "connection"), Some("close"));
    let told = post(&format!("/runs/{gate}/cancel"), "");
    assert_eq!(status(&told), 200, "{told}");
    // The streams end with it, and there is room again.
    for mut stream in streams {
        let mut rest = String::new();
        while !rest.contains("run_completed") {
            assert!(stream.read_line(&mut rest).unwrap() > 0, "{rest}");
        }
    }
    while status(&said(&server.at(), &get("/runs"))) != 200 {}
    assert_eq!(server.leave(), Some(0));
}

/// So many streams that have begun.
fn open_streams(server: &Server, path: &str, count: usize) -> Vec<BufReader<TcpStream>> {
    let open = |_| {
        let mut stream = connect(server);
        stream.write_all(&get(path)).unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert_eq!(status(&line), 200);
        stream
    };
    (0..count).map(open).collect()
}

#[tokio::test]
async fn no_more_streams_are_opened_than_there_may_be() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nstreams = 3\n");
    let server = Server::start(&folder);
    let client = server.client(None);
    let gate = client.submit(&workflow(GATE)).await.unwrap().id;
    let events = format!("/runs/{gate}/events");
    let streams = open_streams(&server, &events, 3);
    assert_eq!(metric(&client, "kapelle_streams{kind=\"sse\"}").await, 3.0);
    assert_no_room(&said(&server.at(), &get(&events)), "server.streams");
    assert_no_room(&said(&server.at(), &get("/agents/none/work")), "server.streams");
    assert_eq!(client.run(&gate).await.unwrap().status, "waiting");
    drop(streams);
    until(&client, STREAMS, |open| open < 0.5).await;
    let again = open_streams(&server, &events, 1);
    drop((again, client));
    assert_eq!(server.leave(), Some(0));
}

#[tokio::test]
async fn no_more_runs_are_begun_than_may_be_open() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nopen_runs = 2\n");
    let server = Server::start(&folder);
    let client = server.client(None);
    let first = client.submit(&workflow(GATE)).await.unwrap().id;
    client.submit(&workflow(GATE)).await.unwrap();
    let refused = client.submit(&workflow(GATE)).await.unwrap_err();
    assert_eq!(refused.code(), Some("overloaded"), "{refused}");
    client.cancel(&first, &Wish::default()).await.unwrap();
    let mut events = client.events(&first, 0);
    while events.next().await.is_some() {}
    client.submit(&workflow(GATE)).await.unwrap();
    assert_eq!(server.leave(), Some(0));
}

/// Bodies and answers far beyond what may be held: 160 MiB and more that nobody finishes or reads.
#[tokio::test]
async fn what_nobody_finishes_or_reads_takes_a_bounded_memory() {
    const MIB: usize = 1 << 20;
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nmemory = 4194304\nbody_patience = \"10m\"\n");
    let server = Server::start(&folder);
    let client = server.client(None);
    let gate = client.submit(&workflow(GATE)).await.unwrap().id;
    let before = server.memory("VmRSS:");
    let head =
        format!("POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 2 * MIB);
    let body = [head.as_bytes(), b"{\"workflow\":\"", &vec![b'x'; 2 * MIB - 20]].concat();
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..80 {
        let mut stream = connect(&server);
        if stream.write_all(&body).is_err() {
            // It was answered, and closed, before it had sent all.
            refused += 1;
        }
        open.push(stream);
    }
    // Two of them fit; others were refused.
    until(&client, REFUSED, |refused| refused > 77.5).await;
    println!("{refused} of 80 were told before they had sent all");
    client.cancel(&gate, &Wish::default()).await.unwrap();
    drop(open);
    until(&client, BYTES, |bytes| bytes < 0.5).await;

    // Answers of 800 kB, to those who read nothing of them.
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            format!("{{id: s{n}, agentName: echo, input: {{value: '{}'}}}}", "x".repeat(8_000))
        })
        .collect();
    let many = workflow(&format!("{{id: many, tasks: [{}]}}", tasks.join(", ")));
    let run = client.submit(&many).await.unwrap().id;
    let mut events = client.events(&run, 0);
    while events.next().await.is_some() {}
    // One after the other: it is not the work that takes the memory.
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..12 {
        let mut stream = connect(&server);
        stream.write_all(&get(&format!("/runs/{run}"))).unwrap();
        let mut stream = BufReader::with_capacity(64, stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        refused += usize::from(status(&line) == 503);
        open.push(stream);
    }
    assert!((6..12).contains(&refused), "{refused} of 12");
    let more = (server.memory("VmHWM:") - before) / 1024;
    println!("{more} MiB more");
    assert!(more < 110, "{more} MiB for 4 MiB of bodies and answers");
    assert_eq!(status(&said(&server.at(), &get("/healthz"))), 200);
}

/// What became of a flood.
#[derive(Default)]
struct Told {
    made: AtomicUsize,
    later: AtomicUsize,
}

/// Asks again and again over one connection until it is told that it is enough.
fn flood(server: &Server, times: usize, told: &Told) {
    let request = submit().concat();
    let mut reader = BufReader::new(connect(server));
    for _ in 0..times {
        reader.get_mut().write_all(&request).unwrap();
        let (status, head, body) = answer(&mut reader);
        let count = match status {
            201 => &told.made,
            429 | 503 => {
                assert!(header(&head, "retry-after").is_some(), "{head}");
                &told.later
            }
            other => panic!("{other}: {head}{body}"),
        };
        count.fetch_add(1, Relaxed);
        if header(&head, "connection") == Some("close") {
            reader = BufReader::new(connect(server));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_flood_all_are_answered_what_was_taken_ends_and_a_cancel_gets_through() {
    let folder = Folder::new();
    // Room for a few of those who come.
    folder.write(
        "kapelle.toml",
        "[server]\nrequests = 4\nconnections = 60\nopen_runs = 500\nrequests_per_second = 2000\ncontrol_per_second = 0\nbody_patience = \"10m\"\n",
    );
    let server = Server::start(&folder);
    let client = server.client(None);
    let gates = [
        client.submit(&workflow(GATE)).await.unwrap().id,
        client.submit(&workflow(GATE)).await.unwrap().id,
    ];
    // Three places of four are taken for as long as it lasts.
    let [first, rest] = submit();
    let mut begun: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    for stream in &mut begun {
        stream.write_all(&first).unwrap();
    }
    until(&client, REQUESTS, |taken| taken > 2.5).await;
    let (told, over) = (Told::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let floods: Vec<_> = (0..100).map(|_| scope.spawn(|| flood(&server, 20, &told))).collect();
        // Words that come within it.
        let words = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Relaxed) || count < gates.len() {
                let path = match gates.get(count) {
                    Some(gate) => format!("POST /runs/{gate}/cancel"),
                    None => "GET /healthz".to_owned(),
                };
                let word =
                    format!("{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
                let told = said(&server.at(), word.as_bytes());
                assert_eq!(status(&told), 200, "{path}: {told}");
                count += 1;
            }
            count
        });
        for flood in floods {
            flood.join().unwrap();
        }
        over.store(true, Relaxed);
        assert!(words.join().unwrap() > 2);
    });
    for mut stream in begun {
        stream.write_all(&rest).unwrap();
        assert_eq!(answer(&mut BufReader::new(stream)).0, 201);
    }
    let (made, later) = (told.made.into_inner() + 3, told.later.into_inner());
    println!("{made} made, {later} told to come later");
    assert!(made > 3 && later > 0 && made + later == 2_003, "{made} {later}");
    // Whatever was taken is there once, and ends.
    let mut found = 0;
    let mut cursor = None;
    loop {
        let query = RunsQuery { limit: Some(1_000), cursor, ..RunsQuery::default() };
        let page = client.runs(&query).await.unwrap();
        for run in page.items {
            found += 1;
            let mut events = client.events(&run.id, 0);
            let mut verdict = None;
            while let Some(event) = events.next().await {
                if let EventKind::RunCompleted { verdict: how, .. } = event.unwrap().kind {
                    verdict = Some(how);
                }
            }
            let wanted = if gates.contains(&run.id) { "cancelled" } else { "completed" };
            assert_eq!(verdict.as_deref(), Some(wanted), "{}", run.id);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, made + gates.len());
    assert_eq!(server.leave(), Some(0));
}
