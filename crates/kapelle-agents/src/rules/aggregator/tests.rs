//! A report on real prose: the answer first, planted contradictions found, none invented.

mod questions;

use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// Six pages on one program. Six things are said differently in two of them.
const PAGES: [(&str, &str); 6] = [
    (
        "Harbor: installation",
        "# Installing Harbor\n\nHarbor is a small job queue that keeps its jobs in one folder. \
        It needs a Linux machine with at least 512 MB of memory. Harbor requires Python 3.10 or newer for its \
        client library.\n\n## Starting it\n\nUnpack the archive and run the program once. The default port is 8080, and \
        the folder is created at the first start. Nothing else has to be set up, and no database is needed.\n\n\
        ## Removing it\n\nStop the program and delete its folder. The archive has about 20 files.",
    ),
    (
        "Harbor: configuration",
        "# Configuration\n\nAll settings are read once, when the server starts. Harbor \
        listens on port 9090 by default; firewalls must let it through. Compression is enabled by default and \
        saves about a third of the space.\n\n| setting | default | meaning |\n|---|---|---|\n| max_jobs | 10000 | jobs \
        in the queue |\n| metrics_port | 9191 | where metrics are read |\n| worker_timeout | 30 s | silence of a \
        worker |\n\nThe settings can also be given as variables of the environment.",
    ),
    (
        "Harbor: retries",
        "# Retries\n\nA job that fails is tried again after a pause. A failed job is retried \
        five times, and the pause doubles each time. The first pause is 1 second.\n\nA worker that says nothing for \
        a while has lost its job. Finished jobs are kept for 14 days.",
    ),
    (
        "Harbor: operations",
        "# Running Harbor\n\nA failed job is retried 3 times before it is moved to the \
        graveyard. Finished jobs are deleted after 30 days to save space. Backups are copies of the folder, \
        taken while the server runs.\n\nWatch the memory: the server uses 512 MB at least, and more when the queue is long.",
    ),
    (
        "Harbor: changes",
        "# Changes\n\nVersion 3 was released on 2026-03-01. Since version 3 jobs can wait for other \
        jobs. Until version 2 the default port was 7070.\n\nBy default compression is off, because it costs time.",
    ),
    (
        "Harbor: questions",
        "# Questions and answers\n\nWhich port is used? See the settings. You need Python 3.8 for \
        the client library. Version 3 was released on April 2, 2026, with a new queue.\n\nCan jobs be larger than \
        1 MB? They can, but a job should be small. For example, set the port to 8000 for tests.",
    ),
];

fn documents(pages: &[(&str, &str)]) -> Value {
    let page = |(at, (title, text)): (usize, &(&str, &str))| json!({"url": format!("https://docs.example/{at}"), "title": title, "text": text});
    pages.iter().enumerate().map(page).collect()
}

fn report(input: &Value) -> (Value, Vec<(&'static str, String)>) {
    let made = report::work(input, Path::new("/run")).unwrap();
    (made.value, made.files.into_iter().map(|file| (file.name, file.text)).collect())
}

#[test]
fn planted_contradictions_are_found_and_none_is_invented() {
    let (value, _) =
        report(&json!({"documents": documents(&PAGES), "question": "Which port is the default?"}));
    let found: Vec<String> = value["contradictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|told| {
            let values = told["values"].as_array().unwrap().iter();
            values.map(|value| value["value"].as_str().unwrap()).collect::<Vec<_>>().join(" / ")
        })
        .collect();
    let planted = [
        "3.10 / 3.8",
        "8080 / 9090",
        "enabled / off",
        "five / 3",
        "14 days / 30 days",
        "2026-03-01 / April 2, 2026",
    ];
    let missed = planted.iter().filter(|pair| !found.contains(&(**pair).to_owned())).count();
    assert!(missed <= 1, "{found:#?}");
    assert!(found.len() <= 6, "{found:#?}");
    let told = value["contradictions"].as_array().unwrap();
    for sources in told.iter().flat_map(|told| told["values"].as_array().unwrap()) {
        assert!(
            sources["sources"][0]["source"].as_str().unwrap().starts_with("https://docs.example/")
        );
    }
}

