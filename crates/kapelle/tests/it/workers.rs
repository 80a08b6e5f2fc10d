//! Agents whose work others do: registered, asked for, lost, fenced.

use kapelle_api::{
    AgentPatch, AgentsQuery, Assignment, Beat, Client, Completion, EventKind, NewAction, NewAgent,
    NewEffect, NewFailure, Resolution, Resolve, WorkQuery,
};
use serde_json::json;

use crate::serve::{Server, workflow};
use crate::support::Folder;

const ONE: &str = "{id: one, tasks: [{id: a, agentName: coder, input: {text: hi}}]}";

fn coder(lease: &str) -> NewAgent {
    NewAgent {
        name: "coder".to_owned(),
        description: "writes code".to_owned(),
        capabilities: vec!["rust".to_owned()],
        domains: vec!["code".to_owned()],
        lease: Some(lease.to_owned()),
        ..NewAgent::default()
    }
}

async fn work(client: &Client) -> Assignment {
    client.work("coder", &WorkQuery::default()).await.unwrap().expect("there is something to do")
}

fn done(output: serde_json::Value) -> Completion {
    Completion { output, ..Completion::default() }
}

/// The kinds of a run's events, to its end.
async fn story(client: &Client, run: &str) -> Vec<EventKind> {
    let (mut events, mut story) = (client.events(run, 0), Vec::new());
    while let Some(event) = events.next().await {
        story.push(event.unwrap().kind);
    }
    story
}

fn completions(story: &[EventKind]) -> usize {
    story.iter().filter(|kind| matches!(kind, EventKind::StepCompleted { .. })).count()
}

#[tokio::test]
async fn an_agent_is_registered_found_changed_and_removed() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let client = server.client(None);
    let shown = client.register_agent(&coder("20s")).await.unwrap();
    assert_eq!((&*shown.health, &*shown.actions[0].name), ("absent", "run"));
    // The same again is the same; another one of this name is not.
    assert_eq!(client.register_agent(&coder("20s")).await.unwrap(), shown);
    let other = client.register_agent(&coder("21s")).await.unwrap_err();
    assert_eq!(other.code(), Some("agent_conflict"));
    assert!(other.to_string().contains("with another `lease`; `PATCH`"), "{other}");
    let ours = NewAgent { name: "echo".to_owned(), ..coder("20s") };
    assert_eq!(client.register_agent(&ours).await.unwrap_err().code(), Some("agent_conflict"));

    let found = async |query: AgentsQuery| {
        let found = client.agents_by(&query).await.unwrap().items;
        found.into_iter().map(|agent| agent.name).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    let by = AgentsQuery::default;
    assert_eq!(found(AgentsQuery { domain: some("code"), ..by() }).await, ["coder"]);
    assert_eq!(found(AgentsQuery { capability: some("rust"), ..by() }).await, ["coder"]);
    assert_eq!(found(AgentsQuery { health: some("absent"), ..by() }).await, ["coder"]);
    assert!(!found(AgentsQuery { health: some("ok"), ..by() }).await.contains(&"coder".to_owned()));
    assert_eq!(found(AgentsQuery { domain: some("cooking"), ..by() }).await, [""; 0]);

    let patch = AgentPatch { domains: Some(vec!["cooking".to_owned()]), ..AgentPatch::default() };
    let changed = client.update_agent("coder", &patch).await.unwrap();
    assert_eq!(
        (&changed.domains[..], &*changed.description),
        (&["cooking".to_owned()][..], "writes code")
    );
    // It outlives its server.
    assert_eq!(server.leave(), Some(0));
    let server = Server::start(&folder);
    let client = server.client(None);
    assert_eq!(client.agent("coder").await.unwrap().domains, ["cooking"]);
    client.remove_agent("coder").await.unwrap();
    assert_eq!(client.remove_agent("coder").await.unwrap_err().code(), Some("agent_not_found"));
    let work = client.work("coder", &WorkQuery::default()).await.unwrap_err();
    assert_eq!(work.code(), Some("agent_not_found"));
}

#[tokio::test]
async fn all_that_is_wrong_with_a_registration_is_told_at_once() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let action =
        |name: &str, input| NewAction { name: name.to_owned(), input, ..NewAction::default() };
    let odd = NewAgent {
        name: "a b".to_owned(),
        actions: vec![action("x", None), action("x", Some(json!({"type": 7})))],
        capabilities: vec![String::new()],
        lease: Some("1ms".to_owned()),
        on_unknown: Some("hope".to_owned()),
        ..NewAgent::default()
    };
    let error = server.client(None).register_agent(&odd).await.unwrap_err();
    let kapelle_api::client::Error::Problem(problem) = error else { panic!("{error}") };
    let fields: Vec<_> = problem.problems.iter().map(|problem| &*problem.field).collect();
    assert_eq!(
        fields,
        ["name", "actions[1].name", "actions[1].input", "capabilities[0]", "lease", "on_unknown"]
    );
}

