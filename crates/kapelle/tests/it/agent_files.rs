//! Agents of files: found, checked, listed, and read again when they change.

use std::time::{Duration, Instant};

use crate::support::Folder;

const AUDITOR: &str = "---\nname: auditor\ndescription: Finds: what is wrong.\ntools: Read, Bash(git:*)\nmodel: opus\n---\n\n  abc\n";

fn write(folder: &Folder, file: &str, text: &str) {
    let file = folder.path().join(file);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

/// Until files are looked at again there is nothing to wait for but time.
async fn a_moment() {
    // They are looked at when somebody asks, once a second at the most.
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[test]
fn a_folder_of_files_is_checked() {
    let folder = Folder::new();
    write(&folder, "good/auditor.md", AUDITOR);
    let done = folder.run("agents check good --json").expect(0).json();
    let warning = "the front matter is no YAML, and is read by lines: mapping values are not allowed in this context";
    let expected = serde_json::json!({
        "agents": [{
            "file": "good/auditor.md",
            "name": "auditor",
            "description": "Finds: what is wrong.",
            "tools": ["Read", "Bash(git:*)"],
            "model": "opus",
            "body_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "warnings": [{"line": 3, "message": warning}],
        }],
        "unusable": [],
    });
    assert_eq!(done, expected);
    let text = folder.run("agents check good").expect(0).out;
    assert_eq!(
        text,
        format!("good/auditor.md:3: warning: {warning}\n1 agent, 1 warning, 0 errors\n")
    );

    write(&folder, "good/below/same.md", AUDITOR);
    write(&folder, "good/empty.md", "");
    let done = folder.run("agents check good --json").expect(2).json();
    let taken = &done["agents"][1]["warnings"][0]["message"];
    assert_eq!(taken, "the name `auditor` is taken by good/auditor.md");
    assert_eq!(done["unusable"][0]["file"], "good/empty.md");
    let text = folder.run("agents check good").expect(2).out;
    assert!(text.contains("good/empty.md:1: error: it has neither"), "{text}");
    folder.run("agents check nowhere").expect(2);
}

#[test]
fn tools_that_are_not_here_are_warnings() {
    let folder = Folder::new();
    let text =
        "---\nname: a\ndescription: b\ntools: Agent(x), Task, TodoWrite, WebSearch, Read\n---\nc\n";
    write(&folder, "agents/a.md", text);
    let told = folder.run("agents check agents").expect(0).out;
    for tool in ["Agent", "Task", "TodoWrite", "WebSearch"] {
        let line =
            format!("agents/a.md:4: warning: there is no tool `{tool}` here: it is left out");
        assert!(told.contains(&line), "{told}");
    }
    assert!(told.ends_with("1 agent, 4 warnings, 0 errors\n"), "{told}");
    let tabbed = "---\nname: a\ndescription: b\n\ttools: Read\n---\nc\n";
    write(&folder, "agents/a.md", tabbed);
    let done = folder.run("agents check agents --json").expect(0).json();
    assert_eq!(done["agents"][0]["tools"], serde_json::json!(["Read"]), "{done}");
    assert_eq!(done["agents"][0]["description"], "b", "{done}");
}

#[test]
fn agents_of_somebody_else_are_passed_over_and_it_is_said() {
    let folder = Folder::new();
    write(&folder, "agents/a.md", "---\nname: a\ndescription: b\n---\nc\n");
    write(&folder, "flow.yaml", "{id: x, tasks: [{id: s, agentName: a, prompt: p}]}");
    let agents = folder.path().join("agents");
    if std::os::unix::fs::chown(&agents, Some(4_711), None).is_err() {
        // Who is not root can give nothing away, and has nothing of others beside a workflow.
        folder.run("check flow.yaml").expect(0);
        return;
    }
    let done = folder.run("check flow.yaml").expect(2);
    assert!(done.err.contains("belongs to another user"), "{}", done.err);
    folder.run("--agents agents check flow.yaml").expect(0);
}

#[test]
fn the_nearest_folder_wins_and_what_it_shadows_is_listed() {
    let folder = Folder::new();
    let agent = |words: &str| format!("---\nname: auditor\ndescription: {words}\n---\nLook.\n");
    write(&folder, ".claude/agents/a.md", &agent("from above"));
    write(&folder, "here/.claude/agents/a.md", &agent("from here"));
    write(&folder, "here/.kapelle/agents/a.md", &agent("of kapelle"));
    write(&folder, "named/a.md", &agent("named"));
    write(&folder, "config/kapelle/agents/a.md", &agent("of the user"));
    write(
        &folder,
        "config/kapelle/agents/echo.md",
        "---\nname: echo\ndescription: mine\n---\nEcho.\n",
    );
    let show = |arguments: &str, name: &str| {
        let mut command = folder.command(&format!("agents show {name} --json {arguments}"));
        command.current_dir(folder.path().join("here"));
        command.env("XDG_CONFIG_HOME", folder.path().join("config"));
        let shown = command.output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&shown.stdout).unwrap()
    };
    let remove = |file: &str| std::fs::remove_file(folder.path().join(file)).unwrap();
    let named = show("--agents ../named", "auditor");
    assert_eq!((&named["description"], &named["file"]), (&"named".into(), &"../named/a.md".into()));
    assert_eq!(named["shadows"].as_array().unwrap().len(), 4, "{named}");
    assert_eq!(show("", "auditor")["description"], "of kapelle");
    remove("here/.kapelle/agents/a.md");
    assert_eq!(show("", "auditor")["description"], "from here");
    remove("here/.claude/agents/a.md");
    assert_eq!(show("", "auditor")["description"], "from above");
    remove(".claude/agents/a.md");
    assert_eq!(show("", "auditor")["description"], "of the user");
    assert_eq!(show("", "echo")["shadows"], serde_json::json!(["built-in"]));
    folder.run("agents list --agents nowhere").expect(2);
}

/// A repository that somebody stands in may bring such files along.
#[test]
fn who_takes_the_name_of_an_agent_that_ships_is_told_before_a_run() {
    let folder = Folder::new();
    folder.write("flow.yaml", "id: f\ntasks: [{ id: a, agentName: echo, input: { value: 1 } }]\n");
    let told = |line: &str| folder.run(line).err.contains("not the agent that ships");
    assert!(!told("run flow.yaml") && !told("plan flow.yaml"));
    write(&folder, ".claude/agents/e.md", "---\nname: echo\ndescription: mine\n---\nEcho.\n");
    write(&folder, ".claude/agents/h.md", "---\nname: http\ndescription: mine\n---\nAsk.\n");
    assert!(told("plan flow.yaml") && told("run flow.yaml"));
    let err = folder.run("plan flow.yaml").err;
    assert!(
        err.contains("`echo` is what `.claude/agents/e.md` says") && !err.contains("`http`"),
        "{err}"
    );
}

#[test]
fn what_an_agent_of_a_file_may_do_is_shown() {
    let folder = Folder::new();
    let doer = "---\nname: doer\ndescription: Does.\nmodel: opus\n\
                tools: LS, Write, WebFetch, Bash(git log:*), Bash(rm:*)\n---\n\nYou do.\nWell.\n";
    write(&folder, ".kapelle/agents/doer.md", doer);
    folder.write(
        "kapelle.toml",
        "[models]\ngrants = [\"run_command(git:*)\", \"fetch_url(docs.rs)\"]\n",
    );
    let shown = folder.run("agents show doer").expect(0).out;
    let tools = "tools   fetch_url(docs.rs), list_files, \
                 run_command(git:*, and of these git log:*, rm:*)\n";
    for line in ["model   opus\n", tools, "(`models.grants`): write_file\n", "turns   50\n"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains("prompt  You do. (13 bytes, SHA-256 "), "{shown}");
    let json = folder.run("agents show doer --json").expect(0).json();
    assert_eq!(json["thinks"]["not_granted"], serde_json::json!(["write_file"]), "{json:#}");
    let sha = json["thinks"]["prompt_sha256"].as_str().unwrap();
    assert_eq!(sha.len(), 64);
}

#[test]
fn workflows_may_name_agents_of_files() {
    let folder = Folder::new();
    folder.write("work.yaml", "{id: w, tasks: [{id: a, agentName: auditor, prompt: Look}]}");
    folder.run("check work.yaml").expect(2);
    write(&folder, ".claude/agents/auditor.md", AUDITOR);
    folder.run("check work.yaml").expect(0);
    folder.run("plan work.yaml").expect(0);
    // There is no model here: the step says so, names what is missing, and waits for it.
    let mut command = folder.command("run work.yaml --json");
    for key in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"] {
        command.env_remove(key);
    }
    let ran = command.output().unwrap();
    let out = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status.code(), Some(5), "{out}");
    assert!(out.contains("no model provider is configured, so `opus` cannot be asked"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_reads_what_changes_and_keeps_what_was_good() {
    let folder = Folder::new();
    write(&folder, ".kapelle/agents/auditor.md", AUDITOR);
    folder.write(
        "wait.yaml",
        "{id: w, tasks: [{id: a, agentName: echo, input: {value: 1, delay: 60000}}]}",
    );
    let mut running = folder.start("run wait.yaml --json");
    running.wait_for("step_started", Some("a"));
    let client = kapelle_api::Client::socket(&folder.socket());
    let told = async |wanted: &str| {
        let begin = Instant::now();
        loop {
            let agent = client.agent("auditor").await;
            let description =
                agent.map_or_else(|error| error.to_string(), |agent| agent.description);
            if description == wanted {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{description}");
            a_moment().await;
        }
    };
    told("Finds: what is wrong.").await;
    write(&folder, ".kapelle/agents/auditor.md", &AUDITOR.replace("wrong", "right"));
    told("Finds: what is right.").await;
    write(&folder, ".kapelle/agents/auditor.md", "\0");
    write(&folder, ".kapelle/agents/other.md", &AUDITOR.replace("auditor", "other"));
    while client.agent("other").await.is_err() {
        a_moment().await;
    }
    told("Finds: what is right.").await;
    std::fs::remove_file(folder.path().join(".kapelle/agents/auditor.md")).unwrap();
    told("there is no agent `auditor`").await;
}
