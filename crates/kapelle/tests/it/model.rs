//! Models in the binary: paid once, kept in budget, and their keys kept to themselves.

use std::time::{Duration, Instant};

use kapelle_fake::{Fake, Script};

use crate::support::{Done, Folder, Running, run_of};

/// A key that must be nowhere.
const CANARY: &str = "sk-canary-7f3a9d";

/// An answer that uses nearly all that a call reserves: 16,000 tokens.
fn long() -> Fake {
    let text = "word ".repeat(12_800);
    start(&format!("rules: [{{answer: [{{text: \"{text}\"}}]}}]"))
}

fn start(script: &str) -> Fake {
    Fake::start(Script::parse(script).unwrap()).unwrap()
}

/// So many branches, each with one call, and tokens for three of them.
fn branches(count: usize) -> String {
    let items: Vec<usize> = (0..count).collect();
    format!(
        r#"
id: branches
config: {{ maxParallelAgents: 50, budget: {{ tokens: 50000 }} }}
inputs: {{ items: {{ type: array, default: {items:?} }} }}
tasks:
  - {{ id: ask, agentName: model, forEach: inputs.items, prompt: "number {{{{ item }}}}" }}
output: "{{{{ steps.ask.output | length }}}}"
"#
    )
}

fn with(folder: &Folder, fake: &Fake, line: &str) -> std::process::Command {
    let mut command = folder.command(line);
    command.env("ANTHROPIC_API_KEY", CANARY).env("ANTHROPIC_BASE_URL", fake.url());
    command.env_remove("OPENAI_API_KEY");
    command
}

fn run(folder: &Folder, fake: &Fake, line: &str) -> Done {
    Running::of(with(folder, fake, line)).finish()
}

/// Waits until the fake was asked so often.
fn asked(fake: &Fake, times: usize) {
    let until = Instant::now() + Duration::from_secs(60);
    while fake.journal().len() < times {
        assert!(Instant::now() < until, "{:?}", fake.counts());
        std::thread::yield_now();
    }
}

