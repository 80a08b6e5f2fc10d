//! What can be said of a plan before it runs: waves, the critical path, how long it takes.
//!
//! **Invariant:** linear in steps and needs but for the schedule, which sorts what is ready. The
//! plan must be checked: needs exist and have no cycle. In tests it is counted how many steps and
//! needs are looked at (`Graph::after`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::Serialize;

use super::{Plan, Work};
use crate::StepId;

/// What a step without an estimate counts, in milliseconds.
pub const ASSUMED_MS: u64 = 1_000;

/// Who needs whom, by place in the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// The steps that each step needs, in the plan's order, each once.
    pub needs: Vec<Vec<u32>>,
    /// The steps that need each step, in the plan's order.
    pub dependents: Vec<Vec<u32>>,
}

impl Graph {
    /// The graph of a plan. Needs that do not exist are left out.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut places: BTreeMap<&str, u32> = BTreeMap::new();
        for (place, step) in (0..).zip(&plan.steps) {
            places.entry(step.id.as_str()).or_insert(place);
        }
        let mut graph = Self {
            needs: Vec::with_capacity(plan.steps.len()),
            dependents: vec![Vec::new(); plan.steps.len()],
        };
        for (place, step) in (0..).zip(&plan.steps) {
            let mut needs: Vec<u32> =
                step.needs.iter().filter_map(|id| places.get(id.as_str()).copied()).collect();
            needs.sort_unstable();
            needs.dedup();
            looks::add(1 + needs.len());
            for need in &needs {
                graph.dependents[*need as usize].push(place);
            }
            graph.needs.push(needs);
        }
        graph
    }

    /// The steps in an order in which each comes after its needs. Those on a cycle, and those that
    /// need them, are missing.
    #[must_use]
    pub fn order(&self) -> Vec<u32> {
        let mut unmet: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        let mut order: Vec<u32> =
            (0..).zip(&unmet).filter(|(_, unmet)| **unmet == 0).map(|(place, _)| place).collect();
        let mut done = 0;
        while let Some(&place) = order.get(done) {
            done += 1;
            for &dependent in self.after(place) {
                unmet[dependent as usize] -= 1;
                if unmet[dependent as usize] == 0 {
                    order.push(dependent);
                }
            }
        }
        order
    }

    /// For each step how long it is from its start to the end of the plan at the least.
    #[must_use]
    pub fn remaining_ms(&self, estimates: &[u64]) -> Vec<u64> {
        let mut remaining = estimates.to_vec();
        for place in self.order().into_iter().rev() {
            let after = self.after(place).iter().map(|next| remaining[*next as usize]).max();
            remaining[place as usize] =
                estimates[place as usize].saturating_add(after.unwrap_or(0));
        }
        remaining
    }

    /// The steps that need this one.
    fn after(&self, place: u32) -> &[u32] {
        let after = &self.dependents[place as usize];
        looks::add(1 + after.len());
        after
    }
}

/// What can be said of a plan before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Analysis {
    /// The steps by how many others must have ended before: a level each, not a barrier.
    pub waves: Vec<Vec<StepId>>,
    /// The chain of steps that takes longest.
    pub critical_path: Vec<StepId>,
    /// How long that chain takes: the least time, however many run at once.
    pub critical_path_ms: u64,
    /// How long the plan takes with as many at once as it allows.
    pub estimated_duration_ms: u64,
    /// How many steps the widest wave has.
    pub max_parallelism: usize,
    /// Every step, in the plan's order.
    pub steps: Vec<StepAnalysis>,
    /// For each step the longest way from its start to the end of the plan.
    #[serde(skip)]
    pub remaining_ms: Vec<u64>,
}

/// What can be said of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepAnalysis {
    /// The step.
    pub id: StepId,
    /// Who does it; `None`: a person.
    pub agent: Option<Box<str>>,
    /// What must have ended before.
    pub needs: Vec<StepId>,
    /// Its wave, from 0.
    pub wave: usize,
    /// How long it is expected to take.
    pub estimate_ms: u64,
    /// Nobody said how long; see [`ASSUMED_MS`].
    pub assumed: bool,
    /// From 1 to 10, 10 first.
    pub priority: u8,
    /// Whether it is done once per item of a list that is known only at run time.
    pub for_each: bool,
}

