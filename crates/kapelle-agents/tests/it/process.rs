//! What a command gives, and how it fails.

use std::path::Path;

use kapelle_agents::desk::ScratchDesk;
use kapelle_core::Digest;
use kapelle_core::port::agent::FailureKind;
use serde_json::json;

use crate::support::{run, run_in, value_of};

#[tokio::test]
async fn stdout_becomes_text_lines_or_json() {
    let script = r#"printf '{"a": [1, 2]}\nb\n'"#;
    assert_eq!(value_of(json!({"shell": script})).await, "{\"a\": [1, 2]}\nb\n");
    let lines = value_of(json!({"shell": script, "parse": "lines"})).await;
    assert_eq!(lines, json!(["{\"a\": [1, 2]}", "b"]));
    let json =
        value_of(json!({"argv": ["echo", "{\"a\": 18446744073709551615}"], "parse": "json"}));
    assert_eq!(json.await, json!({"a": u64::MAX}));
    let failure = run(json!({"argv": ["echo", "{"], "parse": "json"})).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Invalid, "not_json"), "{failure}");
}

#[tokio::test]
async fn output_that_is_no_utf_8_is_shown_as_far_as_it_can_be() {
    let answer = run(json!({"shell": r"printf 'a\377b'; printf 'c\376d' >&2"})).await.unwrap();
    assert_eq!(answer.value["value"], "a\u{fffd}b");
    assert_eq!(answer.value["stderr_tail"], "c\u{fffd}d");
}

#[tokio::test]
async fn exit_codes_decide_what_kind_of_end_it_was() {
    let end = |code: i32| {
        run(json!({
            "shell": format!("echo one >&2; echo because >&2; exit {code}"),
            "okCodes": [0, 2], "retryCodes": [75]
        }))
    };
    assert_eq!(end(2).await.unwrap().value["code"], 2);
    let refused = end(1).await.unwrap_err();
    assert_eq!((refused.kind, &*refused.code), (FailureKind::Refused, "exit_1"));
    assert_eq!(&*refused.message, "`/bin/sh` ended with 1: one; because");
    assert!(refused.certain);
    let retry = end(75).await.unwrap_err();
    assert_eq!((retry.kind, &*retry.code), (FailureKind::Unavailable, "exit_75"));
    let crashed = run(json!({"shell": "kill -SEGV $$"})).await.unwrap_err();
    assert_eq!((crashed.kind, &*crashed.code), (FailureKind::Crashed, "signal_11"));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let env = json!({"PATH": "/nowhere"});
    let failure = run(json!({"argv": ["no-such-program"], "env": env})).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Invalid, "program_not_found"));
    assert_eq!(&*failure.message, "there is no program `no-such-program` on the PATH `/nowhere`");
    let failure = run(json!({"argv": ["/etc/passwd"]})).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Invalid, "not_started"), "{failure}");
}

#[tokio::test]
async fn stdin_is_a_text_or_compact_json() {
    let read = |stdin| value_of(json!({"argv": ["cat"], "stdin": stdin}));
    assert_eq!(read(json!("a\nb")).await, "a\nb");
    assert_eq!(read(json!({"b": [1, null], "a": "x"})).await, r#"{"b":[1,null],"a":"x"}"#);
    assert_eq!(read(json!(null)).await, "");
    let long = "x".repeat(900_000);
    assert_eq!(read(json!(long)).await, long);
    assert_eq!(value_of(json!({"argv": ["true"], "stdin": long})).await, "");
}

#[tokio::test]
async fn a_command_sees_only_what_it_is_meant_to_see() {
    let names = |env| async move {
        let script = "env | cut -d= -f1 | grep -v -e '^PWD$' -e '^_$' -e '^SHLVL$' | sort";
        value_of(json!({"shell": script, "env": env, "parse": "lines"})).await
    };
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "there is something to leak");
    let mut expected: Vec<&str> = vec![
        "KAPELLE_ATTEMPT",
        "KAPELLE_KEY",
        "KAPELLE_OUT",
        "KAPELLE_RUN",
        "KAPELLE_STEP",
        "MINE",
    ];
    let passed = ["HOME", "LANG", "PATH", "TMPDIR", "TZ"];
    expected.extend(passed.iter().filter(|name| std::env::var_os(name).is_some()));
    expected.sort_unstable();
    assert_eq!(names(json!({"MINE": 1})).await, json!(expected));
    let own = run(json!({"shell": ":", "env": {"KAPELLE_KEY": "x"}})).await.unwrap_err();
    assert_eq!(own.kind, FailureKind::Invalid);
}

#[tokio::test]
async fn whoever_kills_all_that_is_named_kapelle_spares_what_clears_up() {
    let names =
        value_of(json!({"shell": "cat /proc/$PPID/comm; tr '\\0' ' ' < /proc/$PPID/cmdline"}));
    assert_eq!(names.await, "kpl-child\nkpl-child __child ");
}

#[tokio::test]
async fn a_command_knows_its_run_step_attempt_and_key() {
    let script = "echo $KAPELLE_STEP $KAPELLE_ATTEMPT $KAPELLE_RUN $KAPELLE_KEY";
    let run = "018bcfe5-6800-7707-8707-070707070701";
    let said = value_of(json!({"shell": script})).await;
    assert_eq!(said, format!("step 1 {run} {run}/step/0/1\n"));
}

