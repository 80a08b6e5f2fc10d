//! Checks a plan before it becomes a run, and reports everything that is wrong with it.
//!
//! **Invariant:** a plan without errors here never meets an unknown name, a cycle or a number out
//! of range later. A reference to a step makes it a need, so a plan is also completed here.
//!
//! A plan from a file passes the same checks: `Place` is turned into a line and a column there.

use std::collections::{BTreeMap, BTreeSet};

use super::analysis::Graph;
use super::finding::{Field, Finding, Place};
use super::{Plan, Step, Work};
use crate::expr::{self, ExprError, ExprErrorKind, Uses};
use crate::port::Agents;
use crate::problem::{Code, Problem, Severity};
use crate::violation::{meant, tell, tell_all, violations};
use crate::{Json, suggest};

/// The most steps that a plan may be written with.
pub const STEPS_MAX: usize = 100_000;
/// The most attempts of a run that may be allowed at once.
pub const PARALLEL_MAX: u32 = 1_000;

/// Adds the needs that references make, and says what is wrong with the plan.
///
/// Without `agents`, whether agents, actions and inputs exist and fit is not looked at.
pub fn check(plan: &mut Plan, agents: Option<&Agents>) -> Vec<Problem> {
    find(plan, agents).into_iter().map(Finding::in_plan).collect()
}

/// Adds the needs that references make, and finds what is wrong.
pub(crate) fn find(plan: &mut Plan, agents: Option<&Agents>) -> Vec<Finding> {
    let mut check = Check::new(plan, agents);
    if plan.steps.is_empty() {
        check.add(Place::Plan("steps"), Code::EmptyPlan, "there are no steps");
    }
    if plan.steps.len() > STEPS_MAX {
        let message =
            format!("there are {} steps, over the limit of {STEPS_MAX}", plan.steps.len());
        check.add(Place::Plan("steps"), Code::TooManySteps, message);
        return check.findings;
    }
    if plan.max_parallel == 0 || plan.max_parallel > PARALLEL_MAX {
        let message = format!("at least 1 and at most {PARALLEL_MAX} steps can run at once");
        check.add(Place::Plan("max_parallel"), Code::OutOfRange, message);
    }
    for (field, limit) in [("timeout_ms", plan.timeout_ms), ("deadline_ms", plan.deadline_ms)] {
        if limit == Some(0) {
            check.add(Place::Plan(field), Code::OutOfRange, "no run can end in no time");
        }
    }
    check.inputs(plan);
    for index in 0..plan.steps.len() {
        check.step(plan, index);
    }
    check.output(plan);
    check.cycles(plan);
    check.findings
}

struct Check<'a> {
    agents: Option<&'a Agents>,
    /// The ids, and the first step that has each.
    ids: BTreeMap<Box<str>, usize>,
    inputs: BTreeSet<Box<str>>,
    findings: Vec<Finding>,
}

impl<'a> Check<'a> {
    fn new(plan: &Plan, agents: Option<&'a Agents>) -> Self {
        let mut ids = BTreeMap::new();
        for (index, step) in plan.steps.iter().enumerate() {
            ids.entry(step.id.as_str().into()).or_insert(index);
        }
        Self { agents, ids, inputs: plan.inputs.keys().cloned().collect(), findings: Vec::new() }
    }

    fn add(&mut self, place: Place, code: Code, message: impl Into<String>) {
        self.findings.push(Finding::new(place, code, message));
    }

    fn inputs(&mut self, plan: &Plan) {
        for (name, schema) in &plan.inputs {
            let place = Place::Input(name.clone());
            match jsonschema::validator_for(schema) {
                Err(error) => {
                    let message = format!(
                        "the schema of input `{name}` is no JSON Schema: {}",
                        tell_all(&error)
                    );
                    self.add(place, Code::BadSchema, message);
                }
                Ok(validator) => {
                    let Some(default) = schema.get("default") else { continue };
                    for wrong in violations(&validator, Some(schema), default) {
                        let message = format!("the default of input `{name}` is wrong: {wrong}");
                        self.add(place.clone(), Code::BadSchema, message);
                    }
                }
            }
        }
    }

