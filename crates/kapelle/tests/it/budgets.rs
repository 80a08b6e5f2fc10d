//! What may be spent in all runs together, by real processes on one store.

use std::time::{Duration, Instant};

use kapelle_fake::{Fake, Script};
use serde_json::Value as Json;

use crate::support::{Done, Folder, Running, run_of};

/// An answer that uses nearly all that a call reserves: 16,000 tokens.
fn long() -> Fake {
    let text = "word ".repeat(12_800);
    let script = format!("rules: [{{answer: [{{text: \"{text}\"}}]}}]");
    Fake::start(Script::parse(&script).unwrap()).unwrap()
}

/// Five branches with a call each, by this agent.
fn branches(agent: &str) -> String {
    format!(
        "id: branches\ninputs: {{ items: {{ type: array, default: [0, 1, 2, 3, 4] }} }}\n\
         tasks:\n  - {{ id: ask, agentName: {agent}, forEach: inputs.items, prompt: 'number {{{{ item }}}}' }}\n"
    )
}

fn start(folder: &Folder, fake: &Fake, line: &str) -> Running {
    let mut command = folder.command(line);
    command.env("ANTHROPIC_API_KEY", "k").env("ANTHROPIC_BASE_URL", fake.url());
    command.env_remove("OPENAI_API_KEY");
    Running::of(command)
}

fn run(folder: &Folder, fake: &Fake, line: &str) -> Done {
    start(folder, fake, line).finish()
}

/// The tokens that the fake was asked for, in and out.
fn used(fake: &Fake) -> u64 {
    let of = |usage: &Json, name: &str| usage[name].as_u64().unwrap();
    let journal = fake.journal();
    let all = journal.iter().map(|entry| entry.usage.as_ref().unwrap());
    all.map(|usage| of(usage, "input_tokens") + of(usage, "output_tokens")).sum()
}

#[test]
fn runs_of_several_processes_share_one_limit_and_go_on_when_it_is_raised() {
    let (folder, fake) = (Folder::new(), long());
    folder.write("workflow.yaml", &branches("model"));
    folder.write("kapelle.toml", "[budgets.tenant]\ntokens = 50000\n");
    let runs = [0; 3].map(|_| start(&folder, &fake, "run . --json"));
    let waits = runs.map(|run| run.finish().expect(5));
    assert_eq!(fake.journal().len(), 3, "{:?}", fake.counts());
    let budgets = folder.run("budgets --json").expect(0).json();
    let account = &budgets["accounts"][0];
    assert_eq!((&account["account"], &account["per"]), (&"tenant".into(), &"day".into()));
    assert_eq!(account["spent"]["tokens"], used(&fake), "{budgets:#}");
    assert_eq!(account["reserved"]["tokens"], 0, "{budgets:#}");
    assert_eq!(account["left"]["tokens"], 50_000 - used(&fake), "{budgets:#}");
    let ids = waits.map(|done| run_of(&done.events()[0]));
    let why = folder.run(&format!("why {}", ids[0])).expect(0).out;
    assert!(why.contains("the limit of all runs together has no room"), "{why}");
    assert!(why.contains("it begins anew") && why.contains("kapelle budgets"), "{why}");
    folder.write("kapelle.toml", "[budgets.tenant]\ntokens = 400000\nper = \"month\"\n");
    for id in &ids {
        run(&folder, &fake, &format!("runs resume {id} --json")).expect(0);
    }
    assert_eq!(fake.journal().len(), 15, "{:?}", fake.counts());
    let shown = folder.run("budgets").expect(0).out;
    assert!(shown.contains(&format!("{} tokens left of 400000", 400_000 - used(&fake))), "{shown}");
}

#[test]
fn a_limit_of_all_runs_holds_over_a_kill() {
    let (folder, fake) = (Folder::new(), long());
    folder.write("workflow.yaml", &branches("model"));
    folder.write("kapelle.toml", "[budgets.tenant]\ntokens = 50000\nper = \"ever\"\n");
    let mut first = start(&folder, &fake, "run . --json");
    let id = run_of(&first.wait_for("run_created", None));
    let until = Instant::now() + Duration::from_secs(60);
    while fake.journal().is_empty() {
        assert!(Instant::now() < until, "{:?}", fake.counts());
        std::thread::yield_now();
    }
    first.crash();
    // Nobody will say how the calls ended that were under way: they count as paid, for other runs too.
    run(&folder, &fake, "run . --json").expect(5);
    run(&folder, &fake, &format!("runs resume {id} --json")).expect(5);
    assert!(fake.journal().len() <= 3, "{:?}", fake.counts());
    let budgets = folder.run("budgets --json").expect(0).json();
    let spent = budgets["accounts"][0]["spent"]["tokens"].as_u64().unwrap();
    assert!((used(&fake)..=50_000).contains(&spent), "{budgets:#}");
    assert_eq!(budgets["accounts"][0]["reserved"]["tokens"], 0, "{budgets:#}");
}