/// Looks at a checked plan.
#[must_use]
pub fn analyze(plan: &Plan) -> Analysis {
    let graph = Graph::of(plan);
    let estimates: Vec<u64> =
        plan.steps.iter().map(|step| step.estimate_ms.unwrap_or(ASSUMED_MS)).collect();
    let remaining_ms = graph.remaining_ms(&estimates);
    let wave_of = waves(&graph);
    let mut waves = vec![Vec::new(); wave_of.iter().map(|wave| wave + 1).max().unwrap_or(0)];
    for (step, wave) in plan.steps.iter().zip(&wave_of) {
        waves[*wave].push(step.id.clone());
    }
    Analysis {
        max_parallelism: waves.iter().map(Vec::len).max().unwrap_or(0),
        critical_path: critical_path(plan, &graph, &remaining_ms),
        critical_path_ms: remaining_ms.iter().copied().max().unwrap_or(0),
        estimated_duration_ms: schedule(plan, &graph, &estimates, &remaining_ms),
        steps: plan
            .steps
            .iter()
            .zip(&wave_of)
            .map(|(step, wave)| StepAnalysis {
                id: step.id.clone(),
                agent: match &step.work {
                    Work::Agent { agent, .. } => Some(agent.clone()),
                    Work::Approval { .. } => None,
                },
                needs: step.needs.clone(),
                wave: *wave,
                estimate_ms: step.estimate_ms.unwrap_or(ASSUMED_MS),
                assumed: step.estimate_ms.is_none(),
                priority: step.priority,
                for_each: step.for_each.is_some(),
            })
            .collect(),
        waves,
        remaining_ms,
    }
}

fn waves(graph: &Graph) -> Vec<usize> {
    let mut waves = vec![0; graph.needs.len()];
    for place in graph.order() {
        let wave = waves[place as usize];
        for &dependent in graph.after(place) {
            waves[dependent as usize] = waves[dependent as usize].max(wave + 1);
        }
    }
    waves
}

fn critical_path(plan: &Plan, graph: &Graph, remaining: &[u64]) -> Vec<StepId> {
    let longest = |places: &mut dyn Iterator<Item = u32>| {
        places.max_by_key(|place| (remaining[*place as usize], Reverse(*place)))
    };
    let mut roots = (0..).zip(&graph.needs).filter(|(_, needs)| needs.is_empty()).map(|(p, _)| p);
    let mut next = longest(&mut roots);
    let mut path = Vec::new();
    while let Some(place) = next {
        path.push(plan.steps[place as usize].id.clone());
        next = longest(&mut graph.after(place).iter().copied());
    }
    path
}

/// When the last step ends if at any time the most pressing of those that are ready run, as
/// dispatch does: by priority, then by the longest way to the end.
fn schedule(plan: &Plan, graph: &Graph, estimates: &[u64], remaining: &[u64]) -> u64 {
    let pressing = |place: u32| {
        let index = place as usize;
        (plan.steps[index].priority, remaining[index], Reverse(place))
    };
    let mut unmet: Vec<usize> = graph.needs.iter().map(Vec::len).collect();
    let mut ready: BinaryHeap<_> =
        (0..).zip(&unmet).filter(|(_, unmet)| **unmet == 0).map(|(p, _)| pressing(p)).collect();
    let mut running: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::new();
    let (mut now, slots) = (0_u64, plan.max_parallel.max(1) as usize);
    loop {
        while running.len() < slots
            && let Some((_, _, Reverse(place))) = ready.pop()
        {
            running.push(Reverse((now.saturating_add(estimates[place as usize]), place)));
        }
        let Some(Reverse((end, place))) = running.pop() else { return now };
        now = end;
        for &dependent in graph.after(place) {
            unmet[dependent as usize] -= 1;
            if unmet[dependent as usize] == 0 {
                ready.push(pressing(dependent));
            }
        }
    }
}