#[test]
fn pages_that_agree_have_no_contradictions_and_tell_facts_once() {
    let control = [
        ("Harbor: installation", PAGES[0].1),
        ("Harbor: retries", PAGES[2].1),
        (
            "Harbor: settings",
            "# Settings\n\nThe default port is 8080. The metrics port is 9191 by default. The maximum \
            timeout is 10 minutes, the default timeout is 30 seconds. On Windows the folder is in the profile. A \
            worker keeps 4 connections, the pool has 16. Harbor requires Python 3.10. If TLS is on, the default port is 8443.",
        ),
    ];
    let (value, _) = report(&json!({"documents": documents(&control)}));
    assert_eq!(value["contradictions"], json!([]));
    let facts: Vec<_> =
        value["facts"].as_array().unwrap().iter().map(|told| told["values"][0].clone()).collect();
    let port = facts.iter().find(|fact| fact["value"] == "8080").unwrap();
    assert_eq!(port["sources"].as_array().unwrap().len(), 2, "{facts:#?}");
}

#[test]
fn the_first_lines_answer_and_name_what_is_doubtful() {
    let (_, files) = report(&json!({
        "documents": documents(&PAGES), "question": "Which port does Harbor listen on by default?",
        "guide": {
            "title": "The port Harbor listens on",
            "steps": [{"instruction": "Run it", "command": "harbor --port 1"}]
        }
    }));
    assert_eq!(
        files.iter().map(|file| file.0).collect::<Vec<_>>(),
        ["report.md", "report.html", "report.json"]
    );
    let first: Vec<&str> = files[0].1.lines().take(9).collect();
    let first = first.join("\n");
    assert!(first.contains("listens on port 9090 by default"), "{first}");
    assert!(first.contains("**The sources disagree on default port:** 8080"), "{first}");
    assert!(!first.contains("disagree on compression"), "that was not asked: {first}");
    let order = ["What the sources do not agree on", "Steps", "Evidence", "Sources"];
    for text in [&files[0].1, &files[1].1] {
        let places: Vec<_> = order.iter().map(|head| text.find(head).unwrap()).collect();
        assert!(places.is_sorted());
    }
    assert!(files[1].1.contains("<a href=\"https://docs.example/1\">Harbor: configuration</a>"));
    assert!(!files[1].1.contains("<script"));
}

#[test]
fn what_a_page_says_is_never_markup() {
    let evil = json!([{
        "url": "javascript:alert(1)", "title": "<script>x</script> [a](b)",
        "text": "The port of <img src=x onerror=alert(1)> is 80, as [everybody](javascript:a) knows by now &amp; here."
    }]);
    let (_, files) = report(&json!({"documents": evil, "question": "port <b>"}));
    let (markdown, html) = (&files[0].1, &files[1].1);
    assert!(
        !html.contains("<script") && !html.contains("<img") && !html.contains("href=\"javascript"),
        "{html}"
    );
    assert!(
        !markdown.replace("\\<", "").contains('<')
            && !markdown.replace("\\]", "").contains("](javascript"),
        "{markdown}"
    );
    let (_, files) = report(&json!({"documents": [], "question": "x", "formats": ["markdown"]}));
    assert!(files[0].1.contains("do not answer"));
}

#[test]
fn values_are_merged_and_what_differs_is_named() {
    let made = merge::work(&json!({"outputs": {
        "a": {"port": 8080, "tags": ["x", "Y "], "name": "Harbor", "n": {"deep": 1.0}},
        "b": {"port": 9090, "tags": ["y", "z"], "name": "harbor ", "n": {"deep": 1}, "more": null},
        "c": {"port": 9090}
    }, "prefer": "most"}))
    .unwrap()
    .value;
    assert_eq!(
        made["value"],
        json!({
            "port": 9090, "tags": ["x", "Y ", "z"], "name": "Harbor", "n": {"deep": 1.0}, "more": null
        })
    );
    assert_eq!(
        made["conflicts"],
        json!([{"path": "/port", "values": [
            {"value": 8080, "sources": ["a"]}, {"value": 9090, "sources": ["b", "c"]}
        ]}])
    );
}

