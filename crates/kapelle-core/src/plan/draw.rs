//! Pictures of a plan: a table of waves for terminals, Mermaid and DOT for documents.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Analysis;
use super::analysis::StepAnalysis;
use crate::StepId;

/// The plan as a table: a line per step, wave after wave, the critical path marked.
#[must_use]
pub fn text(analysis: &Analysis) -> String {
    let width =
        |of: &dyn Fn(&StepAnalysis) -> usize| analysis.steps.iter().map(of).max().unwrap_or(0);
    let id_width = width(&|step| step.id.as_str().len());
    let agent_width = width(&|step| who(step).len());
    let critical = critical(analysis);
    let mut out = String::new();
    let mut steps: Vec<&StepAnalysis> = analysis.steps.iter().collect();
    steps.sort_by_key(|step| step.wave);
    let mut wave = usize::MAX;
    for step in steps {
        if step.wave != wave {
            wave = step.wave;
            _ = writeln!(out, "wave {}", wave + 1);
        }
        let mark = if critical.contains(&step.id) { '*' } else { ' ' };
        let time = duration(step.estimate_ms);
        let time = if step.assumed { format!("~{time}") } else { time };
        let needs: Vec<_> = step.needs.iter().map(ToString::to_string).collect();
        let needs =
            if needs.is_empty() { String::new() } else { format!("  after {}", needs.join(", ")) };
        let each = if step.for_each { "  for each item" } else { "" };
        _ = writeln!(
            out,
            "  {mark} {:id_width$}  {:agent_width$}  {time:>8}{needs}{each}",
            step.id.as_str(),
            who(step)
        );
    }
    let steps = if analysis.steps.len() == 1 { "step" } else { "steps" };
    _ = write!(
        out,
        "{} {steps} in {} waves, at most {} side by side; about {}, at least {} (*)",
        analysis.steps.len(),
        analysis.waves.len(),
        analysis.max_parallelism,
        duration(analysis.estimated_duration_ms),
        duration(analysis.critical_path_ms),
    );
    if analysis.steps.iter().any(|step| step.assumed) {
        out.push_str("; ~ is assumed");
    }
    out.push('\n');
    out
}

/// The plan as a Mermaid flowchart.
#[must_use]
pub fn mermaid(analysis: &Analysis) -> String {
    let mut out = String::from("flowchart TD\n");
    each_node(analysis, |place, step| {
        let (open, close) = if step.agent.is_none() { ("{{", "}}") } else { ("[", "]") };
        let agent = who(step).replace('"', "#quot;");
        _ = writeln!(out, "    s{place}{open}\"{}<br/>{agent}\"{close}", step.id);
    });
    each_need(analysis, |from, to| _ = writeln!(out, "    s{from} --> s{to}"));
    out.push_str("    classDef critical stroke-width:3px\n");
    let critical = critical(analysis);
    let critical: Vec<_> = analysis
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| critical.contains(&step.id))
        .map(|(place, _)| format!("s{place}"))
        .collect();
    if !critical.is_empty() {
        _ = writeln!(out, "    class {} critical", critical.join(","));
    }
    out
}

/// The plan in the language of Graphviz.
#[must_use]
pub fn dot(analysis: &Analysis) -> String {
    let critical = critical(analysis);
    let mut out = String::from("digraph plan {\n    node [shape=box];\n");
    each_node(analysis, |place, step| {
        let critical = if critical.contains(&step.id) { ", penwidth=2" } else { "" };
        let agent = who(step).replace('\\', "\\\\").replace('"', "\\\"");
        _ = writeln!(out, "    s{place} [label=\"{}\\n{agent}\"{critical}];", step.id);
    });
    each_need(analysis, |from, to| _ = writeln!(out, "    s{from} -> s{to};"));
    out.push_str("}\n");
    out
}

fn critical(analysis: &Analysis) -> BTreeSet<&StepId> {
    analysis.critical_path.iter().collect()
}

fn who(step: &StepAnalysis) -> &str {
    step.agent.as_deref().unwrap_or("approval")
}

fn each_node(analysis: &Analysis, mut draw: impl FnMut(usize, &StepAnalysis)) {
    for (place, step) in analysis.steps.iter().enumerate() {
        draw(place, step);
    }
}

fn each_need(analysis: &Analysis, mut draw: impl FnMut(usize, usize)) {
    let places: BTreeMap<_, _> =
        analysis.steps.iter().enumerate().map(|(place, step)| (&step.id, place)).collect();
    for (place, step) in analysis.steps.iter().enumerate() {
        for need in &step.needs {
            if let Some(from) = places.get(need) {
                draw(*from, place);
            }
        }
    }
}

fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{analyze, tests::plan};

    #[test]
    fn a_plan_is_drawn_as_text_mermaid_and_dot() {
        let mut plan = plan(&[("fetch", &[]), ("lint", &[]), ("report", &["fetch", "lint"])]);
        plan.steps[0].estimate_ms = Some(90_000);
        let analysis = analyze(&plan);
        let expected = "\
wave 1
  * fetch   echo     1m30s
    lint    echo       ~1s
wave 2
  * report  echo       ~1s  after fetch, lint
3 steps in 2 waves, at most 2 side by side; about 1m31s, at least 1m31s (*); ~ is assumed
";
        assert_eq!(text(&analysis), expected);
        let expected = "\
flowchart TD
    s0[\"fetch<br/>echo\"]
    s1[\"lint<br/>echo\"]
    s2[\"report<br/>echo\"]
    s0 --> s2
    s1 --> s2
    classDef critical stroke-width:3px
    class s0,s2 critical
";
        assert_eq!(mermaid(&analysis), expected);
        assert!(dot(&analysis).contains("s0 -> s2;\n    s1 -> s2;\n"), "{}", dot(&analysis));
    }

    #[test]
    fn a_duration_is_said_as_exactly_as_people_ask() {
        let said = [0, 999, 1_000, 1_999, 59_999, 60_000, 3_599_999, 3_600_000, 90_060_000];
        let expected =
            ["0ms", "999ms", "1s", "1.9s", "59.9s", "1m00s", "59m59s", "1h00m", "25h01m"];
        assert_eq!(said.map(duration), expected);
    }
}
