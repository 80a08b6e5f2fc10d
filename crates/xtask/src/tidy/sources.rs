//! What every source file owes its reader.
//!
//! The words that are looked for are put together here, or this file would break its own rules.

use super::{Faults, File, Tree};

/// The most lines a Rust file may have, tests included.
const LINES_MAX: usize = 800;

/// Words that say "not finished", and what to do instead.
const UNFINISHED: [(&str, &str); 5] = [
    (concat!("FIX", "ME"), "open an issue"),
    (concat!("TO", "DO"), "open an issue"),
    (concat!("XX", "X"), "open an issue"),
    (concat!("dbg", "!"), "take it out"),
    (concat!("#[ign", "ore"), "a test runs or is not there"),
];

pub(super) fn check(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    for file in tree.rust() {
        faults.extend(length(file));
        faults.extend(header(file));
        faults.extend(unfinished(file));
        faults.extend(sleeps(file));
    }
    let machine = machine_paths(tree);
    faults.extend(tree.files.iter().flat_map(|file| paths(file, &machine)));
    faults
}

fn length(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > LINES_MAX).then(|| format!("{}: {lines} lines; split it below {LINES_MAX}", file.path))
}

fn header(file: &File) -> Option<String> {
    let says = file.text.strip_prefix("//! ").is_some_and(|rest| !rest.trim().is_empty());
    (!says).then(|| format!("{}: must open with `//!` and what it is", file.path))
}

fn unfinished(file: &File) -> Faults {
    let found = lines(file).flat_map(|(number, line)| {
        UNFINISHED
            .iter()
            .filter(move |(word, _)| line.contains(word))
            .map(move |(word, way)| format!("{}:{number}: `{word}`: {way}", file.path))
    });
    found.collect()
}

/// A test that sleeps hopes. Where it must, the line or the one above says why.
fn sleeps(file: &File) -> Faults {
    let all_tests = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    let mut in_tests = all_tests;
    let mut before = "";
    let mut faults = Faults::new();
    for (number, line) in lines(file) {
        in_tests |= line.contains("#[cfg(test)]");
        let reasoned = line.contains("// ") || before.trim_start().starts_with("// ");
        if in_tests && line.contains(concat!("sle", "ep(")) && !reasoned {
            faults.push(format!("{}:{number}: sleeps in a test; wait for the event", file.path));
        }
        before = line;
    }
    faults
}

/// Where this tree and its builder live: nothing that is true of one machine only belongs in it.
fn machine_paths(tree: &Tree) -> Vec<String> {
    let mut paths = vec![format!("{}/", tree.root.display())];
    if let Some(home) = std::env::var_os("HOME").filter(|home| home.len() > 1) {
        paths.push(format!("{}/", home.to_string_lossy().trim_end_matches('/')));
    }
    let first = tree.root.components().nth(1).map(|part| part.as_os_str().to_string_lossy());
    paths.extend(
        first
            .filter(|first| !["tmp", "usr", "var", "opt", "home"].contains(&first.as_ref()))
            .map(|first| format!("/{first}/")),
    );
    paths
}

fn paths(file: &File, machine: &[String]) -> Faults {
    let found = lines(file).flat_map(|(number, line)| {
        machine.iter().filter(move |path| names(line, path)).map(move |path| {
            format!("{}:{number}: names `{path}`, a path of this machine", file.path)
        })
    });
    found.collect()
}

/// Whether `path` begins a path in the line, rather than being in the middle of one.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-*}".contains(c))
    })
}

fn lines(file: &File) -> impl Iterator<Item = (usize, &str)> {
    file.text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::{File, check};
    use crate::tidy::Tree;

    fn faults(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        check(&Tree { root: "/somewhere/here".into(), files: vec![file] })
    }

    #[test]
    fn each_rule_finds_its_fault() {
        let sleep = concat!("sle", "ep(1);");
        let header = "//! A file.\n";
        let test = "crates/x/tests/it/main.rs";
        assert!(faults(test, header).is_empty());
        assert_eq!(faults(test, "fn main() {}\n").len(), 1);
        assert_eq!(faults(test, "//!\nfn main() {}\n").len(), 1);
        assert_eq!(faults(test, &format!("{header}{}", "\n".repeat(800))).len(), 1);
        assert_eq!(faults(test, &format!("{header}// {}: later\n", concat!("TO", "DO"))).len(), 1);
        assert_eq!(faults(test, &format!("{header}{sleep}\n")).len(), 1);
        assert!(faults(test, &format!("{header}// The timer is the test.\n{sleep}\n")).is_empty());
        assert!(faults("crates/x/src/a.rs", &format!("{header}{sleep}\n")).is_empty());
    }

    #[test]
    fn a_path_of_this_machine_is_found_in_any_file() {
        assert_eq!(faults("README.md", "see /somewhere/there\n").len(), 1);
        assert!(faults("README.md", "see crates/somewhere/there\n").is_empty());
    }
}