#[test]
fn what_died_with_its_process_is_reserved_no_more_when_its_run_is_taken_over() {
    let (folder, fake) = (Folder::new(), long());
    folder.write("workflow.yaml", &branches("model"));
    folder.write("kapelle.toml", "[budgets.tenant]\ntokens = 9000000\n");
    let mut first = start(&folder, &fake, "run . --json");
    let id = run_of(&first.wait_for("effect_started", None));
    first.crash();
    run(&folder, &fake, &format!("runs resume {id} --json")).expect(0);
    let budgets = folder.run("budgets --json").expect(0).json();
    let account = &budgets["accounts"][0];
    assert_eq!(account["reserved"]["tokens"], 0, "{budgets:#}");
    let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
    let sum = |of: &str| bill["total"][of]["tokens"].as_u64().unwrap();
    assert!(sum("unknown_outcome") > 0, "{bill:#}");
    assert_eq!(account["spent"]["tokens"], sum("spent") + sum("unknown_outcome"), "{bill:#}");
}

#[test]
fn of_words_of_many_processes_to_one_run_none_is_refused() {
    let (folder, fake) = (Folder::new(), long());
    folder.write(
        "workflow.yaml",
        &branches("model")
            .replace("id: branches", "id: branches\nconfig: { budget: { tokens: 20000 } }"),
    );
    let id = run_of(&run(&folder, &fake, "run . --json").expect(5).events()[0]);
    let raises = [0; 8].map(|_| start(&folder, &fake, &format!("runs budget {id} --tokens 1000")));
    let ends = raises.map(Running::finish);
    // Who lost the run in the midst of it does not know, and says so; nobody is refused.
    let done = ends.iter().filter(|end| end.code == 0).count() as u64;
    for end in &ends {
        assert!(end.code == 0 || end.err.contains("outcome unknown"), "{}", end.err);
    }
    let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
    let tokens = bill["budget"]["tokens"].as_u64().unwrap();
    assert!((20_000 + 1_000 * done..=28_000).contains(&tokens), "{done}: {bill:#}");
}

#[test]
fn a_limit_of_an_agent_stops_that_agent_alone() {
    let (folder, fake) = (Folder::new(), long());
    for name in ["poor", "rich"] {
        let text = format!("---\nname: {name}\ndescription: answers\n---\nYou answer.\n");
        std::fs::create_dir_all(folder.path().join(".claude/agents")).unwrap();
        folder.write(&format!(".claude/agents/{name}.md"), &text);
        folder.write(&format!("{name}.yaml"), &branches(name));
    }
    folder.write("kapelle.toml", "[budgets.agents.poor]\ntokens = 20000\n");
    let waits = run(&folder, &fake, "run poor.yaml --json").expect(5);
    assert_eq!(fake.journal().len(), 1, "{:?}", fake.counts());
    let id = run_of(&waits.events()[0]);
    let why = folder.run(&format!("why {id}")).expect(0).out;
    assert!(why.contains("the limit of agent `poor` has no room"), "{why}");
    run(&folder, &fake, "run rich.yaml --json").expect(0);
    assert_eq!(fake.journal().len(), 6, "{:?}", fake.counts());
}

#[test]
fn a_limit_in_money_of_each_agent_is_kept_to_the_nano_dollar() {
    let (folder, fake) = (Folder::new(), long());
    folder.write("workflow.yaml", &branches("model"));
    // An answer costs up to 0.24 dollars and is reserved as such: there is room for two.
    folder.write("kapelle.toml", "[budgets.agents.\"*\"]\nusd = 0.6\n");
    let id = run_of(&run(&folder, &fake, "run . --json").expect(5).events()[0]);
    let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
    let account = folder.run("budgets --json").expect(0).json()["accounts"][0].clone();
    assert_eq!(account["account"], "agent model");
    assert_eq!(account["spent"]["nano_usd"], bill["total"]["spent"]["nano_usd"], "{account:#}");
    let (spent, left) = (&account["spent"]["nano_usd"], &account["left"]["nano_usd"]);
    assert_eq!(spent.as_i64().unwrap() + left.as_i64().unwrap(), 600_000_000, "{account:#}");
    assert!(left.as_i64().unwrap() < 300_000_000, "{account:#}");
}

