//! What contradicts, what agrees, and what only looks like it.

mod denial;

use serde_json::json;

use super::*;
use crate::rules::document::{Document, Page};
use crate::text::Terms;

/// The values that the pages of `texts` give to one thing, as they are written, `!` where they differ.
fn found(texts: &[&str]) -> Vec<String> {
    let documents: Vec<Document> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| {
            serde_json::from_value(
                json!({"source": format!("page {at}"), "text": text, "title": "Harbor"}),
            )
            .unwrap()
        })
        .collect();
    let pages = Page::all(&documents);
    let (all, groups) = told(&pages, &mut Terms::default());
    let show = |group: &Group| {
        let values: Vec<_> = group.values.iter().map(|same| &*all[same[0]].written).collect();
        values.join(if group.is_contradiction() { " ! " } else { "" })
    };
    groups.iter().map(show).collect()
}

#[test]
fn pages_that_say_different_things_of_one_thing_are_set_against_each_other() {
    let mut missed = Vec::new();
    let cases = [
        ("The default port is 8080.", "Harbor listens on port 9090 by default.", "8080 ! 9090"),
        (
            "The default port of the server is 8080.",
            "By default, the port is 9,090.",
            "8080 ! 9,090",
        ),
        (
            "Jobs time out after 30 seconds by default.",
            "The default is that jobs time out after 2 minutes.",
            "30 seconds ! 2 minutes",
        ),
        (
            "The maximum size of a job is 1 MB.",
            "A job may have a size of at most 5 MB.",
            "1 MB ! 5 MB",
        ),
        ("Harbor requires Python 3.10 or newer.", "You need Python 3.8 for it.", "3.10 ! 3.8"),
        ("Compression is enabled by default.", "By default compression is off.", "enabled ! off"),
        (
            "Version 2 was released on March 1, 2026.",
            "Harbor released version 2 on 2026-04-01.",
            "March 1, 2026 ! 2026-04-01",
        ),
        (
            "Finished jobs are kept for 14 days.",
            "Finished jobs are deleted after 30 days.",
            "14 days ! 30 days",
        ),
        (
            "Windows is supported.",
            "Harbor does not support Windows.",
            "supported ! does not support",
        ),
        (
            "| option | default |\n|---|---|\n| max_connections | 100 |",
            "The default of max_connections is 250.",
            "100 ! 250",
        ),
        ("A failed job is retried five times.", "A failed job is retried 3 times.", "five ! 3"),
        (
            "The server binds to port 5432 unless configured otherwise.",
            "By default it uses port 5433.",
            "5432 ! 5433",
        ),
        (
            "Sessions expire after 30 minutes of inactivity.",
            "A session lasts 60 minutes.",
            "30 minutes ! 60 minutes",
        ),
        (
            "Backups are taken every 6 hours.",
            "A backup is made every 12 hours.",
            "6 hours ! 12 hours",
        ),
        (
            "Logs are retained for 7 days.",
            "The retention period for logs is 30 days.",
            "7 days ! 30 days",
        ),
        ("Uploads may not exceed 25 MB.", "The maximum upload size is 10 MB.", "25 MB ! 10 MB"),
        ("TLS 1.2 is required.", "The broker requires TLS 1.3.", "1.2 ! 1.3"),
        (
            "Authentication is disabled out of the box.",
            "Authentication is enabled by default.",
            "disabled ! enabled",
        ),
        (
            "The free plan allows 1,000 requests per hour.",
            "Free plans are limited to 500 requests per hour.",
            "1,000 ! 500",
        ),
        (
            "A broker needs at least 2 GB of memory.",
            "Every broker needs at least 4 GB of memory, and ours have a good deal more.",
            "2 GB ! 4 GB",
        ),
        (
            "Version 4.0 was released on 2026-02-17.",
            "Version 4.0 was released on March 3, 2026, and we had it five weeks later.",
            "2026-02-17 ! March 3, 2026",
        ),
        (
            "The first stable release came out in 2019.",
            "Its first stable release was published in 2021.",
            "2019 ! 2021",
        ),
    ];
    for (one, other, expected) in cases {
        let found = found(&[one, other]);
        if found != [expected] {
            missed.push(format!("{one} {other} {found:?}"));
        }
    }
    assert_eq!(missed, [] as [String; 0]);
}

