//! The wall around commands of models: each limit against a real program, which does without the wall
//! what it cannot do behind it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kapelle_agents::contract;
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::model::tool::{Told, Tool};
use kapelle_agents::model::tools::{Commands, Limits, Reserved, can_be_confined, run_command};
use kapelle_core::Json;
use kapelle_core::port::agent::{Failure, FailureKind};
use serde_json::json;

use crate::support::{eventually, is_alive, launcher, pids_in, run_in};

/// A run's folder, in a folder that is not to be seen.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        // Not in /tmp: there is another one behind the wall.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        std::fs::write(dir.path().join("outside"), "canary").unwrap();
        let place = Self(dir);
        // Commands of root run as nobody.
        for path in [place.0.path().to_path_buf(), place.run(), place.outside()] {
            let all = PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(path, all).unwrap();
        }
        place
    }

    fn run(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("run")
    }

    fn outside(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("outside")
    }

    fn tool(&self, limits: Limits) -> Arc<dyn Tool> {
        let (launcher, kids) = (launcher(), Some(self.0.path().join("kids")));
        let store = Some(self.run().join("store"));
        let reserved = Arc::new(Reserved { store, ..Reserved::default() });
        run_command(Commands { launcher, kids, reserved, limits })
    }

    async fn call(&self, input: Json, limits: Limits, desk: &ScratchDesk) -> Result<Told, Failure> {
        let call = contract::call("work", json!({}), self.run().to_str().unwrap());
        self.tool(limits).call(&call, &input, "run/step/1/0", desk).await
    }

    /// What a script tells behind the wall.
    async fn behind(&self, script: &str) -> Told {
        self.limited(script, Limits::default()).await
    }

    async fn limited(&self, script: &str, limits: Limits) -> Told {
        let desk = ScratchDesk::new().unwrap();
        let input = json!({"command": ["sh", "-c", script], "timeout_seconds": 30});
        self.call(input, limits, &desk).await.unwrap()
    }

    /// The same with other things reserved.
    async fn walled(&self, script: &str, reserved: Reserved) -> Told {
        let (launcher, kids) = (launcher(), Some(self.0.path().join("kids")));
        let (reserved, limits) = (Arc::new(reserved), Limits::default());
        let tool = run_command(Commands { launcher, kids, reserved, limits });
        let (input, desk) = (json!({"command": ["sh", "-c", script]}), ScratchDesk::new().unwrap());
        let call = contract::call("work", json!({}), self.run().to_str().unwrap());
        tool.call(&call, &input, "run/step/1/0", &desk).await.unwrap()
    }

    /// Whether it works in front of it.
    async fn in_front(&self, script: &str) -> bool {
        let desk = ScratchDesk::new().unwrap();
        run_in(&self.run(), json!({"argv": ["sh", "-c", script]}), &desk).await.is_ok()
    }
}

#[track_caller]
fn worked(told: &Told) {
    assert!(!told.failed, "{}", told.text);
}

#[track_caller]
fn did_not(told: &Told) {
    assert!(told.failed, "{}", told.text);
}

#[tokio::test]
async fn a_command_works_in_its_folder_and_tells_how_it_ended() {
    let place = Place::new();
    std::fs::create_dir(place.run().join("sub")).unwrap();
    let told =
        place.behind("pwd; echo made > new; cat new; echo oops >&2; touch /tmp/x; exit 3").await;
    did_not(&told);
    assert!(told.text.starts_with("`sh` ended with 3 ("), "{}", told.text);
    let said = format!("stdout:\n{}\nmade\n\nstderr:\noops\n", place.run().display());
    assert!(told.text.ends_with(&said), "{}", told.text);
    assert_eq!(std::fs::read_to_string(place.run().join("new")).unwrap(), "made\n");
    let desk = ScratchDesk::new().unwrap();
    let ask = async |input| place.call(input, Limits::default(), &desk).await.unwrap();
    let sub = ask(json!({"command": ["pwd"], "folder": "sub"})).await;
    assert!(sub.text.contains("/run/sub\n"), "{}", sub.text);
    let out = ask(json!({"command": ["pwd"], "folder": "../"})).await;
    assert!(out.failed && out.text.contains("no such `folder`"), "{}", out.text);
    let none = ask(json!({"command": ["no-such-program"]})).await;
    assert!(none.failed && none.text.contains("was not found on /usr/local/bin"), "{}", none.text);
    // Nobody reads its words but the program.
    let words = ask(json!({"command": ["echo", "$(id)", ";", "a\nb", "`x`"]})).await;
    assert!(words.text.contains("stdout:\n$(id) ; a\nb `x`\n"), "{}", words.text);
}

