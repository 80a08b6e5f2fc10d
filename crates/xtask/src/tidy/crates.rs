//! Which crate may lean on which, who owns a heavy dependency, and what is not let in at all.
//!
//! **Invariant:** arrows point down only: `kapelle` on everything, its parts on `kapelle-core`,
//! `kapelle-core` on none of ours. Every package comes from crates.io or from this tree.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Faults;

/// Each crate of ours, the ones it may build on, and the ones its tests may use besides.
const ARROWS: [(&str, &[&str], &[&str]); 8] = [
    ("kapelle-core", &[], &[]),
    ("kapelle-api", &[], &[]),
    ("kapelle-fake", &[], &[]),
    ("kapelle-store", &["kapelle-core"], &[]),
    ("kapelle-engine", &["kapelle-core"], &["kapelle-store", "kapelle-agents"]),
    ("kapelle-agents", &["kapelle-core"], &["kapelle-fake"]),
    (
        "kapelle",
        &[
            "kapelle-core",
            "kapelle-api",
            "kapelle-store",
            "kapelle-engine",
            "kapelle-agents",
            "kapelle-fake",
        ],
        &[],
    ),
    ("xtask", &[], &[]),
];

/// Dependencies that cost build time or tie us to something, and the crates they are confined to.
/// Tests may use them anywhere.
const OWNERS: [(&str, &[&str]); 25] = [
    ("anyhow", &["kapelle", "xtask"]),
    ("axum", &["kapelle", "kapelle-fake"]),
    ("blake3", &["kapelle-core", "kapelle-store", "kapelle-fake"]),
    ("clap", &["kapelle"]),
    ("clap_complete", &["kapelle"]),
    ("html5ever", &["kapelle-agents"]),
    ("indicatif", &["kapelle"]),
    ("jiff", &["kapelle-core", "kapelle-agents", "kapelle-fake", "kapelle"]),
    ("jsonschema", &["kapelle-core", "kapelle-fake"]),
    ("minijinja", &["kapelle-core"]),
    ("prometheus-client", &["kapelle"]),
    ("reqwest", &["kapelle-agents", "kapelle-api"]),
    ("ring", &["kapelle"]),
    ("rusqlite", &["kapelle-store", "kapelle-agents"]),
    ("rust-stemmers", &["kapelle-agents"]),
    ("rustix", &["kapelle-store", "kapelle-engine", "kapelle-agents", "kapelle"]),
    ("rustls", &["kapelle-agents", "kapelle-api", "kapelle"]),
    ("schemars", &["kapelle", "kapelle-api", "kapelle-core", "kapelle-fake"]),
    ("serde-saphyr", &["kapelle-core", "kapelle-agents", "kapelle-fake"]),
    ("sha2", &["kapelle-core", "kapelle-store"]),
    (
        "tokio",
        &[
            "kapelle-api",
            "kapelle-store",
            "kapelle-engine",
            "kapelle-agents",
            "kapelle-fake",
            "kapelle",
        ],
    ),
    ("toml", &["kapelle"]),
    ("tower", &["kapelle"]),
    ("tracing-subscriber", &["kapelle"]),
    ("whatlang", &["kapelle-agents"]),
];

/// Not wanted anywhere in the tree.
const BANNED: [(&str, &str); 6] = [
    ("aws-lc-sys", "needs cmake and minutes; TLS here is rustls with ring"),
    ("aws-lc-rs", "needs cmake and minutes; TLS here is rustls with ring"),
    ("openssl-sys", "ties the binary to a system library; TLS here is rustls"),
    ("native-tls", "ties the binary to a system library; TLS here is rustls"),
    ("serde_yaml", "not maintained; use serde-saphyr"),
    ("serde_yml", "not maintained; use serde-saphyr"),
];

/// Not to be named by a crate of ours, though others may bring it.
const BANNED_HERE: [(&str, &str); 4] = [
    ("chrono", "time is core's `Timestamp`, calendars are jiff's"),
    ("time", "time is core's `Timestamp`, calendars are jiff's"),
    ("once_cell", "the standard library has it"),
    ("lazy_static", "the standard library has it"),
];

/// What cargo knows of the workspace and of everything it builds on.
pub(super) fn metadata() -> Result<Value> {
    let mut command = Command::new(crate::cargo());
    command.args(["metadata", "--locked", "--format-version", "1"]).current_dir(crate::root());
    let output = command.output().context("cargo does not start")?;
    let talk = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`cargo metadata --locked` failed: {talk}");
    serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")
}

