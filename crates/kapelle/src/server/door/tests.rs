//! Who gets in where: the table of routes tried with every role, and what comes before it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use kapelle_core::{Tenant, Timestamp};
use tower::ServiceExt as _;

use super::guard::Guard;
use super::keys::Key;
use super::limits::{Limits, Rates};
use super::permission::{Permission, Permissions, ROLES};
use crate::node::{Node, Place, Reachable, Setup};
use crate::server::{guarded, routes};

/// A node in memory, and a door to it at `at`.
async fn door(at: &str, open: bool) -> (Node, Router) {
    door_on(Place::Memory, at, open).await
}

async fn door_on(place: Place, at: &str, open: bool) -> (Node, Router) {
    let node = Node::open(Setup::plain(place, Reachable::No)).await.unwrap();
    let (keys, audit) = (node.app.keys().clone(), node.app.audit().clone());
    let tickets = node.app.tickets().clone();
    let at = at.parse().unwrap();
    let limits = Arc::new(Limits::new(Rates { requests: 0, control: 0, unknown: 0 }));
    let (hosts, origins) = (vec!["box.example".to_owned()], vec!["https://a.example".to_owned()]);
    let router = guarded(
        node.app.clone(),
        Arc::new(Guard { keys, tickets, tokens: None, audit, at, hosts, origins, limits, open }),
    );
    (node, router)
}

async fn key(node: &Node, tenant: &str, roles: &[&str]) -> String {
    let roles = roles.iter().map(|role| (*role).into()).collect();
    let tenant = Tenant::new(tenant);
    let like = Key { name: "k".into(), tenant, roles, ..Key::made_at(Timestamp(0)) };
    node.app.keys().create(like).await.unwrap().1
}

fn request(method: &axum::http::Method, path: &str, key: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    request.body(Body::empty()).unwrap()
}

async fn status(router: &Router, request: Request<Body>) -> StatusCode {
    router.clone().oneshot(request).await.unwrap().status()
}

/// Whether it is refused for want of a permission.
async fn is_refused(router: &Router, request: Request<Body>) -> bool {
    let answer = router.clone().oneshot(request).await.unwrap();
    if answer.status() != StatusCode::FORBIDDEN {
        return false;
    }
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice::<kapelle_api::Problem>(&body).unwrap().code == "not_permitted"
}