/// What stands between `from` and `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from} in {text}")).1;
    rest.split_once(to).unwrap().0
}

#[test]
fn the_run_is_drawn_with_its_times_and_without_a_script() {
    let (_, files) = report(&json!({
        "documents": documents(&PAGES), "formats": ["markdown", "html"],
        "guide": {"source": "https://docs.example/1", "steps": [{"instruction": "Run it"}]},
        "unread": [{"url": "https://docs.example/<b>", "kind": "invalid", "message": "it is gone"}],
        "run": {"id": "01a1", "createdAt": "2026-03-01T10:00:00.000000Z", "workflow": "x", "steps": [
            {"id": "read", "agent": "web", "status": "completed", "attempts": 2, "startMs": 0, "endMs": 1500},
            {"id": "<i>", "agent": null, "status": "failed", "attempts": 1, "startMs": 1500, "endMs": 2000},
            {"id": "late", "agent": "web", "status": "running", "attempts": 1, "startMs": 1000, "endMs": null}
        ]}
    }));
    let (markdown, html) = (&files[0].1, &files[1].1);
    let picture = between(html, "<figure class=\"run\">", "</figure>");
    assert!(picture.contains("<svg") && picture.contains("1.5 s, 2 attempts"), "{picture}");
    assert!(picture.contains("failed, 500 ms") && picture.contains("goes on"), "{picture}");
    assert!(picture.contains("x=\"75.00%\"") && picture.contains("width=\"25.00%\""), "{picture}");
    assert!(picture.contains("begun 2026-03-01 10:00 UTC, up to this report: 2.0 s"), "{picture}");
    assert!(!html.contains("<i>") && !html.contains("<script") && !html.contains("<b>\n"));
    assert!(between(html, "<h2>Steps", "</h2>").contains("[2]"));
    for text in [markdown, html] {
        let unread = text.split_once("What could not be read").unwrap().1;
        assert!(unread.contains("it is gone") && !unread.contains("example/<b>"), "{unread}");
    }
    assert!(!markdown.contains("ms"), "times are in the picture only: {markdown}");
    let (_, files) = report(&json!({"documents": [], "run": {"steps": []}}));
    assert!(!files[1].1.contains("<figure"));
}

#[test]
fn nothing_large_is_kept_on_one_page_of_paper() {
    const HALF: u32 = 400;
    let step = |at: u32| json!({"id": format!("s{at}"), "startMs": at, "endMs": at + 9});
    let run = json!({"steps": (0..40).map(step).collect::<Vec<_>>()});
    let input = json!({"documents": documents(&PAGES), "run": run, "formats": ["html"]});
    let html = &report(&input).1[0].1;
    let heights = html.split("<svg ").skip(1).map(|svg| between(svg, "height=\"", "\""));
    let heights: Vec<u32> = heights.map(|height| height.parse().unwrap()).collect();
    assert!(heights.iter().sum::<u32>() > 2 * HALF && heights.iter().all(|one| *one < HALF));
    let kept = between(html, "@media print{", "</style>").split('}');
    let kept = kept.filter_map(|rule| rule.trim().strip_suffix("{break-inside:avoid"));
    let kept: Vec<&str> = kept.flat_map(|rule| rule.split(',')).collect();
    assert!(kept.contains(&"figure.run svg"), "{kept:?}");
    assert!(kept.iter().all(|one| !["li", ".told", "figure.run", "ol"].contains(one)), "{kept:?}");
}

#[test]
fn steps_are_in_the_report_where_it_is_asked_how_or_they_are_about_the_question() {
    let steps = |question: &str, title: &str| {
        let (value, files) = report(&json!({
            "documents": documents(&PAGES), "question": question,
            "guide": {"title": title, "steps": [{"instruction": "Stop the program."}]}
        }));
        assert_eq!(value.get("steps").is_some(), files[0].1.contains("## Steps"));
        value.get("steps").is_some()
    };
    assert!(steps("How do I remove Harbor?", "Anything"));
    assert!(steps("removing Harbor", "Removing Harbor"));
    assert!(!steps("How long are finished jobs kept?", "Removing it"));
    assert!(!steps("Which Python is needed?", "Removing it"));
}

