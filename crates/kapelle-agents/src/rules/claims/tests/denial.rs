//! Who says it and who denies it.

use super::found;

#[test]
fn who_denies_it_contradicts_who_says_it_and_both_are_told() {
    let cases = [
        ("Windows is supported.", "Windows is not supported.", "supported ! not supported"),
        ("Windows is supported.", "Windows is not supported yet.", "supported ! not supported"),
        ("Windows is supported.", "Windows is not yet supported.", "supported ! not yet supported"),
        (
            "Windows is supported.",
            "Windows is no longer supported.",
            "supported ! no longer supported",
        ),
        ("Windows is supported.", "Windows isn’t supported.", "supported ! isn’t supported"),
        ("Windows is supported.", "Windows isn't supported.", "supported ! isn't supported"),
        ("Windows is supported.", "There is no support for Windows.", "supported ! no support"),
        (
            "Harbor supports Windows.",
            "Harbor does not officially support Windows.",
            "supports ! does not officially support",
        ),
        (
            "Harbor supports IPv6.",
            "IPv6 is still not fully supported.",
            "supports ! not fully supported",
        ),
        ("Python 3.8 is supported.", "Python 3.8 is not supported.", "supported ! not supported"),
        (
            "Windows 11 is supported.",
            "Harbor does not support Windows 11.",
            "supported ! does not support",
        ),
        (
            "Delayed jobs are supported since version 3.2.",
            "Delayed jobs are not supported.",
            "supported ! not supported",
        ),
        (
            "Anonymous access is allowed.",
            "Anonymous access is never allowed.",
            "allowed ! never allowed",
        ),
        (
            "Compression is enabled by default.",
            "By default compression is not enabled.",
            "enabled ! not enabled",
        ),
        ("A certificate is required.", "A certificate is not required.", "required ! not required"),
    ];
    for (one, other, expected) in cases {
        assert_eq!(found(&[one, other]), [expected], "{one} {other}");
        let turned: Vec<_> = expected.split(" ! ").collect();
        assert_eq!(found(&[other, one]), [format!("{} ! {}", turned[1], turned[0])]);
    }
}

#[test]
fn a_sentence_and_its_denial_contradict_each_other_whatever_they_say() {
    let cases = [
        (
            "Bar is available in Norway.",
            "Bar is not available in Norway.",
            "is available in Norway ! is not available in Norway",
        ),
        (
            "The machine is dishwasher safe.",
            "The machine isn’t dishwasher safe, so wash it by hand.",
            "is dishwasher safe ! isn’t dishwasher safe",
        ),
        (
            "Shared links never expire.",
            "A shared link expires after 90 days.",
            "never expire ! expires after 90 days",
        ),
        (
            "You need an account to read it.",
            "You do not need an account to read it, and no card.",
            "need an account to read it ! do not need an account to read it",
        ),
        ("Bar has a dark mode.", "Bar has no dark mode.", "dark mode ! no dark mode"),
        (
            "Deleted files can be restored.",
            "Deleted files cannot be restored.",
            "can be restored ! cannot be restored",
        ),
        (
            "Only PostgreSQL is supported.",
            "PostgreSQL and MySQL are supported.",
            "Only PostgreSQL ! PostgreSQL and MySQL",
        ),
        (
            "Bar only supports PostgreSQL.",
            "Bar supports MySQL, PostgreSQL and Oracle.",
            "only supports PostgreSQL ! MySQL, PostgreSQL and Oracle",
        ),
    ];
    for (one, other, expected) in cases {
        assert_eq!(found(&[one, other]), [expected], "{one} {other}");
        let turned: Vec<_> = expected.split(" ! ").collect();
        assert_eq!(found(&[other, one]), [format!("{} ! {}", turned[1], turned[0])]);
    }
}

#[test]
fn a_sentence_of_another_thing_or_under_a_condition_is_no_denial() {
    let cases = [
        ("Bar is available in Norway.", "Bar is not available in Sweden."),
        ("Bar is available in Norway.", "Foo is not available in Norway."),
        ("The machine is dishwasher safe.", "The lid of the machine is not dishwasher safe."),
        ("It is dishwasher safe.", "It is not dishwasher safe."),
        ("Files can be restored.", "Files cannot be restored unless they are in the bin."),
        ("Files can be restored.", "When the disk is full, files cannot be restored."),
        ("The broker has a leader.", "The broker is not a leader."),
        ("Data is sent to the client.", "Data is not sent from the client."),
        ("Messages are compressed.", "Messages are not always compressed."),
        ("The clients are trusted.", "Not all clients are trusted."),
        ("Restart the last broker.", "Do not restart the last broker."),
        ("A broker restarts the clients.", "A broker that is full never restarts the clients."),
        ("We compress all the messages.", "We do not compress all the messages."),
        ("The links expire.", "The links do not expire after 3 days."),
        (
            "Bar is available in Norway. Bar is not available in Norway.",
            "Bar is not available in Norway.",
        ),
        ("The disk is not slower than the network.", "The disk is slower than the network."),
        ("The queue keeps messages.", "The queue never deletes messages."),
        ("Only PostgreSQL is supported.", "Windows and Linux are supported."),
        ("PostgreSQL and MySQL are supported.", "Not only PostgreSQL is supported."),
        ("Only PostgreSQL is supported on Windows.", "PostgreSQL and MySQL are supported."),
        ("Only PostgreSQL and MySQL are supported.", "MySQL and PostgreSQL are supported."),
        ("Only the leader accepts writes.", "The leader and the followers accept reads."),
    ];
    for (one, other) in cases {
        let found = found(&[one, other]);
        assert!(found.iter().all(|group| !group.contains('!')), "{one} {other} {found:?}");
    }
}

#[test]
fn to_deny_one_thing_is_to_say_nothing_of_another() {
    let cases = [
        ("Python 3.8 is supported.", "Python 3.9 is supported."),
        ("Python 3.8 is supported.", "Python 3.7 is not supported."),
        ("Harbor requires Python 3.8.", "Harbor does not require Python 3.8."),
        ("Harbor requires Python 3.8.", "Harbor does not need Python 3.9."),
        ("TLS 1.2 is enabled by default.", "TLS 1.3 is enabled by default."),
        ("Version 3 supports Windows.", "Version 2 does not support Windows."),
        ("Windows is supported.", "Not only Windows is supported."),
        ("Windows is not supported.", "Windows is not supported, but Linux is."),
    ];
    for (one, other) in cases {
        let found = found(&[one, other]);
        assert!(found.iter().all(|group| !group.contains('!')), "{one} {other} {found:?}");
    }
    // It is no agreement either.
    assert_eq!(
        found(&["Harbor requires Python 3.8.", "Harbor does not require Python 3.8."]),
        [] as [String; 0]
    );
}
