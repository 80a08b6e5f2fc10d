//! Which files may be read: below the run's folder or a root, whatever tricks are tried.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kapelle_agents::web::Settings;
use kapelle_core::port::agent::FailureKind;
use serde_json::json;

use super::{agent, perform, quick};

/// A run's folder, with a secret beside it.
struct Place {
    _all: tempfile::TempDir,
    run: PathBuf,
    other: PathBuf,
}

impl Place {
    fn new() -> Self {
        let all = tempfile::tempdir().unwrap();
        let (run, other) = (all.path().join("run"), all.path().join("other"));
        std::fs::create_dir_all(run.join("docs")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(run.join("docs/a b.html"), "<p>inside").unwrap();
        std::fs::write(other.join("secret.html"), "<p>outside").unwrap();
        Self { _all: all, run, other }
    }
}

async fn ask(settings: Settings, root: &Path, url: &str) -> Result<String, (FailureKind, String)> {
    let page = perform(&agent(settings), "read", json!({ "url": url }), root).await;
    page.map(|page| page["text"].as_str().unwrap().to_owned())
        .map_err(|failure| (failure.kind, failure.code.to_string()))
}

#[tokio::test]
async fn files_are_read_below_the_folder_of_the_run_and_named_roots_only() {
    let place = Place::new();
    let inside = url::Url::from_file_path(place.run.join("docs/a b.html")).unwrap();
    for url in [inside.as_str(), "docs/a b.html", "./docs/../docs/a b.html", "file:docs/a b.html"] {
        assert_eq!(ask(quick(), &place.run, url).await.unwrap(), "inside", "{url}");
    }
    let secret = place.other.join("secret.html");
    let outside = url::Url::from_file_path(&secret).unwrap();
    let encoded = format!("file://{}/docs/%2e%2e%2f..%2fother/secret.html", place.run.display());
    let tricks = [
        outside.as_str(),
        secret.to_str().unwrap(),
        "../other/secret.html",
        "docs/../../other/secret.html",
        "file:../other/secret.html",
        &encoded,
        "/etc/passwd",
        "file:///etc/passwd",
        "/proc/self/environ",
    ];
    for url in tricks {
        let (kind, code) = ask(quick(), &place.run, url).await.unwrap_err();
        assert_eq!((kind, &*code), (FailureKind::Denied, "outside_roots"), "{url}");
    }
    let settings = Settings { roots: vec![place.other.clone()], ..quick() };
    assert_eq!(ask(settings, &place.run, outside.as_str()).await.unwrap(), "outside");
}

#[tokio::test]
async fn links_lead_around_inside_and_never_out() {
    let place = Place::new();
    symlink("docs/a b.html", place.run.join("near.html")).unwrap();
    symlink(place.other.join("secret.html"), place.run.join("far.html")).unwrap();
    symlink("../other/secret.html", place.run.join("up.html")).unwrap();
    symlink(&place.other, place.run.join("folder")).unwrap();
    symlink("loop.html", place.run.join("loop.html")).unwrap();
    symlink("/proc/self/cwd", place.run.join("magic")).unwrap();
    assert_eq!(ask(quick(), &place.run, "near.html").await.unwrap(), "inside");
    for url in ["far.html", "up.html", "folder/secret.html", "loop.html", "magic/Cargo.toml"] {
        let (kind, code) = ask(quick(), &place.run, url).await.unwrap_err();
        assert_eq!((kind, &*code), (FailureKind::Denied, "outside_roots"), "{url}");
    }
}

#[tokio::test]
async fn what_is_no_file_or_too_long_is_refused() {
    let place = Place::new();
    let pipe = place.run.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    std::fs::File::create(place.run.join("sparse.html")).unwrap().set_len(1 << 40).unwrap();
    std::fs::write(place.run.join("binary"), b"\x7fELF\0\0").unwrap();
    for (url, code) in [
        ("pipe", "unreadable"),
        ("docs", "unreadable"),
        ("none.html", "no_such_file"),
        ("docs/a b.html/x", "no_such_file"),
        ("sparse.html", "too_large"),
        ("binary", "not_a_page"),
    ] {
        let (_, found) = ask(quick(), &place.run, url).await.unwrap_err();
        assert_eq!(found, code, "{url}");
    }
    let relative = ask(quick(), Path::new("somewhere"), "a.html").await.unwrap_err();
    assert_eq!(relative, (FailureKind::Invalid, "bad_url".to_owned()));
}
