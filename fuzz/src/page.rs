//! HTML in: whatever the bytes are, reading the page ends, and what comes out is no markup; nor is
//! what a report says of it.
#![no_main]

mod agents;

use kapelle_core::Json;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| agents::with(|agents| {
    let path = agents.page();
    std::fs::write(&path, bytes).expect("the page is written");
    let url = json!({"url": format!("file://{}", path.display())});
    for action in ["links", "headings"] {
        agents.perform("web", action, url.clone());
    }
    let Some(read) = agents.perform("web", "read", url) else { return };
    let page = read.value;
    for name in ["title", "text", "markdown"] {
        let text = page[name].as_str().expect("a page has it");
        assert!(!text.contains('\0'), "{name} has a zero");
        // Escapes and tables add to what was there, by a bounded share.
        assert!(text.len() <= 64 * bytes.len() + 4096, "{name} is {} bytes", text.len());
    }
    if is_plain(bytes) {
        for name in ["title", "text"] {
            let text = page[name].as_str().expect("a page has it");
            assert!(!text.contains('<'), "{name} has markup: {text:?}");
        }
    }
    report(agents, &page);
}));

/// Whether every `<` begins a tag that ends before the next, and nothing makes text of markup: then
/// none of it can be text.
fn is_plain(bytes: &[u8]) -> bool {
    const RAW: [&str; 12] = [
        "textarea",
        "title",
        "xmp",
        "plaintext",
        "noscript",
        "noembed",
        "noframes",
        "iframe",
        "style",
        "svg",
        "math",
        "template",
    ];
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let lower = text.to_ascii_lowercase();
    // A charset that the page names may make a `<` of other bytes.
    let is_ascii = text.bytes().all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\n');
    let tags = lower.split('<').skip(1).all(|rest| {
        let name = rest.strip_prefix('/').unwrap_or(rest);
        name.starts_with(|first: char| first.is_ascii_lowercase()) && rest.contains('>')
    });
    let raw = RAW.iter().any(|name| lower.contains(name));
    is_ascii && tags && !raw && !lower.contains(['&', '"', '\'']) && !lower.contains("charset")
}

/// A report on the page has no element that the page wrote.
fn report(agents: &agents::Agents, page: &Json) {
    let document = json!({"source": page["url"], "title": page["title"], "text": page["text"]});
    let input = json!({"documents": [document], "question": page["title"]});
    let made = agents.perform("aggregator", "report", input);
    let Some(html) = made.and_then(|made| made.html) else { return };
    let html = html.to_ascii_lowercase();
    for markup in ["<script", "<iframe", "<img", "<object", "<embed", "href=\"javascript:"] {
        assert!(!html.contains(markup), "the report has `{markup}`");
    }
}
