//! What is read off a page.

use std::path::Path;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use kapelle_agents::contract;
use kapelle_core::Json;
use kapelle_core::port::agent::FailureKind;
use serde_json::json;

use super::{agent, perform, quick, read, read_html};
use crate::support::serve;

const MESSY: &str = include_str!("messy.html");

#[tokio::test]
async fn a_messy_page_is_read_as_a_person_would() {
    let url = serve(
        Router::new()
            .route("/guide/page", get(|| async { ([(header::CONTENT_TYPE, "text/html")], MESSY) })),
    )
    .await;
    let page = read(&format!("{url}/guide/page")).await.unwrap();
    assert_eq!(page["title"], "Connection limits | Harbour Docs");
    assert_eq!(page["language"], "en");
    assert_eq!(page["published"], "2025-03-04T09:00:00Z");
    let expected = [
        "Connection limits¶",
        "Every harbour accepts at most 512 connections, as set by max_connections, and refuses more with error 17; see the reference.",
        "Older versions, before 2.0, had no limit — which was, in the end, a fault & not a feature of theirs.\nThis line follows it.",
        "Raising the limit",
        "Stop the harbour.\nEdit harbour.toml:\n[net]\nmax_connections = 1024  # was 512\n\ntimeout = \"30s\"\nStart it again\nslowly\ncarefully",
        "Options",
        "Name\tDefault\tMeaning\nmax_connections\t512\thow many, at once | in all\ntimeout\t30 s\thow long to wait",
        "Limits are promises.",
        "Keep them.",
        "Unclosed emphasis and bold mixed up, with 1 < 2 and snake_case_names and *stars*.",
    ];
    assert_eq!(page["text"], expected.join("\n\n"));
    assert_eq!(
        page["headings"],
        json!([
            {"level": 1, "text": "Connection limits"},
            {"level": 2, "text": "Raising the limit", "id": "raising"}
        ])
    );
    assert_eq!(
        page["lists"],
        json!([
            {"ordered": true, "items": [
                "Stop the harbour.",
                "Edit harbour.toml: [net] max_connections = 1024 # was 512 timeout = \"30s\"",
                "Start it again"
            ]},
            {"ordered": false, "items": ["slowly", "carefully"]}
        ])
    );
    let table = &page["tables"][0];
    assert_eq!((&table["caption"], &table["header"]), (&json!("Options"), &json!(true)));
    assert_eq!(table["rows"][1], json!(["max_connections", "512", "how many, at once | in all"]));
    let links: Vec<_> = page["links"].as_array().unwrap().iter().map(|link| &link["url"]).collect();
    let reference = json!(format!("{url}/docs/v2/ref/limits.html?a=1&b=2"));
    assert!(links.contains(&&reference), "{links:?}");
}

#[tokio::test]
async fn the_markdown_of_a_messy_page_is_markdown() {
    let page = read_html(MESSY).await;
    let expected = r#"# Connection limits[¶](file:///docs/v2/#top)

Every harbour accepts **at most 512 connections**, as set by `max_connections`, and refuses more with *error 17*; see [the reference](file:///docs/v2/ref/limits.html?a=1&b=2).

Older versions, before 2.0, had no limit — which was, in the end, a fault & not a feature of theirs.\
This line follows it.

## Raising the limit

3. Stop the harbour.
4. Edit `harbour.toml`:
   ```toml
   [net]
   max_connections = 1024  # was 512

   timeout = "30s"
   ```
5. Start it again
   - slowly
   - carefully

Options

| Name | Default | Meaning |
| --- | --- | --- |
| max_connections | 512 | how many, at once \| in all |
| timeout | 30 s | how long to wait |

> Limits are promises.
>
> Keep them.

Unclosed *emphasis and **bold*** **mixed up**, with 1 \< 2 and snake_case_names and \*stars\*."#;
    let lines = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(lines(page["markdown"].as_str().unwrap()), expected);
}

#[tokio::test]
async fn links_and_headings_are_those_of_the_whole_page() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.html"), MESSY).unwrap();
    let agent = agent(quick());
    let links = perform(&agent, "links", json!({"url": "a.html"}), folder.path()).await.unwrap();
    let urls: Vec<_> = links["links"].as_array().unwrap().iter().map(|link| &link["url"]).collect();
    assert!(urls.contains(&&json!("file:///blog")) && urls.contains(&&json!("file:///legal")));
    assert!(links.get("text").is_none());
    let headings = perform(&agent, "headings", json!({"url": "a.html"}), folder.path()).await;
    let headings = headings.unwrap();
    let texts: Vec<_> =
        headings["headings"].as_array().unwrap().iter().map(|h| &h["text"]).collect();
    assert_eq!(texts, ["Connection limits", "Raising the limit", "Newsletter"]);
}

