//! What a server writes down about those who ask, and how it bears those who mean no good.

use kapelle_api::{NewRun, RunsQuery};
use serde_json::Value as Json;

use crate::serve::Server;
use crate::support::Folder;

const ONE: &str = "{id: one, tasks: [{id: a, agentName: echo, input: {value: 1}}]}";

fn one() -> NewRun {
    NewRun { workflow: Some(ONE.to_owned()), ..NewRun::default() }
}

fn key(folder: &Folder, args: &str) -> String {
    let made = folder.run(&format!("keys create --json {args}")).expect(0).json();
    made["key"].as_str().unwrap().to_owned()
}

/// The whole audit log of the owner's tenant, oldest first.
fn noted(folder: &Folder) -> Vec<Json> {
    let mut entries = folder.run("audit list --json --limit 5000").expect(0).events();
    entries.reverse();
    entries
}

/// Entries that say all that `wanted` says.
fn like(entries: &[Json], wanted: &Json) -> usize {
    let fits = |entry: &&Json| wanted.as_object().unwrap().iter().all(|(k, v)| entry[k] == *v);
    entries.iter().filter(fits).count()
}

#[tokio::test]
async fn whoever_changes_something_or_is_refused_stands_in_the_audit_log() {
    let folder = Folder::new();
    // Nobody is told to wait, however fast this asks.
    folder.write("kapelle.toml", "[server]\nunknown_per_second = 0\n");
    let server = Server::start(&folder);
    let (admin, viewer, theirs) = (
        key(&folder, "--name root --role admin"),
        key(&folder, "--name eye --role viewer"),
        key(&folder, "--name other --role admin --tenant acme"),
    );
    let (admin, viewer) = (server.client(Some(&admin)), server.client(Some(&viewer)));
    let theirs = server.client(Some(&theirs));
    let run = admin.submit(&one()).await.unwrap().id;
    admin.cancel(&run, &kapelle_api::Wish::default()).await.ok();
    for _ in 0..3 {
        viewer.runs(&RunsQuery::default()).await.unwrap();
    }
    viewer.submit(&one()).await.unwrap_err();
    theirs.submit(&one()).await.unwrap();
    let nobody = server.client(None);
    for _ in 0..150 {
        nobody.runs(&RunsQuery::default()).await.unwrap_err();
    }
    // A tenant sees what is its own.
    let page = theirs.audit(1_000, None).await.unwrap();
    assert_eq!(page.items.len(), 1, "{page:?}");
    assert_eq!(page.items[0].route.as_deref(), Some("/runs"));
    assert_eq!(viewer.audit(10, None).await.unwrap_err().code(), Some("not_permitted"));
    let first = admin.audit(2, None).await.unwrap();
    let next = admin.audit(1, first.next_cursor.as_deref()).await.unwrap();
    assert!(first.items[1].seq > next.items[0].seq);
    assert_eq!(server.leave(), Some(0));

    let entries = noted(&folder);
    let made = serde_json::json!({ "route": "/runs", "method": "POST", "status": 201, "peer": "127.0.0.1",
        "permission": "task.submit", "about": { "made": run } });
    assert_eq!(like(&entries, &made), 1, "{entries:#?}");
    let cancelled = entries.iter().find(|entry| entry["route"] == "/runs/{run}/cancel").unwrap();
    assert_eq!(cancelled["about"]["run"], Json::String(run));
    let keys = serde_json::json!({ "route": "/keys", "who": "owner", "status": 201 });
    assert_eq!(like(&entries, &keys), 3, "{entries:#?}");
    let refused = serde_json::json!({ "status": 403, "code": "not_permitted", "route": "/runs" });
    assert_eq!(like(&entries, &refused), 1, "{entries:#?}");
    // Reads are counted, and so is a flood.
    let reads = entries.iter().filter(|entry| entry["reads"] == 3);
    assert!(reads.filter(|entry| entry["who"].as_str().unwrap().contains("(eye)")).count() == 1);
    let alone = serde_json::json!({ "status": 401, "who": "nobody", "peer": "127.0.0.1" });
    assert_eq!(like(&entries, &alone), 100);
    let flood = serde_json::json!({ "refused": 50, "who": "nobody", "peer": "127.0.0.1" });
    assert_eq!(like(&entries, &flood), 1, "{entries:#?}");
    folder.run("audit verify").expect(0);
}