#[test]
fn what_belongs_to_a_step_stands_as_far_in_as_its_words() {
    let step = json!({"instruction": "Go on.", "command": "go\non", "warning": "Slowly."});
    let (_, files) = report(&json!({
        "documents": documents(&PAGES), "question": "How do I go on?",
        "guide": {"title": "Going on", "steps": vec![step; 10]}
    }));
    for (marker, inner) in [("9. ", "   "), ("10. ", "    ")] {
        let item = format!(
            "\n{marker}Go on.\n\n{inner}```\n{inner}go\n{inner}on\n{inner}```\n\n{inner}**Careful:** Slowly.\n"
        );
        assert!(files[0].1.contains(&item), "{}", files[0].1);
    }
}

#[test]
fn where_nothing_answers_nothing_more_is_told() {
    let (_, files) = report(&json!({
        "documents": documents(&PAGES), "question": "zebra quagga",
        "summary": "Harbor is a small job queue."
    }));
    let text = &files[0].1;
    assert!(text.contains("do not answer this") && !text.contains("More on this"), "{text}");
}

#[test]
fn what_matters_to_the_question_stands_before_the_steps_and_the_rest_behind() {
    let (_, files) = report(&json!({
        "documents": documents(&PAGES), "question": "How long are finished jobs kept?",
        "guide": {"title": "Finished jobs kept", "steps": [{"instruction": "Stop the program."}]}
    }));
    for text in [&files[0].1, &files[1].1] {
        let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
        let (before, steps) = (place("What the sources do not agree on"), place("Steps"));
        let behind = place("What else the sources do not agree on");
        assert!(before < steps && steps < behind, "{text}");
        assert!(text[before..steps].contains("30 days") && !text[before..steps].contains("3.8"));
        assert!(text[behind..].contains("3.8"), "{text}");
    }
}

#[test]
fn files_are_called_by_their_way_from_the_folder_of_the_run() {
    let text = PAGES[1].1;
    let (_, files) = report(&json!({
        "documents": [
            {"url": "file:///run/docs/a%20b.html", "title": "Settings", "text": text},
            {"url": "file:///elsewhere/c.html", "title": "Others", "text": PAGES[2].1}
        ],
        "question": "Which port does Harbor listen on by default?"
    }));
    let (markdown, html) = (&files[0].1, &files[1].1);
    assert!(markdown.contains("by default; firewalls must let it through. [[1]]"), "{markdown}");
    let (body, links) = markdown.split_once("\n[1]: ").unwrap();
    assert!(body.contains("1. [Settings][1], docs/a b.html\n"), "{body}");
    assert!(!body.contains("/run"), "{body}");
    assert!(
        links.starts_with("<file:///run/docs/a%20b.html>\n[2]: <file:///elsewhere/"),
        "{links}"
    );
    assert!(html.contains("<small>docs/a b.html</small>"), "{html}");
}

#[test]
fn code_and_tables_are_no_evidence_by_themselves() {
    let page = |code: &str| {
        format!(
            "# Backups\n\n```sh\n{code}\n```\n\n| backup | when |\n|---|---|\n| full | night |\n"
        )
    };
    let prose =
        "The backup of the queue is a copy of its folder, and it is taken while the server runs.";
    let (_, files) = report(&json!({
        "documents": [
            {"url": "https://docs.example/1", "markdown": page("harbor backup queue\nharbor backup thaw")},
            {"url": "https://docs.example/2", "markdown": page("harbor backup") + prose},
            {"url": "https://docs.example/3", "markdown": format!("# More\n\nHarbor is a small \
                thing, and it has few files, which is all on them.\n\nA second backup of the queue, on another \
                machine, costs little.")}
        ],
        "question": "How is a backup of the queue taken?"
    }));
    let evidence = between(&files[0].1, "## Evidence", "## Sources");
    assert!(evidence.contains("A second backup of the queue"), "{evidence}");
    assert!(!evidence.contains("harbor backup") && !evidence.contains("full"), "{evidence}");
}

