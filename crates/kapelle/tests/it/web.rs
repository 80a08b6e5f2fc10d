//! The `web` agent in the real binary: pages that were read are not fetched again.

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
