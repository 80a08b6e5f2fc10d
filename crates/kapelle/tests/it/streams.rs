//! Streams of a server in the network: over a WebSocket, with a ticket, and to readers that take nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use kapelle_api::{Beat, Client, Completion, Frame, NewAgent, NewRun, WorkQuery};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use crate::serve::{Server, workflow};
use crate::support::Folder;

const ONE: &str = "{id: one, tasks: [{id: a, agentName: echo, input: {value: 1}}]}";
const GATE: &str = "{id: gate, tasks: [{id: gate, approval: {}}]}";
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run that has ended, and the numbers of its events.
async fn ended(client: &Client, new: &NewRun) -> (String, Vec<u64>) {
    let run = client.submit(new).await.unwrap().id;
    let (mut events, mut seen) = (client.events(&run, 0), Vec::new());
    while let Some(event) = events.next().await {
        seen.extend(event.unwrap().seq);
    }
    (run, seen)
}

fn key(folder: &Folder, args: &str) -> (String, String) {
    let made = folder.run(&format!("keys create --name k --json {args}")).expect(0).json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.at()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // What the system keeps for a reader that takes nothing does not grow.
    let options = tokio::net::TcpSocket::from_std_stream(stream.try_clone().unwrap());
    options.set_recv_buffer_size(64 << 10).unwrap();
    stream
}

fn websocket(server: &Server, path: &str) -> WebSocket<TcpStream> {
    let url = format!("ws://{}{path}", server.at());
    tungstenite::client(url, connect(server)).unwrap().0
}

/// All frames to the end, and with which code it is closed.
fn frames(socket: &mut WebSocket<TcpStream>) -> (Vec<Frame>, CloseCode) {
    let mut frames = Vec::new();
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => frames.push(serde_json::from_str(&text).unwrap()),
            Message::Close(Some(close)) => return (frames, close.code),
            _ => {}
        }
    }
}

fn ids(frames: &[Frame]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame.id).collect()
}

/// Asks for a stream as HTTP/1.0 does, so that the answer is as it is until its end.
fn ask(server: &Server, path: &str, headers: &[(&str, &str)]) -> BufReader<TcpStream> {
    let mut stream = connect(server);
    let mut request = format!("GET {path} HTTP/1.0\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request += "host: localhost\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    BufReader::new(stream)
}

/// The status of an answer.
fn status(answer: &mut BufReader<TcpStream>) -> u16 {
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The frames of server-sent events until the answer ends: id, name and data.
fn sent(answer: &mut BufReader<TcpStream>) -> Vec<(Option<u64>, String, String)> {
    let (mut text, mut frames) = (String::new(), Vec::new());
    answer.read_to_string(&mut text).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or(("", &text));
    for frame in body.split_inclusive("\n\n").filter(|frame| frame.ends_with("\n\n")) {
        let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
        let Some(data) = field("data: ") else { continue };
        let name = field("event: ").unwrap_or("message");
        frames.push((
            field("id: ").map(|id| id.parse().unwrap()),
            name.to_owned(),
            data.to_owned(),
        ));
    }
    frames
}

/// What a handshake says, beside what every request says.
const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
];

/// The status with which a WebSocket is answered.
fn upgraded(server: &Server, path: &str, headers: &[(&str, &str)]) -> u16 {
    let mut stream = connect(server);
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request += "host: localhost\r\n";
    }
    for (name, value) in HANDSHAKE.iter().chain(headers) {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    status(&mut BufReader::new(stream))
}

#[tokio::test]
async fn a_websocket_carries_what_server_sent_events_do_from_any_point_on() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let (run, seen) = ended(&server.client(None), &workflow(ONE)).await;
    let path = format!("/runs/{run}/events");
    let (all, code) = frames(&mut websocket(&server, &path));
    assert_eq!((ids(&all), code), (seen.clone(), CloseCode::Normal));
    let told = sent(&mut ask(&server, &path, &[]));
    assert_eq!(told.len(), all.len());
    for ((id, name, data), frame) in told.into_iter().zip(&all) {
        let data: serde_json::Value = serde_json::from_str(&data).unwrap();
        assert_eq!((id, name, data), (frame.id, frame.event.clone(), frame.data.clone()));
    }
    let (rest, _) = frames(&mut websocket(&server, &format!("{path}?after=2")));
    assert_eq!(ids(&rest), seen[2..]);
    assert_eq!(server.leave(), Some(0));
}

