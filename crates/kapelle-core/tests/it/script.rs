//! Scripts: commands in, what happened and what the run wants out, as text that is checked in.
//!
//! A script is scenarios: lines that say the plan (`script/plan.rs`), then lines with `> ` that are
//! done one after the other. What is between them is written by this harness: `UPDATE=1` rewrites.

mod plan;
mod sentence;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kapelle_core::port::agent::{Failure, FailureKind, Question, Safety, Usage};
use kapelle_core::run::{
    Command, EffectId, Forked, Join, Outcome, Parts, Produced, Resolved, Sum, TakenEnd, Takeover,
};
use kapelle_core::{Attempt, Digest, INLINE_MAX, Json, RunId, StepNo, Value, parse_duration};

use crate::driver::{Driver, Player};

#[test]
fn every_script_reads_as_it_is_checked_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/script");
    let mut scripts: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() > 10, "the scripts are there");
    let mut wrong = Vec::new();
    for path in scripts {
        let before = std::fs::read_to_string(&path).unwrap();
        let after = play(&before);
        if after == before {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &after).unwrap();
        } else {
            wrong.push(format!("{}:{}", path.display(), difference(&before, &after)));
        }
    }
    assert!(wrong.is_empty(), "UPDATE=1 rewrites:\n{}", wrong.join("\n"));
}

fn difference(before: &str, after: &str) -> String {
    let (mut old, mut new) = (before.lines(), after.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (old, new) if old == new => {}
            (old, new) => {
                return format!(
                    "{number}\n  - {}\n  + {}",
                    old.unwrap_or_default(),
                    new.unwrap_or_default()
                );
            }
        }
    }
    "the end of the file".into()
}

/// The script with what happens now.
fn play(script: &str) -> String {
    let mut out = String::new();
    let mut setup = plan::Setup::default();
    let mut stage: Option<Driver> = None;
    for line in script.lines() {
        if line.starts_with("  ") {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if let Some(command) = line.strip_prefix("> ") {
            let stage = stage.get_or_insert_with(|| {
                let (plan, inputs) = std::mem::take(&mut setup).finish();
                Driver::new(plan, inputs, RunId::from_bytes([7; 16]))
            });
            let mut seen = stage.journal.len();
            if let Some(fork) = command.strip_prefix("fork ") {
                (*stage, seen) = (forked(stage, fork), 0);
            } else if let Err(said) = perform(stage, command) {
                writeln!(out, "  {said}").unwrap();
            }
            // Time alone does nothing: nobody may be there.
            if !command.starts_with("pass") {
                stage.turn();
            }
            for (_, event) in &stage.journal[seen..] {
                writeln!(out, "  {}", sentence::of(stage, event)).unwrap();
            }
            writeln!(out, "  {}", sentence::wants(stage)).unwrap();
        } else if !line.is_empty() && !line.starts_with('#') {
            stage = None;
            setup.line(line);
        }
    }
    out
}

fn perform(stage: &mut Driver, line: &str) -> Result<(), String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    match verb {
        "start" => {}
        "slots" => {
            for (agent, limit) in words.iter().filter_map(|word| word.split_once('=')) {
                stage.slots.insert(agent.into(), limit.parse().unwrap());
            }
        }
        "agents" => set_agents(stage, &words),
        "arrived" => refused(stage.tell(Command::Arrived { agent: words[0].into() }))?,
        "values" => stage.values.away = words == ["away"],
        "event" => {
            let event = serde_json::from_str(rest).unwrap();
            stage.happened(event);
        }
        "crash" => {
            stage.crash();
            let (died, watched) = (words.contains(&"dead"), words.contains(&"watched"));
            let takeover = Takeover { doubt: false, died, watched };
            let kept = words.iter().filter_map(|word| stage.run.find(word)).collect();
            refused(stage.tell(Command::Adopt(takeover, kept)))?;
        }
        "pass" => stage.pass(span_of(words[0])),
        "tick" => {
            stage.pass(span_of(words[0]));
            refused(stage.tell(Command::Tick))?;
        }
        "done" => {
            let command = done(stage, rest);
            refused(stage.tell(command))?;
        }
        _ => {
            let command = command_of(stage, verb, &words, rest);
            refused(stage.tell(command))?;
        }
    }
    Ok(())
}

