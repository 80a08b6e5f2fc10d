//! Text taken apart, on real prose and on any text at all.

use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn cut<'a>(text: &'a str, ranges: &[Range<usize>]) -> Vec<&'a str> {
    ranges.iter().map(|range| &text[range.clone()]).collect()
}

fn split(text: &str) -> Vec<&str> {
    cut(text, &sentences(text, 0..text.len()))
}

#[test]
fn sentences_end_where_a_reader_would_say() {
    let text = "Dr. Smith e.g. uses v1.2 at 3.5 GHz. He said \"Stop!\" Then he left... \
                The file config.toml is read. Is it? Yes! See Fig. 3 for more. J. Doe wrote it.";
    assert_eq!(
        split(text),
        [
            "Dr. Smith e.g. uses v1.2 at 3.5 GHz.",
            "He said \"Stop!\"",
            "Then he left...",
            "The file config.toml is read.",
            "Is it?",
            "Yes!",
            "See Fig. 3 for more.",
            "J. Doe wrote it.",
        ]
    );
    assert_eq!(split("今日は晴れ。明日は雨！"), ["今日は晴れ。", "明日は雨！"]);
    assert_eq!(
        split("Das ist z.B. so. Und es war 1999. Dann kam 2000."),
        ["Das ist z.B. so.", "Und es war 1999.", "Dann kam 2000."]
    );
}

#[test]
fn words_keep_numbers_and_apostrophes_and_part_names() {
    let found: Vec<_> =
        words("It's max_conns=1.5, up-to 10,000! größe 東京都 ").map(|w| w.1).collect();
    assert_eq!(
        found,
        ["It's", "max", "conns", "1.5", "up", "to", "10,000", "größe", "東京", "京都"]
    );
}

#[test]
fn one_stem_is_one_term_in_each_language() {
    let mut terms = Terms::default();
    let (en, de) = (Language::named("en").unwrap(), Language::named("de-AT").unwrap());
    let one = terms.of("The servers were retrying connections", en);
    assert_eq!(one, terms.of("server retried a connection", en));
    assert_eq!(terms.of("Die Häuser", de), terms.of("das Haus und Häuser", de)[1..]);
    assert_eq!(terms.term("the", en), None);
}

#[test]
fn the_forms_of_a_german_verb_are_one_term() {
    let (mut terms, german) = (Terms::default(), Language::named("de").unwrap());
    for forms in [
        &["wechsle", "wechseln", "wechselt", "wechselst", "gewechselt", "Wechsel"][..],
        &["ändern", "ändere", "ändert", "geändert"],
        &["prüfe", "prüft", "prüfen", "geprüft"],
        &["arbeite", "arbeitet", "gearbeitet", "Arbeiten"],
        &["starte", "startet", "gestartet"],
        &["einstellen", "eingestellt", "einzustellen"],
        &["zurücksetzen", "zurückgesetzt"],
        &["Schlauch", "Schlauches"],
    ] {
        let mut found: Vec<_> = forms.iter().map(|form| terms.term(form, german)).collect();
        let stems: Vec<_> = found.iter().map(|term| terms.stem(term.unwrap())).collect();
        let shown = format!("{forms:?} {stems:?}");
        found.dedup();
        assert_eq!(found.len(), 1, "{shown}");
    }
    let mut of = |word| terms.term(word, german);
    for (one, other) in [("Rat", "Rad"), ("Gast", "Gas"), ("Zeit", "Zeile"), ("Gewalt", "Wald")] {
        assert_ne!(of(one), of(other), "{one} {other}");
    }
}