#[tokio::test]
async fn a_quiet_stream_shows_that_it_lives_and_ends_with_its_server() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nheartbeat = \"50ms\"\n");
    let server = Server::start(&folder);
    let run = server.client(None).submit(&workflow(GATE)).await.unwrap().id;
    let path = format!("/runs/{run}/events");
    let mut socket = websocket(&server, &path);
    let mut pings = 0;
    while pings < 5 {
        // What comes is answered in reading.
        pings += u32::from(matches!(socket.read().unwrap(), Message::Ping(_)));
    }
    let mut comments = ask(&server, &path, &[]);
    beats(&mut comments, 5);
    let leaving = std::thread::spawn(move || server.leave());
    let (_, code) = frames(&mut socket);
    assert_eq!((code, leaving.join().unwrap()), (CloseCode::Away, Some(0)));
}

/// Waits until a quiet stream has shown so often that it lives.
fn beats(answer: &mut BufReader<TcpStream>, wanted: usize) {
    let mut count = 0;
    while count < wanted {
        let mut line = String::new();
        assert!(answer.read_line(&mut line).unwrap() > 0);
        count += usize::from(line.starts_with(':'));
    }
}

#[tokio::test]
async fn streams_of_both_kinds_go_through_the_same_door() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nallow_origins = [\"https://a.example\"]\n");
    let (_, viewer) = key(&folder, "--role viewer --role submitter");
    let (_, worker) = key(&folder, "--role worker");
    let (_, other) = key(&folder, "--role admin --tenant acme");
    let server = Server::start(&folder);
    let (run, _) = ended(&server.client(Some(&viewer)), &workflow(ONE)).await;
    let bearer = |key: &str| format!("Bearer {key}");
    let (viewer, worker, other) = (bearer(&viewer), bearer(&worker), bearer(&other));
    let own = ("authorization", &*viewer);
    let rows: [(&[(&str, &str)], u16); 10] = [
        (&[own], 200),
        (&[], 401),
        (&[("authorization", "Bearer kap_wrong")], 401),
        (&[("authorization", "Basic eDp5")], 401),
        (&[("authorization", &worker)], 403),
        (&[("authorization", &other)], 404),
        (&[own, ("host", "evil.example")], 421),
        (&[own, ("origin", "https://b.example")], 403),
        (&[own, ("origin", "null")], 403),
        (&[own, ("origin", "https://a.example")], 200),
    ];
    let path = format!("/runs/{run}/events");
    for (headers, expected) in rows {
        assert_eq!(status(&mut ask(&server, &path, headers)), expected, "{headers:?}");
        let expected = if expected == 200 { 101 } else { expected };
        assert_eq!(upgraded(&server, &path, headers), expected, "{headers:?}");
    }
    // A handshake that is none, and one where there is no stream.
    assert_eq!(upgraded(&server, &path, &[own, ("sec-websocket-version", "7")]), 101);
    let odd = [own, ("upgrade", "websocket")];
    assert_eq!(status(&mut ask(&server, &path, &odd)), 400);
    assert_eq!(upgraded(&server, "/runs", &[own]), 200);
}

#[tokio::test]
async fn a_ticket_opens_one_stream_once_in_the_name_of_who_asked() {
    let folder = Folder::new();
    let (_, admin) = key(&folder, "--role admin");
    let (id, viewer) = key(&folder, "--role viewer");
    let (_, other) = key(&folder, "--role admin --tenant acme");
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let server = Server::start_with(&folder, "127.0.0.1:0", |command| {
        command.env("KAPELLE_LOG_LEVEL", "trace").stderr(log);
    });
    let (admin, viewer) = (server.client(Some(&admin)), server.client(Some(&viewer)));
    let (run, seen) = ended(&admin, &workflow(ONE)).await;
    let (second, _) = ended(&admin, &workflow(ONE)).await;
    let path = format!("/runs/{run}/events");
    let mut made = Vec::new();
    let mut ticket = async |client: &Client| {
        let ticket = client.stream_ticket(&run).await.unwrap();
        assert_eq!(ticket.path, path);
        made.push(ticket.ticket.clone());
        format!("{path}?ticket={}", ticket.ticket)
    };

    let opened = ticket(&viewer).await;
    assert_eq!(sent(&mut ask(&server, &opened, &[])).len(), seen.len());
    assert_eq!(status(&mut ask(&server, &opened, &[])), 401);
    let opened = ticket(&viewer).await;
    let (all, _) = frames(&mut websocket(&server, &format!("{opened}&after=1")));
    assert_eq!(ids(&all), seen[1..]);
    assert_eq!(upgraded(&server, &opened, &[]), 401);
    // For another run, or another route; and it is used up by that.
    for elsewhere in [format!("/runs/{second}/events"), format!("/runs/{run}"), "/runs".to_owned()]
    {
        let opened = ticket(&viewer).await;
        let (_, query) = opened.split_once('?').unwrap();
        assert_eq!(status(&mut ask(&server, &format!("{elsewhere}?{query}"), &[])), 401);
        assert_eq!(status(&mut ask(&server, &opened, &[])), 401);
    }
    // A run of somebody else is none, and a strange page gets in with no ticket.
    let foreign = server.client(Some(&other)).stream_ticket(&run).await.unwrap_err();
    assert_eq!(foreign.code(), Some("run_not_found"));
    let opened = ticket(&viewer).await;
    let strange = [("origin", "https://b.example")];
    assert_eq!(status(&mut ask(&server, &opened, &strange)), 403);
    // What the key opens no more its tickets do not open either.
    let opened = ticket(&viewer).await;
    admin.revoke_key(&id).await.unwrap();
    assert_eq!(status(&mut ask(&server, &opened, &[])), 401);
    assert_eq!(server.leave(), Some(0));
    assert_eq!(holding(folder.path(), &made), Vec::<std::path::PathBuf>::new());
}