#[test]
fn where_a_limit_is_in_money_a_call_of_unknown_price_is_not_made() {
    let script = "models: [{id: nobody-knows, provider: anthropic, window: 100000, output_max: 20000}]\n\
                  rules: [{answer: [{text: 'hello'}]}]";
    let (folder, fake) = (Folder::new(), Fake::start(Script::parse(script).unwrap()).unwrap());
    folder.write("workflow.yaml", &branches("model"));
    folder.write(
        "kapelle.toml",
        "[models]\nbalanced = [\"anthropic/nobody-knows\"]\n[budgets.tenant]\nusd = 100\n",
    );
    let id = run_of(&run(&folder, &fake, "run . --json").expect(5).events()[0]);
    assert_eq!(fake.journal().len(), 0, "{:?}", fake.counts());
    let why = folder.run(&format!("why {id} ask.0")).expect(0).out;
    assert!(why.contains("nobody knows what this call costs"), "{why}");
    assert!(why.contains("models.prices"), "{why}");
}

#[test]
fn a_limit_of_time_lets_calls_begin_while_any_is_left() {
    let script = "delivery: {latency_ms: 20}\nrules: [{answer: [{text: 'hello'}]}]";
    let (folder, fake) = (Folder::new(), Fake::start(Script::parse(script).unwrap()).unwrap());
    folder.write("workflow.yaml", &branches("model"));
    folder.write("kapelle.toml", "[budgets.tenant]\ntime = \"1ms\"\n");
    let id = run_of(&run(&folder, &fake, "run . --json").expect(5).events()[0]);
    assert_eq!(fake.journal().len(), 1, "{:?}", fake.counts());
    let budgets = folder.run("budgets --json").expect(0).json();
    let account = &budgets["accounts"][0];
    assert!(account["spent"]["time_ms"].as_u64().unwrap() >= 20, "{budgets:#}");
    assert_eq!(account["left"]["time_ms"], 0, "{budgets:#}");
    let why = folder.run(&format!("why {id}")).expect(0).out;
    assert!(why.contains("no time is left"), "{why}");
    folder.write("kapelle.toml", "[budgets.tenant]\ntime = \"1h\"\n");
    run(&folder, &fake, &format!("runs resume {id} --json")).expect(0);
    assert_eq!(fake.journal().len(), 5, "{:?}", fake.counts());
}

#[test]
fn a_run_out_of_time_pauses_and_goes_on_with_more() {
    let folder = Folder::new();
    let wait = "until [ -e go ]; do sleep 0.02; done";
    folder.write(
        "workflow.yaml",
        &format!(
            "id: late\nconfig: {{ budget: {{ time: 50ms }} }}\ntasks:\n\
             \x20 - {{ id: first, agentName: process, input: {{ shell: '{wait}' }} }}\n\
             \x20 - {{ id: then, agentName: process, input: {{ shell: 'echo done' }}, dependencies: [first] }}\n"
        ),
    );
    let mut running = Running::of(folder.command("run . --json"));
    let id = run_of(&running.wait_for("run_created", None));
    let paused = running.wait_for("run_paused", None);
    assert_eq!(paused["reason"], "the budget of time is used up", "{paused:#}");
    folder.write("go", "");
    running.finish().expect(5);
    let shown = folder.run(&format!("runs show {id} --json")).expect(0).json();
    assert_eq!(shown["steps"][0]["status"], "completed", "what was under way ends: {shown:#}");
    let more = format!("runs budget {id} --time");
    let why = folder.run(&format!("why {id}")).expect(0).out;
    assert!(why.contains(&format!("kapelle {more} 10m")), "{why}");
    let refused = folder.run(&format!("runs resume {id}")).expect(2);
    assert!(refused.err.contains("raise it"), "{}", refused.err);
    folder.run(&format!("{more} 1h")).expect(0);
    folder.run(&format!("runs resume {id} --json")).expect(0);
    let bill = folder.run(&format!("runs bill {id}")).expect(0).out;
    assert!(bill.contains("1h") && bill.contains("active"), "{bill}");
}

#[test]
fn why_advises_more_of_what_is_limited() {
    let (folder, fake) = (Folder::new(), long());
    let workflow = "id: dear\nconfig: { budget: { usd: 0.000001 } }\n\
        tasks: [{ id: a, agentName: model, prompt: go }]\n";
    folder.write("workflow.yaml", workflow);
    let id = run_of(&run(&folder, &fake, "run . --json").expect(5).events()[0]);
    let why = folder.run(&format!("why {id}")).expect(0).out;
    assert!(why.contains(&format!("kapelle runs budget {id} --usd X")), "{why}");
    assert!(!why.contains(&format!("runs budget {id} --tokens")), "{why}");
}