#[test]
fn languages_are_told_apart() {
    let cases = [
        (
            "en",
            "The server reads its settings from a file when it starts, and you can change them.",
        ),
        ("de", "Der Server liest seine Einstellungen aus einer Datei, wenn er startet."),
        ("fr", "Le serveur lit ses réglages dans un fichier quand il démarre."),
        ("es", "El servidor lee su configuración desde un archivo cuando se inicia."),
        (
            "ru",
            "Сервер читает настройки из файла при запуске, а если файла нет, он создаёт новый. Это можно изменить.",
        ),
        ("ja", "サーバーは起動時にファイルから設定を読み込みます。"),
        ("zh", "服务器启动时从文件中读取其设置并检查每一行。"),
        ("pl", "Serwer odczytuje swoje ustawienia z pliku podczas uruchamiania systemu."),
        ("und", "42"),
    ];
    for (code, text) in cases {
        assert_eq!(Language::of(None, text).code(), code, "{text}");
    }
    assert_eq!(Language::of(Some("en-GB"), "Der Server und die Datei").code(), "en");
}

const PAGE: &str = "# Set-up\n\nInstall it first. It takes\na minute.\n\nNext part\n=========\n\
    1. Open **Settings**.\n   Wait.\n2) Press `Save`.\n\n```sh\n# not a heading\nmake\n```\n\
    | a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted words\n\nPlain heading\nLast words.\n";

#[test]
fn blocks_are_what_a_page_is_made_of() {
    let found = blocks(PAGE, &[(2, "Plain  heading")]);
    let seen: Vec<_> = found.iter().map(|block| (block.kind, &PAGE[block.range.clone()])).collect();
    let item = |number| Kind::Item { indent: 0, number: Some(number) };
    assert_eq!(
        seen,
        [
            (Kind::Heading(1), "Set-up"),
            (Kind::Paragraph, "Install it first. It takes\na minute."),
            (Kind::Heading(1), "Next part"),
            (item(1), "Open **Settings**.\n   Wait."),
            (item(2), "Press `Save`."),
            (Kind::Code, "# not a heading\nmake"),
            (Kind::Row, "| a | b |"),
            (Kind::Row, "| 1 | 2 |"),
            (Kind::Paragraph, "quoted words"),
            (Kind::Heading(2), "Plain heading"),
            (Kind::Paragraph, "Last words."),
        ]
    );
}

#[test]
fn passages_stay_below_their_heading_and_short() {
    let sentence = "Every word of this sentence counts towards the length of its passage. ";
    let text = format!("# One\n\n{}\n\n# Two\n\nShort.\n", sentence.repeat(40));
    let found = passages(&text, &blocks(&text, &[]));
    assert!(found.len() >= 4, "{}", found.len());
    for passage in &found {
        let heading = &text[passage.heading.clone().unwrap()];
        let words = &text[passage.range.clone()];
        assert_eq!(heading == "Two", words == "Short.", "{words}");
        assert!((1..=120).contains(&passage.words));
    }
}

#[test]
fn marks_inside_a_line_are_not_seen() {
    let seen = plain(
        "Click **Save** in the [`main`  menu](http://a/(b) of _this_ `max_conns`\n1 \\* 2 ![x](y)",
    );
    assert_eq!(seen, "Click Save in the main menu of this max_conns 1 * 2");
}

#[test]
fn the_parentheses_of_an_address_or_a_title_end_no_link() {
    for (written, seen) in [
        ("[Rust](https://en.wikipedia.org/wiki/Rust_(language)) is one.", "Rust is one."),
        ("([a](x_(b)_(c(d)))) and [e](f)", "(a) and e"),
        ("![x](y_(z).png) [a](b \"c) d\") e", "a e"),
        ("[a](<b ) c> 'd)') [e](f\\)g) [h](i (j k)) l", "a e h l"),
    ] {
        assert_eq!(plain(written), seen, "{written}");
    }
}