#[test]
fn fifty_branches_with_room_for_three_calls_make_three() {
    let (folder, fake) = (Folder::new(), long());
    folder.write("workflow.yaml", &branches(50));
    let waits = run(&folder, &fake, "run . --json").expect(5);
    assert_eq!(fake.journal().len(), 3, "{:?}", fake.counts());
    let id = run_of(&waits.events()[0]);
    let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
    let used: u64 = fake
        .journal()
        .iter()
        .map(|entry| {
            let usage = entry.usage.as_ref().unwrap();
            usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(bill["total"]["spent"]["tokens"], used, "{bill:#}");
    assert_eq!(bill["total"]["reserved"]["tokens"], 0, "{bill:#}");
    let why = folder.run(&format!("why {id} ask.3")).expect(0).out;
    assert!(why.contains(&format!("kapelle runs budget {id} --tokens")), "{why}");
    let of_all = folder.run(&format!("why {id} ask")).expect(0).out;
    assert!(of_all.contains(&format!("kapelle runs budget {id} --tokens")), "{of_all}");
    assert!(!of_all.contains("runs resume"), "it would pause again: {of_all}");
    let left = format!("{} of 50000 tokens are left", 50_000 - used);
    let wants = format!("{} tokens are left, it may use 1", 50_000 - used);
    assert!(why.contains(&wants), "{wants}: {why}");
    let again = run(&folder, &fake, &format!("runs resume {id}")).expect(5);
    assert_eq!(again.out.matches("decide:").count(), 1, "{}", again.out);
    assert_eq!(again.out.matches(&left).count(), 1, "{}", again.out);
}

#[test]
fn a_provider_that_tells_its_limits_by_refusing_answers_all_branches() {
    let ask = |vendor: &str| {
        let (folder, fake) = (
            Folder::new(),
            start("limits: { requests: { per_minute: 300, burst: 5 }, silent: true }"),
        );
        folder.write("workflow.yaml", &branches(30).replace(", budget: { tokens: 50000 }", ""));
        let mut command = folder.command("run . --json");
        command.env_remove("ANTHROPIC_API_KEY").env_remove("OPENAI_API_KEY");
        command.env(format!("{vendor}_API_KEY"), CANARY);
        command.env(format!("{vendor}_BASE_URL"), fake.url());
        let done = Running::of(command).finish().expect(0);
        assert_eq!(done.last()["output"], 30);
        let asked = fake.journal().len();
        assert!((31..=45).contains(&asked), "{vendor}: {asked}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| ask("ANTHROPIC"));
        scope.spawn(|| ask("OPENAI"));
    });
}

#[test]
fn a_budget_holds_over_a_kill_and_is_raised_to_go_on() {
    let (folder, fake) = (Folder::new(), long());
    folder.write("workflow.yaml", &branches(5));
    let mut first = Running::of(with(&folder, &fake, "run . --json"));
    let id = run_of(&first.wait_for("run_created", None));
    asked(&fake, 1);
    first.crash();
    run(&folder, &fake, &format!("runs resume {id} --json")).expect(5);
    // What was under way at the kill may have been made, and is counted as if.
    assert!(fake.journal().len() <= 3, "{:?}", fake.counts());
    folder.run(&format!("runs budget {id} --tokens 200000")).expect(0);
    let done = run(&folder, &fake, &format!("runs resume {id} --json")).expect(0);
    assert_eq!(done.last()["output"], 5);
    let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
    assert_eq!(bill["models"][0]["calls"], 5, "{bill:#}");
    for step in bill["steps"].as_array().unwrap() {
        let kinds = ["fresh", "cached", "stored", "output"];
        let tokens = kinds.map(|kind| step[format!("{kind}_tokens")].as_u64().unwrap());
        assert_eq!(step["spent"]["tokens"], tokens.iter().sum::<u64>(), "{bill:#}");
        assert_eq!(step["calls"], 1, "{bill:#}");
    }
    let shown = folder.run(&format!("runs bill {id}")).expect(0).out;
    let model = format!("{}: $0.", bill["models"][0]["model"].as_str().unwrap());
    assert!(shown.contains(&model) && shown.contains(": 5 calls, "), "{shown}");
    assert!(shown.contains(" fresh, 0 cached, "), "{shown}");
    let is_open = bill["total"]["unknown_outcome"]["tokens"] != 0;
    assert_eq!(shown.contains("; unknown outcome "), is_open, "{shown}");
    let refused = folder.run(&format!("runs budget {id} --tokens 1")).expect(2);
    assert!(refused.err.contains("has ended"), "{}", refused.err);
}

/// Local servers often say nothing of it: a budget holds all the same.
#[test]
fn what_a_call_may_have_used_counts_where_nobody_says_what_it_used() {
    let folder = Folder::new();
    let fake = start("delivery: {no_usage: true}\nrules: [{answer: [{text: hello}]}]");
    let provider = format!("[providers.local]\nwire = \"openai\"\nurl = \"{}/v1\"\n", fake.url());
    let models = "key_env = \"LOCAL_KEY\"\n[models]\ndefault = \"local/gpt-5.4-mini\"\n";
    folder.write("kapelle.toml", &(provider + models));
    folder.write("workflow.yaml", &branches(10));
    let line = |line: &str| {
        let mut command = folder.command(line);
        command.env("LOCAL_KEY", CANARY).env_remove("ANTHROPIC_API_KEY");
        Running::of(command).finish()
    };
    let id = run_of(&line("run . --json").expect(5).events()[0]);
    assert!((1..=3).contains(&fake.journal().len()), "{:?}", fake.counts());
    let bill = line(&format!("runs bill {id} --json")).expect(0).json();
    let unknown = bill["total"]["unknown_outcome"]["tokens"].as_u64().unwrap();
    assert!(unknown >= 16_000 * fake.journal().len() as u64, "{bill:#}");
    assert_eq!(bill["total"]["spent"]["tokens"], 0, "{bill:#}");
}

#[test]
fn a_call_that_is_not_to_be_made_yet_costs_nothing_and_counts_for_no_attempt() {
    let folder = Folder::new();
    let fake = start(
        "rules:\n  - {when: {user_contains: first}, faults: [{rate_limit: 3600, at: [1]}], answer: [{text: a}]}\n  \
         - {answer: [{text: b}]}\n",
    );
    let step = |name: &str, more: &str| {
        let retry = "retry: { maxAttempts: 2 }";
        format!("  - {{ id: {name}, agentName: model, prompt: the {name}, {retry}{more} }}\n")
    };
    let shell = "until [ -e go ]; do sleep 0.02; done";
    let gate = format!("  - {{ id: gate, agentName: process, input: {{ shell: '{shell}' }} }}\n");
    let tasks = step("first", "") + &gate + &step("second", ", dependencies: [gate], timeout: 2s");
    folder.write("workflow.yaml", &format!("id: held\ntasks:\n{tasks}"));
    let mut running = Running::of(with(&folder, &fake, "run . --json"));
    let id = run_of(&running.wait_for("run_created", None));
    running.wait_for("step_retrying", Some("first"));
    folder.write("go", "");
    let held = running.wait_for("step_retrying", Some("second"));
    assert_eq!(held["failure"]["code"], "not_yet", "{held:#}");
    assert!(held["failure"]["message"].as_str().unwrap().contains("`anthropic`"), "{held:#}");
    running.crash();
    assert_eq!(fake.journal().len(), 1, "{:?}", fake.counts());
    let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
    assert_eq!(bill["total"]["unknown_outcome"]["tokens"], 0, "{bill:#}");
    let why = folder.run(&format!("why {id} second")).expect(0).out;
    assert!(why.contains("nothing is asked yet"), "{why}");
}

/// Calls that wait for a budget have no leave to be made: a wait that the provider asks for meanwhile is kept.
#[test]
fn a_wait_is_kept_by_calls_that_waited_for_their_budget() {
    let (folder, fake) = (
        Folder::new(),
        start(
            "limits: {requests: {per_minute: 30, burst: 1}, silent: true}\ndelivery: {latency_ms: 700}",
        ),
    );
    let workflow = branches(5).replace("tokens: 50000", "tokens: 24000");
    folder.write("workflow.yaml", &workflow.replace("prompt:", "retry: {maxAttempts: 6}, prompt:"));
    let done = run(&folder, &fake, "run . --json").expect(0);
    assert_eq!(done.last()["output"], 5);
    let early: Vec<_> = fake.journal().iter().filter_map(|entry| entry.early).collect();
    assert!(early.iter().all(|early| early.since_ms < 400), "{early:?}");
    assert!(fake.journal().len() <= 10, "{:?}", fake.counts());
}

/// Else those that wait for one agent's budget would keep all others under the key from asking.
#[test]
fn who_waits_for_a_budget_keeps_nobody_else_waiting() {
    let (folder, fake) = (
        Folder::new(),
        start(
            "rules:\n  - {when: {user_contains: rich}, answer: [{text: a}]}\n  - {delivery: {latency_ms: 3000}, answer: [{text: b}]}",
        ),
    );
    folder.write("kapelle.toml", "[budgets.agents.worker]\ntokens = 20000\n");
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    folder.write("agents/worker.md", "---\nname: worker\ndescription: Works.\n---\nWork.\n");
    let workflow = "id: two\ntasks:\n  \
        - { id: poor, agentName: worker, forEach: '[1,2,3,4,5]', prompt: 'the {{ item }}' }\n  \
        - { id: gate, agentName: process, input: { shell: 'until [ -e go ]; do sleep 0.02; done' } }\n  \
        - { id: rich, agentName: model, dependencies: [gate], prompt: rich }\n";
    folder.write("workflow.yaml", workflow);
    let mut running = Running::of(with(&folder, &fake, "--agents agents run . --json"));
    running.wait_for("run_created", None);
    asked(&fake, 1);
    folder.write("go", "");
    running.wait_for("step_completed", Some("rich"));
    assert_eq!(fake.journal().len(), 2, "{:?}", fake.counts());
}

#[test]
fn who_always_says_at_once_is_asked_less_and_less_often() {
    let folder = Folder::new();
    let fake = start("faults: [{rate_limit: 0}]\nrules: [{answer: [{text: never}]}]");
    folder.write("workflow.yaml", "id: o\ntasks: [{ id: a, agentName: model, prompt: go }]\n");
    let mut running = Running::of(with(&folder, &fake, "run . --json"));
    running.wait_for("step_retrying", Some("a"));
    running.wait_for("step_retrying", Some("a"));
    let second = Instant::now();
    running.wait_for("step_retrying", Some("a"));
    assert!(second.elapsed() > Duration::from_millis(800), "{:?}", fake.counts());
    running.crash();
    // No wait of years, and no silence about it.
    let (folder, fake) = (Folder::new(), start("faults: [{rate_limit: 99999999999}]"));
    folder.write("workflow.yaml", "id: o\ntasks: [{ id: a, agentName: model, prompt: go }]\n");
    let done = run(&folder, &fake, "run . --json").expect(1);
    assert!(done.out.contains("wants to be left alone for 99999999999 s"), "{}", done.out);
}

#[test]
fn what_nobody_knows_the_price_of_costs_unknown_and_not_nothing() {
    let model = "{id: homemade, provider: openai, window: 100000, output_max: 20000}";
    let script = format!("models: [{model}]\nrules: [{{answer: [{{text: ok}}]}}]");
    let (folder, fake) = (Folder::new(), start(&script));
    let provider = format!("wire = \"openai\"\nurl = \"{}/v1\"\nkey_env = \"KEY\"", fake.url());
    let models = "[models]\nbalanced = [\"own/homemade\"]\n";
    folder.write("kapelle.toml", &format!("[providers.own]\n{provider}\n{models}"));
    folder.write("workflow.yaml", "id: o\ntasks: [{ id: a, agentName: model, prompt: go }]\n");
    let done = folder.run_with("run .", &[("KEY", CANARY)]).expect(0);
    assert!(!done.out.contains("$0"), "{}", done.out);
    let id = folder.run("runs list --json").expect(0).json()["items"][0]["id"].clone();
    let bill = format!("runs bill {}", id.as_str().unwrap());
    let shown = folder.run(&bill).expect(0).out;
    assert!(shown.contains("1 call of unknown price") && !shown.contains("$0"), "{shown}");
    let bill = folder.run(&format!("{bill} --json")).expect(0).json();
    let spent = &bill["total"]["spent"];
    assert_eq!(
        (&spent["nano_usd"], &spent["unpriced_calls"]),
        (&serde_json::Value::Null, &1.into())
    );
    assert!(bill["models"][0]["nano_usd"].is_null(), "{bill:#}");
}

#[test]
fn a_model_that_breaks_off_comes_last_and_who_was_passed_over_is_told() {
    let folder = Folder::new();
    let cut = start("faults: [{cut: true}]\nrules: [{answer: [{text: never whole}]}]");
    let busy = start("faults: [{status: 529}]\nrules: [{answer: [{text: never}]}]");
    let good = start("rules: [{answer: [{text: hello}]}]");
    let all = [("cut", &cut), ("busy", &busy), ("good", &good)];
    let providers = all.map(|(name, fake)| {
        let at = format!("wire = \"anthropic\"\nurl = \"{}\"\nkey_env = \"KEY\"", fake.url());
        format!("[providers.{name}]\n{at}\n")
    });
    let models = all.map(|(name, _)| format!("{name}/claude-sonnet-5-5"));
    let text = format!("{}[models]\nbalanced = {models:?}\n", providers.concat());
    folder.write("kapelle.toml", &text);
    let step = "{ id: ask, agentName: model, prompt: go, retry: { initial: 1ms } }";
    folder.write("workflow.yaml", &format!("id: one\ntasks: [{step}]"));
    let mut command = folder.command("run . --json");
    command.env("KEY", CANARY);
    let id = run_of(&Running::of(command).finish().expect(0).events()[0]);
    assert_eq!((cut.journal().len(), good.journal().len()), (1, 1));
    let why = folder.run(&format!("why {id} ask --json")).expect(0).json();
    let call = &why["calls"][0];
    assert_eq!(call["model"], models[2], "{why:#}");
    let passed = call["passed"][0].as_str().unwrap();
    assert!(passed.starts_with("busy/claude-sonnet-5-5: "), "{why:#}");
    let shown = folder.run(&format!("why {id} ask")).expect(0).out;
    let heads = shown.lines().find(|line| line.starts_with("MODEL")).unwrap();
    assert!(shown.contains("\ninstead of busy/claude-sonnet-5-5: the provider"), "{shown}");
    assert!(heads.find("KEY") < Some(40), "a remark widens no column: {shown}");
}

#[test]
fn why_says_of_each_call_who_answered_by_which_key_and_what_it_was_asked() {
    let (folder, fake) = (Folder::new(), start("rules: [{answer: [{text: 'seen'}]}]"));
    let step = "{ id: ask, agentName: model, prompt: 'Look at it.', input: { text: 'a text' } }";
    folder.write("workflow.yaml", &format!("id: one\ntasks: [{step}]"));
    let id = run_of(&run(&folder, &fake, "run . --json").expect(0).events()[0]);
    let line = format!("why {id} ask");
    let why = folder.run(&format!("{line} --json")).expect(0).json();
    let call = &why["calls"][0];
    let usage = fake.journal()[0].usage.clone().unwrap();
    assert_eq!(call["fresh_tokens"], usage["input_tokens"], "{why:#}");
    assert_eq!(call["output_tokens"], usage["output_tokens"], "{why:#}");
    assert!(call["nano_usd"].as_u64().unwrap() > 0, "{why:#}");
    assert_eq!(call["key"], "the environment variable `ANTHROPIC_API_KEY`");
    assert!(call["request"].as_str().unwrap().starts_with("req_"), "{why:#}");
    let asked = fake.journal()[0].body["messages"][0]["content"][0]["text"].clone();
    assert_eq!(call["prompt"]["task"], asked.as_str().unwrap().len(), "{why:#}");
    assert!(call["prompt"]["instructions"].as_u64().unwrap() > 0, "{why:#}");
    let shown = folder.run(&line).expect(0).out;
    assert!(shown.contains("anthropic/claude-") && shown.contains(", task "), "{shown}");
    assert!(!shown.contains(CANARY), "{shown}");
}

#[test]
fn a_command_of_unknown_end_is_named_and_a_person_says_what_it_told() {
    let folder = Folder::new();
    // Root gives up its rights for commands: whoever runs them has to see the folder.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let fake = start(
        r#"
rules:
  - {when: {tool_results: true}, answer: [{text: "it told: {{tool_result}}"}]}
  - answer:
      - tool: {name: run_command, input: {command: [sleep, "600"]}}
      - tool: {name: run_command, input: {command: [sleep, "601"]}}
"#,
    );
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let worker = "---\nname: worker\ndescription: Works.\ntools: Bash(sleep:*)\n---\nYou work.\n";
    folder.write("agents/worker.md", worker);
    folder.write("kapelle.toml", "[models]\ngrants = [\"run_command(sleep:*)\"]\n");
    folder.write("workflow.yaml", "id: nap\ntasks: [{ id: nap, agentName: worker }]\n");
    let mut first = Running::of(with(&folder, &fake, "run . --json"));
    let id = run_of(&first.wait_for("run_created", None));
    for _ in 0..2 {
        while first.wait_for("effect_started", None)["name"] != "tool:run_command" {}
    }
    first.crash();
    run(&folder, &fake, &format!("runs resume {id} --json")).expect(5);
    // Two calls of one tool are in doubt: it is said which one is meant.
    for (seconds, other) in [("600", "601"), ("601", "600")] {
        let why = folder.run(&format!("why {id} nap")).expect(0).out;
        let which = format!("`tool:run_command`: {{\"command\":[\"sleep\",\"{seconds}\"]}}");
        let of_other = why.contains(&format!("\"{other}\""));
        assert!(why.contains(&which) && !of_other, "{why}");
        let word = format!("runs resolve {id} nap --action complete --output");
        let mut command = with(&folder, &fake, &word);
        command.arg("\"it slept well\"");
        Running::of(command).finish().expect(0);
    }
    let done = run(&folder, &fake, &format!("runs resume {id}")).expect(0);
    assert!(done.out.contains("it slept well"), "{}", done.out);
    assert!(done.out.contains("  cost:    ") && done.out.contains("runs bill"), "{}", done.out);
    assert_eq!(fake.journal().len(), 2, "{:?}", fake.counts());
}

#[test]
fn what_a_model_asks_for_and_may_not_have_is_told_as_that() {
    let folder = Folder::new();
    let fake = start(
        r#"
rules:
  - {when: {tool_results: true}, answer: [{text: done}]}
  - answer:
      - tool: {name: write_file, input: {path: a.txt, text: a}}
      - tool: {name: list_files, input: {path: none}}
      - tool: {name: list_files, input: {depth: many}}
"#,
    );
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    folder.write("agents/doer.md", "---\nname: doer\ndescription: Does.\ntools: LS\n---\nDo.\n");
    folder.write("workflow.yaml", "id: do\ntasks: [{ id: do, agentName: doer, prompt: go }]\n");
    let done = run(&folder, &fake, "run . --json").expect(0);
    let id = run_of(&done.events()[0]);
    let of_tool = |event: &serde_json::Value| {
        let name = event["name"].as_str().unwrap_or_default();
        event["type"] == "effect_recorded" && name.starts_with("tool:")
    };
    let events: Vec<_> = done.events().into_iter().filter(of_tool).collect();
    let denied: Vec<_> = events.iter().map(|event| event["denied"] == true).collect();
    assert_eq!(denied.iter().filter(|denied| **denied).count(), 1, "{events:#?}");
    let one = events.iter().find(|event| event["denied"] == true).unwrap();
    assert_eq!(one["name"], "tool:write_file");
    let why = folder.run(&format!("why {id} do")).expect(0).out;
    let said = "it asked for what it may not do, and nothing was done: `write_file`";
    assert!(why.contains(said) && !why.contains("`list_files`"), "{why}");
    let listed = folder.run(&format!("runs events {id}")).expect(0).out;
    assert!(listed.contains("asks for `write_file`, which it may not have"), "{listed}");
}

#[test]
fn a_grant_that_changes_between_kill_and_resume_costs_nothing_that_was_paid() {
    let folder = Folder::new();
    let fake = start(
        r#"
rules:
  - {when: {tool_results: true}, times: 1, delivery: {first_byte_ms: 60000}, answer: [{text: late}]}
  - {when: {tool_results: true}, answer: [{text: "it told: {{tool_result}}"}]}
  - answer: [{tool: {name: list_files, input: {}}}]
"#,
    );
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let doer = "---\nname: doer\ndescription: Does.\ntools: LS, Write\n---\nYou do.\n";
    folder.write("agents/doer.md", doer);
    folder.write("kapelle.toml", "[models]\ngrants = [\"write_file\"]\n");
    folder.write("workflow.yaml", "id: do\ntasks: [{ id: do, agentName: doer, prompt: go }]\n");
    let mut first = Running::of(with(&folder, &fake, "run . --json"));
    let id = run_of(&first.wait_for("run_created", None));
    asked(&fake, 2);
    first.crash();
    folder.write("kapelle.toml", "[models]\ngrants = []\n");
    let done = run(&folder, &fake, &format!("runs resume {id}")).expect(0);
    assert!(done.out.contains("it told: "), "{}", done.out);
    assert_eq!(fake.journal().len(), 3, "{:?}", fake.counts());
}

#[test]
fn a_run_that_is_resumed_without_a_key_waits_for_one() {
    let folder = Folder::new();
    let fake = start(
        r#"
rules:
  - {when: {user_contains: second}, times: 1, delivery: {first_byte_ms: 60000}, answer: [{text: late}]}
  - answer: [{text: "answer"}]
"#,
    );
    let tasks = "  - { id: one, agentName: model, prompt: the first }\n  \
                 - { id: two, agentName: model, prompt: the second, dependencies: [one] }\n";
    folder.write("workflow.yaml", &format!("id: chain\ntasks:\n{tasks}"));
    let mut first = Running::of(with(&folder, &fake, "run . --json"));
    let id = run_of(&first.wait_for("run_created", None));
    asked(&fake, 2);
    first.crash();
    // No provider at all, and one whose key is not set.
    let resume = format!("runs resume {id} --json");
    let provider =
        format!("[providers.anthropic]\nwire = \"anthropic\"\nurl = \"{}\"\n", fake.url());
    let configured = provider + "key_env = \"NO_SUCH_KEY\"\n";
    for (config, lacks) in
        [("", "no model provider is configured"), (&*configured, "`NO_SUCH_KEY` is not set")]
    {
        folder.write("kapelle.toml", config);
        let mut command = folder.command(&resume);
        command.env_remove("ANTHROPIC_API_KEY").env_remove("OPENAI_API_KEY");
        let waits = Running::of(command).finish().expect(5);
        assert!(waits.out.contains(lacks), "{}", waits.out);
        let why = folder.run(&format!("why {id} two")).expect(0).out;
        assert!(why.contains(lacks) && why.contains("runs resume"), "{why}");
    }
    folder.write("kapelle.toml", "");
    let done = run(&folder, &fake, &resume).expect(0);
    assert_eq!(done.last()["output"], "answer");
    assert_eq!(fake.journal().len(), 3, "{:?}", fake.counts());
}

#[test]
fn a_recorded_call_is_not_made_again_after_a_kill() {
    let folder = Folder::new();
    let fake = start(
        r#"
rules:
  - {when: {user_contains: third}, delivery: {first_byte_ms: 60000}, times: 1, answer: [{text: late}]}
  - answer: [{text: "answer"}]
"#,
    );
    let steps = ["first", "second", "third"]
        .map(|name| format!("  - {{ id: {name}, agentName: model, prompt: \"the {name}\" }}\n"));
    let chained = steps.concat().replace("id: second,", "id: second, dependencies: [first],");
    let chained = chained.replace("id: third,", "id: third, dependencies: [second],");
    folder.write("workflow.yaml", &format!("id: chain\ntasks:\n{chained}"));
    let mut first = Running::of(with(&folder, &fake, "run . --json"));
    let id = run_of(&first.wait_for("run_created", None));
    asked(&fake, 3);
    first.crash();
    run(&folder, &fake, &format!("runs resume {id} --json")).expect(0);
    let prompts: Vec<String> = fake
        .journal()
        .iter()
        .map(|entry| entry.body["messages"][0]["content"][0]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(prompts, ["the first", "the second", "the third", "the third"]);
    let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
    assert!(bill["total"]["unknown_outcome"]["tokens"].as_u64().unwrap() > 0, "{bill:#}");
}

#[test]
fn a_key_is_nowhere() {
    let folder = Folder::new();
    let fake = start(
        r#"
rules:
  - {when: {user_contains: bad}, faults: [{status: 401}]}
  - {when: {nth: [1]}, faults: [{status: 500}]}
  - answer: [{text: "answer"}]
"#,
    );
    let tasks = "  - { id: good, agentName: model, prompt: good, retry: { initial: 1ms } }\n  \
                 - { id: bad, agentName: model, prompt: bad, onFailure: continue }\n";
    folder.write("workflow.yaml", &format!("id: keys\ntasks:\n{tasks}"));
    folder.write("kapelle.toml", "[log]\nlevel = \"trace\"\n");
    let done = run(&folder, &fake, "run . --json");
    let id = run_of(&done.events()[0]);
    let told = ["why", "runs show", "runs events", "runs export"].map(|line| {
        let done = run(&folder, &fake, &format!("{line} {id}"));
        done.out + &done.err
    });
    assert!(!(done.out.clone() + &done.err + &told.concat()).contains(CANARY));
    assert!(fake.journal().len() >= 3);
    for file in files(folder.path()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "it is in {}", file.display());
    }
}

#[test]
fn what_can_be_no_key_and_what_an_address_hides_is_nowhere() {
    let (folder, fake) = (Folder::new(), start("rules: [{answer: [{text: ok}]}]"));
    folder.write("workflow.yaml", "id: o\ntasks: [{ id: a, agentName: model, prompt: go }]\n");
    let told = |url: &str, key: &str| {
        let mut command = with(&folder, &fake, "run . --json");
        command.env("ANTHROPIC_API_KEY", key).env("ANTHROPIC_BASE_URL", url);
        let done = Running::of(command).finish();
        let events = folder.run("runs list --json").out;
        format!("{}{}{events}", done.out, done.err)
    };
    let key = told(&fake.url(), "sk-CAN\u{c4}RY1234567");
    assert!(key.contains("holds what can be no key") && !key.contains("RY1234567"), "{key}");
    let host = fake.url().replace("http://", "");
    for url in [
        "ftp://lovelace:pw-4711@h/v1".to_owned(),
        format!("http://lovelace:pw-4711@{host}"),
        format!("gopher://{host}/?key=pw-4711"),
    ] {
        let told = told(&url, "sk-any-key-at-all");
        assert!(!told.contains("pw-4711") && !told.contains("lovelace"), "{url}: {told}");
        assert!(told.contains("address such as") || told.contains("credentials"), "{url}: {told}");
    }
    assert_eq!(fake.journal().len(), 0);
}

/// Where this process is root, as somebody who is not: nothing is kept from root.
#[test]
fn a_step_reads_no_key_out_of_the_process_that_started_it() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt as _;
    let (folder, fake) = (Folder::new(), start("rules: [{answer: [{text: ok}]}]"));
    let look = "for p in /proc/[0-9]*; do cat $p/environ; done 2>/dev/null | tr -c '[:print:]' x";
    let tasks = format!(
        "tasks:\n  - {{ id: ask, agentName: model, prompt: go }}\n  \
         - {{ id: look, agentName: process, dependencies: [ask], input: {{ parse: text, shell: \"{look}\" }} }}\n"
    );
    folder.write("workflow.yaml", &format!("id: nosy\n{tasks}"));
    let (mut command, key) = (with(&folder, &fake, "run . --json"), "sk-nosy-55b1c9");
    command.env("ANTHROPIC_API_KEY", key);
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        command.uid(65_534).gid(65_534);
    }
    let done = Running::of(command).finish().expect(0);
    let told = serde_json::to_string(&done.events()).unwrap();
    assert!(told.contains("KAPELLE_OUT="), "it looks where there is something to see: {told}");
    assert!(!told.contains(key), "{told}");
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all.extend(files(&entry.path()));
        } else if kind.is_file() {
            all.push(entry.path());
        }
    }
    all
}