/// The words of the answer's first part to each question, where the other pages are those above.
fn first_answer(page: &str, question: &str) -> String {
    let mut documents = documents(&PAGES);
    let faq = json!({"url": "https://docs.example/faq", "title": "Harbor: FAQ", "markdown": page});
    documents.as_array_mut().unwrap().push(faq);
    let (value, _) =
        report(&json!({"documents": documents, "question": question, "formats": ["markdown"]}));
    value["answer"][0]["text"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_section_that_asks_the_question_answers_it_however_short_it_is() {
    let page = "# Questions about Harbor\n\n## Can a job wait?\n\nNot yet. People build it with a queue for \
        each delay.\n\n## Can jobs wait for other jobs?\n\nYes, since 3.2.\n\n## How do I remove Harbor?\n\nDo this:\n\n\
        - Stop the program.\n- Delete its folder.\n\n## How are retries turned off?\n\n```\nharbor set retries 0\n\
        ```\n\nIt needs no restart.\n\n## How many workers does a queue need?\n\nFewer than one would think, and no queue is like another. Begin with 4 and look.\n\n### Why is it called Harbor?\n\nIt is a place where \
        ships wait.\n\n**Is there a hosted version of it?** No.\n\nWho made Harbor?\n\nSome people \
        in Oslo.\n\n## Limits of a queue\n\nIt has none. Disks have.";
    let cases = [
        ("Can a job wait?", "Not yet. People build it with a queue for each delay."),
        ("can jobs wait for other jobs", "Yes, since 3.2."),
        ("How do I remove Harbor?", "Do this:\n\n- Stop the program.\n- Delete its folder."),
        ("How are retries turned off?", "harbor set retries 0"),
        (
            "How many workers does a queue need?",
            "Fewer than one would think, and no queue is like another. Begin with 4 and look.",
        ),
        (
            "How many workers does a Harbor queue need?",
            "Fewer than one would think, and no queue is like another. Begin with 4 and look.",
        ),
        ("Why is it called Harbor?", "It is a place where ships wait."),
        ("Is there a hosted version of it?", "No."),
        ("Who made Harbor?", "Some people in Oslo."),
        ("What are the limits of a queue?", "It has none. Disks have."),
    ];
    for (question, wanted) in cases {
        assert_eq!(first_answer(page, question), wanted, "{question}");
    }
}

#[test]
fn a_section_that_asks_something_else_of_the_same_words_is_not_the_answer() {
    let page = "# Questions about Harbor\n\n## Where are finished jobs kept?\n\nIn the folder called graveyard.\n\n\
        ## Finished jobs kept\n\nSome say that this is too long.";
    let found = first_answer(page, "How long are finished jobs kept?");
    assert!(found.contains("14 days") || found.contains("30 days"), "{found}");
    let page = "# Trouble\n\nIt happens.\n\n## The worker does not start\n\nHave a look at the last lines.";
    let found = first_answer(page, "What does the worker do when it starts?");
    assert!(!found.contains("last lines"), "{found}");
}

#[test]
fn the_numbers_of_a_question_are_conditions_and_no_answer() {
    let page = "# Waiting\n\nA worker waits at most 7 minutes for its first task of the day, and then it leaves.\n\n\
        In version 4 a worker waits for 9 minutes, as everybody does.\n\n## Version 5\n\nThe workers now wait \
        for 20 minutes before they leave.\n\n## Version 3.2\n\nWorkers of version 3.2 wait in a long line, all of \
        them.";
    let cases = [
        ("How long does a worker wait in version 4?", "9 minutes"),
        ("How long does a worker wait in version 5?", "20 minutes"),
        ("How long does a worker wait in version 3?", "7 minutes"),
    ];
    for (question, wanted) in cases {
        let found = first_answer(page, question);
        assert!(found.contains(wanted), "{question} {found}");
    }
}

#[test]
fn more_on_a_question_is_what_has_most_of_it() {
    let sentences = json!([
        {"text": "Backups are copies of the folder, taken while the server runs.",
         "source": "https://docs.example/3", "start": 0},
        {"text": "A job that fails is tried again after a pause.", "source": "https://docs.example/2", "start": null},
        {"text": "Somebody wrote this.", "source": null, "start": null}
    ]);
    let (_, files) = report(&json!({
        "documents": documents(&PAGES), "question": "Is a job that fails tried again?",
        "summary": {"sentences": sentences}
    }));
    for text in [&files[0].1, &files[1].1] {
        let more = between(text, "More on this", "What the sources");
        assert!(
            more.contains("tried again after a pause") && more.contains("Somebody wrote"),
            "{more}"
        );
        assert!(!more.contains("copies of the folder"), "{more}");
    }
}

#[test]
fn a_text_that_is_given_again_is_no_other_source() {
    let page = |url: &str, text: &str| json!({"url": url, "title": "Harbor", "text": text});
    let text = "The default port is 8080, and nothing else is set up.";
    let (value, files) = report(&json!({
        "documents": [
            page("https://a.example/1", text), page("https://a.example/1", text),
            page("https://b.example/", &format!("{text} \n")),
            page("https://c.example/", "The default port is 9090."),
            page("https://c.example/", "The default port is 9090.")
        ],
        "question": "Which port is the default?",
        "summary": {"sentences": [{"text": text, "source": "https://b.example/"}]}
    }));
    assert_eq!(value["sources"].as_array().unwrap().len(), 2);
    let told = value["contradictions"][0]["values"].as_array().unwrap();
    assert!(told.iter().all(|value| value["sources"].as_array().unwrap().len() == 1), "{told:#?}");
    assert_eq!(value["sources"][0]["also"], json!(["https://a.example/1", "https://b.example/"]));
    for text in [&files[0].1, &files[1].1] {
        assert!(text.contains("the same text as https://b.example/"), "{text}");
        assert!(text.contains("given twice"), "{text}");
    }
}

#[test]
fn evidence_is_whole_sentences_that_lead_to_nothing_left_out() {
    let page = "# Restoring\n\nA restore of the queue begins with an empty folder on the new machine. From here on \
        the restore of the queue has to be done as root:\n\n```\nharbor restore --all\n```\n\nIt takes a while.";
    let (_, files) = report(&json!({
        "documents": [
            {"url": "https://docs.example/1", "markdown": "# How is a restore of the queue done?\n\nBy hand."},
            {"url": "https://docs.example/2", "markdown": page}
        ],
        "question": "How is a restore of the queue done?"
    }));
    let evidence = between(&files[0].1, "## Evidence", "## Sources");
    assert!(evidence.contains("empty folder on the new machine. [[2]]"), "{evidence}");
    assert!(!evidence.contains('…') && !evidence.contains("as root:"), "{evidence}");
}

#[test]
fn short_sentences_and_rows_answer_and_one_word_in_common_does_not() {
    let page = "# Prices of Harbor\n\nThe port is 8080. It is a thing that one can change in the file of the \
        configuration.\n\nThe X1 costs $299. Harbor supports OAuth.\n\n| Plan | Price | Users |\n| --- | --- | --- |\n\
        | Team | €19 | 20 |\n| Business | €49 | 100 |\n\n## Models\n\n| Model | Price |\n| --- | --- |\n| X2 | $399 |\n";
    let answer = |question: &str| {
        let documents = json!([{"url": "https://docs.example/prices", "markdown": page}]);
        let (value, _) =
            report(&json!({"documents": documents, "question": question, "formats": ["markdown"]}));
        value["answer"][0]["plain"].as_str().unwrap_or_default().to_owned()
    };
    for (question, said) in [
        ("What is the port?", "The port is 8080."),
        ("Does Harbor support OAuth?", "Harbor supports OAuth."),
        ("What is the price of the Team plan?", "Plan: Team, Price: €19, Users: 20"),
        ("How many users does the Business plan have?", "Plan: Business, Price: €49, Users: 100"),
        ("What is the price of the X2?", "Model: X2, Price: $399"),
        ("What does the X3 cost?", ""),
        ("Who won the world cup in Oslo?", ""),
        ("What is the best thing to do in Japan?", ""),
    ] {
        assert_eq!(answer(question), said, "{question}");
    }
}
