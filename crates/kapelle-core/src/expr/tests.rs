//! Expressions and templates: what they give, and that nothing breaks them.

mod exact;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn scope() -> Scope {
    let view =
        |output: Json| StepView { output: Arc::new(output), status: "completed", error: None };
    let failed = StepView {
        output: Arc::new(Json::Null),
        status: "failed",
        error: Some(Arc::new(json!({"code": "exit_1"}))),
    };
    Scope {
        inputs: Arc::new(json!({
            "files": ["a.rs", "b.rs"], "changed-files": [1, 2], "depth": "thorough", "n": 7, "none": null,
            "big": u64::MAX, "small": i64::MIN, "ratio": 1.5, "one": 1.0, "map": {"z": 1, "a": [true]},
        })),
        steps: [
            (
                "per-file".parse().unwrap(),
                view(json!([{"name": "x", "size": 3}, {"name": "y", "size": 4}])),
            ),
            ("7-zip".parse().unwrap(), view(json!("packed"))),
            ("broken".parse().unwrap(), failed),
        ]
        .into(),
        item: Some(("file".into(), Arc::new(json!({"path": "src"})), 3)),
        run: Arc::new(json!({"id": "r1"})),
        programs: Arc::default(),
    }
}

/// What an expression gives, which is the same where it is compiled already, and by the engine alone.
fn value(source: &str) -> Result<Json, ExprError> {
    let template = json!(format!("{{{{ {source} }}}}"));
    let mut scope = scope();
    let value = render(&template, &scope);
    let mut programs = Programs::default();
    if let Ok(uses) = programs.uses_of_template(&template) {
        assert_eq!(programs.uses_of_template(&template), Ok(uses), "{source}");
        let (budget, mut left) = (Budget::new(), OUTPUT_MAX);
        let by_engine = programs.evaluate(source, &scope, &budget, &mut left);
        assert_eq!(by_engine.ok(), value.clone().ok(), "{source}");
        scope.programs = programs.into();
        assert_eq!(render(&template, &scope), value, "{source}");
    }
    value
}

#[test]
fn expressions_give_their_values() {
    let cases = [
        ("inputs.files", json!(["a.rs", "b.rs"])),
        ("inputs.changed-files | length", json!(2)),
        ("inputs.n -1", json!(6)),
        ("inputs['n'] + 1", json!(8)),
        ("inputs.big", json!(u64::MAX)),
        ("inputs.small", json!(i64::MIN)),
        ("inputs.one", json!(1.0)),
        ("inputs.map", json!({"z": 1, "a": [true]})),
        ("inputs.map | keys", json!(["z", "a"])),
        ("inputs.map | values", json!([1, [true]])),
        ("inputs.map | items", json!([["z", 1], ["a", [true]]])),
        ("{'z': 1, 'a': inputs.none}", json!({"z": 1, "a": null})),
        ("inputs.files | join(', ')", json!("a.rs, b.rs")),
        ("[1, none, {'a': 'b'}] | join('+')", json!("1++{\"a\":\"b\"}")),
        ("inputs.depth == 'thorough' and inputs.n > 3", json!(true)),
        ("steps.per-file.output | map(attribute='name') | list", json!(["x", "y"])),
        (
            "steps.per-file.output | selectattr('size', 'gt', 3) | list",
            json!([{"name": "y", "size": 4}]),
        ),
        ("steps.per-file.output | sum(attribute='size')", json!(7)),
        ("steps.per-file.output[1].name | upper", json!("Y")),
        ("steps.7-zip.output ~ '!'", json!("packed!")),
        ("steps.broken.status", json!("failed")),
        ("steps.broken.output", Json::Null),
        ("steps.broken.error.code", json!("exit_1")),
        ("file.path ~ item.path ~ index", json!("srcsrc3")),
        ("run.id", json!("r1")),
        ("inputs.map.missing | default('d')", json!("d")),
        ("inputs.map.missing is defined", json!(false)),
        ("'}}' ~ \"{{\"", json!("}}{{")),
        ("'{\"b\":1,\"a\":[2]}' | fromjson", json!({"b": 1, "a": [2]})),
        ("inputs.map | tojson", json!("{\"z\":1,\"a\":[true]}")),
        ("[[1], [2, 3], 4] | flatten", json!([1, 2, 3, 4])),
        ("'a b  c' | split", json!(["a", "b", "c"])),
        ("'a,b,c' | split(',', 1)", json!(["a", "b,c"])),
        ("'a\nb' | lines", json!(["a", "b"])),
        ("'äbc' | truncate(2)", json!("äb")),
        ("[3, 1, 2] | sort | first", json!(1)),
        ("'x' if inputs.n > 9 else 'y'", json!("y")),
        ("[1, 2] | zip([3, 4]) | list", json!([[1, 3], [2, 4]])),
        ("9007199254740993 + 0", json!(9_007_199_254_740_993_i64)),
    ];
    for (source, expected) in cases {
        assert_eq!(value(source), Ok(expected), "{source}");
    }
}