    fn step(&mut self, plan: &mut Plan, index: usize) {
        let step = &plan.steps[index];
        let at = |field| Place::Step(index, field, String::new());
        if self.ids.get(step.id.as_str()) != Some(&index) {
            let message = format!("two steps have the id `{}`", step.id);
            self.add(at(Field::Id), Code::DuplicateId, message);
        }
        if step.id.as_str().contains('.') {
            let message =
                format!("`{}` cannot be written: ids with a `.` are those of grown steps", step.id);
            self.add(at(Field::Id), Code::BadId, message);
        }
        self.numbers(step, index);
        self.needs(step, index);
        if let Some(schema) = &step.output
            && let Err(error) = jsonschema::validator_for(schema)
        {
            let wrong = tell_all(&error);
            let message = format!("the output of `{}` is no JSON Schema: {wrong}", step.id);
            self.add(at(Field::Output), Code::BadSchema, message);
        }
        let referred = self.references(step, index);
        self.work(step, index);
        let step = &mut plan.steps[index];
        for id in referred {
            let known = step.needs.iter().any(|need| need.as_str() == &*id);
            if !known && let Ok(need) = id.parse() {
                step.needs.push(need);
            }
        }
    }

    fn numbers(&mut self, step: &Step, index: usize) {
        let at = |field| Place::Step(index, field, String::new());
        if !(1..=10).contains(&step.priority) {
            let message = format!("the priority of `{}` must be from 1 to 10", step.id);
            self.add(at(Field::Priority), Code::OutOfRange, message);
        }
        if step.timeout_ms == 0 {
            let message = format!("the timeout of `{}` must be longer than nothing", step.id);
            self.add(at(Field::Timeout), Code::OutOfRange, message);
        }
        if !(1..=100).contains(&step.retry.attempts_max) {
            let message = format!("`{}` must have from 1 to 100 attempts", step.id);
            self.add(at(Field::Attempts), Code::OutOfRange, message);
        }
        if !(1..=100).contains(&step.retry.lost_max) {
            let message = format!("`{}` can lose from 1 to 100 workers", step.id);
            self.add(at(Field::Lost), Code::OutOfRange, message);
        }
        if !(1.0..=100.0).contains(&step.retry.factor) {
            let message = format!("the retry factor of `{}` must be from 1 to 100", step.id);
            self.add(at(Field::Factor), Code::OutOfRange, message);
        }
        let Some(for_each) = &step.for_each else { return };
        if for_each.max_parallel.is_some_and(|most| !(1..=PARALLEL_MAX).contains(&most)) {
            let message = format!("from 1 to {PARALLEL_MAX} items can be done at once");
            self.add(at(Field::MaxParallel), Code::OutOfRange, message);
        }
        let name = &*for_each.name;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name != "item" && (!is_name || expr::NAMES.contains(&name)) {
            let message = format!("an item cannot be called `{name}`");
            let finding = Finding::new(at(Field::ItemName), Code::BadId, message);
            let hint = "use letters, digits and `_`, and none of `inputs`, `steps`, `run`, `index`";
            self.findings.push(finding.hint(Some(hint.to_owned())));
        }
    }

    fn needs(&mut self, step: &Step, index: usize) {
        for (nth, need) in step.needs.iter().enumerate() {
            if self.ids.contains_key(need.as_str()) {
                continue;
            }
            let place = Place::Step(index, Field::Needs, format!("/{nth}"));
            let message = format!("step `{}` depends on `{need}`, which does not exist", step.id);
            let finding = Finding::new(place, Code::UnknownStep, message);
            self.findings.push(finding.hint(self.similar_step(need.as_str())));
        }
    }

    fn similar_step(&self, id: &str) -> Option<String> {
        let pays = suggest::pays(self.findings.len(), self.ids.len());
        if pays { suggest::one_of(id, self.ids.keys().map(|id| &**id)) } else { None }
    }

    /// Looks at every expression of a step; gives the steps that they name and that exist.
    fn references(&mut self, step: &Step, index: usize) -> BTreeSet<Box<str>> {
        let mut referred = BTreeSet::new();
        let at = |field, pointer: &str| Place::Step(index, field, pointer.to_owned());
        let item = step.for_each.as_ref().map(|for_each| &*for_each.name);
        if let Some(when) = &step.when {
            let uses = expr::uses_of_expression(when);
            referred.extend(self.uses(uses, when, &at(Field::When, ""), item));
        }
        if let Some(for_each) = &step.for_each {
            let uses = expr::uses_of_expression(&for_each.list);
            referred.extend(self.uses(uses, &for_each.list, &at(Field::List, ""), None));
        }
        if let Work::Agent { input, prompt, .. } = &step.work {
            strings(input, &mut String::new(), &mut |pointer, text| {
                referred.extend(self.template(text, &at(Field::Input, pointer), item));
            });
            if let Some(prompt) = prompt {
                referred.extend(self.template(prompt, &at(Field::Prompt, ""), item));
            }
        }
        referred
    }