#[tokio::test]
async fn nothing_outside_is_read_written_or_changed() {
    let place = Place::new();
    let outside = place.outside().display().to_string();
    for script in [
        format!("cat {outside}"),
        format!("echo x >> {outside}"),
        format!("ln -sf {outside} link && cat link"),
        "echo x > ../new".to_owned(),
        "cat ../outside".to_owned(),
        "ls /home".to_owned(),
        "cat /proc/$PPID/environ".to_owned(),
        "cat /proc/1/cmdline".to_owned(),
        format!("chmod 600 {outside}"),
    ] {
        did_not(&place.behind(&script).await);
        assert!(place.in_front(&script).await, "{script}");
    }
}

#[tokio::test]
async fn secrets_in_the_folder_are_not_there_and_what_others_obey_stays() {
    let place = Place::new();
    let run = place.run();
    for dir in ["store", "deep/.ssh", ".git/hooks"] {
        std::fs::create_dir_all(run.join(dir)).unwrap();
    }
    for file in [".env", "deep/.ssh/id_a", "deep/server.key", "store/kapelle.db", ".git/config"] {
        std::fs::write(run.join(file), "canary\n").unwrap();
    }
    for path in std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().path()) {
        let mode = if path.is_dir() { 0o777 } else { 0o666 };
        let all = PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, all).unwrap();
    }
    let all = "cat .env deep/.ssh/id_a deep/server.key store/kapelle.db";
    let told = place.behind(&format!("{all}; mv .env x; ln .env y; cat x y; true")).await;
    assert!(!told.text.contains("canary"), "{}", told.text);
    assert!(place.in_front(all).await);
    for script in
        ["echo x > .git/hooks/pre-commit", "echo x >> .git/config", "mv .git x", "> .git/index"]
    {
        did_not(&place.behind(script).await);
    }
    worked(&place.behind("cat .git/config").await);
    let told = place
        .behind("echo '[models]' > kapelle.toml; mkdir .vscode; touch .vscode/tasks.json")
        .await;
    let said = "`kapelle.toml` is not for commands to make: it is `kapelle.toml.not-obeyed` now";
    assert!(told.text.contains(said), "{}", told.text);
    assert!(!run.join("kapelle.toml").exists() && !run.join(".vscode").exists());
    assert_eq!(std::fs::read_to_string(run.join(".env")).unwrap(), "canary\n");
}

/// Else the next look would know neither the secrets nor the store, or obey what a command has put there.
#[tokio::test]
async fn folders_on_the_way_to_what_is_reserved_keep_their_names() {
    let place = Place::new();
    let run = place.run();
    for dir in ["data/deep/store", "a/secrets", "conf/.docker", "flows", "free/sub"] {
        std::fs::create_dir_all(run.join(dir)).unwrap();
    }
    for file in ["data/deep/store/kapelle.db", "a/secrets/db.yml", "conf/.docker/config.json"] {
        std::fs::write(run.join(file), "canary\n").unwrap();
    }
    std::fs::write(run.join("flows/wf.yaml"), "id: ours\n").unwrap();
    let (store, flow) = (run.join("data/deep/store"), run.join("flows/wf.yaml"));
    let reserved = Reserved { store: Some(store), obeyed: vec![flow], ..Reserved::default() };
    open_all(&run);
    for folder in ["data", "data/deep", "a", "a/secrets", "conf", "conf/.docker", "flows"] {
        let script = format!("mv {folder} {folder}.x");
        let back = format!("{script} && mv {folder}.x {folder}");
        assert!(place.in_front(&back).await, "{folder}");
        did_not(&place.walled(&script, reserved.clone()).await);
        // Elsewhere it is copied, without what is hidden.
        let told = place
            .walled(&format!("mv {folder} /tmp/x; cat $(find /tmp/x -type f)"), reserved.clone())
            .await;
        assert!(!told.text.contains("canary"), "{folder}: {}", told.text);
    }
    worked(
        &place.walled("mv free other && mv other/sub x && echo y > a/z", reserved.clone()).await,
    );
    std::os::unix::fs::symlink("data", run.join("lnk")).unwrap();
    let store = Some(run.join("lnk/deep/store"));
    let told = place.walled("true", Reserved { store, ..Reserved::default() }).await;
    assert!(told.failed && told.text.contains("`lnk` is a link on the way"), "{}", told.text);
}