fn span_of(word: &str) -> Duration {
    parse_duration(word.trim_start_matches('+')).unwrap()
}

/// `STEP [INPUTS]`: another run goes on from what this one has done.
fn forked(stage: &Driver, rest: &str) -> Driver {
    let (step, inputs) = rest.split_once(' ').unwrap_or((rest, "{}"));
    let from = number_of(stage, step);
    let mut taken = stage.run.taken_by_fork(from);
    for taken in &mut taken {
        if let TakenEnd::Completed { value, .. } = &mut taken.end {
            let whole = stage.run.json(value, &stage.values).unwrap();
            *value = Value::Inline(whole);
        }
    }
    let (run, seq) = (stage.run.id(), stage.run.seq());
    let forked = Forked { run, seq, from, taken };
    stage.fork(serde_json::from_str(inputs).unwrap(), forked)
}

fn refused(told: Result<(), kapelle_core::run::Refusal>) -> Result<(), String> {
    told.map_err(|refusal| format!("refused ({}): {refusal}", refusal.code()))
}

fn set_agents(stage: &mut Driver, words: &[&str]) {
    let mut agents = kapelle_core::port::agent::Agents::default();
    for name in words {
        agents.register(Arc::new(Player::new(name))).unwrap();
    }
    stage.agents = agents;
}

fn done(stage: &mut Driver, rest: &str) -> Command {
    let (attempt, json) = rest.split_once(' ').unwrap_or((rest, "null"));
    let (step, attempt) = attempt_of(stage, attempt);
    let json: Json = match json.strip_prefix("big:") {
        Some(len) => Json::String("x".repeat(len.parse().unwrap())),
        None => serde_json::from_str(json).unwrap(),
    };
    let json = Arc::new(json);
    let (value, payload) = Value::of((*json).clone(), INLINE_MAX);
    if let Some(payload) = payload {
        stage.values.kept.insert(payload.digest, json.clone());
    }
    let answer = Produced { value, json, artifacts: Vec::new(), usage: None, engine: None };
    Command::Answered { step, attempt, answer: Box::new(answer) }
}

fn command_of(stage: &Driver, verb: &str, words: &[&str], rest: &str) -> Command {
    let by = || words.iter().skip_while(|word| **word != "by").nth(1).copied().unwrap_or("ann");
    match verb {
        "failed" => {
            let (step, attempt) = attempt_of(stage, words[0]);
            Command::Failed { step, attempt, failure: failure_of(&words[1..]) }
        }
        "effect" => effect_of(stage, words),
        "say" => {
            let (step, attempt) = attempt_of(stage, words[0]);
            let (effect, to) = (effect_id(words[1], "say", words), words[2].into());
            let said = words[3..].split(|word| *word == "generation").next().unwrap();
            Command::Send { step, attempt, effect, to, text: text_of(said).into() }
        }
        "ask" => {
            let (step, attempt) = attempt_of(stage, words[0]);
            let mut said =
                words[2..].split(|word| *word == "or").map(|words| words.join(" ").into());
            let text = said.next().unwrap();
            let question = Question { text, choices: said.collect() };
            Command::Ask { step, attempt, effect: effect_id(words[1], "ask", words), question }
        }
        "answer" => Command::Reply {
            step: words[0].parse().unwrap(),
            ordinal: words[1].parse().ok(),
            answer: text_of(&words[2..]).into(),
            by: "ann".into(),
        },
        "raise" => Command::Raise {
            step: (words[0] != "run").then(|| words[0].parse().unwrap()),
            more: Sum {
                tokens: words[1].parse().unwrap(),
                nanos: words[2].parse().unwrap(),
                ms: words.get(3).and_then(|ms| ms.parse().ok()).unwrap_or(0),
                unpriced: 0,
            },
            by: by().into(),
        },
        "pause" => Command::Pause { by: by().into(), reason: "".into() },
        "resume" => Command::Resume { by: by().into() },
        "cancel" => Command::Cancel { by: by().into(), reason: rest.into() },
        "approve" => Command::Approve {
            step: words[0].parse().unwrap(),
            approved: words.get(1) != Some(&"no"),
            by: by().into(),
            comment: "".into(),
        },
        "resolve" => Command::Resolve {
            step: words[0].parse().unwrap(),
            how: match words[1] {
                "retry" => Resolved::Retry,
                "skip" => Resolved::Skip,
                "fail" => Resolved::Fail,
                _ => Resolved::Done(Value::Inline(Arc::new(
                    serde_json::from_str(words.get(2).unwrap_or(&"null")).unwrap(),
                ))),
            },
            by: by().into(),
            comment: "".into(),
        },
        "grow" => Command::Grow {
            by: number_of(stage, words[0]),
            parts: match words[2].parse() {
                Ok(count) => Parts::Count(count),
                Err(_) => Parts::Named(words[2..].iter().map(|name| (*name).into()).collect()),
            },
            join: match words[1].split_once('=') {
                Some((_, quorum)) => Join::Quorum(quorum.parse().unwrap()),
                None => serde_json::from_str(&format!("\"{}\"", words[1])).unwrap(),
            },
        },
        "enough" => Command::Enough { by: number_of(stage, words[0]) },
        other => panic!("`{other}` is no command"),
    }
}

