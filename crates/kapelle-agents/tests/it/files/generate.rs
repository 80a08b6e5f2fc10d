//! Whatever is in a file, reading it ends with an agent or with a reason.

use proptest::prelude::*;

use super::read;

/// Pieces that front matter is made of, and that break it.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "---\n", "name: ", "description: ", "tools: ", "model: ", "\n", "\n  ", "- ", ": ", "[", "]",
            "{", "}", "(", ")", "\"", "'", "|\n", ">-\n", "&a ", "*a", "!!str ", "? ", "# ", "\t", "\\n",
            "<example>", "</example>", "user: ", "Read", "Bash(git:*)", ",", "\r\n", "...\n", "%YAML 1.2\n",
            "\u{feff}", "\u{85}", "ü", "3000", "yes", "~",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_file_is_too_odd(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        for text in [format!("---\n{text}"), format!("---\n{text}\n---\nbody"), text] {
            let lines = u32::try_from(text.lines().count()).unwrap() + 2;
            match read(&text) {
                Ok(agent) => {
                    prop_assert!(!agent.definition.name.is_empty());
                    let wrong = agent.warnings.iter().find(|w| w.line == 0 || w.line > lines);
                    prop_assert!(wrong.is_none(), "{wrong:?}");
                }
                Err(broken) => prop_assert!((1..=lines).contains(&broken.line), "{broken}"),
            }
        }
    }

    #[test]
    fn nor_is_anything_that_is_no_text(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes).ok();
        read([b"---\nname: a\n", &bytes[..], b"\n---\n"].concat()).ok();
    }
}
