//! Workflow files and expressions: whatever they say, they are read or refused with a place.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use kapelle_core::expr::{self, Programs, Scope};
use kapelle_core::workflow::Workflow;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let checked = Workflow::read("fuzz.yaml", bytes, None);
    assert!(checked.workflow.is_some() || !checked.problems.is_empty(), "refused without a word");
    if let Some(workflow) = checked.workflow {
        drop(workflow.inputs(json!({})));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Of a long file the expressions are read above; as one they would be refused for their length.
    let Some(line) = text.lines().next() else { return };
    let scope = Scope {
        inputs: Arc::new(json!({"name": "a", "list": [1, 2, 3]})),
        steps: BTreeMap::new(),
        item: Some(("item".into(), Arc::new(json!({"n": 1})), 0)),
        run: Arc::new(json!({"id": "r"})),
        programs: Arc::new(Programs::default()),
    };
    drop((expr::render_text(line, &scope), expr::condition(line, &scope)));
    drop((expr::list(line, &scope), expr::uses_of_text(line)));
});