/// Else three files would be enough to have a folder left unseen.
#[tokio::test]
async fn what_looks_like_a_repository_hides_no_secret() {
    let place = Place::new();
    let run = place.run();
    for dir in ["x/objects", "x/refs", "x/secrets"] {
        std::fs::create_dir_all(run.join(dir)).unwrap();
    }
    for file in ["x/HEAD", "x/.env", "x/secrets/db.yml"] {
        std::fs::write(run.join(file), "canary\n").unwrap();
    }
    open_all(&run);
    let told = place.walled("cat x/.env x/secrets/db.yml", Reserved::default()).await;
    assert!(!told.text.contains("canary"), "{}", told.text);
}

#[tokio::test]
async fn a_link_to_what_others_obey_is_neither_made_nor_led_elsewhere() {
    let place = Place::new();
    let run = place.run();
    for dir in ["flows", "real/agents", "other"] {
        std::fs::create_dir_all(run.join(dir)).unwrap();
    }
    std::fs::write(run.join("flows/wf.yaml"), "id: ours\n").unwrap();
    std::os::unix::fs::symlink("flows", run.join("way")).unwrap();
    std::os::unix::fs::symlink("../real/agents", run.join("other/agents")).unwrap();
    open_all(&run.join("other"));
    std::fs::set_permissions(run.join("other"), PermissionsExt::from_mode(0o777)).unwrap();
    let flow = run.join("way/wf.yaml");
    let reserved = Reserved { obeyed: vec![flow], ..Reserved::default() };
    let script =
        "mkdir p; echo x > p/evil.md; ln -s p agents; mkdir .kapelle; ln -s ../p .kapelle/agents";
    worked(&place.walled(script, reserved.clone()).await);
    for link in ["agents", ".kapelle/agents"] {
        assert!(!run.join(link).is_symlink() && run.join("other/agents").is_symlink(), "{link}");
    }
    let script = "rm way && mkdir way && echo 'id: evil' > way/wf.yaml";
    let told = place.walled(script, reserved).await;
    assert!(!run.join("way/wf.yaml").exists(), "{}", told.text);
    assert!(
        told.warnings.iter().any(|said| said.contains("`way` is not for commands")),
        "{told:?}"
    );
}

/// Lets everybody change all below a folder.
fn open_all(folder: &Path) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let mode = if path.is_dir() { 0o777 } else { 0o666 };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        if path.is_dir() {
            open_all(&path);
        }
    }
}

/// What has git run a program for whoever asks for its status, by way of a repository of these kinds.
const REPOSITORIES: [(&str, &str); 8] = [
    ("its own, made anew", "mv .git .old && cp -r .old .git && evil >> .git/config"),
    (
        "its own, led elsewhere",
        "cp -r .git other && evil >> other/config && echo ../other > .git/commondir",
    ),
    ("one in it", "evil >> sub/.git/config"),
    ("one in it that is moved", "mv sub was && cp -r was sub && evil >> sub/.git/config"),
    ("a new one", "git init -q new && evil >> new/.git/config"),
    ("one in a closed folder", "git init -q new && evil >> new/.git/config && chmod 311 new"),
    (
        "one without a `.git`",
        "git init -q x && mv x/.git new && evil >> new/config && echo 'worktree = ..' >> new/config",
    ),
    (
        "one elsewhere",
        "git init -q x && mv x/.git data && evil >> data/config && mkdir new && echo gitdir: ../data > new/.git",
    ),
];