#[tokio::test]
async fn where_nothing_stands_out_the_whole_body_is_read() {
    for (html, text) in [
        ("<p>Short.", "Short."),
        ("<nav>Only <a href=/a>navigation</a></nav>", "Only navigation"),
        ("just text", "just text"),
        ("<div class=menu>Soup of the day, 4.50</div>", "Soup of the day, 4.50"),
    ] {
        assert_eq!(read_html(html).await["text"], text, "{html}");
    }
}

#[tokio::test]
async fn a_table_with_code_in_a_cell_is_a_table() {
    let rows = "<tr><td>Start<td><pre>harbour  up</pre><tr><td>Stop<td>harbour down";
    for table in [rows.to_owned(), format!("<tr><th>What<th>How{rows}")] {
        let page = read_html(format!("<p>Commands:</p><table>{table}</table>")).await;
        let found = page["tables"][0]["rows"].as_array().unwrap();
        assert!(found.contains(&json!(["Start", "harbour up"])), "{found:?}");
        assert!(page["markdown"].as_str().unwrap().contains("| Start | harbour up |"), "{page}");
    }
    let listing = "<table><tr><td><pre>1\n2</pre><td><pre>one\ntwo</pre></table>";
    let page = read_html(listing).await;
    assert_eq!(page["tables"], json!([]));
    assert!(page["markdown"].as_str().unwrap().contains("```\none\ntwo\n```"), "{page}");
}

#[tokio::test]
async fn declarations_of_a_page_are_no_text() {
    let html = "<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0//EN\" \"a.dtd\" [\n\
                <!ENTITY ours \"<b>us</b>\">\n<!ATTLIST p x CDATA #IMPLIED> ]>\n\
                <html><head><title>Ours</title></head><body><p>Only this.</p></body></html>";
    let page = read_html(html).await;
    assert_eq!((&page["title"], &page["text"]), (&json!("Ours"), &json!("Only this.")));
}

#[tokio::test]
async fn text_that_is_no_html_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.md"), "# Notes\r\n\r\n<b>not bold</b> & so on")
        .unwrap();
    let page = perform(&agent(quick()), "read", json!({"url": "notes.md"}), folder.path()).await;
    let page = page.unwrap();
    assert_eq!(
        (&page["title"], &page["text"]),
        (&json!("Notes"), &json!("# Notes\n\n<b>not bold</b> & so on"))
    );
    assert!(page.get("format").is_none());
}

#[tokio::test]
async fn what_is_no_markdown_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(quick());
    for (name, format) in [("a.md", None), ("a.txt", Some("text")), ("README", Some("text"))] {
        std::fs::write(folder.path().join(name), "rm a/*.gz b/*.gz").unwrap();
        let page = perform(&agent, "read", json!({ "url": name }), folder.path()).await.unwrap();
        assert_eq!(page.get("format").and_then(Json::as_str), format, "{name}");
        assert_eq!((&page["text"], &page["markdown"]), (&json!("rm a/*.gz b/*.gz"), &page["text"]));
    }
    let raw = get(async || ([(header::CONTENT_TYPE, "text/plain")], "a *b*"));
    let server = serve(Router::new().route("/{name}", raw)).await;
    assert!(read(&format!("{server}/a.md")).await.unwrap().get("format").is_none());
    assert_eq!(read(&format!("{server}/a.txt")).await.unwrap()["format"], "text");
}