    fn output(&mut self, plan: &Plan) {
        let Some(output) = &plan.output else { return };
        strings(output, &mut String::new(), &mut |pointer, text| {
            self.template(text, &Place::Output(pointer.to_owned()), None);
        });
    }

    fn template(&mut self, text: &str, place: &Place, item: Option<&str>) -> BTreeSet<Box<str>> {
        if text.contains("{%") {
            let message = "`{% %}` is taken as text: there are expressions only";
            let mut finding =
                Finding::new(place.clone(), Code::StatementInTemplate, message).culprit("{%");
            finding.severity = Severity::Warning;
            self.findings.push(finding);
        }
        self.uses(expr::uses_of_text(text), text, place, item)
    }

    fn uses(
        &mut self,
        uses: Result<Uses, ExprError>,
        source: &str,
        place: &Place,
        item: Option<&str>,
    ) -> BTreeSet<Box<str>> {
        let uses = match uses {
            Ok(uses) => uses,
            Err(error) => {
                self.findings.push(of_expression(&error, source, place));
                return BTreeSet::new();
            }
        };
        for name in uses.inputs.iter().filter(|name| !self.inputs.contains(*name)) {
            let message = format!("there is no input `{name}`");
            let hint = suggest::one_of(name, self.inputs.iter().map(|name| &**name));
            let finding = Finding::new(place.clone(), Code::UnknownInput, message);
            self.findings.push(finding.hint(hint).culprit(format!("inputs.{name}")));
        }
        let (known, unknown): (BTreeSet<_>, BTreeSet<_>) =
            uses.steps.into_iter().partition(|id| self.ids.contains_key(id));
        for id in unknown {
            let message = format!("there is no step `{id}`");
            let finding = Finding::new(place.clone(), Code::UnknownStep, message);
            let finding = finding.hint(self.similar_step(&id)).culprit(format!("steps.{id}"));
            self.findings.push(finding);
        }
        let loose = if uses.item && item.is_none() { vec!["item".into()] } else { Vec::new() };
        for name in uses.names.into_iter().filter(|name| item != Some(&**name)).chain(loose) {
            let message = format!("`{name}` is not defined here");
            let names = expr::NAMES
                .into_iter()
                .filter(|name| item.is_some() || !matches!(*name, "item" | "index"));
            let hint = if *name == *"item" {
                Some("only a step with `forEach` has items".to_owned())
            } else if self.ids.contains_key(&*name) {
                Some(format!("did you mean `steps.{name}.output`?"))
            } else if self.inputs.contains(&*name) {
                Some(format!("did you mean `inputs.{name}`?"))
            } else {
                suggest::one_of(&name, names.chain(item))
            };
            let finding = Finding::new(place.clone(), Code::ExpressionUnknown, message);
            self.findings.push(finding.hint(hint).culprit(name));
        }
        known
    }

    fn work(&mut self, step: &Step, index: usize) {
        let Work::Agent { agent, action, input, .. } = &step.work else { return };
        let at = |field, pointer: &str| Place::Step(index, field, pointer.to_owned());
        if **agent == *"process" {
            self.command(input, index);
        }
        if agent.is_empty() {
            let message = format!("step `{}` has nobody to do it", step.id);
            let finding = Finding::new(at(Field::Agent, ""), Code::MissingField, message);
            self.findings
                .push(finding.hint(Some("name an agent, or make it an approval".to_owned())));
            return;
        }
        let Some(agents) = self.agents else { return };
        let Some(registered) = agents.get(agent) else {
            let message = format!("there is no agent `{agent}`");
            let hint = suggest::one_of(agent, agents.names()).or_else(|| {
                let names: Vec<_> =
                    agents.names().take(20).map(|name| format!("`{name}`")).collect();
                (!names.is_empty()).then(|| format!("there are {}", names.join(", ")))
            });
            let finding = Finding::new(at(Field::Agent, ""), Code::UnknownAgent, message);
            self.findings.push(finding.hint(hint));
            return;
        };
        let Some(found) = registered.action(action.as_deref()) else {
            let names: Vec<_> = registered.agent.card().actions.iter().map(|a| &*a.name).collect();
            let (field, message, hint) = match action {
                Some(action) => (
                    Field::Action,
                    format!("the agent `{agent}` has no action `{action}`"),
                    suggest::one_of(action, names.iter().copied()),
                ),
                None => {
                    (Field::Agent, format!("the agent `{agent}` must be told which action"), None)
                }
            };
            let hint = hint.or_else(|| Some(format!("it has `{}`", names.join("`, `"))));
            self.findings
                .push(Finding::new(at(field, ""), Code::UnknownAction, message).hint(hint));
            return;
        };
        let Some(schema) = registered.input_schema(&found.name) else { return };
        for error in schema.iter_errors(input).take(20) {
            if excused(input, error.instance_path().as_str(), &error) {
                continue;
            }
            for error in meant(&error) {
                self.findings.extend(of_input(agent, &found.input, index, error));
            }
        }
    }

