//! What the tests share: agents, calls, servers, and a look at processes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::{Http, Process, contract, egress};
use kapelle_core::Json;
use kapelle_core::port::agent::{Agent, Answer, Failure};

/// The example, which is the launcher of commands as the real binary is. Cargo builds it with the
/// tests of this package.
pub(crate) fn launcher() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let launcher = test.parent().unwrap().with_file_name("examples").join("perform");
    assert!(launcher.is_file(), "build the examples first: {}", launcher.display());
    launcher
}

pub(crate) fn http(policy: egress::Policy) -> Arc<dyn Agent> {
    Arc::new(Http::new(egress::Egress::new(policy)))
}

/// Performs `input` in `root`.
pub(crate) async fn run_in(
    root: &Path,
    input: Json,
    desk: &ScratchDesk,
) -> Result<Answer, Failure> {
    let call = contract::call("run", input, root.to_str().unwrap());
    let node = tempfile::tempdir().unwrap();
    let kids = node.path().join("kids");
    std::fs::write(&kids, "").unwrap();
    Process::new(launcher(), Some(kids)).perform(call, desk).await
}

pub(crate) async fn run(input: Json) -> Result<Answer, Failure> {
    run_in(Path::new("/"), input, &ScratchDesk::new().unwrap()).await
}

pub(crate) async fn value_of(input: Json) -> Json {
    run(input).await.unwrap().value["value"].clone()
}

/// Asks again and again until there is an answer; for what the system gives no event for.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        // Other processes do not tell when they are done: they are asked, at this pace.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The first `count` numbers in `file`, once they are there.
pub(crate) async fn pids_in(file: &Path, count: usize) -> Vec<u32> {
    eventually("pids", || {
        let text = std::fs::read_to_string(file).ok()?;
        let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() >= count).then_some(pids)
    })
    .await
}

/// Whether there is such a process; one that only waits to be taken note of has ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// A server of this test; gone with its runtime.
pub(crate) async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}