#[test]
fn a_number_is_told_with_the_sign_that_says_what_it_is_of() {
    let cases = [
        ("The small plan costs €299.", "The small plan costs € 349.", "€299 ! € 349"),
        ("The small plan costs 299 €.", "The small plan costs 349€.", "299 € ! 349€"),
        (
            "| plan | price |\n|---|---|\n| small | $299 |",
            "The price of small is $349.",
            "$299 ! $349",
        ),
        ("The discount is 50%.", "The discount is 20 %.", "50% ! 20 %"),
    ];
    for (one, other, expected) in cases {
        assert_eq!(found(&[one, other]), [expected], "{one} {other}");
    }
    let other_currency = found(&["The small plan costs €299.", "The small plan costs $349."]);
    assert_eq!(other_currency, [] as [String; 0], "they are not compared");
}

#[test]
fn what_means_the_same_is_one_fact() {
    let cases = [
        ("The default port is 8080.", "Harbor listens on port 8080 by default."),
        ("The maximum size of a job is 1 MB.", "The maximum size of a job is 1000 kB."),
        ("Jobs time out after 2 minutes.", "Jobs time out after 120 seconds."),
        (
            "It was released on March 1, 2026 to all customers.",
            "It was released on 2026-03-01 to all customers.",
        ),
        ("A failed job is retried five times.", "A failed job is retried 5 times."),
    ];
    for (one, other) in cases {
        let found = found(&[one, other]);
        assert!(found.len() == 1 && !found[0].contains('!'), "{one} {other} {found:?}");
    }
}

#[test]
fn what_only_looks_like_a_contradiction_is_none() {
    let cases = [
        ("The default port is 8080.", "The metrics port is 9090 by default."),
        ("The default timeout is 30 seconds.", "The maximum timeout is 10 minutes."),
        ("A worker keeps 5 connections.", "The server keeps 100 connections."),
        ("The default port is 8080.", "For example, the default port is 9090."),
        ("The default port is 8080.", "Until version 2 the default port was 9090."),
        ("The default port is 8080.", "If TLS is on, the default port is 8443."),
        ("The default port is 8080.", "Is the default port 9090?"),
        ("The default port is 8080.", "Set the default port to 9090."),
        ("On Linux the cache takes 1 GB.", "On Windows the cache takes 2 GB."),
        ("The client timeout is 10 seconds.", "The server timeout is 30 seconds."),
        ("Each queue has 4 shards.", "Each queue has 2 readers."),
        ("See page 4 of the manual.", "See page 7 of the manual."),
        ("The cache takes about 1 GB of memory.", "The cache takes 1.1 GB of memory."),
        ("Compression is enabled by default.", "Encryption is disabled by default."),
        ("The queue was founded in 1998.", "The queue was rewritten in 2011."),
        ("All brokers run version 3.8.", "It did so in version 3, and will do so again."),
        (
            "Version 2 needs Python 3, and keeps jobs for 7 days.",
            "Version 3 needs Python 3, and keeps jobs for 9 days.",
        ),
        (
            "| steps | p50 | p99 |\n|---|---|---|\n| 10 | 35 ms | 47 ms |",
            "| steps | p50 | p99 |\n|---|---|---|\n| 10 | 75 ms | 97 ms |",
        ),
        (
            "| measured | p50 | p90 | p99 | runs |\n|---|---|---|---|---|\n| restart | 1 s | 2 s | 3 s | 10 |",
            "| measured | p50 | p90 | p99 | runs |\n|---|---|---|---|---|\n| restart | 2 s | 3 s | 4 s | 20 |",
        ),
        ("The default port is not 9090.", "The default port is 8080."),
        ("Stop the leader first.", "Stop the follower last."),
        ("Start the leader last.", "The leader was the first, and the follower the last."),
    ];
    for (one, other) in cases {
        let found = found(&[one, other]);
        assert!(found.iter().all(|group| !group.contains('!')), "{one} {other} {found:?}");
    }
    assert_eq!(found(&["The default port is 8080. The default port is 9090."]), [] as [String; 0]);
}

#[test]
fn instructions_may_differ_on_whose_turn_is_when() {
    let found = found(&[
        "Upgrade the standby brokers one by one, and the coordinator last. It takes a while.",
        "Upgrade the coordinator first, then the other brokers one by one.",
    ]);
    assert_eq!(found, ["last ! first"]);
}