#[tokio::test]
async fn what_a_markdown_file_says_of_itself_is_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(quick());
    let body = "# Heading\n\nThe tank holds 2 litres.\n";
    for (front, title) in [
        ("---\ntitle: 'Tank: notes'\ndate: 2024-05-01\ntags:\n  - a\n---\n", "Tank: notes"),
        ("---\r\n# said\r\nlayout: page\r\ndate: 2024-05-01\r\n...\r\n\r\n", "Heading"),
    ] {
        std::fs::write(folder.path().join("a.md"), format!("{front}{body}")).unwrap();
        let page = perform(&agent, "read", json!({"url": "a.md"}), folder.path()).await.unwrap();
        assert_eq!(page["text"].as_str().unwrap().trim_start(), body, "{front}");
        assert_eq!((&page["title"], &page["published"]), (&json!(title), &json!("2024-05-01")));
    }
    for rule in ["---\n\nA rule above\n---\nand below: both stay.\n", "---\nnever: closed\n"] {
        std::fs::write(folder.path().join("a.md"), rule).unwrap();
        let page = perform(&agent, "read", json!({"url": "a.md"}), folder.path()).await.unwrap();
        assert_eq!(page["text"], rule);
    }
    std::fs::write(folder.path().join("a.txt"), "---\nkey: kept\n---\n").unwrap();
    let page = perform(&agent, "read", json!({"url": "a.txt"}), folder.path()).await.unwrap();
    assert_eq!(page["text"], "---\nkey: kept\n---\n", "it is no Markdown");
}

async fn typed() -> String {
    let answer = |kind: &'static str, body: &'static [u8]| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], body).into_response() })
    };
    let router = Router::new()
        .route("/latin", answer("text/html; charset=ISO-8859-1", b"<p>Gr\xfc\xdfe aus K\xf6ln"))
        .route("/lie", answer("text/html; charset=utf-8", b"<p>Gr\xfc\xdfe aus K\xf6ln, sch\xf6n"))
        .route("/pdf", answer("application/pdf", b"%PDF-1.7"))
        .route("/untold-pdf", answer("application/octet-stream", b"%PDF-1.7"))
        .route("/packed", get(|| async { ([(header::CONTENT_ENCODING, "zstd")], "x") }))
        .route("/json", answer("application/json", b"{\"a\": 1}"))
        .route("/gone", get(|| async { (StatusCode::GONE, "moved out") }))
        .route("/far", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/near")]) }))
        .route("/near", answer("text/html", b"<a href=x>here</a>"));
    serve(router).await
}

#[tokio::test]
async fn charset_type_and_redirects_are_those_of_the_answer() {
    let url = typed().await;
    let text = async |path: &str| read(&format!("{url}/{path}")).await.unwrap();
    assert_eq!(text("latin").await["text"], "Grüße aus Köln");
    assert_eq!(text("lie").await["text"], "Grüße aus Köln, schön");
    assert_eq!(text("json").await["text"], "{\"a\": 1}");
    let near = text("far").await;
    assert_eq!(near["url"], format!("{url}/near"));
    assert_eq!(near["links"], json!([{"url": format!("{url}/x"), "text": "here"}]));
    for path in ["pdf", "untold-pdf", "packed"] {
        let failure = read(&format!("{url}/{path}")).await.unwrap_err();
        assert_eq!(
            (failure.kind, &*failure.code),
            (FailureKind::Refused, "not_a_page"),
            "{failure}"
        );
    }
    let gone = read(&format!("{url}/gone")).await.unwrap_err();
    assert_eq!(&*gone.code, "http_410");
}

