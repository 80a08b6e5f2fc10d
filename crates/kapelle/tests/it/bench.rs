//! `bench`, as far as it is no question of speed.

use crate::support::Folder;

/// What every workload says of itself.
const FIELDS: [&str; 11] = [
    "workload",
    "runs",
    "steps",
    "seconds",
    "steps_per_s",
    "p50_ms",
    "p99_ms",
    "rss_mb",
    "commits",
    "events",
    "of_limit",
];

#[test]
fn a_line_of_a_workload_says_all_that_it_promises() {
    let folder = Folder::new();
    // What a killed one has left; no process has this number.
    let left = folder.path().join(".kapelle/bench-4194305");
    std::fs::create_dir_all(left).unwrap();
    let line = "bench --json --seconds 0 --workload chain,many,layers,fanout,start,limits,read,summarize --steps 20";
    let lines = folder.run(&format!("{line} --runs 2")).expect(0).events();
    let of = |name: &str| lines.iter().find(|line| line["workload"] == name).unwrap();
    for line in &lines {
        assert!(FIELDS.iter().all(|field| line.get(field).is_some()), "{line}");
        assert!(line["rss_mb"].as_f64().unwrap() > 1.0, "{line}");
    }
    assert_eq!(lines.len(), 8, "one line a workload");
    // Nothing is timed where most steps end in one commit.
    assert!(of("chain")["p50_ms"].as_f64().unwrap() > 0.0 && of("fanout")["p50_ms"].is_null());
    for part in ["sync", "50clients", "1000rows"] {
        assert!(of("limits")[part].is_object(), "{}", of("limits"));
    }
    for name in ["read", "summarize"] {
        assert!(of(name)["per_core"].as_f64().unwrap() > 0.0);
    }
    for name in ["chain", "many", "layers", "fanout"] {
        let line = of(name);
        assert!(line["of_limit"].as_f64().unwrap() > 0.0, "{line}");
        let [steps, commits, events] =
            ["steps", "commits", "events"].map(|field| line[field].as_u64().unwrap());
        assert!(0 < commits && commits <= 2 * steps && events >= 2 * steps, "{line}");
    }
    // One commit a step, and one for the begin of each run of twenty.
    let (steps, commits) = (&of("chain")["steps"], &of("chain")["commits"]);
    let (steps, commits) = (steps.as_u64().unwrap(), commits.as_u64().unwrap());
    assert!(steps <= commits && commits <= steps + steps / 10, "{commits} commits, {steps} steps");
    let left = std::fs::read_dir(folder.path().join(".kapelle")).unwrap();
    assert_eq!(left.count(), 0, "it leaves nothing behind");
}

#[test]
fn in_memory_all_is_measured_that_needs_no_folder() {
    let folder = Folder::new();
    let lines = folder.run("--store memory bench --json --seconds 0 --steps 2 --runs 2").expect(0);
    let lines = lines.events();
    let names: Vec<_> = lines.iter().map(|line| line["workload"].as_str().unwrap()).collect();
    let all = ["chain", "fanout", "layers", "many", "sleep", "rank", "summarize", "model"];
    assert_eq!(names, all);
    let model = lines.last().unwrap();
    assert!(model["of_limit"].as_f64().unwrap() > 0.0, "{model}");
    for part in ["call", "raw_call", "event", "raw_event"] {
        assert!(model[part]["p50_ms"].as_f64().unwrap() > 0.0, "{model}");
    }
    assert_eq!(model["streams"]["steps"], 1_000, "{model}");
}

#[test]
fn a_server_is_measured_beside_a_bare_one() {
    let folder = Folder::new();
    let line = "bench --json --seconds 0 --workload http,streams,workers --steps 20 --runs 3 --concurrency 4";
    let lines = folder.run(line).expect(0).events();
    let parts = [
        ("http", &["submit8", "raw_submit", "status", "status8", "raw_status"][..]),
        ("streams", &["all", "raw_all"]),
        ("workers", &["assigned", "raw"]),
    ];
    for ((name, parts), line) in parts.into_iter().zip(&lines) {
        assert_eq!(line["workload"], name);
        let timed = parts.iter().map(|part| &line[part]).chain([line]);
        for figures in timed {
            assert!(figures["p99_ms"].as_f64().unwrap() > 0.0, "{name}: {figures}");
        }
        assert!(line["rss_mb"].as_f64().unwrap() > 1.0, "{line}");
    }
    assert_eq!(lines.len(), 3, "one line a workload");
    assert_eq!(lines[2]["steps"], 20, "each step is done once: {}", lines[2]);
    for idle in ["idle", "raw_idle"] {
        assert_eq!(lines[1][idle]["steps"], 40, "{}", lines[1]);
        assert!(lines[1][idle]["cpu_percent"].is_number(), "{}", lines[1]);
    }
}

#[test]
fn a_killed_server_is_ready_again() {
    let folder = Folder::new();
    let lines = folder.run("bench --json --seconds 0 --workload recover --runs 5").expect(0);
    let line = &lines.events()[0];
    assert!(line["server"]["p99_ms"].as_f64().unwrap() > 0.0, "{line}");
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let folder = Folder::new();
    for wrong in ["--steps 0", "--steps 18446744073709551615", "--runs 0", "--concurrency 0"] {
        let done = folder.run(&format!("bench --workload chain {wrong}")).expect(2);
        assert!(done.err.contains(wrong.split(' ').next().unwrap()), "{}", done.err);
    }
}