#[tokio::test]
async fn a_command_runs_in_the_submitters_folder_or_below_it() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("sub")).unwrap();
    let desk = ScratchDesk::new().unwrap();
    let here = run_in(&root, json!({"argv": ["pwd"]}), &desk).await.unwrap();
    assert_eq!(here.value["value"], format!("{}\n", root.display()));
    let below = run_in(&root, json!({"argv": ["pwd"], "cwd": "sub"}), &desk).await.unwrap();
    assert_eq!(below.value["value"], format!("{}/sub\n", root.display()));
    let gone = run_in(&root, json!({"argv": ["pwd"], "cwd": "gone"}), &desk).await.unwrap_err();
    assert_eq!((gone.kind, &*gone.code), (FailureKind::Invalid, "no_such_folder"));
    let gone = run_in(Path::new("/gone"), json!({"argv": ["pwd"]}), &desk).await.unwrap_err();
    assert_eq!((gone.kind, &*gone.code), (FailureKind::Invalid, "no_such_folder"));
}

#[tokio::test]
async fn the_end_of_stderr_is_kept_and_its_newest_line_is_progress() {
    let desk = ScratchDesk::new().unwrap();
    let script = "i=0; while [ $i -lt 3000 ]; do echo \"line $i ä\" >&2; i=$((i+1)); done";
    let answer = run_in(Path::new("/"), json!({"shell": script}), &desk).await.unwrap();
    let tail = answer.value["stderr_tail"].as_str().unwrap();
    assert!(tail.len() <= 4096 && tail.len() > 4000, "{}", tail.len());
    assert!(tail.ends_with("line 2999 ä\n"), "{tail}");
    let progress = desk.progress_so_far();
    let last = progress.last().unwrap().message.as_deref();
    assert_eq!(last, Some("line 2999 ä"));
    assert!(progress.len() < 300, "{} reports of 3000 lines", progress.len());
}

#[tokio::test]
async fn files_left_behind_become_artifacts() {
    let desk = ScratchDesk::new().unwrap();
    let script = "cd $KAPELLE_OUT && mkdir -p a/b && echo '# hi' > report.md && \
                  printf '{}' > a/b/x.json && printf 1 > a.bin && ln -s report.md latest.html";
    let answer = run_in(Path::new("/"), json!({"shell": script}), &desk).await.unwrap();
    let made: Vec<_> = answer.artifacts.iter().map(|a| (&*a.name, &*a.media_type, a.len)).collect();
    let expected = [
        ("a.bin", "application/octet-stream", 1),
        ("a/b/x.json", "application/json", 2),
        ("latest.html", "text/html", 5),
        ("report.md", "text/markdown", 5),
    ];
    assert_eq!(made, expected);
    assert_eq!(answer.artifacts[3].digest, Digest::of(b"# hi\n"));
    let content = kapelle_core::port::Desk::get(&desk, answer.artifacts[3].digest, 100).await;
    assert_eq!(&content.unwrap()[..], b"# hi\n");
}

#[tokio::test]
async fn a_link_out_of_the_folder_is_no_artifact() {
    for script in [
        "ln -s /etc/passwd $KAPELLE_OUT/x",
        "ln -s /etc $KAPELLE_OUT/x",
        "ln -s ../../etc/passwd $KAPELLE_OUT/x",
        "ln -s nowhere $KAPELLE_OUT/x",
        "mkfifo $KAPELLE_OUT/x",
        r"touch $KAPELLE_OUT/$(printf 'x\377')",
    ] {
        let failure = run(json!({"shell": script})).await.unwrap_err();
        assert_eq!(
            (failure.kind, &*failure.code),
            (FailureKind::Invalid, "bad_artifact"),
            "{script}"
        );
    }
}

#[tokio::test]
async fn a_command_that_failed_leaves_no_artifacts_and_no_folder() {
    let folders = tempfile::tempdir().unwrap();
    let script = format!(
        "touch $KAPELLE_OUT/x; echo $KAPELLE_OUT > {}/out; exit 1",
        folders.path().display()
    );
    run(json!({"shell": script})).await.unwrap_err();
    let out = std::fs::read_to_string(folders.path().join("out")).unwrap();
    assert!(!Path::new(out.trim()).exists(), "{out}");
}

#[tokio::test]
async fn two_hundred_megabytes_of_output_take_little_memory() {
    const LEN: u64 = 200 << 20;
    let desk = ScratchDesk::new().unwrap();
    // Forgets the peak so far.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_kib();
    let script = format!("head -c {LEN} /dev/zero");
    let answer = run_in(Path::new("/"), json!({"shell": script}), &desk).await.unwrap();
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "the peak grew by {grown} KiB");
    let [artifact] = &answer.artifacts[..] else { panic!("one artifact: {:?}", answer.artifacts) };
    assert_eq!((&*artifact.name, artifact.len), ("stdout", LEN));
    let value = json!({"artifact": "stdout", "digest": artifact.digest, "len": LEN});
    assert_eq!(answer.value["value"], value);
}

#[tokio::test]
async fn output_is_a_value_up_to_one_mebibyte_and_json_never_more() {
    let bytes = |len: usize| json!({"shell": format!("head -c {len} /dev/zero | tr '\\0' 1"), "parse": "text"});
    assert_eq!(value_of(bytes(1 << 20)).await.as_str().unwrap().len(), 1 << 20);
    let long = run(bytes((1 << 20) + 1)).await.unwrap();
    assert_eq!(long.artifacts[0].digest, Digest::of(&vec![b'1'; (1 << 20) + 1]));
    let mut json = bytes((1 << 20) + 1);
    json["parse"] = "json".into();
    let failure = run(json).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Invalid, "output_too_long"));
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
