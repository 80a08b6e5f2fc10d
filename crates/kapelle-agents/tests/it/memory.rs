//! The `memory` agent against real files: once, found, over, forgotten, refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use kapelle_agents::contract;
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::memory::{Memory, Settings};
use kapelle_core::port::agent::{Agent, Failure, FailureKind};
use kapelle_core::{Attempt, Json, Tenant, Timestamp};
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;

/// A file, an agent on it, and the time it goes by.
struct Kept {
    folder: tempfile::TempDir,
    agent: Arc<dyn Agent>,
    now: Arc<AtomicI64>,
}

const SECOND: i64 = 1_000_000;

fn agent_on(file: PathBuf, now: &Arc<AtomicI64>, entries_max: u32) -> Arc<dyn Agent> {
    let now = Arc::clone(now);
    let clock = Arc::new(move || Timestamp(now.load(Ordering::Relaxed)));
    Arc::new(Memory::with_clock(Settings { file: Some(file), entries_max }, clock))
}

impl Kept {
    fn new() -> Self {
        Self::with_max(1000)
    }

    fn with_max(entries_max: u32) -> Self {
        let (folder, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(SECOND)));
        let agent = agent_on(folder.path().join("memory.db"), &now, entries_max);
        Self { folder, agent, now }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("memory.db")
    }

    /// Stores under the key of a step of its own.
    async fn store(&self, step: &str, input: Json) -> Result<Json, Failure> {
        perform(&self.agent, "store", step, input).await
    }

    async fn retrieve(&self, input: Json) -> Vec<Json> {
        let answer = contract::answers_as_it_says(&self.agent, "retrieve", input).await;
        answer.value["entries"].as_array().unwrap().clone()
    }

    /// The texts that are found.
    async fn texts(&self, input: Json) -> Vec<String> {
        texts(&self.retrieve(input).await)
    }
}

async fn perform(
    agent: &Arc<dyn Agent>,
    action: &str,
    step: &str,
    input: Json,
) -> Result<Json, Failure> {
    let desk = ScratchDesk::new().unwrap();
    let mut call = contract::call(action, input, "/");
    (call.step, call.key) = (step.parse().unwrap(), format!("run/{step}/0/1").into());
    agent.perform(call, &desk).await.map(|answer| answer.value)
}

fn texts(entries: &[Json]) -> Vec<String> {
    entries.iter().map(|entry| entry["text"].as_str().unwrap().to_owned()).collect()
}