#[tokio::test]
async fn several_pages_come_in_order_and_those_that_fail_may_be_listed() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..12 {
        std::fs::write(folder.path().join(format!("{n}.html")), format!("<p>page {n}")).unwrap();
    }
    let mut urls: Vec<String> = (0..12).map(|n| format!("{n}.html")).collect();
    let agent = agent(quick());
    let ask = |input: Json| perform(&agent, "read", input, folder.path());
    let all = ask(json!({ "urls": urls })).await.unwrap();
    let texts: Vec<_> = all["pages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|page| page["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, (0..12).map(|n| format!("page {n}")).collect::<Vec<_>>());
    urls.insert(3, "missing.html".into());
    let failure = ask(json!({ "urls": urls })).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Invalid, "no_such_file"));
    let some = ask(json!({"urls": urls, "partial": true})).await.unwrap();
    assert_eq!(some["pages"].as_array().unwrap().len(), 12);
    assert_eq!(some["failed"][0]["code"], "no_such_file");
    std::fs::create_dir(folder.path().join("all")).unwrap();
    for (given, hint) in [("all", "is a folder: name each file"), ("*.html", "name each file")] {
        let failure = ask(json!({ "url": given })).await.unwrap_err();
        assert!(
            failure.kind == FailureKind::Invalid && failure.message.contains(hint),
            "{failure}"
        );
    }
    let none = ask(json!({"urls": ["missing.html", "x.html"], "partial": true})).await.unwrap_err();
    assert_eq!((none.kind, &*none.code), (FailureKind::Invalid, "no_such_file"));
}

#[tokio::test]
async fn answers_are_what_the_schemas_say_and_bad_input_is_refused() {
    let agent = agent(quick());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    std::fs::write(&path, MESSY).unwrap();
    let url = url::Url::from_file_path(&path).unwrap().to_string();
    let settings = kapelle_agents::web::Settings { roots: vec![folder.path().into()], ..quick() };
    let rooted = super::agent(settings);
    for action in ["read", "links", "headings"] {
        contract::answers_as_it_says(&rooted, action, json!({ "url": url })).await;
        let several = json!({"urls": [url, "file:///none"], "partial": true});
        contract::answers_as_it_says(&rooted, action, several).await;
    }
    for input in [
        json!({}),
        json!({"url": 1}),
        json!({"url": url, "urls": [url]}),
        json!({"urls": []}),
        json!({"url": url, "partial": true}),
        json!({"url": url, "selector": "p"}),
        json!({"urls": vec![&url; 65]}),
        json!({"url": "x".repeat(3_000)}),
    ] {
        contract::refuses_as_invalid(&agent, "read", input).await;
    }
    for url in ["ftp://host/x", "data:text/html,x", "javascript:x", "http://"] {
        let end = perform(&agent, "read", json!({ "url": url }), Path::new("/")).await;
        assert_eq!(&*end.unwrap_err().code, "bad_url", "{url}");
    }
}

#[tokio::test]
async fn what_a_section_is_about_does_not_make_it_clutter() {
    let filler = "<p>This paragraph says at some length, with commas, what the thing is about.</p>";
    let page = read_html(format!(
        "<body><div class=login><a href=/in>Sign in</a></div><div role=main><h1>Manual</h1>{}\
         <section id=login><h2>Login<a href=#login>¶</a></h2><p>An account is locked for 15 minutes.</p>\
         </section><section id=error-pages><h2 id=share>Share a page</h2><p>Pages are shared by their \
         links.</p></section><aside class='note'><p>Never retry error 409.</p></aside>\
         <aside><p>Buy our book today.</p></aside></div></body>",
        filler.repeat(8)
    ))
    .await;
    let text = page["text"].as_str().unwrap();
    for kept in ["locked for 15 minutes", "Share a page", "Never retry error 409"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    for gone in ["Sign in", "Buy our book"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
}