    /// A value inside a command line could become an option or a command of its own.
    fn command(&mut self, input: &Json, index: usize) {
        for key in ["argv", "shell"] {
            let Some(command) = input.get(key) else { continue };
            strings(command, &mut String::new(), &mut |pointer, text| {
                if expr::is_template(text) {
                    let place = Place::Step(index, Field::Input, format!("/{key}{pointer}"));
                    let message = format!("`{key}` cannot hold templates");
                    let finding = Finding::new(place, Code::TemplateInCommand, message);
                    self.findings.push(finding.culprit("{{"));
                }
            });
        }
    }

    fn cycles(&mut self, plan: &Plan) {
        let mut graph = Graph::of(plan);
        for _ in 0..20 {
            let Some(cycle) = a_cycle(&graph) else { return };
            let (first, second) = (cycle[0] as usize, cycle[1 % cycle.len()] as usize);
            let names: Vec<_> = cycle
                .iter()
                .chain(cycle.first())
                .map(|place| plan.steps[*place as usize].id.as_str())
                .collect();
            let need = &plan.steps[second].id;
            let nth = plan.steps[first].needs.iter().position(|id| id == need).unwrap_or(0);
            let place = Place::Step(first, Field::Needs, format!("/{nth}"));
            let message = format!("steps depend on each other in a circle: {}", names.join(" → "));
            self.findings.push(
                Finding::new(place, Code::Cycle, message)
                    .hint(Some(format!("`{}` waits for `{need}`", plan.steps[first].id))),
            );
            graph.needs[first].retain(|need| *need as usize != second);
            graph.dependents[second].retain(|next| *next as usize != first);
        }
    }
}

/// A circle of needs, each step needing the next; begins with its first in the plan.
fn a_cycle(graph: &Graph) -> Option<Vec<u32>> {
    let mut free = vec![false; graph.needs.len()];
    for place in graph.order() {
        free[place as usize] = true;
    }
    let mut place = (0..).zip(&free).find(|(_, free)| !**free).map(|(place, _)| place)?;
    // Whoever is not free needs someone who is not, so this walk returns to where it has been.
    let mut seen_at = BTreeMap::new();
    let mut path: Vec<u32> = Vec::new();
    while seen_at.insert(place, path.len()).is_none() {
        path.push(place);
        place = *graph.needs[place as usize].iter().find(|need| !free[**need as usize])?;
    }
    let start = path.iter().position(|seen| *seen == place)?;
    let mut cycle = path.split_off(start);
    let first = (0..cycle.len()).min_by_key(|index| cycle[*index])?;
    cycle.rotate_left(first);
    Some(cycle)
}

fn of_expression(error: &ExprError, source: &str, place: &Place) -> Finding {
    let code = match error.kind {
        ExprErrorKind::Unknown => Code::ExpressionUnknown,
        ExprErrorKind::Syntax | ExprErrorKind::Value | ExprErrorKind::TooLarge => {
            Code::ExpressionSyntax
        }
    };
    let culprit =
        source.get(error.at.clone()).unwrap_or_default().lines().next().unwrap_or_default();
    Finding::new(place.clone(), code, &*error.message)
        .hint(error.hint.as_deref().map(str::to_owned))
        .culprit(culprit)
}