#[tokio::test]
async fn a_worker_gets_work_says_how_far_it_is_and_completes_it_once() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let client = server.client(None);
    client.register_agent(&coder("20s")).await.unwrap();
    // Whoever waits before there is work gets it as soon as there is.
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { work(&client).await }
    });
    let run = client.submit(&workflow(ONE)).await.unwrap().id;
    let assigned = waiting.await.unwrap();
    assert_eq!((&assigned.input, assigned.number), (&json!({"text": "hi"}), 1));
    assert_eq!(assigned.key, format!("{run}/a/0/0"));
    let beat = Beat { message: Some("half".to_owned()), fraction: Some(0.5) };
    assert!(!client.heartbeat(&assigned.attempt, &beat).await.unwrap().cancel);
    let agent = client.agent("coder").await.unwrap();
    assert_eq!((agent.health.as_str(), agent.workers.unwrap().working), ("ok", 1));
    assert_eq!((agent.activity.running, agent.activity.status.as_str()), (1, "working"));

    let effect = NewEffect {
        ordinal: 1,
        name: "charge".to_owned(),
        input: json!(7),
        once: true,
        ..NewEffect::default()
    };
    let begun = client.effect(&assigned.attempt, &effect).await.unwrap();
    assert_eq!((&*begun.status, begun.key), ("begun", format!("{run}/a/1/0")));
    let paid = NewEffect { output: Some(json!("receipt")), ..effect.clone() };
    for _ in 0..2 {
        let recorded = client.effect(&assigned.attempt, &paid).await.unwrap();
        assert_eq!((&*recorded.status, recorded.output), ("recorded", Some(json!("receipt"))));
    }
    let other = NewEffect { input: json!(8), ..effect };
    let other = client.effect(&assigned.attempt, &other).await.unwrap_err();
    assert_eq!(other.code(), Some("effect_recorded"));

    for _ in 0..2 {
        let settled = client.complete(&assigned.attempt, &done(json!("code"))).await.unwrap();
        assert_eq!(settled.status, "completed");
    }
    let other = client.complete(&assigned.attempt, &done(json!("other"))).await.unwrap_err();
    assert_eq!(other.code(), Some("stale_attempt"));
    assert_eq!(completions(&story(&client, &run).await), 1);
    assert_eq!(client.run(&run).await.unwrap().output, json!("code"));
    let activity = client.agent("coder").await.unwrap().activity;
    assert_eq!((activity.completed, activity.running), (1, 0));
    let nothing = WorkQuery { wait: Some("0s".to_owned()) };
    assert_eq!(client.work("coder", &nothing).await.unwrap(), None);
}

#[tokio::test]
async fn a_silent_worker_is_replaced_under_the_same_key_and_its_late_words_change_nothing() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let client = server.client(None);
    client.register_agent(&coder("1s")).await.unwrap();
    let run = client.submit(&workflow(ONE)).await.unwrap().id;
    let silent = work(&client).await;
    let fetched = NewEffect {
        ordinal: 1,
        name: "fetch".to_owned(),
        output: Some(json!([1, 2])),
        ..NewEffect::default()
    };
    client.effect(&silent.attempt, &fetched).await.unwrap();
    let next = work(&client).await;
    assert_eq!((next.number, &next.key), (2, &silent.key));
    // What is on record comes along.
    assert_eq!((next.recorded.len(), &next.recorded[0].output), (1, &Some(json!([1, 2]))));
    let late = client.complete(&silent.attempt, &done(json!("late"))).await.unwrap_err();
    assert_eq!(late.code(), Some("stale_attempt"));
    let late = client.heartbeat(&silent.attempt, &Beat::default()).await.unwrap_err();
    assert_eq!(late.code(), Some("stale_attempt"));
    let late = client.fail(&silent.attempt, &NewFailure::default()).await.unwrap_err();
    assert_eq!(late.code(), Some("stale_attempt"));
    client.complete(&next.attempt, &done(json!("good"))).await.unwrap();
    let story = story(&client, &run).await;
    assert_eq!(completions(&story), 1);
    assert_eq!(client.run(&run).await.unwrap().output, json!("good"));
}

