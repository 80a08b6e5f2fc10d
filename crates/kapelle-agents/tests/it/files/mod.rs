//! Agent files as people write them, and folders of them.

mod generate;
mod shelf;

use std::fmt::Write as _;
use std::path::Path;

use kapelle_agents::files::{self, AgentFile, Broken, Shelf};

/// Files of all shapes that are met, written for this.
fn collection() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/files/agents")
}

/// An agent in a few lines, without what is as usual.
fn told(agent: &AgentFile) -> String {
    let AgentFile { definition, tools, warnings, .. } = agent;
    let mut text = format!("{:?}: {:?}\n", definition.name, definition.description);
    let tools = tools.as_ref().map(|tools| tools.join(" | "));
    let granted = definition.tools.join(" | ");
    writeln!(text, "  tools {tools:?} -> {granted}").unwrap();
    let limits = (definition.turns_max, definition.tasks_max);
    if definition.model.is_some() || definition.effort.is_some() || limits != (50, None) {
        let (model, effort) = (&definition.model, &definition.effort);
        writeln!(text, "  model {model:?} effort {effort:?} limits {limits:?}").unwrap();
    }
    let more = (&agent.category, &agent.role, &agent.capabilities);
    if agent.category.is_some() || agent.role.is_some() || !agent.capabilities.is_empty() {
        writeln!(text, "  {more:?}").unwrap();
    }
    writeln!(text, "  body {:?}", definition.prompt).unwrap();
    for warning in warnings {
        writeln!(text, "  {}: {}", warning.line, warning.message).unwrap();
    }
    text
}

fn read(text: impl AsRef<[u8]>) -> Result<AgentFile, Broken> {
    files::read(Path::new("some.md"), text.as_ref())
}

#[test]
fn files_of_all_shapes_are_read_and_what_is_odd_is_told() {
    let folder = collection();
    let shelved = Shelf::new(vec![folder.clone()]).look();
    let name = |file: &Path| file.strip_prefix(&folder).unwrap().display().to_string();
    let mut text = String::new();
    for agent in &shelved.agents {
        write!(text, "{} {}", name(&agent.file), told(agent)).unwrap();
    }
    for shadowed in &shelved.shadowed {
        let (file, by) = (name(&shadowed.agent.file), name(&shadowed.by));
        writeln!(text, "{file} is shadowed by {by}").unwrap();
    }
    for broken in &shelved.broken {
        writeln!(text, "{}:{}: {}", name(&broken.file), broken.line, broken.message).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn marks_line_ends_and_other_charsets_are_read() {
    let plain = "---\nname: a\ndescription: größer: als\ntools: Read\n---\n\nGrüße\nan alle\n";
    let same = |agent: &AgentFile| {
        assert_eq!(&*agent.definition.name, "a");
        assert_eq!(&*agent.definition.description, "größer: als");
        assert_eq!(agent.tools.as_deref().unwrap(), ["Read".into()]);
    };
    let usual = read(plain).unwrap();
    same(&usual);
    let marked = read(format!("\u{feff}{plain}")).unwrap();
    same(&marked);
    assert_eq!(marked.body_sha256, usual.body_sha256);
    assert!(marked.warnings[0].message.contains("byte order mark of UTF-8"), "{marked:?}");
    let windows = read(plain.replace('\n', "\r\n")).unwrap();
    same(&windows);
    assert_eq!(&*windows.definition.prompt, "Grüße\r\nan alle");
    let utf16: Vec<u8> =
        std::iter::once(0xfeff).chain(plain.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    same(&read(utf16).unwrap());
    let latin: Vec<u8> = plain.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let latin = read(latin).unwrap();
    same(&latin);
    assert_eq!((latin.warnings[0].line, latin.body_sha256), (3, usual.body_sha256));
}

#[test]
fn old_line_ends_and_a_single_odd_byte_change_nothing_else() {
    let plain = "---\nname: a\ndescription: größer\ntools: Read\n---\n\nGrüße an alle\n";
    let mac = read(plain.replace('\n', "\r")).unwrap();
    assert_eq!((&*mac.definition.name, &*mac.definition.prompt), ("a", "Grüße an alle"));
    assert_eq!(mac.tools.as_deref().unwrap(), ["Read".into()]);
    assert!(mac.warnings[0].message.contains("old Macs"), "{mac:?}");
    let mut odd = plain.as_bytes().to_vec();
    odd.push(0xff);
    let odd = read(odd).unwrap();
    assert_eq!((&*odd.definition.description, odd.warnings[0].line), ("größer", 8), "{odd:?}");
    assert_eq!(&*odd.definition.prompt, "Grüße an alle\n\u{fffd}");
}

#[test]
fn lists_of_commands_objects_and_merged_keys_are_read() {
    let granted = |tools: &str| {
        let agent = read(format!("---\nname: a\ndescription: d\n{tools}\n---\nx")).unwrap();
        let told: Vec<String> = agent.warnings.into_iter().map(|odd| odd.message).collect();
        (agent.definition.tools.join(" | "), told.join("; "))
    };
    let list = granted("tools: Read, Bash(git log:*, git diff:*,cargo test)");
    let three =
        "read_file | run_command(git log:*) | run_command(git diff:*) | run_command(cargo test)";
    assert_eq!(list, (three.to_owned(), String::new()));
    let (_, told) = granted("tools: Bash(*)");
    assert!(told.contains("`Bash(*)` covers no command"), "{told}");
    let objects = granted("tools: [{name: Read}, {name: \"Bash(ls:*)\", description: lists}]");
    assert_eq!(objects, ("read_file | run_command(ls:*)".to_owned(), String::new()));
    let merged = granted("base: &b {tools: Grep, model: fast}\n<<: *b");
    assert_eq!(merged.0, "search_files", "{merged:?}");
}

#[test]
fn what_is_no_text_or_too_long_is_broken() {
    let nul = read(b"---\nname: a\n\0").unwrap_err();
    assert_eq!((nul.line, &*nul.message), (3, "the file is no text"));
    let long = read("a".repeat(files::FILE_MAX + 1)).unwrap_err();
    assert_eq!(long.to_string(), "some.md:1: the file is over 1 MiB");
    let name = read(format!("---\nname: {}\n---\nx", "n".repeat(101))).unwrap_err();
    assert!(name.message.contains("1 to 100 bytes"), "{name}");
}

#[test]
fn aliases_that_grow_are_not_followed() {
    let mut text = "---\na: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (before, key) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let items = vec![format!("*{before}"); 10].join(", ");
        writeln!(text, "{key}: &{key} [{items}]").unwrap();
    }
    let agent = read(text + "name: bomb\n---\nboom").unwrap();
    assert_eq!(&*agent.definition.name, "bomb");
    let told = |end| agent.warnings.iter().any(|warning| warning.message.ends_with(end));
    assert!(told("it holds too many values"), "{agent:?}");
}

#[test]
fn the_hash_is_that_of_the_body_without_white_space_around_it() {
    let agent = read("---\nname: a\ndescription: b\n---\n\n  abc\n\n").unwrap();
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(agent.body_sha256.hex(), abc);
}
