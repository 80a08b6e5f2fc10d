//! Pages of many languages come out as text, and nothing at all is a reason to panic.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::generate::{CLUTTER, page};
use super::{agent, perform, quick, read_html};

/// How many pages.
const PAGES: u64 = 200;

#[tokio::test]
async fn two_hundred_pages_of_many_languages_give_text_without_clutter() {
    let (mut right, mut languages) = (0, std::collections::BTreeSet::new());
    for seed in 0..PAGES {
        let page = page(seed);
        let read = read_html(&page.bytes).await;
        let text = read["text"].as_str().unwrap();
        for sentence in &page.content {
            assert!(text.contains(sentence), "seed {seed} lost `{sentence}`:\n{text}");
        }
        for clutter in CLUTTER {
            assert!(!text.contains(clutter), "seed {seed} kept `{clutter}`:\n{text}");
        }
        assert!(!text.contains("</") && !text.contains("<p"), "seed {seed} kept markup:\n{text}");
        right += u64::from(read["language"] == page.language);
        languages.insert(page.language);
    }
    assert_eq!(languages.len(), 12);
    assert!(right * 100 >= PAGES * 98, "the language of {right} of {PAGES} was found");
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop::sample::select(vec![
        "<p>",
        "</p>",
        "<table>",
        "<tr>",
        "<td>",
        "</table>",
        "<b>",
        "</b>",
        "<a href='x'>",
        "</a>",
        "<ul>",
        "<li>",
        "</ul>",
        "<ol start=9>",
        "<pre>",
        "</pre>",
        "<code>",
        "</code>",
        "<svg>",
        "<math>",
        "<template>",
        "</template>",
        "<select>",
        "<option>",
        "<frameset>",
        "<body>",
        "</body>",
        "</html>",
        "<h1>",
        "</h2>",
        "<blockquote>",
        "</blockquote>",
        "<br>",
        "<script>",
        "</script>",
        "<style>",
        "<title>",
        "<base href='//h/'>",
        "<caption>",
        "<th>",
        "<!--",
        "-->",
        "<![CDATA[",
        "<foreignObject>",
        "<textarea>",
        "<plaintext>",
        "&amp;",
        "&#0;",
        "&#x",
        "<",
        "<main>",
        "<article>",
        "</article>",
        "<p hidden>",
        "<nav>",
        "</nav>",
        "<form>",
        "<i>",
        "<time datetime='2020-01-01'>",
        "<meta name=date content='x'>",
        "`",
        "|",
        "*",
    ]);
    let piece = prop_oneof![
        4 => tags.prop_map(|tag| tag.as_bytes().to_vec()),
        2 => "[a-z ,.äあ\n\u{a0}]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

#[test]
fn no_bytes_are_a_reason_to_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(quick());
    let mut runner = TestRunner::new(Config { cases: 400, ..Config::default() });
    let checked = runner.run(&pieces(), |bytes| {
        std::fs::write(folder.path().join("x.html"), bytes).unwrap();
        for action in ["read", "links"] {
            let root: &Path = folder.path();
            let end = runtime.block_on(perform(&agent, action, json!({"url": "x.html"}), root));
            let is_empty = end.as_ref().is_err_and(|failure| &*failure.code == "no_text");
            prop_assert!(end.is_ok() || is_empty, "{end:?}");
        }
        Ok(())
    });
    checked.unwrap();
}
