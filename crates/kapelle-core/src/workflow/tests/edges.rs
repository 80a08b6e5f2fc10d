//! The last that a file may have, and the first that it may not; where in a line a problem is shown.

use super::*;

#[test]
fn a_file_may_have_so_many_bytes() {
    assert!(text_of(&vec![b' '; FILE_MAX]).is_ok());
    assert_eq!(text_of(&vec![b' '; FILE_MAX + 1]).unwrap_err().code, Code::FileTooLarge);
}

#[test]
fn what_is_no_text_is_told_with_its_line() {
    let told = |bytes: &[u8]| text_of(bytes).unwrap_err().message;
    assert_eq!(told(b"a\n\nb\0\n"), "there is a NUL byte in line 3");
    assert_eq!(told(b"a\n\n\xe9\n"), "the file is not UTF-8: see line 3");
    assert_eq!(told(b"\xff\xfei\0"), "the file is UTF-16, not UTF-8");
    assert_eq!(told(b"\xfe\xff\0i"), "the file is UTF-16, not UTF-8");
    assert_eq!(text_of("\u{feff}id: a".as_bytes()).unwrap(), "id: a");
    let problem = &Workflow::read("x.yaml", b"\0", None).problems[0];
    let shown = "error: there is a NUL byte in line 1\n  ┌─ x.yaml\n  = save the file as UTF-8";
    assert_eq!(problem.to_string(), shown);
}

#[test]
fn a_file_may_be_so_deep() {
    let parse = |text: String| tree::parse(&text, &mut Vec::new()).map_err(|fault| fault.code);
    let flow = |levels| parse(format!("{}1{}", "[".repeat(levels), "]".repeat(levels)));
    let block = |levels| parse(format!("{}1\n", "- ".repeat(levels)));
    assert!(flow(64).is_ok() && block(64).is_ok());
    let mixed = parse(format!("{}{}1{}", "- ".repeat(33), "[".repeat(32), "]".repeat(32)));
    assert_eq!([flow(65), block(65), mixed].map(Result::unwrap_err), [Code::TooDeep; 3]);
}

#[test]
fn what_stands_there_once_counts_once() {
    let text = format!("{}\"{}\"{}", "[".repeat(60), "x".repeat(2 << 20), "]".repeat(60));
    assert!(tree::parse(&text, &mut Vec::new()).is_ok());
}

#[test]
fn a_number_of_milliseconds_is_a_duration() {
    let timeout =
        |ms: u64| read(&format!("id: a\ntasks: [{{id: b, agentName: echo, timeout: {ms}}}]\n"));
    let longest = 100 * 366 * 24 * 3_600_000;
    assert_eq!(timeout(longest).workflow.unwrap().plan.steps[0].timeout_ms, longest);
    assert_eq!(told(&timeout(longest + 1)), [("bad_duration", 2, 43, "tasks[0].timeout")]);
}

/// The line shown of a file whose second line is so long before the culprit and so long after it.
fn snippet(before: usize, after: usize) -> Snippet {
    let start = format!("{{id: a, name: {}, tasks: ", "x".repeat(before - 23));
    let text = format!("# {}\n{start}7 }} # {}", "é".repeat(200), "y".repeat(after - 6));
    read(&text).problems.remove(0).snippet.unwrap()
}

#[test]
fn of_a_long_line_the_part_around_the_culprit_is_shown() {
    for (before, skipped) in [(100, 0), (160, 0), (161, 101), (1_000, 940)] {
        let snippet = snippet(before, 500);
        assert_eq!((snippet.skipped, snippet.len), (skipped, 1));
        assert_eq!(snippet.text.len(), before - skipped as usize + 160);
    }
    assert_eq!(snippet(100, 50).text.len(), 150);
}

#[test]
fn what_is_wrong_in_one_place_is_told_once_for_each_reason() {
    let told = |fields: &str| {
        let text = format!("id: a\ntasks:\n  - {{ id: b, agentName: echo, {fields} }}\n");
        read(&text).problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
    };
    let twice = told("retry: { initial: 99999d, max: 99999d }");
    assert_eq!(twice, ["the duration is over 100 years".into()]);
    assert_eq!(told("prompt: '{{ whom }} {{ who }}'").len(), 2);
}

#[test]
fn what_is_wrong_at_the_start_is_told_however_much_follows() {
    let first = "  - { id: first, agentName: echo, dependencies: [nobody] }\n";
    let others: String =
        (0..400).map(|i| format!("  - {{ id: s{i}, agentName: echo, of: 1 }}\n")).collect();
    let checked = read(&format!("id: a\ntasks:\n{first}{others}"));
    assert_eq!(checked.problems.len(), PROBLEMS_MAX);
    assert_eq!(checked.problems[0].code, Code::UnknownStep);
}
