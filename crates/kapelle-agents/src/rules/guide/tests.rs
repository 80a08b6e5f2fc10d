//! Steps in order, each with what belongs to it.

use serde_json::{Value, json};

use super::*;
use crate::text::plain;

const PAGE: &str = "# Harbor manual\n\nHarbor is a job queue. It is written for small teams.\n\n\
## Install Harbor on Linux\n\nWarning: Do not install it as root.\n\n1. Download the archive from the **Releases** page.\n\
2. Unpack it:\n\n```sh\n$ tar xf harbor.tar.gz\n$ cd harbor\n```\n\n3. Run `./harbor --init`. A folder called `data` appears.\n\x20  - The folder may be anywhere.\n4. Open the dashboard and click **Create queue**.\n\n   Note: the name cannot be changed later.\n\n\
## Send a job\n\nJobs are sent over HTTP. First, start the server. Then send a job with curl:\n\n```\ncurl -d hello localhost:8080/jobs\n```\n\n\
You should see the number of the job. Never send passwords. The server keeps the job.\n\n\
## Reference\n\nSet is a type of value. Test results are kept for a day.\n";

fn steps(input: Value) -> Vec<Value> {
    extract(&input).unwrap().value["steps"].as_array().unwrap().clone()
}

fn told(steps: &[Value]) -> Vec<&str> {
    steps.iter().map(|step| step["instruction"].as_str().unwrap()).collect()
}

#[test]
fn a_numbered_list_that_tells_is_taken_whole() {
    let steps = steps(json!({"markdown": PAGE, "task": "installing on linux"}));
    assert_eq!(
        told(&steps),
        [
            "Download the archive from the Releases page.",
            "Unpack it",
            "Run ./harbor --init.",
            "Open the dashboard and click Create queue."
        ]
    );
    assert_eq!(steps[0]["warning"], "Do not install it as root.");
    assert_eq!(steps[0]["element"], "Releases");
    assert_eq!(steps[1]["command"], "tar xf harbor.tar.gz\ncd harbor");
    assert_eq!(steps[2]["command"], "./harbor --init");
    assert_eq!(steps[2]["expect"], "A folder called data appears.");
    assert_eq!(steps[2]["note"], "The folder may be anywhere.");
    assert_eq!(steps[3]["element"], "Create queue");
    assert_eq!(steps[3]["note"], "the name cannot be changed later.");
    assert_eq!(steps[3]["section"], "Install Harbor on Linux");
}

#[test]
fn sentences_that_tell_and_commands_are_steps() {
    let steps = steps(json!({"markdown": PAGE, "task": "send a job"}));
    assert_eq!(told(&steps), ["First, start the server.", "Then send a job with curl"]);
    assert_eq!(steps[1]["command"], "curl -d hello localhost:8080/jobs");
    assert_eq!(steps[1]["expect"], "You should see the number of the job.");
    assert_eq!(steps[1]["warning"], "Never send passwords.");
}

#[test]
fn what_another_section_says_is_of_no_step_before_it() {
    let page = "# Upgrade\n\n1. Stop it.\n2. Start it.\n\n## Later\n\nWait until `queue lag --total` is zero. \
                Never do that on a Monday.\n\n```\nqueue convert\n```\n";
    let printed = format!("```\n{}```\n", "12 34 56\n".repeat(40));
    assert!(steps(json!({ "markdown": printed })).is_empty(), "what is that long is no command");
    let steps = steps(json!({ "markdown": page }));
    assert_eq!(told(&steps), ["Stop it.", "Start it."]);
    assert!(steps[1].get("command").is_none() && steps[1].get("warning").is_none(), "{steps:?}");
}

#[test]
fn a_task_that_no_section_is_about_has_no_steps_and_none_come_from_beside_it() {
    let none = [] as [&str; 0];
    for task in ["How do I restore a queue?", "How do I bake bread?", "How do I drain a server?"] {
        assert_eq!(told(&steps(json!({"markdown": PAGE, "task": task}))), none, "{task}");
    }
    assert_eq!(
        told(&steps(json!({"markdown": PAGE, "task": "How do I start the server?"}))).len(),
        2
    );
    let page = "# Install Harbor\n\n## Download\n\n1. Get the archive.\n2. Unpack it.\n\n\
        ## Troubleshooting\n\n1. Delete the folder.\n2. Call us.\n\n### Logs\n\n1. Read them.\n2. Send them.\n\n\
        ## Start\n\n1. Run it.\n2. Open the dashboard.\n\n## Uninstall\n\n1. Stop it.\n2. Remove it.\n";
    let of = |task: &str| steps(json!({"markdown": page, "task": task}));
    assert_eq!(
        told(&of("How do I install Harbor?")),
        ["Get the archive.", "Unpack it.", "Run it.", "Open the dashboard."]
    );
    assert_eq!(told(&of("How do I uninstall Harbor?")), ["Stop it.", "Remove it."]);
}