/// Files below a folder that hold any of `secrets`.
fn holding(folder: &std::path::Path, secrets: &[String]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, secrets));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let has = |secret: &String| {
                bytes.windows(secret.len()).any(|piece| piece == secret.as_bytes())
            };
            if secrets.iter().any(has) {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn whoever_speaks_into_a_stream_is_told_and_closed_and_the_server_serves_on() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let run = server.client(None).submit(&workflow(GATE)).await.unwrap().id;
    let path = format!("/runs/{run}/events");
    let masked = |first: u8, text: &[u8]| {
        let mut frame = vec![first, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
        frame.extend(text);
        frame
    };
    let mut long = vec![0x81, 0xff];
    long.extend((1_u64 << 40).to_be_bytes());
    long.extend([0; 4]);
    let mut fragments = masked(0x01, &[b'x'; 120]);
    fragments.extend((0..100).flat_map(|_| masked(0x00, &[b'x'; 120])));
    let rows: [(&str, Vec<u8>, u16); 9] = [
        ("text", masked(0x81, b"hello"), 1008),
        ("binary", masked(0x82, &[0, 255]), 1008),
        ("no text", masked(0x81, &[0xff, 0xfe]), 1002),
        ("too long", long, 1002),
        ("without end", fragments, 1002),
        ("not masked", vec![0x81, 1, b'x'], 1002),
        ("reserved bits", masked(0xf1, b"x"), 1002),
        ("reserved kind", masked(0x83, b"x"), 1002),
        ("a long ping", [&[0x89, 0xfe, 0, 200, 0, 0, 0, 0][..], &[0; 200]].concat(), 1002),
    ];
    for (what, bytes, expected) in rows {
        let mut socket = websocket(&server, &path);
        socket.get_mut().write_all(&bytes).unwrap();
        let (_, code) = frames(&mut socket);
        assert_eq!(u16::from(code), expected, "{what}");
    }
    // Whoever leaves in the middle of a frame, or says that it does.
    websocket(&server, &path).get_mut().write_all(&[0x81]).unwrap();
    let mut polite = websocket(&server, &path);
    polite.close(None).unwrap();
    while polite.read().is_ok() {}
    assert_eq!(server.client(None).run(&run).await.unwrap().status, "waiting");
    assert_eq!(server.leave(), Some(0));
}

/// The events after one, over both kinds of streams, however often these are ended on the way.
fn rest_after(server: &Server, path: &str, mut after: u64) -> Vec<u64> {
    let mut rest = Vec::new();
    loop {
        let (told, code) = frames(&mut websocket(server, &format!("{path}?after={after}")));
        rest.extend(
            told.iter().filter(|frame| frame.event == "message").filter_map(|frame| frame.id),
        );
        if code == CloseCode::Normal {
            return rest;
        }
        after = rest.last().copied().unwrap_or(after);
        let again = [("last-event-id", &*after.to_string())];
        let told = sent(&mut ask(server, path, &again));
        rest.extend(told.iter().filter(|frame| frame.1 == "message").filter_map(|frame| frame.0));
        after = rest.last().copied().unwrap_or(after);
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_told_where_to_go_on_and_harms_nobody() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nheartbeat = \"50ms\"\nstream_patience = \"100ms\"\n");
    let server = Server::start(&folder);
    let client = server.client(None);
    // More than sockets keep.
    let tasks: Vec<_> = (0..1_500)
        .map(|n| format!("{{id: s{n}, agentName: echo, input: {{value: '{}'}}}}", "x".repeat(240)))
        .collect();
    let many = format!("{{id: many, tasks: [{}]}}", tasks.join(", "));
    let run = client.submit(&workflow(&many)).await.unwrap().id;
    let path = format!("/runs/{run}/events");
    let mut slow = ask(&server, &path, &[]);
    let mut slow_socket = websocket(&server, &path);
    // Others see it to its end meanwhile.
    let (mut events, mut seen) = (client.events(&run, 0), Vec::new());
    while let Some(event) = events.next().await {
        seen.extend(event.unwrap().seq);
    }
    let quiet = client.submit(&workflow(GATE)).await.unwrap().id;
    beats(&mut ask(&server, &format!("/runs/{quiet}/events"), &[]), 6);

    let told = sent(&mut slow);
    let (last, name, data) = told.last().unwrap();
    assert_eq!((&**name, &**data), ("lagged", &*format!("{{\"after\":{}}}", last.unwrap())));
    let mut got: Vec<u64> = told[..told.len() - 1].iter().filter_map(|frame| frame.0).collect();
    assert!(got.last() == last.as_ref() && got.len() < seen.len(), "{} events", got.len());
    got.extend(rest_after(&server, &path, last.unwrap()));
    assert_eq!(got, seen);

    let (told, code) = frames(&mut slow_socket);
    let (last, told) = told.split_last().unwrap();
    assert_eq!((&*last.event, code), ("lagged", CloseCode::Again));
    let mut got = ids(told);
    assert!(got.last() == last.id.as_ref() && got.len() < seen.len(), "{} events", got.len());
    got.extend(rest_after(&server, &path, last.id.unwrap()));
    assert_eq!(got, seen);
    assert_eq!(server.leave(), Some(0));
}

#[tokio::test]
async fn words_that_are_live_only_are_dropped_for_a_slow_reader_and_what_is_on_disk_is_told_once() {
    const WORDS: usize = 5_000;
    let folder = Folder::new();
    let server = Server::start(&folder);
    let client = server.client(None);
    let coder = NewAgent { name: "coder".to_owned(), ..NewAgent::default() };
    client.register_agent(&coder).await.unwrap();
    let two = "{id: two, tasks: [{id: a, agentName: coder, input: {}}, \
        {id: b, agentName: echo, input: {value: 1}, dependencies: [a]}]}";
    let run = client.submit(&workflow(two)).await.unwrap().id;
    let path = format!("/runs/{run}/events");
    let work = client.work("coder", &WorkQuery::default()).await.unwrap().unwrap();
    let (mut slow, mut slow_socket) = (ask(&server, &path, &[]), websocket(&server, &path));
    let word =
        |n: usize, len: usize| Beat { message: Some(format!("{n:0len$}")), ..Beat::default() };
    for n in 0..100 {
        client.heartbeat(&work.attempt, &word(n, 4_096)).await.unwrap();
    }
    let before = server.memory("VmRSS:");
    for n in 100..WORDS {
        client.heartbeat(&work.attempt, &word(n, 4_096)).await.unwrap();
    }
    let more = server.memory("VmHWM:").saturating_sub(before) / 1_024;
    println!("{more} MiB more for {} MiB of words", WORDS * 4 / 1_024);
    assert!(more < 12, "{more} MiB");
    let long = client.heartbeat(&work.attempt, &word(0, 4_097)).await.unwrap_err();
    assert_eq!(long.code(), Some("bad_body"), "{long}");
    let done = Completion { output: serde_json::json!(1), ..Completion::default() };
    client.complete(&work.attempt, &done).await.unwrap();
    let (mut events, mut all) = (client.events(&run, 0), Vec::new());
    while let Some(event) = events.next().await {
        all.extend(event.unwrap().seq);
    }
    let told = sent(&mut slow);
    let words = told.iter().filter(|(id, name, _)| id.is_none() && name == "message").count();
    assert!(words > 0 && words < WORDS / 2, "{words} of {WORDS}");
    let got: Vec<u64> =
        told.iter().filter(|frame| frame.1 == "message").filter_map(|frame| frame.0).collect();
    let after = got.last().unwrap();
    let rest = sent(&mut ask(&server, &path, &[("last-event-id", &after.to_string())]));
    let rest = rest.iter().filter_map(|frame| frame.0);
    assert_eq!(got.iter().copied().chain(rest).collect::<Vec<_>>(), all);

    // It may have been closed meanwhile: then it ends where it was.
    let mut told = Vec::<Frame>::new();
    while let Ok(message) = slow_socket.read() {
        if let Message::Text(text) = message {
            told.push(serde_json::from_str(&text).unwrap());
        }
    }
    let words = told.iter().filter(|frame| frame.id.is_none() && frame.event == "message").count();
    assert!(words > 0 && words < WORDS / 2, "{words} of {WORDS}");
    let got: Vec<u64> =
        told.iter().filter(|frame| frame.event == "message").filter_map(|frame| frame.id).collect();
    let again = format!("{path}?after={}", got.last().unwrap());
    let rest = ids(&frames(&mut websocket(&server, &again)).0);
    assert_eq!(got.into_iter().chain(rest).collect::<Vec<_>>(), all);
    assert_eq!(server.leave(), Some(0));
}