#[test]
fn only_what_is_emphasis_in_markdown_is_dropped() {
    for (written, seen) in [
        ("the topics `orders.*` and orders.* differ", "the topics orders.* and orders.* differ"),
        (
            "run `rm -rf /var/x/*.gz` and rm /var/y/*.gz",
            "run rm -rf /var/x/*.gz and rm /var/y/*.gz",
        ),
        ("2 * 3 * 4, SELECT * FROM t, a* is not *a", "2 * 3 * 4, SELECT * FROM t, a* is not *a"),
        ("*one* **two** ***three*** _four_ __five__", "one two three four five"),
        ("**bold *and* more** *it **is** so*", "bold and more it is so"),
        (
            "in*side* words, but snake_case_names __init__.py",
            "inside words, but snake_case_names init.py",
        ),
        ("`` a`*b* `` and `c\\*` *d*", "a`*b* and c\\* d"),
        ("a ` alone, `` two, and *b*", "a ` alone, `` two, and b"),
        ("\\*not\\* \\`so\\` ![a *b*](c) [**d** `e]`](f) **g", "*not* `so` [d e]](f) **g"),
        ("a line\\\nand *the\n> next* > one", "a line and the next > one"),
    ] {
        assert_eq!(plain(written), seen, "{written}");
    }
}

#[test]
fn marks_are_those_of_a_block_wherever_it_is_cut() {
    let text = "**First. Second `a*`.** Third*\n\n    *code*\n\n| *a | b* | *c* |\n\n* item *x*\n";
    let blocks = blocks(text, &[]);
    let marked = Written::markdown(text, &blocks);
    let seen: Vec<_> = blocks.iter().map(|block| marked.plain(&block.range)).collect();
    assert_eq!(seen, ["First. Second a*. Third*", "*code*", "| *a | b* | c |", "item x"]);
    let second = text.find("Second").unwrap();
    assert_eq!(marked.plain(&(0..second)), "First.");
    assert_eq!(marked.plain(&(second..second + 15)), "Second a*.");
    let all = Written::text(text);
    assert!(all.plain(&(0..text.len())).starts_with("**First. Second `a*`.** Third* *code*"));
}

/// Everything that is done with a text, with its promises checked.
fn take_apart(text: &str) {
    let found = blocks(text, &[(1, "a")]);
    let offsets = Offsets::new(text);
    let mut last = 0;
    for block in &found {
        assert!(block.range.start >= last && block.range.end <= text.len());
        last = block.range.end;
        let mut before = block.range.start;
        for sentence in sentences(text, block.range.clone()) {
            assert!(before <= sentence.start && sentence.end <= block.range.end);
            before = sentence.end;
            assert!(!text[sentence.clone()].trim().is_empty());
            assert!(sentence.len() < 2000, "{}", sentence.len());
        }
    }
    for passage in passages(text, &found) {
        assert!(offsets.chars(passage.range.start) <= passage.range.start);
        assert_eq!(text[..passage.range.end].chars().count(), offsets.chars(passage.range.end));
        drop(plain(&text[passage.range]));
    }
    let mut terms = Terms::default();
    assert!(terms.of(text, Language::detect(text)).len() <= text.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_text_is_taken_apart(text in "\\PC{0,200}|(\\PC|[ \n\t#>|`~*_.!?\\[\\]()1-]){0,300}|[.\"')* A\u{300}。𝒳]{0,3000}") {
        take_apart(&text);
    }
}

#[test]
fn a_text_made_to_be_slow_takes_no_longer_than_another() {
    let mib = 1 << 20;
    let texts = [
        "a".repeat(mib),
        "word ".repeat(mib / 5),
        "Go. ".repeat(100_000),
        "[".repeat(mib),
        "![](".repeat(mib / 4),
        ". ".repeat(mib / 2),
        ".".repeat(mib),
        "``` \n".repeat(mib / 5),
        "東".repeat(mib / 3),
        "\n".repeat(mib),
        "1. ".repeat(mib / 3),
        "\u{301}".repeat(mib / 2),
        ")".repeat(mib),
        "> ".repeat(mib / 2),
        "*a_ ".repeat(mib / 4),
        "**x* a*** ".repeat(mib / 10),
        "*".repeat(mib),
        "` `` ".repeat(mib / 5),
    ];
    for text in texts {
        let since = Instant::now();
        let found = blocks(&text, &[(1, "x")]);
        let count = passages(&text, &found).len();
        drop((Terms::default().of(&text, Language::detect(&text)), plain(&text)));
        assert!(
            since.elapsed() < Duration::from_secs(10),
            "{:?}: {count} {:?}",
            since.elapsed(),
            &text.get(..9)
        );
    }
}