fn rows(file: &Path, table: &str) -> i64 {
    let conn = Connection::open(file).unwrap();
    conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

const NOTES: [&str; 6] = [
    "The default port of the server is 8080.",
    "Retries wait twice as long each time, up to a minute.",
    "Certificates are renewed thirty days before they expire.",
    "Die Sicherungen liegen in einem eigenen Verzeichnis.",
    "接続のタイムアウトは三十秒です。",
    "Backups are written every night at three.",
];

async fn with_notes() -> Kept {
    let kept = Kept::new();
    let entries: Vec<_> = NOTES.iter().map(|text| json!({"text": text})).collect();
    kept.store("notes", json!({"entries": entries})).await.unwrap();
    kept
}

#[tokio::test]
async fn a_word_and_a_near_spelling_both_find_what_was_stored() {
    let kept = with_notes().await;
    let found = kept.retrieve(json!({"query": "which ports does the server use"})).await;
    assert_eq!(found[0]["text"], NOTES[0]);
    assert_eq!(found[0]["matched"], json!(["words", "vector"]), "{found:?}");

    let near = kept.retrieve(json!({"query": "certifcates renewel"})).await;
    assert_eq!((&near[0]["text"], &near[0]["matched"]), (&json!(NOTES[2]), &json!(["vector"])));

    // Both in one: a word of one entry, a slip in what another one is about.
    let both = kept.texts(json!({"query": "backups, certifcates"})).await;
    assert!(both.contains(&NOTES[5].to_owned()) && both.contains(&NOTES[2].to_owned()), "{both:?}");
    assert_eq!(kept.texts(json!({"query": "zebra"})).await, Vec::<String>::new());
}

#[tokio::test]
async fn each_language_is_searched_by_its_own_stems() {
    let kept = with_notes().await;
    assert_eq!(kept.texts(json!({"query": "Sicherung", "top": 1})).await, [NOTES[3]]);
    assert_eq!(kept.texts(json!({"query": "タイムアウト", "top": 1})).await, [NOTES[4]]);
}

#[tokio::test]
async fn what_another_process_changes_is_seen_by_the_next_search() {
    let kept = with_notes().await;
    let other = agent_on(kept.file(), &kept.now, 1000);
    let slip = json!({"query": "certifcates renewel"});
    assert_eq!(kept.texts(slip.clone()).await.len(), 1);
    let text = json!({"text": "Certificates of clients are not renewed."});
    let ids = perform(&other, "store", "b", text).await.unwrap()["ids"].clone();
    assert_eq!(kept.texts(slip.clone()).await.len(), 2);
    perform(&other, "forget", "c", json!({"ids": ids})).await.unwrap();
    assert_eq!(kept.texts(slip.clone()).await, [NOTES[2]]);
    perform(&other, "forget", "d", json!({"all": true})).await.unwrap();
    perform(&other, "store", "e", json!({"text": "Certificate renewal is automatic."}))
        .await
        .unwrap();
    assert_eq!(kept.texts(slip).await, ["Certificate renewal is automatic."]);
}

#[tokio::test]
async fn more_entries_than_a_block_of_vectors_are_each_found() {
    let kept = Kept::new();
    let texts: Vec<_> = (0..200).map(|n| json!({"text": format!("item{n:03}unique")})).collect();
    kept.store("a", json!({"entries": texts})).await.unwrap();
    for n in [0, 63, 64, 127, 128, 199] {
        let found = kept.retrieve(json!({"query": format!("item{n:03}uniqe"), "top": 1})).await;
        assert_eq!(found[0]["text"], format!("item{n:03}unique"));
        assert_eq!(found[0]["matched"], json!(["vector"]));
    }
}

#[tokio::test]
async fn without_a_query_the_newest_come_first() {
    let kept = with_notes().await;
    assert_eq!(kept.texts(json!({"top": 2})).await, [NOTES[5], NOTES[4]]);
}

#[tokio::test]
async fn a_step_that_is_tried_again_stores_once() {
    let kept = Kept::new();
    let first = kept.store("a", json!({"entries": [{"text": "x"}, {"text": "x"}]})).await.unwrap();
    for _ in 0..3 {
        let again = kept.store("a", json!({"entries": [{"text": "x"}, {"text": "x"}]})).await;
        assert_eq!(again.unwrap(), first);
    }
    let desk = ScratchDesk::new().unwrap();
    let mut call = contract::call("store", json!({"entries": [{"text": "x"}, {"text": "x"}]}), "/");
    (call.key, call.attempt) = ("run/a/0/1".into(), Attempt(7));
    assert_eq!(kept.agent.perform(call, &desk).await.unwrap().value, first);
    assert_eq!(rows(&kept.file(), "entry"), 2);
    assert_eq!(rows(&kept.file(), "vector"), 2);
    kept.store("b", json!({"text": "x"})).await.unwrap();
    assert_eq!(rows(&kept.file(), "entry"), 3);
}

#[tokio::test]
async fn equal_texts_are_told_once() {
    let kept = Kept::new();
    for step in ["a", "b", "c"] {
        kept.store(step, json!({"text": "The port is 8080."})).await.unwrap();
    }
    kept.store("d", json!({"text": "The port is 8080.", "source": "notes.md"})).await.unwrap();
    let found = kept.retrieve(json!({"query": "port"})).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[1]["step"], "c", "the newest of equals");
}

