//! What small changes of the code would break: places, prices, limits and shortcuts, to the byte.

use super::*;

/// What of `text` the error of rendering it points at, and its message.
fn culprit(text: &str) -> (String, String) {
    let error = render_text(text, &scope()).expect_err(text);
    (text[error.at].to_owned(), error.message.into())
}

/// The least budget, in bytes, with which `source` can be evaluated.
fn price(source: &str) -> usize {
    let pays = |bytes: &usize| {
        let (budget, mut left) = (Budget::new(), OUTPUT_MAX);
        budget.take(OUTPUT_MAX * 4 - bytes);
        Programs::default().evaluate(source, &scope(), &budget, &mut left).is_ok()
    };
    (1..2000).find(pays).expect(source)
}

#[test]
fn each_kind_of_error_has_its_word() {
    use ExprErrorKind as Kind;
    let words = [Kind::Syntax, Kind::Unknown, Kind::Value, Kind::TooLarge].map(Kind::as_str);
    assert_eq!(words, ["expression_syntax", "expression_unknown", "expression_value", "too_large"]);
}

#[test]
fn a_template_is_told_from_a_text_and_from_a_value() {
    let cases = [
        ("a", false, false),
        ("{{ 1 }}", true, true),
        ("{{ 1 }} ", true, false),
        ("{{ 1", true, false),
        ("{{ '{' }}{{ 1 }}", true, false),
    ];
    for (text, template, value) in cases {
        assert_eq!((is_template(text), is_value(text)), (template, value), "{text}");
        assert_eq!(has_template(&json!([1, {"a": text}])), template, "{text}");
    }
    assert!(!has_template(&json!({"{{ 1 }}": [null, 1, "a"]})));
}

#[test]
fn braces_end_where_they_were_opened() {
    let rendered = |text| render_text(text, &scope()).ok();
    assert_eq!(rendered("{{ 1 }}x").as_deref(), Some("1x"));
    assert_eq!(rendered("{{ {'a': {'b': 1}}.a.b }}").as_deref(), Some("1"));
    assert_eq!(rendered("{{ [{'a': {'b': 2}}][0].a.b }}}}").as_deref(), Some("2}}"));
    assert_eq!(rendered("{{ 1 } }}"), None);
    assert_eq!(rendered(r"{{ 'a\'}}' }}").as_deref(), Some("a'}}"));
    assert!(condition("{{ true }} x", &scope()).is_err());
}

#[test]
fn small_filters_give_their_values() {
    assert_eq!(value("inputs.n | string"), Ok(json!("7")));
    assert_eq!(value("'abab' | replace('a', 'xy')"), Ok(json!("xybxyb")));
}

#[test]
fn plain_references_are_found_without_the_engine() {
    let mut scope = scope();
    scope.inputs = Arc::new(json!({"n": 7, "a-b": 1, "m": {"z": {"y": 2}, "a-b": 3, "7": 4}}));
    let found = [
        ("inputs", (*scope.inputs).clone()),
        (" inputs.n ", json!(7)),
        ("inputs.a-b", json!(1)),
        ("inputs.m.z.y", json!(2)),
        ("steps.7-zip.output", json!("packed")),
        ("steps.broken.output", Json::Null),
        ("steps.broken.status", json!("failed")),
        ("steps.broken.error.code", json!("exit_1")),
        ("steps.7-zip.error", Json::Null),
        ("run.id", json!("r1")),
        ("index", json!(3)),
        ("item.path", json!("src")),
        ("file.path", json!("src")),
    ];
    for (source, expected) in found {
        assert!(plain::is_plain(source), "{source}");
        assert_eq!(plain::find(source, &scope).as_deref(), Some(&expected), "{source}");
    }
    for source in ["inputs.m.a-b", "inputs.m.7", "inputs.o", "fil.path", "steps.7-zip.outputs"] {
        assert!(plain::is_plain(source), "{source}");
        assert_eq!(plain::find(source, &scope), None, "{source}");
    }
    let long = format!("inputs.{}", "n".repeat(SOURCE_MAX));
    for source in ["", "not", "true", "inputs..n", "inputs.n+1", "(inputs.n)", &long] {
        assert!(!plain::is_plain(source), "{source}");
        assert_eq!(plain::find(source, &scope), None, "{source}");
    }
    let longest = format!("inputs.{}", "n".repeat(SOURCE_MAX - 7));
    assert!(plain::is_plain(&longest));
}

#[test]
fn so_many_programs_are_kept_and_no_plain_one() {
    let kept = |programs: &Programs| format!("{programs:?}").matches("compiled: ").count();
    let mut programs = Programs::default();
    programs.uses_of_expression("inputs.n").unwrap();
    assert_eq!(kept(&programs), 0);
    for n in 0..300 {
        programs.uses_of_expression(&format!("inputs.n + {n}")).unwrap();
    }
    assert_eq!(kept(&programs), 256);
    programs.uses_of_expression("inputs.n").unwrap();
    assert_eq!(kept(&programs), 256);
    let uses = programs.uses_of_text("a {{ inputs.n }} b {{ run.id }}").unwrap();
    assert!(uses.run && uses.inputs.contains("n"));
    assert_eq!(uses_of_text("a {{ inputs.n }} b {{ run.id }}"), Ok(uses));
}

#[test]
fn sources_have_a_longest_length() {
    let source = |len: usize| format!("{}1", " ".repeat(len - 1));
    for (len, reads) in [(SOURCE_MAX, true), (SOURCE_MAX + 1, false), (SOURCE_MAX + 2, false)] {
        assert_eq!(uses_of_expression(&source(len)).is_ok(), reads, "{len}");
    }
}