#[tokio::test]
async fn git_outside_runs_nothing_that_a_command_has_left() {
    let pwned = |place: &Place| {
        let mark = place.0.path().join("pwned");
        for folder in [".", "sub", "new"].map(|name| place.run().join(name)) {
            let mut git = std::process::Command::new("git");
            git.args(["-c", "safe.directory=*", "status"]);
            git.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory");
            git.env("GIT_CONFIG_VALUE_0", "*").env("GIT_CEILING_DIRECTORIES", place.0.path());
            if folder.exists() {
                git.current_dir(&folder).output().unwrap();
            }
        }
        mark.exists()
    };
    for (kind, script) in REPOSITORIES {
        let prepared = || {
            let place = Place::new();
            let mark = place.0.path().canonicalize().unwrap().join("pwned");
            let evil =
                format!("evil() {{ printf '[core]\nfsmonitor = touch {}\n'; }}", mark.display());
            let make = "git init -q . && git init -q sub && chmod -R a+rwX .";
            let made = std::process::Command::new("sh")
                .args(["-c", make])
                .current_dir(place.run())
                .status();
            assert!(made.unwrap().success());
            (place, format!("{evil}; {script}"))
        };
        let (place, script) = prepared();
        let told = place.behind(&script).await;
        assert!(!pwned(&place), "{kind}: {}", told.text);
        let still = place.behind("git status && git log; git diff; git -C sub status").await;
        worked(&still);
        let (place, script) = prepared();
        assert!(place.in_front(&script).await, "{kind}");
        assert!(pwned(&place), "{kind} is harmless to this git");
    }
}

#[tokio::test]
async fn what_others_obey_is_kept_and_not_made_at_any_depth() {
    let place = Place::new();
    let run = place.run();
    let old =
        [".github/workflows/x.yml", "sub/CLAUDE.md", "sub/.claude/agents/y.md", "agents/z.md"];
    let new =
        ["new/.husky/pre-commit", "workflow.yaml", "sub/.envrc", "agents/new.md", "x/.VSCode/a"];
    for path in old {
        std::fs::create_dir_all(run.join(path).parent().unwrap()).unwrap();
        std::fs::write(run.join(path), "mine").unwrap();
    }
    std::os::unix::fs::symlink("rules", run.join(".cursorrules")).unwrap();
    std::fs::write(run.join("rules"), "mine").unwrap();
    let open =
        std::process::Command::new("chmod").args(["-R", "a+rwX", "."]).current_dir(&run).status();
    assert!(open.unwrap().success());
    for path in old.into_iter().chain(["rules"]) {
        did_not(&place.behind(&format!("echo x > {path}")).await);
        did_not(&place.behind(&format!("rm {path}")).await);
    }
    let make = |path: &&str| format!("mkdir -p $(dirname {path}); echo x > {path};");
    let script: String = new.iter().map(make).collect();
    let told = place.behind(&format!("{script} mv sub moved; ln -s x CLAUDE.md")).await;
    for path in new {
        assert!(!run.join(path).exists(), "{path}: {}", told.text);
    }
    assert!(run.join("CLAUDE.md").symlink_metadata().is_err(), "{}", told.text);
    for path in old.map(|path| path.replace("sub/", "moved/")) {
        assert_eq!(std::fs::read_to_string(run.join(&path)).unwrap(), "mine", "{path}");
    }
    assert!(run.join("agents/new.md.not-obeyed").exists() && run.join("rules").exists());
}

