//! The `web` agent in the real binary: pages that were read are not fetched again.

use serde_json::{Value as Json, json};

use crate::pages::Server;
use crate::support::Folder;

const PAGES: usize = 12;
/// How many are read before the process is killed.
const BEFORE: usize = 5;

#[test]
fn twelve_pages_killed_after_the_fifth_are_seven_more() {
    let words = "word, ".repeat(400);
    let page = |page| format!("<h1>Page {page}</h1><p>{words}</p>").into_bytes();
    let (server, folder) = (Server::start((1..=PAGES).map(page).collect()), Folder::new());
    server.hold_after(Some(BEFORE));
    let workflow = format!(
        "id: pages\ntasks:\n  - id: read\n    agentName: web\n    action: read\n    input: {{ urls: {} }}\n",
        serde_json::to_string(&server.urls()).unwrap()
    );
    folder.write("workflow.yaml", &workflow);
    folder.write("kapelle.toml", "[web]\ngap = \"0ms\"\n");
    let mut running = folder.start("run workflow.yaml --task-id t --json");
    for _ in 0..BEFORE {
        running.wait_for("effect_recorded", Some("read"));
    }
    running.crash();
    let before = server.asked();
    server.hold_after(None);

    let last = folder.run("runs resume t --json --wait").expect(0).last();
    assert_eq!(last["verdict"], "completed", "{last}");
    for (at, (after, before)) in server.asked().iter().zip(&before).enumerate() {
        assert_eq!(after - before, u32::from(at >= BEFORE), "page {}: {before:?}", at + 1);
    }
    let store = folder.path().join(".kapelle");
    let journal = std::fs::metadata(store.join("kapelle.db")).unwrap().len();
    assert!(journal < 4 << 20, "{journal} bytes");
}

#[test]
fn credentials_of_an_address_are_nowhere() {
    const CANARY: &str = "canary-7f3a";
    let (server, folder) = (Server::start(vec![b"<p>A page.".to_vec()]), Folder::new());
    folder.write("there.html", "<p>here");
    let task = |id, urls: Json| {
        json!({"id": id, "agentName": "web", "action": "read", "onFailure": "continue",
        "input": {"urls": urls, "partial": true}})
    };
    let tasks = [task("some", json!("{{ inputs.some }}")), task("bad", json!("{{ inputs.bad }}"))];
    let inputs = json!({"some": {"type": "array"}, "bad": {"type": "array"}});
    folder.write("x.json", &json!({"id": "x", "inputs": inputs, "tasks": tasks}).to_string());
    let secret = |rest: &str| format!("http://me:{CANARY}@{rest}");
    let there = secret(server.urls()[0].trim_start_matches("http://"));
    let inputs = json!({
        "some": [there, "there.html"], "bad": [secret("127.0.0.1:99999/"), "there.html"]
    });
    folder.write("inputs.json", &inputs.to_string());

    let done = folder.run("run x.json --inputs inputs.json --json").expect(0);
    assert!(done.out.contains("there.html"), "{}", done.out);
    assert!(!(done.out.clone() + &done.err).contains(CANARY), "{}", done.out);
    let run = done.last()["run"].as_str().unwrap().to_owned();
    let open = server.urls()[0].as_str().to_owned();
    let shown = folder.run(&format!("runs show {run} --json")).expect(0).json();
    assert_eq!(shown["steps"][0]["output"]["failed"][0]["url"], open, "{shown}");
    // A run keeps what it was given; it is not told.
    assert_eq!(shown["inputs"]["some"], json!([open, "there.html"]));
    assert!(!shown.to_string().contains(CANARY), "{shown}");
    let other = json!({"some": [secret("other/"), "there.html"], "bad": ["there.html"]});
    folder.write("other.json", &other.to_string());
    let other = folder.run("run x.json --inputs other.json --json").expect(0).last();
    let other = other["run"].as_str().unwrap();
    let differs = folder.run(&format!("runs diff {run} {other} --json")).expect(0);
    assert!(differs.out.contains("http://other/") && !differs.out.contains(CANARY), "{differs:?}");
    let plain = folder.run("run x.json --inputs inputs.json").expect(0);
    let why = folder.run(&format!("why {run} bad")).expect(0);
    for told in [plain.out, plain.err, why.out, why.err] {
        assert!(!told.contains(CANARY), "{told}");
    }
    assert_eq!(server.asked(), [0]);
}