#[tokio::test]
async fn an_entry_is_over_when_its_time_is_and_its_rows_go() {
    let kept = Kept::new();
    kept.store("a", json!({"text": "the port is 1", "ttl": "10s"})).await.unwrap();
    kept.store("b", json!({"text": "the port is 2", "ttl": 20_000})).await.unwrap();
    kept.store("c", json!({"text": "the port is 3", "namespace": "other", "ttl": 1}))
        .await
        .unwrap();
    kept.now.store(11 * SECOND - 1, Ordering::Relaxed);
    assert_eq!(kept.texts(json!({"query": "port"})).await.len(), 2);
    kept.now.store(11 * SECOND, Ordering::Relaxed);
    assert_eq!(kept.texts(json!({"query": "port"})).await, ["the port is 2"]);
    assert_eq!(kept.texts(json!({})).await, ["the port is 2"]);

    kept.now.store(30 * SECOND, Ordering::Relaxed);
    kept.store("d", json!({"text": "unlike", "namespace": "third"})).await.unwrap();
    for table in ["entry", "vector", "words", "space", "language"] {
        assert_eq!(rows(&kept.file(), table), 1, "{table}");
    }
    let conn = Connection::open(kept.file()).unwrap();
    let found = "SELECT count(*) FROM words WHERE words MATCH 'stems: port'";
    assert_eq!(conn.query_row(found, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn who_wrote_it_and_whose_words_they_are_is_told_and_asked_for() {
    let kept = Kept::new();
    let page = json!({"text": "The port is 1.", "url": "http://a.example/", "title": "Ports",
        "start": 3, "score": 0.5});
    kept.store("read", json!({"entries": [page], "ttl": "1h"})).await.unwrap();
    kept.store("say", json!({"text": "The port is 2.", "trust": "user"})).await.unwrap();
    let found = kept.retrieve(json!({"query": "port", "trust": "agent"})).await;
    assert_eq!((found.len(), &found[0]["trust"]), (1, &json!("user")));

    let found = kept.retrieve(json!({"query": "ports"})).await;
    let read = found.iter().find(|entry| entry["step"] == "read").unwrap();
    assert_eq!((&read["source"], &read["title"]), (&json!("http://a.example/"), &json!("Ports")));
    assert_eq!((&read["trust"], &read["workflow"]), (&json!("web"), &json!("contract")));
    assert_eq!(read["run"], contract::call("store", json!({}), "/").run.to_string());
    assert_eq!(read["at"], "1970-01-01T00:00:01.000000Z");
    assert_eq!(read["expires"], "1970-01-01T01:00:01.000000Z");
}

#[tokio::test]
async fn namespaces_and_tenants_know_nothing_of_each_other() {
    let kept = Kept::new();
    kept.store("a", json!({"text": "the port is 1"})).await.unwrap();
    kept.store("b", json!({"text": "the port is 2", "namespace": "shared"})).await.unwrap();
    let mut call = contract::call("retrieve", json!({"query": "port"}), "/");
    assert_eq!(kept.texts(json!({"query": "port"})).await, ["the port is 1"]);
    assert_eq!(kept.texts(json!({"namespace": "contract"})).await, ["the port is 1"]);
    assert_eq!(
        kept.texts(json!({"query": "port", "namespace": "shared"})).await,
        ["the port is 2"]
    );

    call.tenant = Tenant::new("stranger");
    let desk = ScratchDesk::new().unwrap();
    let strange = kept.agent.perform(call, &desk).await.unwrap().value;
    assert_eq!((&strange["entries"], &strange["of"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn what_is_forgotten_is_gone() {
    let kept = Kept::new();
    let entries = json!([
        {"text": "port one", "source": "x"}, {"text": "port two"}, {"text": "port three"}
    ]);
    let stored = kept.store("a", json!({"entries": entries})).await.unwrap();
    kept.store("b", json!({"text": "port four", "namespace": "other"})).await.unwrap();
    let forget = async |input: Json| {
        let answer = contract::answers_as_it_says(&kept.agent, "forget", input).await;
        answer.value["forgotten"].as_i64().unwrap()
    };
    assert_eq!(forget(json!({"ids": [stored["ids"][1]], "namespace": "other"})).await, 0);
    assert_eq!(forget(json!({"ids": [stored["ids"][1], 999]})).await, 1);
    assert_eq!(forget(json!({"source": "x"})).await, 1);
    assert_eq!(kept.texts(json!({"query": "port"})).await, ["port three"]);
    assert_eq!(forget(json!({"run": "somebody else"})).await, 0);
    let run = contract::call("forget", json!({}), "/").run.to_string();
    assert_eq!(forget(json!({"run": run})).await, 1);
    assert_eq!(forget(json!({"all": true})).await, 0);
    assert_eq!(forget(json!({"all": true, "namespace": "other"})).await, 1);
    assert_eq!(rows(&kept.file(), "words"), 0);
}

#[tokio::test]
async fn a_namespace_has_room_for_so_many_and_says_so() {
    let kept = Kept::with_max(2);
    let two = json!({"entries": [{"text": "a"}, {"text": "b"}]});
    kept.store("a", two.clone()).await.unwrap();
    kept.store("a", two).await.unwrap();
    let full = kept.store("b", json!({"text": "c"})).await.unwrap_err();
    assert_eq!((full.kind, &*full.code), (FailureKind::Refused, "memory_full"));
    assert!(full.message.contains("ttl"), "{full}");
    assert_eq!(rows(&kept.file(), "entry"), 2);
    kept.store("b", json!({"text": "c", "namespace": "other"})).await.unwrap();
}

#[tokio::test]
async fn no_query_is_an_error() {
    let kept = with_notes().await;
    let hostile = [
        "",
        " ",
        "\"",
        "\"\"\"",
        "'",
        "port\"",
        "\"port",
        "port OR",
        "NOT port",
        "port NEAR/5 x",
        "port AND (",
        "space : \"1\"",
        "stems:port",
        "-port",
        "^port",
        "port*",
        "{port} : x",
        "port\0server",
        "\0",
        "🚢",
        "port 🚢",
        "'; DROP TABLE entry; --",
        "the of a",
        "\u{202e}port",
        "a\u{301}",
        "3.14",
        "don't",
        "ＰＯＲＴ",
    ];
    for query in hostile {
        kept.retrieve(json!({"query": query})).await;
    }
    for query in ["port\"", "NOT port", "port\0server", "port 🚢", "port*"] {
        assert_eq!(kept.texts(json!({"query": query, "top": 1})).await, [NOTES[0]], "{query}");
    }
    kept.retrieve(json!({"query": "word ".repeat(2000)})).await;
    assert_eq!(rows(&kept.file(), "entry"), 6);
}

#[test]
fn any_text_is_stored_and_found_as_it_was() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let kept = Kept::with_max(100_000);
    let step = AtomicI64::new(0);
    proptest!(ProptestConfig::with_cases(64), |(text in "(?s).{1,200}", query in "(?s).{0,80}")| {
        let step = step.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(async {
            kept.store(&format!("s{step}"), json!({"entries": [{"text": text, "title": query}]})).await.unwrap();
            kept.retrieve(json!({"query": query})).await;
            assert_eq!(kept.texts(json!({"top": 1})).await, [text]);
        });
    });
}

#[tokio::test]
async fn what_no_memory_is_asked_for_is_invalid() {
    let agent: Arc<dyn Agent> = Arc::new(Memory::new(Settings::default()));
    let bad: [(&str, &[Json]); 3] = [
        (
            "store",
            &[
                json!({}),
                json!({"text": "a", "entries": []}),
                json!({"text": ""}),
                json!({"text": "x".repeat(16_385)}),
                json!({"text": "a", "namespace": ""}),
                json!({"text": "a", "namespace": "x".repeat(129)}),
                json!({"text": "a", "ttl": -1}),
                json!({"text": "a", "trust": "friend"}),
                json!({"entries": [{"title": "a"}]}),
                json!({"entries": vec![json!({"text": "a"}); 257]}),
            ],
        ),
        (
            "retrieve",
            &[
                json!({"query": 1}),
                json!({"query": "x".repeat(10_001)}),
                json!({"query": "a", "top": 0}),
                json!({"query": "a", "top": 101}),
                json!({"question": "a"}),
            ],
        ),
        (
            "forget",
            &[
                json!({}),
                json!({"all": false}),
                json!({"ids": [1], "all": true}),
                json!({"ids": ["1"]}),
                json!({"source": "a", "run": "b"}),
            ],
        ),
    ];
    for (action, inputs) in bad {
        for input in inputs {
            contract::refuses_as_invalid(&agent, action, input.clone()).await;
        }
    }
}

#[tokio::test]
async fn memory_without_a_file_lasts_as_long_as_the_agent() {
    let agent: Arc<dyn Agent> = Arc::new(Memory::new(Settings::default()));
    perform(&agent, "store", "a", json!({"text": "the port is 1"})).await.unwrap();
    let found = perform(&agent, "retrieve", "b", json!({"query": "port"})).await.unwrap();
    assert_eq!(found["of"], 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_and_left_as_it_is() {
    let kept = with_notes().await;
    let whole = {
        let copy = kept.folder.path().join("copy.db");
        Connection::open(kept.file()).unwrap().execute("VACUUM INTO ?1", [copy.to_str()]).unwrap();
        std::fs::read(copy).unwrap()
    };
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&9_u32.to_be_bytes());
    let mut foreign = whole.clone();
    foreign[68..72].copy_from_slice(b"Wiki");
    let mut torn = whole.clone();
    torn.truncate(whole.len() / 2);
    let mut overwritten = whole.clone();
    for page in overwritten.chunks_mut(4096).skip(1) {
        page.fill(0xa5);
    }
    let cases = [
        ("text.db", b"Dear diary,\n".repeat(100), "memory_foreign", "no memory of Kapelle"),
        ("foreign.db", foreign, "memory_foreign", "no memory of Kapelle"),
        ("newer.db", newer, "memory_newer", "newer version"),
        ("torn.db", torn, "memory_damaged", "backup"),
        ("overwritten.db", overwritten, "memory_damaged", "backup"),
    ];
    for (name, bytes, code, hint) in cases {
        let file = kept.folder.path().join(name);
        std::fs::write(&file, &bytes).unwrap();
        let agent = agent_on(file.clone(), &kept.now, 1000);
        let search = json!({"query": "port server"});
        for (action, input) in [("retrieve", search), ("store", json!({"text": "a"}))] {
            let failure = perform(&agent, action, "a", input).await.unwrap_err();
            assert_eq!((failure.kind, &*failure.code), (FailureKind::Refused, code), "{failure}");
            let message = &failure.message;
            assert!(message.contains(name) && message.contains(hint), "{message}");
        }
        if code != "memory_damaged" {
            assert_eq!(std::fs::read(&file).unwrap(), bytes, "{name} was touched");
        }
    }
}

#[tokio::test]
async fn a_turned_bit_in_a_text_is_named_not_told() {
    let kept = with_notes().await;
    let conn = Connection::open(kept.file()).unwrap();
    for turned in ["replace(text, '8080', '8081')", "CAST(x'54f865' AS TEXT)"] {
        conn.execute(&format!("UPDATE entry SET text = {turned} WHERE id = 1"), []).unwrap();
        let asked = json!({"query": "port of the server"});
        let failure = perform(&kept.agent, "retrieve", "a", asked).await.unwrap_err();
        assert_eq!(&*failure.code, "memory_damaged");
        assert!(failure.message.contains("memory.db"), "{failure}");
    }
    perform(&kept.agent, "forget", "b", json!({"ids": [1]})).await.unwrap();
    assert_eq!(kept.texts(json!({"query": "port of the server"})).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_file_that_cannot_be_made_is_named() {
    let kept = Kept::new();
    let agent = agent_on(kept.folder.path().join("no/such/memory.db"), &kept.now, 1000);
    let failure = perform(&agent, "store", "a", json!({"text": "a"})).await.unwrap_err();
    assert_eq!((failure.kind, failure.certain), (FailureKind::Unavailable, true), "{failure}");
    assert!(failure.message.contains("no/such/memory.db"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_write_and_read_at_once_lose_nothing() {
    let kept = Kept::new();
    let agents: Vec<_> = (0..4).map(|_| agent_on(kept.file(), &kept.now, 1000)).collect();
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let agent = Arc::clone(&agents[n % agents.len()]);
            tokio::spawn(async move {
                let step = format!("s{n}");
                let input = json!({"text": format!("the port is {n}")});
                perform(&agent, "store", &step, input).await.unwrap();
                perform(&agent, "retrieve", &step, json!({"query": "port"})).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(rows(&kept.file(), "entry"), 40);
    assert_eq!(rows(&kept.file(), "words"), 40);
}