/// Somebody saves a prompt while a command works.
#[tokio::test]
async fn what_a_command_cannot_have_made_is_left_alone_and_the_rest_is_told() {
    let place = Place::new();
    let run = place.run();
    std::fs::create_dir(run.join("agents")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(run.join("go")).status();
    assert!(pipe.unwrap().success());
    let by_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&run).unwrap()) == 0;
    for (mode, is_open) in [(0o755, !by_root), (0o777, true)] {
        for folder in [run.clone(), run.join("agents")] {
            std::fs::set_permissions(folder, PermissionsExt::from_mode(mode)).unwrap();
        }
        let (go, prompt) = (run.join("go"), run.join("agents/doer.md"));
        let saved = prompt.clone();
        let save = tokio::task::spawn_blocking(move || {
            // It opens when the command reads from it.
            let go = std::fs::File::options().write(true).open(go).unwrap();
            std::fs::write(saved, "mine").unwrap();
            drop(go);
        });
        let told = place.behind("cat go").await;
        save.await.unwrap();
        worked(&told);
        let swept = prompt.with_extension("md.not-obeyed");
        assert_eq!((prompt.exists(), swept.exists()), (!is_open, is_open), "{}", told.text);
        let said = "`agents/doer.md` is not for commands to make: it is `doer.md.not-obeyed` now";
        assert_eq!(told.warnings, if is_open { vec![said] } else { Vec::new() });
        std::fs::remove_file(&prompt).ok();
        let shelf = kapelle_agents::files::Shelf::new(vec![run.join("agents")]);
        let left_out: Vec<String> = shelf.look().broken.iter().map(ToString::to_string).collect();
        assert_eq!(left_out.len(), usize::from(is_open), "{left_out:?}");
        let is_named = |line: &String| line.contains("doer.md.not-obeyed:1: it appeared while");
        assert!(left_out.iter().all(is_named), "{left_out:?}");
    }
}

#[tokio::test]
async fn there_is_no_network_and_no_socket_of_others() {
    let place = Place::new();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let path = place.0.path().join("socket");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let name = format!("kapelle-test-{tcp_port}");
    let address = <SocketAddr as SocketAddrExt>::from_abstract_name(&name).unwrap();
    let abstr = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    for connect in [
        format!("s.socket(s.AF_INET,s.SOCK_STREAM).connect(('127.0.0.1',{tcp_port}))"),
        format!("s.socket(s.AF_INET,s.SOCK_DGRAM).sendto(b'x',('127.0.0.1',{udp_port}))"),
        format!("s.socket(s.AF_UNIX).connect('{}')", path.display()),
        format!("s.socket(s.AF_UNIX).connect('\\0{name}')"),
    ] {
        let script = format!("/usr/bin/python3 -c \"import socket as s; {connect}\"");
        did_not(&place.behind(&script).await);
        assert!(place.in_front(&script).await, "{script}");
    }
    drop((unix, abstr));
}

#[tokio::test]
async fn a_command_has_no_rights_keys_or_neighbours() {
    let place = Place::new();
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "there is something to leak");
    let told =
        place.behind("env | cut -d= -f1 | grep -v -e ^PWD -e ^_ -e ^SHLVL -e ^GIT | sort").await;
    assert!(told.text.contains("stdout:\nHOME\nLANG\nPATH\n\n"), "{}", told.text);
    let told = place
        .behind("id -u; grep -e NoNewPrivs -e CapEff /dev/stdin < /proc/self/status; true")
        .await;
    assert!(!told.text.contains("stdout:\n0\n"), "{}", told.text);
    let mut neighbour = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let kill = format!("kill {}", neighbour.id());
    did_not(&place.behind(&kill).await);
    did_not(&place.behind("unshare -Urm mount -t tmpfs none /usr").await);
    assert!(is_alive(neighbour.id()));
    assert!(place.in_front(&kill).await);
    neighbour.wait().unwrap();
}

#[tokio::test]
async fn what_a_process_uses_up_is_limited() {
    let place = Place::new();
    let limits = Limits {
        cpu_seconds: 1,
        memory_bytes: 64 << 20,
        processes: 40,
        file_bytes: 1 << 20,
        open_files: 64,
        temporary_bytes: 1 << 20,
    };
    let python = |code: &str| format!("/usr/bin/python3 -c \"{code}\"");
    for (script, said) in [
        ("while :; do :; done".to_owned(), "time of the processor"),
        (python("b=bytearray(200<<20)"), "MemoryError"),
        (python("import mmap; m=mmap.mmap(-1,400<<20)"), "Cannot allocate"),
        ("head -c 2000000 /dev/zero > big".to_owned(), ""),
        ("head -c 2000000 /dev/zero > /tmp/big".to_owned(), ""),
        (python("f=[open('/dev/null') for _ in range(100)]"), "Too many open files"),
        ("for i in $(seq 100); do sleep 30 & p=\"$p $!\"; done; kill $p".to_owned(), "fork"),
    ] {
        let told = place.limited(&script, limits).await;
        assert!(told.failed && told.text.contains(said), "{script}: {}", told.text);
        let ends = script.replace("while :; do :; done", ":").replace("/tmp/", "");
        assert!(place.in_front(&ends).await, "{script}");
        worked(&place.limited("echo well > small; cat small", limits).await);
    }
}