#[tokio::test]
async fn every_route_lets_in_whom_the_table_says_and_nobody_else() {
    let (node, router) = door("127.0.0.1:4700", false).await;
    let mut tried = 0;
    for (role, permits) in ROLES {
        let key = key(&node, "acme", &[role]).await;
        for route in routes::routes() {
            let path = route.path.replace(['{', '}'], "");
            let refused = is_refused(&router, request(&route.method, &path, Some(&key))).await;
            let nobody = status(&router, request(&route.method, &path, None)).await;
            let may = route.needs.is_none_or(|needs| permits.contains(&needs));
            let (method, path) = (&route.method, route.path);
            assert_eq!(refused, !may, "{role} {method} {path}");
            let unknown = nobody == StatusCode::UNAUTHORIZED;
            assert_eq!(unknown, route.needs.is_some(), "{method} {path}: {nobody}");
            tried += 2;
        }
    }
    println!("{tried} cases");
    // What is not there is not told to those who are not known.
    for path in
        ["/runs/", "//runs", "/RUNS", "/runs%2f", "/x/healthz", "/runs/../healthz", "/readyz/"]
    {
        let nobody = status(&router, request(&axum::http::Method::GET, path, None)).await;
        assert_eq!(nobody, StatusCode::UNAUTHORIZED, "{path}");
    }
    node.close(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn without_keys_only_this_machine_comes_in_and_may_run_no_commands() {
    let get = || request(&axum::http::Method::GET, "/runs", None);
    let admin = || request(&axum::http::Method::GET, "/keys", None);
    let (near, router) = door("127.0.0.1:4700", false).await;
    assert_eq!(status(&router, get()).await, StatusCode::OK);
    assert_eq!(status(&router, admin()).await, StatusCode::FORBIDDEN);
    key(&near, "default", &["viewer"]).await;
    assert_eq!(status(&router, get()).await, StatusCode::UNAUTHORIZED);
    let (far, router) = door("10.0.0.1:4700", false).await;
    assert_eq!(status(&router, get()).await, StatusCode::UNAUTHORIZED);
    let (open, router) = door("10.0.0.1:4700", true).await;
    assert_eq!(status(&router, get()).await, StatusCode::OK);
    let submitter = Permissions::of_roles(["operator"].into_iter()).unwrap();
    assert!(!submitter.has(Permission::ProcessRun) && !submitter.has(Permission::SystemAdmin));
    for node in [near, far, open] {
        node.close(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn only_known_hosts_and_origins_are_answered() {
    let (node, router) = door("127.0.0.1:4700", false).await;
    let asked = async |host: &str, origin: Option<&str>| {
        let mut asked = Request::builder().uri("/runs").header(header::HOST, host);
        if let Some(origin) = origin {
            asked = asked.header(header::ORIGIN, origin);
        }
        status(&router, asked.body(Body::empty()).unwrap()).await
    };
    for known in ["localhost", "LOCALHOST:4700", "127.0.0.1:4700", "[::1]:4700", "box.example"] {
        assert_eq!(asked(known, None).await, StatusCode::OK, "{known}");
    }
    for strange in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", ""] {
        assert_eq!(asked(strange, None).await, StatusCode::MISDIRECTED_REQUEST, "{strange}");
    }
    assert_eq!(asked("localhost", Some("https://a.example")).await, StatusCode::OK);
    for strange in ["https://b.example", "http://a.example", "null", "https://a.example.evil"] {
        assert_eq!(asked("localhost", Some(strange)).await, StatusCode::FORBIDDEN, "{strange}");
    }
    node.close(Duration::ZERO).await.unwrap();
}

/// How it is asked: for JSON, for a stream, or to go on as a WebSocket.
const WAYS: [&str; 3] = ["application/json", "text/event-stream", "websocket"];

/// What a handshake says, beside what every request says.
const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
];

/// Makes a request one that goes on as a WebSocket where its route has one.
fn upgrading(asked: &mut Request<Body>) {
    for (name, value) in HANDSHAKE {
        asked.headers_mut().insert(name, value.parse().unwrap());
    }
    // As of a connection, though there is none to go on with.
    let upgrade = hyper::upgrade::on(Request::new(()));
    asked.extensions_mut().insert(upgrade);
}

/// A body that a route takes, so that what it is about is looked for.
fn body_for(path: &str) -> &'static str {
    match path.rsplit('/').next() {
        Some("fork") => r#"{"from":"a"}"#,
        Some("resolve") => r#"{"action":"retry"}"#,
        Some("answer") => r#"{"answer":"x"}"#,
        Some("budget") => r#"{"tokens":1}"#,
        _ if path.contains("/approvals/") => r#"{"decision":"approve"}"#,
        _ => "{}",
    }
}

/// How a request is answered: the status, and the first piece of the body.
async fn told(
    router: &Router,
    (method, path, body): (&axum::http::Method, &str, &str),
    (key, way): (Option<&str>, &str),
) -> (StatusCode, String) {
    let mut asked = request(method, path, key);
    if way == "websocket" {
        upgrading(&mut asked);
    } else {
        asked.headers_mut().insert(header::ACCEPT, way.parse().unwrap());
    }
    *asked.body_mut() = Body::from(body.to_owned());
    let answer = router.clone().oneshot(asked).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 22).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Documented and not enforced (Windmill CVE-2026-22683), or enforced for one name of a thing and not for another
/// (Temporal CVE-2026-5199): the table itself is tried.
#[tokio::test]
async fn what_is_another_tenants_is_as_if_it_had_never_been() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("store"));
    let (node, router) = door_on(place, "127.0.0.1:4700", false).await;
    let (post, get) = (axum::http::Method::POST, axum::http::Method::GET);
    let ours = key(&node, "acme", &["admin"]).await;
    let text = r#"{"workflow":"{id: one, tasks: [{id: a, agentName: echo, input: {value: 1}}]}"}"#;
    let made = told(&router, (&post, "/runs", text), (Some(&ours), WAYS[0])).await;
    assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    let run = serde_json::from_str::<serde_json::Value>(&made.1).unwrap();
    let run = run["id"].as_str().unwrap().to_owned();
    // Its stream ends with it.
    let events = format!("/runs/{run}/events");
    assert_eq!(told(&router, (&get, &events, ""), (Some(&ours), WAYS[1])).await.0, StatusCode::OK);
    let key_id = ours.split('_').nth(1).unwrap().to_owned();
    let missing = format!("{}000000000000", &run[..run.len() - 12]);
    let at = |path: &str, run: &str, key: &str| {
        let path = path.replace("{run}", run).replace("{other}", run).replace("{key}", key);
        path.replace("{step}", "a").replace(['{', '}'], "")
    };
    let own = crate::server::router(node.app.clone());
    let mut tried = 0;
    for (role, permits) in ROLES {
        let theirs = key(&node, "other", &[role]).await;
        for route in routes::routes() {
            let (method, may) = (&route.method, route.needs.is_none_or(|of| permits.contains(&of)));
            let body = if *method == get { "" } else { body_for(route.path) };
            let (path, none) =
                (at(route.path, &run, &key_id), at(route.path, &missing, "AAAAAAAA"));
            if path == none && *method != get {
                continue;
            }
            for (door, shown) in [(&router, Some(&*theirs)), (&own, None)] {
                for way in WAYS {
                    let asked = told(door, (method, &path, body), (shown, way)).await;
                    let (status, said) = &asked;
                    let case = format!("{role} {way} {method} {path}: {status} {said}");
                    tried += 1;
                    if route.path == "/audit" {
                        // It says what they asked for themselves, and not what others made.
                        assert!(!said.contains("\"made\""), "{case}");
                        continue;
                    }
                    if path == none {
                        assert!(!said.contains(&run) && !said.contains(&key_id), "{case}");
                        continue;
                    }
                    let never = told(door, (method, &none, body), (shown, way)).await;
                    let same = said.replace(&run, &missing).replace(&key_id, "AAAAAAAA");
                    assert_eq!((*status, same), never, "{case}");
                    let hidden = if may || shown.is_none() { 404 } else { 403 };
                    assert_eq!(status.as_u16(), hidden, "{case}");
                }
            }
        }
    }
    // Whose it is finds it, and so does a WebSocket.
    let opened = told(&router, (&get, &events, ""), (Some(&ours), WAYS[2])).await;
    assert_eq!(opened.0, StatusCode::SWITCHING_PROTOCOLS, "{}", opened.1);
    for path in ["", "/events", "/why", "/bill", "/artifacts", "/steps/a/why"] {
        let path = format!("/runs/{run}{path}");
        let found = told(&router, (&get, &path, ""), (Some(&ours), WAYS[0]));
        assert_eq!(found.await.0, StatusCode::OK, "{path}");
    }
    println!("{tried} cases");
    assert!(tried > 500, "{tried}");
    node.close(Duration::ZERO).await.unwrap();
}