#[test]
fn a_text_that_is_no_markdown_keeps_its_stars() {
    let page = "1. Copy a/*.gz to b/*.gz and \\*.log.\n2. Remove **/x and **/y.\n";
    let kept = ["Copy a/*.gz to b/*.gz and \\*.log.", "Remove **/x and **/y."];
    let plain = json!({"text": page, "markdown": page, "format": "text"});
    for given in [json!({ "text": page }), json!({ "document": plain })] {
        let steps = steps(given);
        assert_eq!(told(&steps), kept);
        assert!(steps[1].get("element").is_none(), "{steps:?}");
    }
    let page = "1. Copy *all* of `a/*.gz` to `b/*.gz`.\n2. Remove **only. This.**\n";
    let steps = steps(json!({ "document": {"text": page, "markdown": page} }));
    assert_eq!(told(&steps), ["Copy all of a/*.gz to b/*.gz.", "Remove only."]);
}

#[test]
fn a_step_says_where_it_stands() {
    for step in steps(json!({"markdown": PAGE})) {
        let at = |name: &str| usize::try_from(step[name].as_u64().unwrap()).unwrap();
        let written = &PAGE[at("start")..at("end")];
        assert_eq!(plain(written).trim_end_matches(':'), step["instruction"], "{step}");
    }
}

#[test]
fn headings_and_other_languages_tell_too() {
    let headings =
        "# Step 1: Install the tool\n\nIt is small.\n\n# Step 2: Start it\n\nIt takes a second.";
    assert_eq!(told(&steps(json!({"markdown": headings}))), ["Install the tool", "Start it"]);
    let german = "Der Server ist klein und hat keine Teile, die man kaufen muss. Öffnen Sie die Datei. Klicken Sie auf „Speichern“. \
        Die Datei ist nun auf der Platte.";
    let german = steps(json!({"text": german}));
    assert_eq!(told(&german), ["Öffnen Sie die Datei.", "Klicken Sie auf „Speichern“."]);
    assert_eq!(german[1]["element"], "Speichern");
    let french = "Le serveur est petit et il est dans la boîte. Ouvrez le fichier. Il est vide. Ensuite, cliquez sur « Enregistrer ».";
    assert_eq!(told(&steps(json!({"text": french}))).len(), 2);
    assert_eq!(steps(json!({"text": ""})), [] as [Value; 0]);
}

#[test]
fn only_what_a_shell_takes_is_a_command() {
    let page = |name: &str, code: &str| {
        let markdown = format!("To install, run the tool.\n\n```{name}\n{code}\n```\n");
        steps(json!({ "markdown": markdown }))
    };
    for (name, code) in [
        ("rust", "fn main(){}"),
        ("toml", "[profile.dev]\nopt-level = 1"),
        ("", "fn main() {\n}"),
        ("", "tls.cert = /etc/tern.pem"),
        ("", "{ \"port\": 80 }"),
        ("text", "Everything is well."),
        ("python", "$ nothing"),
    ] {
        assert!(page(name, code).iter().all(|step| step.get("command").is_none()), "{name} {code}");
    }
    for (name, code) in
        [("", "cargo run"), ("sh", "tool --now"), ("console", "$ tool"), ("", "./tool --now")]
    {
        let steps = page(name, code);
        assert_eq!(steps[0]["command"], code.trim_start_matches("$ "), "{steps:?}");
    }
    let own = "Look with `ternctl status all`.\n\n```\nternctl drain\n```\n\nThat is it.";
    assert_eq!(steps(json!({ "markdown": own }))[1]["command"], "ternctl drain");
}

#[test]
fn what_tells_nobody_to_do_something_is_no_guide() {
    let mended =
        "# Bugs\n\n1. The parser no longer loops.\n2. Colours were wrong.\n3. Crash on exit.\n";
    assert_eq!(told(&steps(json!({ "markdown": mended }))), [] as [&str; 0]);
    let some = "# Do it\n\n1. Open the lid.\n2. Frobnicate the wheel.\n3. Close the lid.\n";
    assert_eq!(
        told(&steps(json!({ "markdown": some }))).len(),
        3,
        "an unknown verb among known ones"
    );
    let asked =
        "# Is it slow?\n\nIt waits. Send many at once. It is fast then.\n\n# Why?\n\nAsk the log.";
    assert_eq!(told(&steps(json!({ "markdown": asked }))), [] as [&str; 0]);
    let german = "# Öffnen\n\nDas ist die Anleitung für den Deckel und das Rad.\n\n1. Deckel öffnen\n2. Rad prüfen\n";
    assert_eq!(told(&steps(json!({ "markdown": german }))).len(), 2);
}
