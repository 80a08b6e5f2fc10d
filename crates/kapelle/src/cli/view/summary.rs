//! The last words on a run.

use std::fmt::Write as _;

use kapelle_api::{Artifact, EventKind, Json};

use super::Ending;
use super::plain::EndsOfRun;
use crate::cli::out::{duration, shown};
use crate::cli::visible::visible;

/// How much of an output is shown.
const OUTPUT_MAX: usize = 2_000;
/// How many artifacts and failures are shown.
const LINES_MAX: usize = 20;

/// Verdict, time, output, what was made, what failed and what to do.
pub(super) fn summary(
    ending: &Ending<'_>,
    command: &dyn Fn(&str) -> String,
    ends: Option<&EndsOfRun>,
) -> String {
    let failed = ends.map_or(&[][..], |ends| &ends.failed);
    let mut out = String::new();
    match ending {
        Ending::Completed(event, hindsight) => {
            if let EventKind::RunCompleted { verdict, output, artifacts, elapsed_ms, detail } =
                &event.kind
            {
                let verdict = verdict.replace('_', " ");
                _ = write!(out, "run {} {verdict} in {}", event.run, duration(*elapsed_ms));
                // A step that failed is told below.
                let is_told = |why: &&str| failed.iter().any(|(step, _)| is_about(why, step));
                let why = detail.as_deref().filter(|why| !is_told(why));
                out.push_str(&why.map_or(String::new(), |why| format!(": {why}")));
                out.push('\n');
                if let Some(ends) = ends {
                    _ = writeln!(out, "  steps:   {}", ends.counts());
                }
                if let Some(cost) = &hindsight.cost {
                    let bill = command(&format!("runs bill {}", event.run));
                    _ = writeln!(out, "  cost:    {cost}: {bill}");
                }
                add_failures(&mut out, failed);
                if verdict != "completed" {
                    add_ways(&mut out, failed.first(), &event.run, command);
                    add_inputs(&mut out, failed.first(), &hindsight.inputs);
                }
                add_output(&mut out, output, &event.run, command);
                add_artifacts(&mut out, artifacts, command);
            }
        }
        Ending::Paused(event, answers) => {
            if let EventKind::RunPaused { reason, resume, .. } = &event.kind {
                _ = writeln!(out, "run {} paused: {reason}", event.run);
                for answer in *answers {
                    _ = writeln!(out, "  decide:  {}", command(answer));
                }
                match resume {
                    Some(resume) => _ = writeln!(out, "  go on:   {resume}"),
                    None => out.push_str("  it was in memory: the run is gone\n"),
                }
            }
        }
    }
    out
}

/// Whether a run's detail says no more than that this step failed.
fn is_about(detail: &str, step: &str) -> bool {
    detail
        .strip_prefix("step `")
        .and_then(|rest| rest.strip_prefix(step))
        .is_some_and(|rest| rest.starts_with("` failed"))
}

fn add_failures(out: &mut String, failures: &[(String, String)]) {
    for (step, why) in failures.iter().take(LINES_MAX) {
        _ = writeln!(out, "  {step}: {why}");
    }
    if failures.len() > LINES_MAX {
        _ = writeln!(out, "  and {} more", failures.len() - LINES_MAX);
    }
}

/// What to do about a run that did not end well: see why, and do it anew once that is mended.
fn add_ways(
    out: &mut String,
    failed: Option<&(String, String)>,
    run: &str,
    command: &dyn Fn(&str) -> String,
) {
    let Some((step, _)) = failed else {
        _ = writeln!(out, "  why:     {}", command(&format!("why {run}")));
        return;
    };
    _ = writeln!(out, "  why:     {}", command(&format!("why {run} {step}")));
    if !may_be_done_anew(failed) {
        return;
    }
    // A fork begins with a step of the file, not with one that grew from it.
    let written = step.split('.').next().unwrap_or(step);
    let fork = command(&format!("runs fork {run} --from {written}"));
    _ = writeln!(out, "  mended?  {fork}");
}

/// Not what a cassette has no answer to: done anew, it would ask whom the cassette stands for.
fn may_be_done_anew(failed: Option<&(String, String)>) -> bool {
    failed.is_some_and(|(_, why)| !why.contains("not_on_cassette"))
}

/// What was given may be wrong, too.
fn add_inputs(out: &mut String, failed: Option<&(String, String)>, inputs: &[String]) {
    if may_be_done_anew(failed) && !inputs.is_empty() {
        let inputs: Vec<String> = inputs.iter().map(|name| format!("--input {name}=…")).collect();
        _ = writeln!(out, "           with another input: {}", inputs.join(" "));
    }
}

fn add_output(out: &mut String, output: &Json, run: &str, command: &dyn Fn(&str) -> String) {
    let text = match output {
        Json::Null => return,
        Json::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    if text.len() > OUTPUT_MAX {
        _ = writeln!(
            out,
            "output ({} bytes): {}",
            text.len(),
            command(&format!("runs show {run} --json"))
        );
    } else {
        _ = writeln!(out, "output:\n{}", visible(text.trim_end()));
    }
}

fn add_artifacts(out: &mut String, artifacts: &[Artifact], command: &dyn Fn(&str) -> String) {
    if artifacts.is_empty() {
        return;
    }
    out.push_str("artifacts:\n");
    for artifact in artifacts.iter().take(LINES_MAX) {
        let place = match &artifact.path {
            Some(path) => path.clone(),
            None => command(&format!("artifacts get {}", artifact.digest)),
        };
        _ = writeln!(out, "  {}  {place}", shown(&artifact.name, 80));
    }
    if artifacts.len() > LINES_MAX {
        _ = writeln!(out, "  and {} more", artifacts.len() - LINES_MAX);
    }
}
