//! The right passage comes first, and documents are kept for the reasons given.

use serde_json::{Value, json};

use super::*;

/// Three pages on one program, long enough that several passages have some of the words.
fn pages() -> Value {
    json!([
        {
            "url": "https://docs.example.org/guide/start", "title": "Getting started with Harbor",
            "published": "2026-03-01T08:00:00Z",
            "text": "Getting started\n\nHarbor is a queue for background jobs. It runs as one process and keeps \
                its jobs in a folder. You send it jobs over HTTP and workers fetch them.\n\nInstallation\n\n\
                Download the archive for your system and unpack it. Put the program somewhere on your path. \
                Harbor needs no other programs, no database and no network to start.\n\nFirst job\n\n\
                Start the server in one terminal. In a second terminal send a job with curl. The server \
                answers with the number of the job, and the worker prints what it did.",
            "headings": [{"level": 1, "text": "Getting started"}, {"level": 2, "text": "Installation"},
                {"level": 2, "text": "First job"}]
        },
        {
            "url": "https://docs.example.org/guide/retries", "title": "Retries",
            "text": "# Retries\n\nA job that fails is tried again. The worker waits a second before the second \
                attempt and twice as long before each further one.\n\n## Giving up\n\nAfter five attempts the \
                server stops retrying a failed job and moves it to the graveyard, where it stays until \
                somebody buries or revives it. The number of attempts is set with max_attempts.\n\n## Timeouts\n\n\
                A worker that says nothing for thirty seconds has lost its job. Another worker gets it.",
            "language": "en", "published": "2025-11-20"
        },
        {
            "url": "https://blog.example.net/warteschlangen", "title": "Warteschlangen",
            "text": "Eine Warteschlange nimmt Aufgaben an und gibt sie weiter. Wenn eine Aufgabe scheitert, wird \
                sie noch einmal versucht. Nach fünf Versuchen ist Schluss, und die Aufgabe wird abgelegt."
        }
    ])
}

fn passages(question: &str) -> Vec<Value> {
    let made = ranked(&json!({"documents": pages(), "question": question, "top": 3})).unwrap();
    made.value["passages"].as_array().unwrap().clone()
}

#[test]
fn the_passage_that_answers_the_question_comes_first() {
    let cases = [
        ("How often is a failing job retried before the server gives up?", "After five attempts"),
        ("Which programs must be installed first?", "Download the archive"),
        ("What happens when a worker is silent?", "A worker that says nothing"),
        ("wie oft wird eine Aufgabe versucht", "Eine Warteschlange"),
        ("sending jobs with curl", "Start the server in one terminal."),
    ];
    for (question, first) in cases {
        let found = passages(question);
        let text = found[0]["text"].as_str().unwrap();
        assert!(text.starts_with(first), "{question}: {text}");
        assert!(found.windows(2).all(|two| two[0]["score"].as_f64() >= two[1]["score"].as_f64()));
    }
    assert_eq!(passages("quantum chromodynamics"), [] as [Value; 0]);
    assert_eq!(passages("the of and"), [] as [Value; 0]);
}

#[test]
fn a_passage_says_where_it_stands() {
    let pages = pages();
    let found = passages("wie viele Versuche für eine Aufgabe");
    let (text, source) = (pages[2]["text"].as_str().unwrap(), &pages[2]["url"]);
    let at = |name: &str| usize::try_from(found[0][name].as_u64().unwrap()).unwrap();
    assert_eq!(&found[0]["source"], source);
    assert_eq!(found[0]["text"], text[at("start")..at("end")]);
    let chars: String =
        text.chars().skip(at("char_start")).take(at("char_end") - at("char_start")).collect();
    assert_eq!(found[0]["text"], chars);
    assert!(at("char_end") < at("end"), "there are letters of two bytes before its end");
    assert_eq!(passages("graveyard")[0]["heading"], "Giving up");
}

#[test]
fn documents_are_described_by_what_they_say() {
    let made = analyze(&json!({"documents": pages(), "question": "graveyard"})).unwrap().value;
    let languages: Vec<_> = (0..3).map(|i| made["documents"][i]["language"].clone()).collect();
    assert_eq!(languages, ["en", "en", "de"]);
    assert_eq!(made["passages"].as_array().unwrap().len(), 1);
    let words = made["documents"][0]["keywords"].as_array().unwrap();
    assert!(words[..4].contains(&json!("job")) || words[..4].contains(&json!("jobs")), "{words:?}");
}

#[test]
fn a_filter_says_why_it_drops_a_document() {
    let kept = |filters: Value| {
        let made = filtered(&json!({"documents": pages(), "filters": filters})).unwrap().value;
        let reasons = made["dropped"].as_array().unwrap().iter();
        let reasons = reasons.map(|dropped| dropped["reason"].as_str().unwrap().to_owned());
        (made["documents"].as_array().unwrap().len(), reasons.collect::<Vec<_>>())
    };
    assert_eq!(kept(json!({})), (3, vec![]));
    assert_eq!(kept(json!({"languages": ["en"]})), (2, vec!["its language is `de`".into()]));
    assert_eq!(
        kept(json!({"publishedAfter": "2026-01-01"})),
        (1, vec!["it was published on 2025-11-20".into(), "it has no date".into()])
    );
    assert_eq!(
        kept(json!({"domains": ["example.org"]})),
        (2, vec!["it is on `blog.example.net`".into()])
    );
    assert_eq!(kept(json!({"domainsNot": ["docs.example.org"]})).0, 1);
    assert_eq!(kept(json!({"domains": ["ample.org"]})).0, 0);
    assert_eq!(kept(json!({"wordsMax": 30})).0, 1);
    assert_eq!(kept(json!({"pattern": "grave\\s*yard"})).0, 1);
    assert_eq!(kept(json!({"patternNot": "WARTESCHLANGE"})).0, 2);
    let bad = filtered(&json!({"documents": [], "filters": {"pattern": "("}})).err().unwrap();
    assert_eq!(&*bad.code, "bad_pattern");
    let huge = filtered(&json!({"documents": [], "filters": {"pattern": "\\w{1000}{1000}"}}));
    assert_eq!(&*huge.err().unwrap().code, "bad_pattern");
}