/// Changes a store's database as anybody can who has the file.
fn tamper(folder: &Folder, sql: &str) {
    let file = folder.path().join(".kapelle/kapelle.db");
    rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn an_audit_log_that_was_tampered_with_is_named() {
    let folder = Folder::new();
    for n in 0..5 {
        key(&folder, &format!("--name k{n} --role viewer"));
    }
    let end = folder.run("audit verify").expect(0).out;
    let (count, _) = end.trim().split_once(':').unwrap();
    assert_eq!(count, "5");
    folder.run(&format!("audit verify --kept {}", end.trim())).expect(0);
    let other = format!("5:{}", "0".repeat(64));
    let told = folder.run(&format!("audit verify --kept {other}")).expect(6);
    assert!(told.err.contains("entry 5 is not the one"), "{}", told.err);
    folder.run("audit verify --kept 5:xyz").expect(2);
    tamper(&folder, "UPDATE audit SET body = replace(body, 'owner', 'ghost') WHERE seq = 3");
    let told = folder.run("audit verify").expect(6);
    assert!(told.err.contains("audit entry 3"), "{}", told.err);
    let json = folder.run("audit verify --json").code;
    assert_eq!(json, 6);
}

#[test]
fn an_audit_log_whose_end_was_cut_off_is_named() {
    let folder = Folder::new();
    for n in 0..3 {
        key(&folder, &format!("--name k{n} --role viewer"));
    }
    tamper(&folder, "DELETE FROM audit WHERE seq = 3");
    let told = folder.run("audit verify").expect(6);
    assert!(told.err.contains("audit"), "{}", told.err);
    // Nor is such a store gone on with.
    let told = folder.run("keys list").expect(6);
    assert!(told.err.contains("the audit log ends with entry 2 of 3"), "{}", told.err);
}

#[tokio::test]
async fn a_server_takes_tokens_of_its_issuer() {
    let folder = Folder::new();
    let secret = "this is known to two alone, and has 32 bytes";
    folder.write("secret", secret);
    let jwt = "[jwt]\nissuer = \"us\"\naudience = \"kapelle\"\nsecret_file = \"secret\"\n";
    folder.write("kapelle.toml", jwt);
    let server = Server::start(&folder);
    let token = |roles: &str, tenant: &str| {
        use base64::Engine as _;
        let base64url =
            |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let claims = serde_json::json!({ "iss": "us", "aud": "kapelle", "sub": "u-1", "exp": 9e9,
            "roles": roles, "tenant": tenant });
        let message = [r#"{"alg":"HS256"}"#.to_owned(), claims.to_string()];
        let message = message.map(|part| base64url(part.as_bytes())).join(".");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let signed = ring::hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", base64url(signed.as_ref()))
    };
    let ours = server.client(Some(&token("submitter", "acme")));
    let run = ours.submit(&one()).await.unwrap().id;
    assert_eq!(ours.keys().await.unwrap_err().code(), Some("not_permitted"));
    let theirs = server.client(Some(&token("admin", "other")));
    assert_eq!(theirs.run(&run).await.unwrap_err().code(), Some("run_not_found"));
    let nobody = server.client(None).runs(&RunsQuery::default()).await.unwrap_err();
    assert_eq!(nobody.code(), Some("unauthenticated"));
    let page = server.client(Some(&token("admin", "acme"))).audit(10, None).await.unwrap();
    assert_eq!(page.items[0].who, "token acme/u-1", "{page:?}");
    for (config, what) in [
        ("[jwt]\nissuer = \"us\"\n", "`jwt.audience`"),
        ("[jwt]\nissuer = \"us\"\naudience = \"x\"\n", "`jwt.jwks_file`"),
        (
            "[jwt]\nissuer = \"us\"\naudience = \"x\"\njwks_file = \"none\"\n",
            "`jwt.jwks_file`: `none`",
        ),
    ] {
        folder.write("bad.toml", config);
        let refused = folder.run("--config bad.toml serve --listen 127.0.0.1:0").expect(3);
        assert!(refused.err.contains(what), "{}", refused.err);
    }
}