#[test]
fn rules_answer_where_a_budget_has_no_room_for_a_model() {
    let (folder, fake) = (Folder::new(), start("rules: [{answer: [{json: {sentences: [1]}}]}]"));
    let workflow = |engine: &str| {
        let text = "The server listens on port 8080 by default. Gulls nest on the roof in spring.";
        let input = format!("{{ text: '{text}', sentences: 1, engine: {engine} }}");
        let step = format!("{{ id: sum, agentName: summarizer, input: {input} }}");
        folder.write(
            "workflow.yaml",
            &format!("id: poor\nconfig: {{ budget: {{ tokens: 100 }} }}\ntasks: [{step}]"),
        );
    };
    workflow("auto");
    let done = run(&folder, &fake, "run . --json").expect(0);
    let ended = done.events().into_iter().find(|event| event["type"] == "step_completed").unwrap();
    assert_eq!(ended["engine"], "rules", "{ended:#}");
    let note = done.last()["output"].to_string();
    assert!(note.contains("rules answered, not a model"), "{note}");
    // Who wants a model for sure waits for more.
    workflow("model");
    run(&folder, &fake, "run . --json").expect(5);
    assert_eq!(fake.journal().len(), 0, "{:?}", fake.counts());
}

#[test]
fn the_first_example_of_the_manual_works_at_either_provider() {
    let manual = include_str!("../../../../docs/models.md");
    let (_, rest) = manual.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let read = "id: example\ntasks:\n  - { id: read, agentName: echo, input: { value: a text } }\n";
    let example = example.replacen("tasks:\n", read, 1);
    let example =
        example.replace("agentName: model\n", "agentName: model\n    dependencies: [read]\n");
    for key in ["ANTHROPIC", "OPENAI"] {
        let (folder, fake) = (Folder::new(), start("{}"));
        folder.write("workflow.yaml", &example);
        let mut command = folder.command("run . --json");
        let at = fake.url();
        let base = if key == "OPENAI" { format!("{at}/v1") } else { at };
        command.env(format!("{key}_API_KEY"), CANARY).env(format!("{key}_BASE_URL"), base);
        let done = Running::of(command).finish().expect(0);
        let answered = done.events().into_iter().filter(|event| event["type"] == "step_completed");
        assert!(answered.clone().any(|event| event["output"]["topic"].is_string()), "{}", done.out);
        assert_eq!(fake.journal().len(), 1, "{key}: {:?}", fake.counts());
    }
}

