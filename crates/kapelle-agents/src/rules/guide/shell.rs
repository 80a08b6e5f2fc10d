//! Whether a block of code is commands for a shell, and which.
//!
//! **Invariant:** code of a language that is named and no shell's is never a command, and neither is
//! code without a name, unless it has prompts, begins with a known command, or with one that the
//! page itself runs elsewhere.

use crate::text::Block;

/// Names of shells in front of a block of code.
const SHELLS: [&str; 16] = [
    "sh",
    "bash",
    "zsh",
    "fish",
    "ksh",
    "shell",
    "console",
    "terminal",
    "shellsession",
    "shell-session",
    "sh-session",
    "bat",
    "cmd",
    "powershell",
    "pwsh",
    "ps1",
];
/// Names that say nothing about the language.
const NAMELESS: [&str; 5] = ["", "text", "txt", "plain", "plaintext"];
/// Commands that stand on many machines.
const KNOWN: [&str; 59] = [
    "sudo",
    "apt",
    "apt-get",
    "dnf",
    "yum",
    "apk",
    "pacman",
    "zypper",
    "brew",
    "snap",
    "dpkg",
    "rpm",
    "cargo",
    "rustup",
    "npm",
    "npx",
    "yarn",
    "pnpm",
    "node",
    "pip",
    "pip3",
    "pipx",
    "uv",
    "python",
    "python3",
    "go",
    "make",
    "cmake",
    "git",
    "curl",
    "wget",
    "tar",
    "unzip",
    "gzip",
    "cd",
    "mkdir",
    "ls",
    "cp",
    "mv",
    "rm",
    "cat",
    "chmod",
    "chown",
    "ln",
    "echo",
    "export",
    "source",
    "docker",
    "podman",
    "kubectl",
    "helm",
    "systemctl",
    "service",
    "journalctl",
    "ssh",
    "scp",
    "rsync",
    "psql",
    "openssl",
];

/// The commands in `block`, one a line; `None` where it has none.
pub(super) fn commands(text: &str, block: &Block) -> Option<String> {
    let code = &text[block.range.clone()];
    let name = name(text, block);
    let is_shell = SHELLS.contains(&&*name);
    if !is_shell && !NAMELESS.contains(&&*name) {
        return None;
    }
    let prompted: Vec<&str> =
        code.lines().filter_map(|line| line.trim_start().strip_prefix("$ ")).collect();
    if !prompted.is_empty() {
        return Some(prompted.join("\n"));
    }
    let code = code.trim();
    let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let first = code.lines().map(str::trim).find(said)?;
    (is_shell || is_command(text, first)).then(|| code.to_owned())
}

/// What stands behind the fence of a block, in small letters.
fn name(text: &str, block: &Block) -> String {
    let before = text[..block.range.start].trim_end_matches([' ', '\t']);
    let line = before.strip_suffix('\n').unwrap_or(before).rsplit('\n').next().unwrap_or_default();
    let line = line.trim_start();
    let fenced = line.starts_with("```") || line.starts_with("~~~");
    let name = if fenced { line.trim_start_matches(['`', '~', ' ', '{', '.']) } else { "" };
    let end = name.find(|letter: char| letter.is_whitespace() || ",{}".contains(letter));
    name[..end.unwrap_or(name.len())].to_lowercase()
}

fn is_command(text: &str, line: &str) -> bool {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    if word.is_empty() || !word.chars().all(letters) || rest.trim_start().starts_with(['=', ':']) {
        return false;
    }
    let path = word.starts_with("./") || word.starts_with('/') && word.len() > 1;
    path || KNOWN.contains(&word) || runs(text, word)
}

/// Whether the page has `word` in a sentence, set as code, as a command: with something behind it.
fn runs(text: &str, word: &str) -> bool {
    let bytes = text.as_bytes();
    let named = text.match_indices(word).any(|(at, _)| {
        let alone = at == 0 || bytes[at - 1] != b'`';
        let after = bytes.get(at + word.len());
        !alone && at.checked_sub(2).is_none_or(|at| bytes[at] != b'`') && after == Some(&b' ')
    });
    named && word.len() >= 2
}
