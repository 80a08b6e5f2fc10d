//! `plan` in its four formats.

use crate::support::Folder;

fn plan(format: &str) -> String {
    let folder = Folder::new();
    folder.write("plan.yaml", include_str!("fixtures/plan.yaml"));
    folder.run(&format!("plan plan.yaml --format {format}")).expect(0).out
}

#[test]
fn a_plan_is_shown_as_text() {
    insta::assert_snapshot!(plan("text"));
}

#[test]
fn a_plan_is_shown_as_json() {
    let plan: serde_json::Value = serde_json::from_str(&plan("json")).unwrap();
    insta::assert_json_snapshot!(plan);
}

#[test]
fn a_plan_is_shown_as_mermaid() {
    insta::assert_snapshot!(plan("mermaid"));
}

#[test]
fn a_plan_is_shown_as_dot() {
    insta::assert_snapshot!(plan("dot"));
}
