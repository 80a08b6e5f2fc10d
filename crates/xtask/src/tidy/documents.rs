//! Documents that claim something about the tree, held to it.
//!
//! **Invariant:** `ARCHITECTURE.md` names every crate and no path that is not there, every code
//! of an error has its anchor in `docs/errors.md` and the other way round, and every row of
//! `docs/features.md` names tests that exist.

use std::collections::BTreeSet;

use super::{Faults, Tree};

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const ARCHITECTURE_LINES_MAX: usize = 250;
const FEATURES: &str = "docs/features.md";
const ERRORS: &str = "docs/errors.md";
const PROBLEMS: &str = "crates/kapelle-core/src/problem.rs";

pub(super) fn check(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    faults.extend(on(tree, ARCHITECTURE, architecture));
    faults.extend(on(tree, FEATURES, features));
    if tree.text(PROBLEMS).is_some() || tree.text(ERRORS).is_some() {
        faults.extend(on(tree, ERRORS, errors));
    }
    faults
}

fn on(tree: &Tree, path: &str, rule: fn(&Tree, &str) -> Faults) -> Faults {
    match tree.text(path) {
        Some(text) => rule(tree, text),
        None => vec![format!("{path}: is missing")],
    }
}

fn architecture(tree: &Tree, text: &str) -> Faults {
    let mut faults = Faults::new();
    let lines = text.lines().count();
    if lines > ARCHITECTURE_LINES_MAX {
        faults.push(format!("{ARCHITECTURE}: {lines} lines; cut to {ARCHITECTURE_LINES_MAX}"));
    }
    let named: BTreeSet<&str> = quoted(text, '`').collect();
    for manifest in tree.files.iter().filter_map(|file| crate_of(&file.path)) {
        if !named.contains(manifest) {
            faults.push(format!("{ARCHITECTURE}: does not name the crate `{manifest}`"));
        }
    }
    // A name with a slash is a path from the root; `<…>` and `*` stand for many, and a colon is
    // part of a command or a route.
    let is_path = |name: &&&str| name.contains('/') && !name.starts_with('/');
    for path in named.iter().filter(is_path).filter(|path| !path.contains([' ', '<', '*', ':'])) {
        if !path.starts_with("STORE/") && !tree.root.join(path).exists() {
            faults.push(format!("{ARCHITECTURE}: `{path}` does not exist"));
        }
    }
    faults
}

fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")
}

/// Every row but the heading: `| id | what works | `test`, `test` |`.
fn features(tree: &Tree, text: &str) -> Faults {
    let mut faults = Faults::new();
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    for row in rows {
        let tests: Vec<&str> = match row.trim_matches('|').split('|').nth(2) {
            Some(cell) => quoted(cell, '`').collect(),
            None => Vec::new(),
        };
        if tests.is_empty() {
            faults.push(format!("{FEATURES}: no test in `{row}`"));
        }
        for test in tests {
            let begin = format!("fn {test}(");
            if !tree.rust().any(|file| file.text.contains(&begin)) {
                faults.push(format!("{FEATURES}: there is no test `{test}`"));
            }
        }
    }
    faults
}

fn errors(tree: &Tree, text: &str) -> Faults {
    let Some(table) = tree.text(PROBLEMS) else {
        return vec![format!("{PROBLEMS}: is missing, but {ERRORS} is there")];
    };
    let told: BTreeSet<&str> = anchors(text).collect();
    let coded: BTreeSet<&str> = codes(table).collect();
    let missing = coded.difference(&told).map(|code| format!("{ERRORS}: no anchor for `{code}`"));
    let extra = told.difference(&coded).map(|code| format!("{ERRORS}: `{code}` is no error"));
    missing.chain(extra).collect()
}

/// The anchors of the part of the page that explains the table's codes.
fn anchors(text: &str) -> impl Iterator<Item = &str> {
    let from_part = text.lines().skip_while(|line| *line != "## Problems").skip(1);
    let part = from_part.take_while(|line| !line.starts_with("## "));
    part.filter_map(|line| line.strip_prefix("### ")).map(|code| code.trim_matches('`'))
}

/// The first text of each row of the table: `Name "code" "what it says",`.
fn codes(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" \"")?;
        let is_name =
            name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
        rest.split_once('"').filter(|_| is_name).map(|(code, _)| code)
    })
}

/// What stands between two `quote`s on one line.
fn quoted(text: &str, quote: char) -> impl Iterator<Item = &str> {
    text.lines().flat_map(move |line| line.split(quote).skip(1).step_by(2))
}

#[cfg(test)]
mod tests {
    use super::{architecture, errors, features};
    use crate::tidy::{File, Tree};

    fn tree(files: &[(&str, &str)]) -> Tree {
        let file =
            |(path, text): &(&str, &str)| File { path: (*path).into(), text: (*text).into() };
        Tree { root: crate::root(), files: files.iter().map(file).collect() }
    }

    #[test]
    fn an_unnamed_crate_and_a_path_that_is_not_there_are_found() {
        let tree = tree(&[("crates/a/Cargo.toml", "")]);
        assert!(architecture(&tree, "`a` in `crates/xtask`").is_empty());
        assert_eq!(architecture(&tree, "`crates/nowhere.rs`").len(), 2);
    }

    #[test]
    fn a_row_without_a_test_that_exists_is_found() {
        let tree = tree(&[("a.rs", "fn it_works() {}")]);
        let head = "| id | what | test |\n|---|---|---|\n";
        assert!(features(&tree, &format!("{head}| P1 | x | `it_works` |")).is_empty());
        assert_eq!(features(&tree, &format!("{head}| P1 | x | `it_sings` |")).len(), 1);
        assert_eq!(features(&tree, &format!("{head}| P1 | x | soon |")).len(), 1);
    }

    #[test]
    fn codes_and_anchors_must_be_the_same() {
        let code = "codes! {\n    BadName \"bad_name\" \"it has a \\\"name\",\n}\nlet x = \"y\";\n";
        let tree = tree(&[(super::PROBLEMS, code)]);
        assert!(errors(&tree, "## Problems\n### bad_name\n## Others\n### x\n").is_empty());
        assert_eq!(errors(&tree, "## Problems\n### `other_name`\n").len(), 2);
        assert_eq!(errors(&tree, "### bad_name\n").len(), 1);
    }
}