/// Every package that is built, ours and others'.
pub(super) fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

pub(super) fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap_or_default()
}

pub(super) fn check(metadata: &Value) -> Faults {
    let mut faults = Faults::new();
    for package in packages(metadata) {
        faults.extend(banned(package));
        faults.extend(source(package));
    }
    for package in packages(metadata).filter(|package| package["source"].is_null()) {
        let Some(row) = ARROWS.iter().find(|row| row.0 == name(package)) else {
            faults.push(format!("crate `{}` is missing in tidy's table of arrows", name(package)));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let test_only = dependency["kind"] == "dev";
            faults.extend(arrow(row, name(dependency), test_only));
            faults.extend(owner(row.0, name(dependency), test_only));
        }
    }
    faults
}

fn banned(package: &Value) -> Option<String> {
    let (name, why) = BANNED.iter().find(|(banned, _)| *banned == name(package))?;
    Some(format!("`{name}` is in the tree: {why}; find who brings it with `cargo tree -i {name}`"))
}

fn source(package: &Value) -> Option<String> {
    let source = package["source"].as_str()?;
    let known = source == "registry+https://github.com/rust-lang/crates.io-index"
        || source == "sparse+https://index.crates.io/";
    (!known).then(|| format!("`{}` comes from `{source}`, not from crates.io", name(package)))
}

fn arrow(row: &(&str, &[&str], &[&str]), to: &str, test_only: bool) -> Option<String> {
    let (from, builds_on, tests_with) = row;
    let is_ours = ARROWS.iter().any(|row| row.0 == to);
    // A crate's tests may ask for a feature of the crate itself.
    let may = builds_on.contains(&to) || test_only && (tests_with.contains(&to) || from == &to);
    (is_ours && !may).then(|| format!("`{from}` must not depend on `{to}`: arrows point down only"))
}

fn owner(from: &str, dependency: &str, test_only: bool) -> Option<String> {
    if let Some((_, why)) = BANNED_HERE.iter().find(|(banned, _)| *banned == dependency) {
        return Some(format!("`{from}` names `{dependency}`: {why}"));
    }
    let (_, owners) = OWNERS.iter().find(|(owned, _)| *owned == dependency)?;
    (!test_only && !owners.contains(&from)).then(|| {
        format!("`{from}` depends on `{dependency}`, which belongs to {}", owners.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn workspace(name: &str, dependency: &str, kind: Option<&str>) -> Value {
        let dependency = json!({ "name": dependency, "kind": kind });
        json!({ "packages": [{ "name": name, "source": null, "dependencies": [dependency] }] })
    }

    #[test]
    fn an_arrow_that_points_sideways_or_up_is_a_fault() {
        for (from, to) in [
            ("kapelle-core", "kapelle-api"),
            ("kapelle-store", "kapelle-engine"),
            ("kapelle-engine", "kapelle-store"),
            ("kapelle-agents", "kapelle"),
            ("xtask", "kapelle-core"),
        ] {
            let faults = super::check(&workspace(from, to, None));
            assert_eq!(faults.len(), 1, "{from} to {to}: {faults:?}");
        }
        assert!(super::check(&workspace("kapelle-engine", "kapelle-core", None)).is_empty());
        assert!(
            super::check(&workspace("kapelle-engine", "kapelle-store", Some("dev"))).is_empty()
        );
    }

    #[test]
    fn a_second_owner_is_a_fault_and_a_test_is_none() {
        assert_eq!(super::check(&workspace("kapelle-engine", "rusqlite", None)).len(), 1);
        assert!(super::check(&workspace("kapelle-engine", "rusqlite", Some("dev"))).is_empty());
        assert!(super::check(&workspace("kapelle-store", "rusqlite", None)).is_empty());
    }

    #[test]
    fn banned_packages_foreign_sources_and_unknown_crates_are_faults() {
        let registry = "registry+https://github.com/rust-lang/crates.io-index";
        let packages = json!({ "packages": [
            { "name": "aws-lc-sys", "source": registry },
            { "name": "fork", "source": "git+https://example.org/fork" },
            { "name": "kapelle-util", "source": null },
        ]});
        let faults = super::check(&packages);
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