/// What is wrong with an agent's input: each unexpected field on its own.
fn of_input(
    agent: &str,
    schema: &Json,
    index: usize,
    error: &jsonschema::ValidationError<'_>,
) -> Vec<Finding> {
    use jsonschema::error::ValidationErrorKind as Kind;
    let pointer = error.instance_path().as_str();
    let at = |pointer: String| Place::Step(index, Field::Input, pointer);
    if let Kind::AdditionalProperties { unexpected } = error.kind() {
        let known = schema["properties"].as_object().filter(|_| pointer.is_empty());
        let known: Vec<_> =
            known.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
        let one = |name: &String| {
            let message = format!("the agent `{agent}` does not take `{name}`");
            let escaped = name.replace('~', "~0").replace('/', "~1");
            let mut finding =
                Finding::new(at(format!("{pointer}/{escaped}")), Code::BadInput, message)
                    .hint(suggest::one_of(name, known.iter().copied()));
            finding.of_key = true;
            finding
        };
        return unexpected.iter().map(one).collect();
    }
    let message = match error.kind() {
        Kind::Required { property } if pointer.is_empty() => {
            let name = property.as_str().unwrap_or_default();
            format!("the agent `{agent}` needs `{name}` in its input")
        }
        _ => format!("the agent `{agent}` does not take this input: {}", tell(error, Some(schema))),
    };
    vec![Finding::new(at(pointer.to_owned()), Code::BadInput, message)]
}

/// Calls `take` with the JSON pointer and the text of every string in `json`.
pub(crate) fn strings(json: &Json, pointer: &mut String, take: &mut impl FnMut(&str, &str)) {
    let len = pointer.len();
    match json {
        Json::String(text) => take(pointer, text),
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                strings(item, pointer, take);
                pointer.truncate(len);
            }
        }
        Json::Object(map) => {
            for (key, value) in map {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                strings(value, pointer, take);
                pointer.truncate(len);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => (),
    }
}