/// Each child has two more.
const BOMB: &str = "f() { f | f & }; f; sleep 1000";

#[tokio::test]
async fn all_it_started_ends_with_its_time_and_with_a_word() {
    let family = "echo $$ >> pids; setsid sh -c 'echo $$ >> pids; exec sleep 1000' & \
                  (setsid sh -c 'echo $$ >> pids; exec sleep 1000' &); sleep 1000";
    let place = Place::new();
    let desk = ScratchDesk::new().unwrap();
    let input = json!({"command": ["sh", "-c", family], "timeout_seconds": 1});
    // Their own pids, as the machine sees them: they live in its world of processes.
    let told = place.call(input.clone(), Limits::default(), &desk).await.unwrap();
    assert!(told.failed && told.text.contains("stopped after 1 s"), "{}", told.text);
    let pids = pids_in(&place.run().join("pids"), 3).await;
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    std::fs::remove_file(place.run().join("pids")).unwrap();
    let input = json!({"command": ["sh", "-c", family]});
    let cancel = async {
        let pids = pids_in(&place.run().join("pids"), 3).await;
        assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
        desk.cancel();
        pids
    };
    let (ended, pids) = tokio::join!(place.call(input, Limits::default(), &desk), cancel);
    assert_eq!(ended.unwrap_err().kind, FailureKind::Cancelled);
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    let since = Instant::now();
    let desk = ScratchDesk::new().unwrap();
    let input = json!({"command": ["bash", "-c", BOMB], "timeout_seconds": 1});
    let limits = Limits { processes: 40, ..Limits::default() };
    let bombed = place.call(input, limits, &desk).await.unwrap();
    assert!(bombed.failed && since.elapsed() < Duration::from_secs(20), "{}", bombed.text);
    eventually("the end of the bomb", || (sleepers() == 0).then_some(())).await;
}

fn sleepers() -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(BOMB)).count()
}

#[tokio::test]
async fn a_command_that_cannot_be_confined_is_refused() {
    let place = Place::new();
    // Root of a namespace who may not make another one.
    let script = format!(
        "#!/bin/sh\nexec unshare -Ur setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin {} \"$@\"",
        launcher().display()
    );
    let unable = place.0.path().join("launcher");
    std::fs::write(&unable, format!("{script}\n")).unwrap();
    std::fs::set_permissions(&unable, PermissionsExt::from_mode(0o755)).unwrap();
    let missing = can_be_confined(&unable).await.unwrap_err();
    assert!(missing.contains("namespaces") && missing.contains("sysctl"), "{missing}");
    assert_eq!(can_be_confined(&launcher()).await, Ok(()));
    let (kids, limits) = (Some(place.0.path().join("kids")), Limits::default());
    let reserved = Arc::default();
    let tool = run_command(Commands { launcher: unable, kids, reserved, limits });
    let call = contract::call("work", json!({}), place.run().to_str().unwrap());
    let desk = ScratchDesk::new().unwrap();
    let input = json!({"command": ["touch", "new"]});
    let failure = tool.call(&call, &input, "k", &desk).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Refused, "not_confined"), "{failure}");
    assert!(!place.run().join("new").exists());
    worked(&place.behind("touch new").await);
    let call = contract::call("work", json!({}), "/");
    let all = place.tool(limits).call(&call, &input, "k", &desk).await.unwrap();
    assert!(all.failed && all.text.contains("all of the system"), "{}", all.text);
}