#[test]
fn wrong_expressions_say_where_and_why() {
    let cases = [
        ("inputs.fils", "`inputs.fils` is not defined"),
        ("inputs.fils == 1", "`inputs.fils` is not defined"),
        ("inputs.map.missing == 1", "something in `inputs.map.missing == 1` is not defined"),
        ("fil.path", "`fil` is not defined"),
        ("steps.per-file", "`steps.per-file` needs `.output`, `.status` or `.error`"),
        ("steps.per-file.outptu", "a step has no `outptu`"),
        ("steps['per-file']", "a step is named as in `steps.<id>.output`"),
        ("steps.nobody.output", "`steps.nobody` is not defined"),
        ("inputs.n | uper", "there is no filter `uper`"),
        ("inputs.n is evn", "there is no test `evn`"),
        ("range(3)", "`range` is not defined"),
        ("inputs.map.items()", "there are no functions and methods, only filters"),
        ("1 / 0 ~", "the expression cannot be read"),
        ("9223372036854775807 * 9223372036854775807", "which is not JSON"),
        ("'abc", "`{{` has no matching `}}`"),
        ("__0", "a name cannot begin with `__`"),
    ];
    for (source, message) in cases {
        let error = value(source).expect_err(source);
        assert!(error.message.contains(message), "{source}: {error}");
    }
}

#[test]
fn an_error_points_at_its_cause() {
    let text = "see {{ inputs.changed-files }} and {{ inputs.changed-files | lenght }}";
    let error = render_text(text, &scope()).unwrap_err();
    assert_eq!(&text[error.at.clone()], "lenght");
    assert_eq!(error.hint.as_deref(), Some("did you mean `length`?"));
    let text = "{{ inputs.changed-files ~ steps.per-file.output ~ inputs.no-such }}";
    let error = render_text(text, &scope()).unwrap_err();
    assert_eq!(&text[error.at], "inputs.no-such");
}

#[test]
fn text_takes_strings_raw_null_as_nothing_and_the_rest_as_json() {
    let text =
        "{{ inputs.depth }}|{{ inputs.none }}|{{ inputs.map }}|{{ inputs.one }}|{{inputs.files}}";
    assert_eq!(
        render_text(text, &scope()).unwrap(),
        "thorough||{\"z\":1,\"a\":[true]}|1.0|[\"a.rs\",\"b.rs\"]"
    );
    // Everything that is no `{{ }}` is text.
    let plain = "a } b }} {% if x %} {# no #}";
    assert_eq!(render(&json!(plain), &scope()), Ok(json!(plain)));
    assert_eq!(render_text("{% x %}{{ 1 }}", &scope()).unwrap(), "{% x %}1");
}

#[test]
fn templates_are_rendered_wherever_they_are() {
    let template = json!({"a": ["{{ inputs.n }}", {"{{ k }}": "n={{ inputs.n }}"}], "b": 1});
    let expected = json!({"a": [7, {"{{ k }}": "n=7"}], "b": 1});
    assert_eq!(render(&template, &scope()), Ok(expected));
}

#[test]
fn conditions_are_booleans_and_lists_are_lists() {
    assert_eq!(condition("inputs.n > 3", &scope()), Ok(true));
    assert_eq!(condition(" {{ inputs.n > 3 }} ", &scope()), Ok(true));
    let error = condition("inputs.n + 1", &scope()).unwrap_err();
    assert_eq!(&*error.message, "the expression must give true or false, and gives a number");
    assert_eq!(list("inputs.files", &scope()), Ok(vec![json!("a.rs"), json!("b.rs")]));
    assert!(list("inputs.depth", &scope()).is_err());
}

#[test]
fn uses_are_found_wherever_they_are() {
    let template =
        json!(["{{ steps.a-b.output ~ steps.c.status }}", {"x": "{{ inputs.in-1 }} {{ file.x }}"}]);
    let uses = Programs::default().uses_of_template(&template).unwrap();
    let set = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<BTreeSet<_>>();
    assert_eq!(uses.steps, set(&["a-b", "c"]));
    assert_eq!(uses.outputs, set(&["a-b"]));
    assert_eq!(uses.inputs, set(&["in-1"]));
    assert_eq!(uses.names, set(&["file"]));
    assert!(!uses.inputs_whole && !uses.run && !uses.item);
    let uses = uses_of_expression("inputs[item.key] == run.id").unwrap();
    assert!(uses.inputs_whole && uses.run && uses.item && !uses.run_steps);
    for source in
        ["run", "run.steps | length", "run.steps[0].id", "run['steps']", "x or run.id ~ run"]
    {
        assert!(uses_of_expression(source).unwrap().run_steps, "{source}");
    }
    assert!(uses_of_expression("'steps.a.output' == x.steps.b").unwrap().steps.is_empty());
}

