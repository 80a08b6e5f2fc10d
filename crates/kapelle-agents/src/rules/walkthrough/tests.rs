//! What to do, where to point, how to see it.

use serde_json::{Value, json};

use super::*;

fn steps(input: &Value) -> Vec<Value> {
    generate(input).unwrap().value["steps"].as_array().unwrap().clone()
}

fn guide() -> Value {
    json!({"title": "Create a queue", "steps": [
        {"n": 1, "instruction": "Open the **Dashboard** page.", "element": "Dashboard"},
        {"n": 2, "instruction": "Click Create Queue.", "note": "Only once."},
        {"n": 3, "instruction": "Enter mail in the Name field.", "element": "Name", "expect": "The field turns green."},
        {"n": 4, "instruction": "Run the server.", "command": "harbor"}
    ]})
}

#[test]
fn without_a_page_it_says_what_to_look_for() {
    let steps = steps(&json!({"guide": guide()}));
    let point = |at: usize| {
        (steps[at]["point_at"]["role"].as_str(), steps[at]["point_at"]["name"].as_str())
    };
    assert_eq!(point(0), (Some("link"), Some("Dashboard")));
    assert_eq!(point(1), (Some("button"), Some("Create Queue")));
    assert_eq!(point(2), (Some("textbox"), Some("Name")));
    assert_eq!(point(3), (None, None));
    assert_eq!(steps[0]["done"], "“Dashboard” is shown.");
    assert_eq!(steps[2]["done"], "The field turns green.");
    assert_eq!(steps[3]["done"], "The command ends without an error.");
    assert_eq!(steps[1]["point_at"]["selectors"], json!([]));
    assert_eq!(steps[1]["note"], "Only once.");
}

#[test]
fn with_a_page_it_points_at_what_is_there() {
    let page = json!({
        "url": "http://localhost/", "text": "…",
        "links": [{"url": "/dash?a=\"b\"", "text": "Dashboard"}, {"href": "/x", "text": null}],
        "elements": [
            {"role": "link", "name": "create queue", "id": "other"},
            {"role": "button", "name": "Create queue", "id": "new"},
            {"role": "textbox", "name": "Queue name"}
        ]
    });
    let steps = steps(&json!({"guide": guide(), "page": page}));
    assert_eq!(steps[0]["point_at"]["selectors"], json!(["a[href=\"/dash?a=\\\"b\\\"\"]"]));
    assert_eq!(steps[1]["point_at"]["selectors"][0], "[id=\"new\"]");
    assert_eq!(steps[2]["point_at"]["name"], "Queue name");
    assert_eq!(generate(&json!({"guide": []})).unwrap().value["steps"], json!([]));
}