#[test]
fn a_wait_is_kept_by_all_processes_of_a_store_and_over_a_kill() {
    let (folder, fake) = (Folder::new(), start("faults: [{rate_limit: 3, at: [1]}]"));
    let step =
        "{ id: ask, agentName: model, prompt: 'go', retry: { maxAttempts: 9, initial: 1ms } }";
    folder.write("workflow.yaml", &format!("id: one\ntasks: [{step}]"));
    let mut first = Running::of(with(&folder, &fake, "run . --json"));
    let id = run_of(&first.wait_for("run_created", None));
    first.wait_for("step_retrying", None);
    let told = Instant::now();
    first.crash();
    let second = Running::of(with(&folder, &fake, "run . --json"));
    run(&folder, &fake, &format!("runs resume {id} --json")).expect(0);
    second.finish().expect(0);
    assert!(told.elapsed() > Duration::from_millis(2_500), "{:?}", told.elapsed());
    let early: Vec<_> = fake.journal().into_iter().filter_map(|entry| entry.early).collect();
    assert!(early.is_empty(), "{early:?}");
    assert_eq!(fake.journal().len(), 3, "{:?}", fake.counts());
    for file in files(&folder.path().join(".kapelle/pace")) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!format!("{text} {}", file.display()).contains(CANARY), "{text}");
    }
}