/// `KIND [code CODE] [uncertain] [retry-after 5s] [forget 2] [saying MESSAGE…]`
fn failure_of(words: &[&str]) -> Failure {
    let kind: FailureKind = serde_json::from_str(&format!("\"{}\"", words[0])).unwrap();
    let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1);
    let mut failure = Failure::new(kind, after("code").unwrap_or(&words[0]), words[0]);
    failure.certain = !words.contains(&"uncertain");
    if let Some(wait) = after("retry-after") {
        failure = failure.retry_after(parse_duration(wait).unwrap_or(Duration::ZERO));
    }
    failure.forget_from = after("forget").map(|ordinal| ordinal.parse().unwrap());
    failure
}

/// `start|done|failed STEP#N ORDINAL NAME [unsafe] [generation G] [input X] [for TOKENS[/NANOSn$]] [= JSON]`
fn effect_of(stage: &Driver, words: &[&str]) -> Command {
    let (step, attempt) = attempt_of(stage, words[1]);
    let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).copied();
    let effect = effect_id(words[2], words[3], words);
    let value = || serde_json::from_str(after("=").unwrap_or("null")).unwrap();
    let outcome = match words[0] {
        "start" => {
            return Command::StartEffect {
                step,
                attempt,
                effect,
                reserve: after("for").map(usage),
            };
        }
        "failed" => Outcome::Failed(Failure::new(FailureKind::Unavailable, "down", "down")),
        _ => Outcome::Done(Value::Inline(Arc::new(value()))),
    };
    Command::RecordEffect { step, attempt, effect, outcome, used: after("for").map(usage) }
}

/// `[unsafe] [generation G] [input X]`
fn effect_id(ordinal: &str, name: &str, words: &[&str]) -> EffectId {
    let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).copied();
    EffectId {
        ordinal: ordinal.parse().unwrap(),
        name: name.into(),
        input: Digest::of(after("input").unwrap_or("same").as_bytes()),
        generation: after("generation").map_or(0, |generation| generation.parse().unwrap()),
        safety: if words.contains(&"unsafe") { Safety::Unsafe } else { Safety::Repeatable },
    }
}

/// `big:LEN`, or words.
fn text_of(words: &[&str]) -> String {
    let long = words.first().and_then(|word| word.strip_prefix("big:"));
    long.map_or_else(|| words.join(" "), |len| "x".repeat(len.parse().unwrap()))
}

fn usage(text: &str) -> Usage {
    let (tokens, nanos) = text.split_once('/').unwrap_or((text, ""));
    Usage {
        input_tokens: tokens.parse().unwrap(),
        output_tokens: 0,
        cost_nanos: nanos.strip_suffix("n$").map(|nanos| nanos.parse().unwrap()),
        ms: 0,
    }
}

fn number_of(stage: &Driver, id: &str) -> StepNo {
    match id.strip_prefix('@') {
        Some(number) => StepNo(number.parse().unwrap()),
        None => stage.run.find(id).unwrap_or_else(|| panic!("`{id}` is no step")),
    }
}

fn attempt_of(stage: &Driver, text: &str) -> (StepNo, Attempt) {
    let (id, attempt) = text.split_once('#').unwrap();
    (number_of(stage, id), Attempt(attempt.parse().unwrap()))
}