#[test]
fn places_are_those_of_the_source_as_written() {
    let scanned = scan::scan("1 + inputs.long-name * 2").unwrap();
    assert_eq!(scanned.source, "1 + __0 * 2");
    let cases = [
        (0..1, 0..1),
        (0..4, 0..4),
        (4..7, 4..20),
        (5..6, 4..20),
        (7..8, 20..21),
        (10..11, 23..24),
    ];
    for (new, old) in cases {
        assert_eq!(scanned.original_range(new.clone()), old, "{new:?}");
    }
    let cases = [
        ("{{ item.path ~ fil }}", "fil", "`fil` is not defined"),
        ("{{ inputs.map.missing.x }}", ".missing.x", "`.missing.x` is not defined"),
        ("{{ inputs.n + inputs.no }}", "inputs.no", "`inputs.no` is not defined"),
        ("{{ (inputs.no is defined) ~ item.x.y }}", ".x.y", "`.x.y` is not defined"),
        ("{{ item.x.y ~ (inputs.no is defined) }}", ".x.y", "`.x.y` is not defined"),
        ("{{ steps.7-zip.output_1 }}", "output_1", "a step has no `output_1`"),
        ("{{ [inputs.none, inputs.no[0]] }}", "inputs.no", "`inputs.no` is not defined"),
        ("{{ 'a' | abs }}", "abs", "`abs`: cannot get absolute value"),
        ("{{ 1 | first(1, 2) }}", "first(1, 2)", "`first(1, 2)`: too many arguments"),
        ("{{ inputs.n // 0 }}", "inputs.n // 0", "`inputs.n // 0`: unable to calculate 7 // 0"),
    ];
    for (text, at, message) in cases {
        assert_eq!(culprit(text), (at.to_owned(), message.to_owned()), "{text}");
    }
    let source = "  {{ fil }}";
    let error = condition(source, &scope()).unwrap_err();
    assert_eq!(&source[error.at], "fil");
}

#[test]
fn each_value_has_its_price() {
    let prices = [
        ("1", 1),
        ("inputs.depth ~ ''", 17),
        ("[inputs.files]", 9),
        ("inputs.map | keys", 43),
        ("inputs.map | values", 51),
        ("inputs.depth | upper", 25),
        ("inputs.files | length", 25),
        ("inputs.n | string", 17),
        ("inputs.files | tojson", 72),
        ("inputs.files | join('--')", 61),
        ("'abab' | replace('a', 'xyz')", 15),
        ("'a b' | split", 68),
        ("'[1]' | fromjson", 60),
        ("[[1, 2], [3]] | flatten", 41),
    ];
    let paid = prices.map(|(source, _)| (source, price(source)));
    assert_eq!(paid, prices);
}

#[test]
fn a_budget_refuses_its_last_byte() {
    let budget = Budget::new();
    assert!(budget.take(OUTPUT_MAX * 4 - 1) && !budget.is_spent());
    assert!(!budget.take(1) && budget.is_spent());
}

#[test]
fn the_scanner_reads_names_numbers_signs_and_brackets() {
    let refs = |source: &str| {
        scan::scan(source).map(|scanned| scanned.refs.len()).map_err(|error| error.message)
    };
    for source in ["inputs.n", "inputs .n", "inputs. n", "inputs  .  n", "inputs.a_b-c1"] {
        assert_eq!(scan::scan(source).unwrap().source, "__0", "{source}");
    }
    for source in ["inputs", "inputs.", "inputs . ", "1__0", "0x1__0 + 1", "-1", "-", "1 -"] {
        assert_eq!(refs(source), Ok(0), "{source}");
    }
    assert!(refs("-1-").unwrap_err().contains("do not exist"));
    assert!(refs("__0").unwrap_err().contains("cannot begin"));
    for (piece, end, most) in
        [("-", "1", 8), ("+", "1", 8), ("(", "", 64), ("[", "", 64), ("not ", "", 64)]
    {
        assert_eq!(refs(&(piece.repeat(most) + end)), Ok(0), "{piece}");
        assert!(refs(&(piece.repeat(most + 1) + end)).unwrap_err().contains("too"), "{piece}");
    }
    assert_eq!(refs(&"()[]{}".repeat(50)), Ok(0));
    assert_eq!(refs(&"1 - 1 + ".repeat(50)), Ok(0));
    let deep = "é".to_owned() + &"(".repeat(70);
    assert_eq!(scan::scan(&deep).unwrap_err().at, 66..67);
}

#[test]
fn lists_objects_and_depths_are_those_of_the_value() {
    let cases = [
        ("inputs.files[1]", json!("b.rs")),
        ("inputs.files[2] is defined", json!(false)),
        ("inputs.files[-1]", json!("b.rs")),
        ("inputs.map | length", json!(2)),
        ("[none, true, {1: 2}]", json!([null, true, {"1": 2}])),
    ];
    for (source, expected) in cases {
        assert_eq!(value(source), Ok(expected), "{source}");
    }
    let error = value("[item.x]").unwrap_err();
    assert_eq!(&*error.message, "`[item.x]` is not defined");
    let nested = |times: usize| format!("[1]{}", " | zip | list".repeat(times));
    let inside = |times: usize| format!("{{'a': {}}}", nested(times));
    let kind = |source: String| value(&source).map(drop).map_err(|error| error.kind);
    assert_eq!(kind(nested(127)), Ok(()));
    assert_eq!(kind(nested(128)), Err(ExprErrorKind::TooLarge));
    assert_eq!(kind(inside(126)), Ok(()));
    assert_eq!(kind(inside(127)), Err(ExprErrorKind::TooLarge));
}