#[test]
fn an_evaluation_is_bounded() {
    let mut big = scope();
    big.inputs = Arc::new(json!({"s": "x".repeat(20 << 20), "l": vec![0; 1 << 20]}));
    let cases = [
        "inputs.s ~ inputs.s ~ inputs.s ~ inputs.s",
        "inputs.s | replace('x', inputs.s)",
        "inputs.l | join(inputs.s)",
        "[inputs.l, inputs.l, inputs.l, inputs.l, inputs.l, inputs.l, inputs.l, inputs.l, inputs.l]",
        "([1] * 100000000) | list | length",
        "[1] * 100000000",
        "(inputs.s | split('x')) | length",
        "('[' ~ inputs.s ~ ']') | fromjson",
    ];
    for source in cases {
        let error = render(&json!(format!("{{{{ {source} }}}}")), &big).expect_err(source);
        assert_eq!(error.kind, ExprErrorKind::TooLarge, "{source}: {error}");
    }
}

#[test]
fn nested_sources_end_in_an_error_not_in_a_crash() {
    for (piece, end) in [
        ("(", ")"),
        ("[", "]"),
        ("not ", ""),
        ("-", ""),
        ("1 if 1 else ", ""),
        ("a.", "a"),
        ("1+", "1"),
        ("{'a':", "}"),
        ("2**", "2"),
        ("x|list", ""),
    ] {
        for times in [40, 400, 2000] {
            let source = format!("{}1{}", piece.repeat(times), end.repeat(times));
            drop(uses_of_expression(&source));
            drop(condition(&source, &scope()));
        }
    }
}

#[test]
fn the_lists_of_filters_and_tests_are_the_environment() {
    for list in [filters::FILTERS.as_slice(), filters::TESTS.as_slice()] {
        assert!(list.is_sorted(), "{list:?}");
    }
    for filter in filters::FILTERS {
        let given = value(&format!("inputs.files | {filter}"));
        assert!(given.is_ok() || !given.unwrap_err().message.contains("unknown"), "{filter}");
    }
    for test in filters::TESTS {
        let given = value(&format!("inputs.files is {test}"));
        assert!(given.is_ok() || !given.unwrap_err().message.contains("unknown"), "{test}");
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        (-1e300..1e300).prop_map(Json::from),
        "[^{]{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::vec(("[a-z\\-\"é ]{0,5}", inner), 0..6)
                .prop_map(|entries| Json::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_comes_out_as_it_went_in(json in any_json()) {
        let mut scope = scope();
        scope.inputs = Arc::new(json!({"x": json}));
        let given = render(&json!("{{ inputs.x }}"), &scope).unwrap();
        prop_assert_eq!(given.to_string(), json.to_string());
        // Through the machine, not only around it.
        let given = render(&json!("{{ [inputs.x] | list }}"), &scope).unwrap();
        prop_assert_eq!(given.to_string(), json!([json]).to_string());
        let given = render(&json!("{{ inputs.x | tojson | fromjson }}"), &scope).unwrap();
        prop_assert_eq!(given.to_string(), json.to_string());
    }

    #[test]
    fn a_plain_reference_gives_what_the_engine_gives(
        root in prop::sample::select(vec![
            "inputs", "inputs.map", "inputs.n", "inputs.changed-files", "inputs.none", "run", "item", "file",
            "index", "steps.per-file.output", "steps.7-zip.output", "steps.broken.error", "steps.broken",
            "steps.broken.status", "true", "none", "not", "in", "7", "steps",
        ]),
        members in prop::collection::vec(
            prop::sample::select(vec!["map", "a", "z", "code", "path", "id", "0", "7", "-1", "is", "not", "keys"]),
            0..3,
        ),
    ) {
        drop(value(&[&[root], &members[..]].concat().join(".")));
    }

    #[test]
    fn what_holds_no_template_stays(json in any_json()) {
        prop_assert_eq!(render(&json, &scope()).unwrap(), json);
    }

    #[test]
    fn any_source_gives_a_value_or_an_error_inside_it(source in "[\\-a-z0-9_.|(){}\\[\\]'\" +~=é%]{0,40}") {
        if let Err(error) = render_text(&source, &scope()) {
            prop_assert!(source.get(error.at.clone()).is_some(), "{:?}", error);
        }
        if let Err(error) = condition(&source, &scope()) {
            prop_assert!(source.get(error.at.clone()).is_some(), "{:?}", error);
        }
    }

    #[test]
    fn a_template_that_renders_has_only_names_that_it_declares(name in "[a-z]{1,8}") {
        let source = format!("{name}.x");
        let uses = uses_of_expression(&source);
        if let Ok(uses) = uses {
            prop_assert!(uses.names.contains(&*name) || NAMES.contains(&&*name), "{name}");
        }
    }
}
