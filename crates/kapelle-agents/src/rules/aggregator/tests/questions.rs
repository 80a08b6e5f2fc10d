//! What a question is answered by first, by the way in which it asks.

use serde_json::json;

use super::report;

const PAGES: [&str; 3] = [
    "# Rights\n\nRights are given for each queue, and a right that nobody gave is not there.\n\n```\n\
        harborctl rights add --user billing --queue invoices\nharborctl rights list\n```\n\n\
        The certificate is out of date. A worker refuses to start with such a certificate. A worker refuses \
        jobs of another queue.",
    "# Workers\n\nIf you write to us, add the log of the last hour. To keep this from happening silently, \
        there is a log. A worker that has not sent a sign of life for 30 seconds loses its jobs. A worker \
        that was stopped may get a job twice, because its last answer did not arrive.\n\n\
        ## How much memory does a worker need?\n\nLess than you think, as most of it is given back soon after.\n\n\
        ## How many servers should a worker have?\n\nAs many as it has friends.",
    "# Starting Harbor\n\nA worker needs at least 512 MB of memory. Other servers use port 7490, and the \
        tools use port 7480. A worker has 3 servers. Clients come in on port 7400 by default. Many use a proxy.",
];

fn first(question: &str) -> String {
    let page = |(at, text)| json!({"url": format!("https://docs.example/{at}"), "markdown": text});
    let documents: Vec<_> = PAGES.iter().enumerate().map(page).collect();
    let (value, _) =
        report(&json!({"documents": documents, "question": question, "formats": ["markdown"]}));
    value["answer"][0]["plain"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_question_is_answered_by_what_its_way_of_asking_wants() {
    for (question, said) in [
        ("How do I add a user?", "harborctl rights add --user billing --queue invoices"),
        (
            "Why does a worker refuse to start?",
            "The certificate is out of date. A worker refuses to start with such a certificate.",
        ),
        (
            "What happens if a worker is silent?",
            "A worker that has not sent a sign of life for 30 seconds loses its jobs.",
        ),
        ("How much memory does a worker need?", "A worker needs at least 512 MB of memory."),
        ("How many servers should a worker have?", "As many as it has friends."),
        ("How many servers does a worker have?", "A worker has 3 servers."),
        ("Which port does Harbor use?", "Clients come in on port 7400 by default."),
    ] {
        assert_eq!(first(question), said, "{question}");
    }
}