/// Prefect CVE-2026-7723: a WebSocket without what every other request needs.
#[tokio::test]
async fn every_stream_opens_as_a_websocket_to_whom_the_table_says_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("store"));
    let (node, router) = door_on(place, "127.0.0.1:4700", false).await;
    let (post, get) = (axum::http::Method::POST, axum::http::Method::GET);
    let maker = key(&node, "acme", &["admin"]).await;
    let text = r#"{"workflow":"{id: gate, tasks: [{id: a, approval: {}}]}"}"#;
    let made = told(&router, (&post, "/runs", text), (Some(&maker), WAYS[0])).await;
    let run = serde_json::from_str::<serde_json::Value>(&made.1).unwrap();
    let run = run["id"].as_str().unwrap().to_owned();
    let missing = format!("{}000000000000", &run[..run.len() - 12]);
    let mut keys = vec![(None, None)];
    for (role, permits) in ROLES {
        for tenant in ["acme", "other"] {
            keys.push((Some(key(&node, tenant, &[role]).await), Some((tenant, permits))));
        }
    }
    let streams: Vec<_> = routes::routes().into_iter().filter(|route| route.stays()).collect();
    assert_eq!(streams.len(), 2, "events, and work");
    let mut tried = 0;
    for route in &streams {
        for (shown, who) in &keys {
            for id in [&run, &missing] {
                let path = route.path.replace("{run}", id).replace("{name}", "none");
                let may = |(_, permits): &(&str, &[Permission])| {
                    route.needs.is_some_and(|needs| permits.contains(&needs))
                };
                let is_there =
                    path.contains(&run) && who.is_some_and(|(tenant, _)| tenant == "acme");
                let expected = match who {
                    None => StatusCode::UNAUTHORIZED,
                    Some(who) if !may(who) => StatusCode::FORBIDDEN,
                    Some(_) if is_there => StatusCode::SWITCHING_PROTOCOLS,
                    Some(_) => StatusCode::NOT_FOUND,
                };
                let (status, said) =
                    told(&router, (&get, &path, ""), (shown.as_deref(), WAYS[2])).await;
                let tenant = who.map(|(tenant, _)| tenant);
                assert_eq!(status, expected, "{tenant:?} {path}: {said}");
                tried += 1;
            }
        }
    }
    println!("{tried} cases");
    assert_eq!(tried, 2 * 2 * (1 + 2 * ROLES.len()));
    node.close(Duration::ZERO).await.unwrap();
}