/// Whether a template may still turn the input into one that has no such error.
fn excused(input: &Json, pointer: &str, error: &jsonschema::ValidationError<'_>) -> bool {
    use jsonschema::error::ValidationErrorKind as Kind;
    let Some(value) = input.pointer(pointer) else { return false };
    match value {
        // A text with a template inside stays a text, so only what is said of its letters is open.
        Json::String(text) if expr::is_value(text) => true,
        Json::String(text) if expr::is_template(text) => !matches!(error.kind(), Kind::Type { .. }),
        Json::Array(_) | Json::Object(_) if expr::has_template(value) => !matches!(
            error.kind(),
            Kind::Required { .. } | Kind::AdditionalProperties { .. } | Kind::Type { .. }
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ForEach, tests::plan};
    use serde_json::json;

    fn codes(problems: &[Problem]) -> Vec<(&str, &str)> {
        problems.iter().map(|problem| (problem.code.as_str(), &*problem.field)).collect()
    }

    #[test]
    fn a_reference_to_a_step_is_a_need() {
        let mut plan = plan(&[("a", &[]), ("b", &[])]);
        plan.steps[1].when = Some("steps.a.status == 'completed'".into());
        assert_eq!(check(&mut plan, None), []);
        assert_eq!(plan.steps[1].needs, ["a".parse().unwrap()]);
    }

    #[test]
    fn a_reference_to_a_need_is_no_second_one() {
        let mut plan = plan(&[("a", &[]), ("b", &[]), ("c", &["a"])]);
        plan.steps[2].when = Some("steps.a.output == steps.b.output".into());
        assert_eq!(check(&mut plan, None), []);
        assert_eq!(plan.steps[2].needs, ["a", "b"].map(|id| id.parse().unwrap()));
    }

    #[test]
    fn a_plan_may_be_as_large_and_as_wide_as_its_limits() {
        let ids: Vec<String> = (0..STEPS_MAX).map(|i| format!("s{i}")).collect();
        let steps: Vec<(&str, &[&str])> =
            ids.iter().map(|id| (id.as_str(), [].as_slice())).collect();
        let mut plan = plan(&steps);
        plan.max_parallel = PARALLEL_MAX;
        assert_eq!(check(&mut plan, None), []);
        plan.steps.truncate(1);
        plan.max_parallel = PARALLEL_MAX + 1;
        assert_eq!(codes(&check(&mut plan, None)), [("out_of_range", "max_parallel")]);
    }

    #[test]
    fn an_item_has_a_name_that_an_expression_can_say() {
        let told = |name: &str| {
            let mut plan = plan(&[("a", &[])]);
            let list = "[1]".into();
            plan.steps[0].for_each = Some(ForEach { list, name: name.into(), max_parallel: None });
            check(&mut plan, None).len()
        };
        for name in ["item", "file", "a_2"] {
            assert_eq!(told(name), 0, "{name}");
        }
        for name in ["", "_a", "2a", "a-b", "steps", "index"] {
            assert_eq!(told(name), 1, "{name}");
        }
    }

    #[test]
    fn everything_wrong_with_a_plan_is_told_at_once() {
        let mut plan =
            plan(&[("a", &["c"]), ("b", &["nobody"]), ("c", &["a"]), ("a", &[]), ("d", &["d"])]);
        plan.steps[1].priority = 11;
        plan.steps[1].retry.attempts_max = 0;
        plan.steps[2].when = Some("steps.d.output >".into());
        plan.output = Some(json!({"x": ["{{ steps.e.output }}", "{{ inputs.i }}"]}));
        plan.inputs.insert("n".into(), json!({"type": "integer", "default": "x"}));
        plan.max_parallel = 0;
        let found = check(&mut plan, None);
        let expected = [
            ("out_of_range", "max_parallel"),
            ("bad_schema", "inputs.n"),
            ("out_of_range", "steps[1].priority"),
            ("out_of_range", "steps[1].retry.attempts_max"),
            ("unknown_step", "steps[1].needs[0]"),
            ("expression_syntax", "steps[2].when"),
            ("duplicate_id", "steps[3].id"),
            ("unknown_step", "output.x[0]"),
            ("unknown_input", "output.x[1]"),
            ("cycle", "steps[0].needs[0]"),
            ("cycle", "steps[4].needs[0]"),
        ];
        assert_eq!(codes(&found), expected);
        let cycles: Vec<_> = found.iter().filter(|problem| problem.code == Code::Cycle).collect();
        assert_eq!(&*cycles[0].message, "steps depend on each other in a circle: a → c → a");
        assert_eq!(&*cycles[1].message, "steps depend on each other in a circle: d → d");
    }

    #[test]
    fn a_circle_is_told_at_the_need_that_closes_it() {
        let mut plan = plan(&[("a", &["b", "c"]), ("b", &[]), ("c", &["a"])]);
        assert_eq!(codes(&check(&mut plan, None)), [("cycle", "steps[0].needs[1]")]);
    }

    #[test]
    fn a_misspelt_step_is_proposed() {
        let mut plan = plan(&[("build", &[]), ("test", &["biuld"])]);
        plan.output = Some("{{ steps.tset.output }}".into());
        let hints: Vec<_> = check(&mut plan, None).iter().map(|told| told.hint.clone()).collect();
        let expected = ["did you mean `build`?", "did you mean `test`?"].map(Into::into);
        assert_eq!(hints, expected);
    }

    #[test]
    fn commands_hold_no_templates() {
        let mut plan = plan(&[("a", &[])]);
        plan.steps[0].work = Work::Agent {
            agent: "process".into(),
            action: None,
            input: json!({"argv": ["ls", "{{ run.id }}"], "env": {"X": "{{ run.id }}"}}),
            prompt: None,
        };
        let found = check(&mut plan, None);
        assert_eq!(codes(&found), [("template_in_command", "steps[0].work.agent.input.argv[1]")]);
    }

    proptest::proptest! {
        #[test]
        fn a_cycle_is_told_exactly_where_there_is_one(edges in proptest::collection::vec((0..8_usize, 0..8_usize), 0..16)) {
            let ids: Vec<String> = (0..8).map(|i| format!("s{i}")).collect();
            let needs: Vec<Vec<&str>> = (0..8)
                .map(|i| edges.iter().filter(|(from, _)| *from == i).map(|(_, to)| ids[*to].as_str()).collect())
                .collect();
            let steps: Vec<(&str, &[&str])> =
                ids.iter().map(String::as_str).zip(needs.iter().map(Vec::as_slice)).collect();
            let mut plan = plan(&steps);
            let told: Vec<_> = check(&mut plan, None);
            let cyclic = Graph::of(&plan).order().len() < 8;
            proptest::prop_assert_eq!(cyclic, !told.is_empty());
            for problem in told {
                let (_, circle) = problem.message.rsplit_once(": ").unwrap();
                let circle: Vec<_> = circle.split(" → ").collect();
                proptest::prop_assert_eq!(circle.first(), circle.last());
                for pair in circle.windows(2) {
                    let step = plan.steps.iter().find(|step| step.id.as_str() == pair[0]).unwrap();
                    proptest::prop_assert!(step.needs.iter().any(|need| need.as_str() == pair[1]));
                }
            }
        }
    }
}