#[tokio::test]
async fn a_step_that_loses_one_worker_after_the_other_asks_a_person_in_the_end() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let client = server.client(None);
    client.register_agent(&coder("100ms")).await.unwrap();
    let text = "{id: one, tasks: [{id: a, agentName: coder, retry: {maxLost: 2}}]}";
    let run = client.submit(&workflow(text)).await.unwrap().id;
    for number in 1..=2 {
        // Nothing is heard of either.
        assert_eq!(work(&client).await.number, number);
    }
    let mut events = client.events(&run, 0);
    let reason = loop {
        let event = events.next().await.expect("it goes on").unwrap();
        if let EventKind::StepBlocked { reason, .. } = event.kind {
            break reason;
        }
    };
    assert_eq!(reason, "poison");
    let why = client.why_step(&run, "a").await.unwrap();
    assert!(why.reasons[0].contains("2 workers in a row were lost"), "{why:?}");
    assert!(why.unblock.iter().any(|help| help.command.contains(&"resolve".to_owned())), "{why:?}");
    let again = Resolution { action: Resolve::Retry, output: None, by: None, comment: None };
    client.resolve(&run, "a", &again).await.unwrap();
    let third = work(&client).await;
    client.complete(&third.attempt, &done(json!("at last"))).await.unwrap();
    assert_eq!(completions(&story(&client, &run).await), 1);
}

#[tokio::test]
async fn a_server_that_comes_again_says_that_it_works_on_what_it_took_over() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    server.client(None).register_agent(&coder("20s")).await.unwrap();
    let run = server.client(None).submit(&workflow(ONE)).await.unwrap().id;
    drop(server);
    let server = Server::start(&folder);
    let client = server.client(None);
    let why = client.why(&run).await.unwrap();
    assert!(!why.reasons.contains(&"no node works on it".to_owned()), "{why:?}");
    let node = client.run(&run).await.unwrap().node.expect("it says who works on it");
    assert_eq!(json!(node.id), client.health().await.unwrap()["node"]);
}

#[tokio::test]
async fn a_worker_hears_that_its_attempt_is_not_wanted_any_more() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let client = server.client(None);
    client.register_agent(&coder("20s")).await.unwrap();
    let run = client.submit(&workflow(ONE)).await.unwrap().id;
    let assigned = work(&client).await;
    client.cancel(&run, &kapelle_api::Wish::default()).await.unwrap();
    while !client.heartbeat(&assigned.attempt, &Beat::default()).await.unwrap().cancel {}
    let stopped = NewFailure { kind: Some("cancelled".to_owned()), ..NewFailure::default() };
    assert_eq!(client.fail(&assigned.attempt, &stopped).await.unwrap().status, "failed");
    let story = story(&client, &run).await;
    assert!(matches!(story.last(), Some(EventKind::RunCompleted { .. })), "{story:?}");
    assert_eq!(client.run(&run).await.unwrap().status, "cancelled");
}

#[tokio::test]
async fn what_a_worker_may_register_and_do_is_what_its_key_names() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let key = |line: &str| {
        let made = folder.run(&format!("keys create --name k --json {line}")).expect(0).json();
        server.client(made["key"].as_str())
    };
    let named = key("--role worker --agent coder --tenant acme");
    let any = key("--role worker --tenant acme");
    let other = key("--role operator --tenant other");
    let refused = any.register_agent(&coder("20s")).await.unwrap_err();
    assert_eq!(refused.code(), Some("not_permitted"));
    named.register_agent(&coder("20s")).await.unwrap();
    let more = NewAgent { name: "more".to_owned(), ..coder("20s") };
    assert_eq!(named.register_agent(&more).await.unwrap_err().code(), Some("not_permitted"));
    let refused = named.work("more", &WorkQuery::default()).await.unwrap_err();
    assert_eq!(refused.code(), Some("not_permitted"));
    let refused = named.remove_agent("coder").await.unwrap_err();
    assert_eq!(refused.code(), Some("not_permitted"));

    // What one tenant has is nothing to another.
    assert_eq!(other.agent("coder").await.unwrap_err().code(), Some("agent_not_found"));
    assert_eq!(other.submit(&workflow(ONE)).await.unwrap_err().code(), Some("invalid"));
    other.register_agent(&coder("20s")).await.unwrap();
    let ours = key("--role operator --tenant acme");
    ours.submit(&workflow(ONE)).await.unwrap();
    let nothing = WorkQuery { wait: Some("0s".to_owned()) };
    assert_eq!(other.work("coder", &nothing).await.unwrap(), None);
    let assigned = work(&any).await;
    let theirs = other.complete(&assigned.attempt, &done(json!(1))).await.unwrap_err();
    assert_eq!(theirs.code(), Some("attempt_not_found"));
    named.complete(&assigned.attempt, &done(json!(1))).await.unwrap();
}