mod looks {
    #[cfg(test)]
    thread_local!(pub(super) static COUNT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

    #[cfg(test)]
    pub(super) fn add(count: usize) {
        COUNT.set(COUNT.get() + count);
    }

    #[cfg(not(test))]
    #[inline]
    pub(super) const fn add(_count: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn waves_path_and_durations_are_read_off_the_needs() {
        let mut diamond = plan(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["c", "b"])]);
        diamond.steps[2].estimate_ms = Some(5_000);
        let analysis = analyze(&diamond);
        let ids =
            |ids: &[StepId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let waves: Vec<_> = analysis.waves.iter().map(|wave| ids(wave)).collect();
        assert_eq!(waves, ["a", "b c", "d"]);
        assert_eq!(ids(&analysis.critical_path), "a c d");
        assert_eq!((analysis.critical_path_ms, analysis.estimated_duration_ms), (7_000, 7_000));
        assert_eq!(analysis.remaining_ms, [7_000, 2_000, 6_000, 1_000]);
        assert_eq!(analysis.max_parallelism, 2);
        assert!(analysis.steps[0].assumed && !analysis.steps[2].assumed);
        diamond.max_parallel = 1;
        assert_eq!(analyze(&diamond).estimated_duration_ms, 8_000);
    }

    #[test]
    fn a_limit_of_slots_makes_a_plan_longer_than_its_path() {
        let ids: Vec<String> = (0..10).map(|i| format!("s{i}")).collect();
        let steps: Vec<(&str, &[&str])> =
            ids.iter().map(|id| (id.as_str(), [].as_slice())).collect();
        let analysis = analyze(&plan(&steps));
        assert_eq!(analysis.critical_path_ms, 1_000);
        assert_eq!(analysis.estimated_duration_ms, 4_000, "ten steps, three at once");
    }

    /// A plan of `len` steps, each of which needs those that `needs` says.
    fn large(len: usize, needs: impl Fn(usize) -> std::ops::Range<usize>) -> Plan {
        let ids: Vec<String> = (0..len).map(|i| format!("s{i}")).collect();
        let needs: Vec<Vec<&str>> =
            (0..len).map(|i| ids[needs(i)].iter().map(String::as_str).collect()).collect();
        let steps: Vec<(&str, &[&str])> =
            ids.iter().map(String::as_str).zip(needs.iter().map(Vec::as_slice)).collect();
        plan(&steps)
    }

    fn looks(plan: &Plan) -> usize {
        looks::COUNT.set(0);
        let analysis = analyze(plan);
        assert_eq!(analysis.critical_path.len(), analysis.waves.len());
        looks::COUNT.get()
    }

    #[test]
    fn every_step_and_every_need_is_a_look() {
        let plan = plan(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"])]);
        looks::COUNT.set(0);
        let graph = Graph::of(&plan);
        assert_eq!(looks::COUNT.get(), 6);
        assert_eq!((graph.order(), looks::COUNT.get()), (vec![0, 1, 2], 12));
    }

    #[test]
    fn ten_times_the_steps_cost_about_ten_times_the_looks() {
        let chain = |len| large(len, |i| i.saturating_sub(1)..i);
        let layers = |len| large(len, |i| i.saturating_sub(103)..i.saturating_sub(100));
        // One, all the others beside each other, and one that needs them all.
        let fan = |len| large(len, move |i| if i + 1 == len { 1..i } else { 0..i.min(1) });
        for plan in [&chain as &dyn Fn(usize) -> Plan, &layers, &fan] {
            let [small, many] = [10_000, 100_000].map(|len| looks(&plan(len)));
            assert!(many <= small * 13, "{small} looks, then {many}");
            assert!(many <= 100_000 * 25, "{many} looks for 100,000 steps");
        }
    }
}