#[test]
fn limits_of_what_is_written_are_kept() {
    let limits = "limits: {output_tokens: {per_minute: 60000, burst: 500}}";
    let text = "word ".repeat(240);
    let (folder, fake) =
        (Folder::new(), start(&format!("{limits}\nrules: [{{answer: [{{text: \"{text}\"}}]}}]")));
    let retry = "prompt: \"number {{ item }}\", retry: { maxAttempts: 30, initial: 1ms }";
    let workflow = branches(15).replace("prompt: \"number {{ item }}\"", retry);
    folder.write("workflow.yaml", &workflow.replace("50000", "9000000"));
    run(&folder, &fake, "run . --json").expect(0);
    let requests = fake.journal().len();
    assert!(requests <= 22, "{requests} requests for 15 answers: {:?}", fake.counts());
}

#[test]
fn what_siblings_share_is_read_out_of_the_cache() {
    let (folder, fake) = (Folder::new(), start("rules: [{answer: [{text: 'seen'}]}]"));
    let long = "A line about gulls on roofs. ".repeat(560);
    let task = "{ id: ask, agentName: model, forEach: inputs.items, prompt: 'Judge it.', \
                input: { item: '{{ item }}', text: '{{ inputs.long }}' } }";
    let inputs = "{ items: { type: array, default: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }, long: { type: string } }";
    folder.write("workflow.yaml", &format!("id: ten\ninputs: {inputs}\ntasks: [{task}]"));
    folder.write("inputs.json", &serde_json::json!({"long": long}).to_string());
    run(&folder, &fake, "run . --json --inputs inputs.json").expect(0);
    let sum = |name: &str| -> u64 {
        fake.journal()
            .iter()
            .map(|entry| entry.usage.as_ref().unwrap()[name].as_u64().unwrap())
            .sum()
    };
    let figures =
        ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"].map(sum);
    // Stored once, read by the nine others.
    let text = (long.len() / 4) as u64;
    assert!((text..text + 200).contains(&figures[1]), "{figures:?}");
    assert!(figures[2] >= 9 * text, "{figures:?}");
    assert!(figures[0] < 10 * 200, "{figures:?}");
    // Each in a fence that its text cannot close, before what is asked of this one.
    let asked = fake.journal()[0].body["messages"][0]["content"].clone();
    let (shared, own) = (asked[0]["text"].as_str().unwrap(), asked[1]["text"].as_str().unwrap());
    assert!(
        shared.starts_with("<data of=\"input text\" mark=") && own.starts_with("Judge it."),
        "{own}"
    );
}
