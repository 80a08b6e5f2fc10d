//! What a name says, at any depth and in any case: that a file is a secret, or that others obey it.
//!
//! **Invariants:** one list for all who ask, tools and the wall around commands. What is code by its end
//! is no secret, as a build behind the wall would miss it. What a build itself runs (`Makefile`,
//! `build.rs`, `package.json`) is the work, and is not here.

use std::ffi::OsStr;
use std::path::{Component, Path};

/// Folders of keys, whole: of ssh, clouds, clusters, keyrings, and of ourselves.
const SECRET_FOLDERS: [&str; 7] =
    [".aws", ".azure", ".gnupg", ".kapelle", ".kube", ".password-store", ".ssh"];
/// Folders in which all but code is a secret.
const HOLD_SECRETS: [&str; 5] = [".secrets", "credentials", "private_keys", "secret", "secrets"];
/// Files in which programs keep keys and passwords.
const SECRET_FILES: [&str; 30] = [
    ".bash_history",
    ".boto",
    ".databrickscfg",
    ".dockercfg",
    ".env",
    ".envrc",
    ".git-credentials",
    ".htpasswd",
    ".my.cnf",
    ".mysql_history",
    ".netrc",
    ".node_repl_history",
    ".npmrc",
    ".pgpass",
    ".psql_history",
    ".pypirc",
    ".s3cfg",
    ".terraformrc",
    ".token",
    ".vault-token",
    ".yarnrc.yml",
    ".zsh_history",
    "_netrc",
    "auth.json",
    "credentials",
    "kubeconfig",
    "local.settings.json",
    "rclone.conf",
    "secret",
    "secrets",
];
/// Files that are secrets where they are: a registry's login, an address with a token in it, …
const SECRET_PAIRS: [(&str, &str); 7] = [
    (".config", "gcloud"),
    (".config", "gh"),
    (".docker", "config.json"),
    (".git", "config"),
    (".git", "config.worktree"),
    (".git", "modules"),
    (".m2", "settings.xml"),
];
/// How names of files of keys begin, if they are no code.
const SECRET_STARTS: [&str; 9] = [
    ".env.",
    "application_default_credentials",
    "client_secret",
    "credentials",
    "secret.",
    "secrets.",
    "service-account",
    "service_account",
    "terraform.tfstate",
];
/// How they end: private keys, stores of keys, files of variables.
const SECRET_ENDS: [&str; 14] = [
    ".env",
    ".jks",
    ".kdb",
    ".kdbx",
    ".key",
    ".keystore",
    ".ovpn",
    ".p12",
    ".pem",
    ".pfx",
    ".ppk",
    ".tfstate",
    ".tfvars",
    ".tfvars.json",
];
/// What editors and people put behind a name to keep what was there.
const COPIES: [&str; 6] = ["~", ".bak", ".old", ".orig", ".save", ".swp"];
/// Keys of ssh, whatever comes after that.
const SSH_KEYS: [&str; 5] = ["id_dsa", "id_ecdsa", "id_ed25519", "id_rsa", "id_xmss"];
/// Ends of code and prose.
const CODE: [&str; 28] = [
    "adoc", "c", "cc", "cpp", "cs", "css", "ex", "go", "h", "hpp", "hs", "html", "java", "js",
    "jsx", "kt", "md", "mjs", "php", "proto", "py", "rb", "rs", "rst", "scala", "swift", "ts",
    "tsx",
];

/// What somebody acts on who comes upon it, without being asked: git and its hooks, editors, assistants,
/// services that build, shells and package managers, and we.
const OBEYED: [&str; 70] = [
    ".aider.conf.yml",
    ".bash_profile",
    ".bashrc",
    ".buildkite",
    ".circleci",
    ".claude",
    ".clinerules",
    ".codex",
    ".continue",
    ".cursor",
    ".cursorrules",
    ".devcontainer",
    ".devcontainer.json",
    ".dir-locals.el",
    ".drone.yml",
    ".envrc",
    ".exrc",
    ".forgejo",
    ".gdbinit",
    ".gemini",
    ".git",
    ".gitattributes",
    ".gitconfig",
    ".gitea",
    ".githooks",
    ".github",
    ".gitlab-ci.yml",
    ".gitmodules",
    ".goosehints",
    ".husky",
    ".idea",
    ".kiro",
    ".lefthook.yml",
    ".lldbinit",
    ".mcp.json",
    ".mise.toml",
    ".npmrc",
    ".nvim.lua",
    ".nvimrc",
    ".pnpmfile.cjs",
    ".pre-commit-config.yaml",
    ".profile",
    ".renovaterc",
    ".tool-versions",
    ".travis.yml",
    ".vimrc",
    ".vscode",
    ".windsurf",
    ".windsurfrules",
    ".yarnrc",
    ".yarnrc.yml",
    ".zed",
    ".zshenv",
    ".zshrc",
    "agents.md",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "claude.local.md",
    "claude.md",
    "gemini.md",
    "jenkinsfile",
    "kapelle.toml",
    "lefthook.yml",
    "mise.toml",
    "renovate.json",
    "rust-toolchain",
    "rust-toolchain.toml",
    "skill.md",
    "workflow.yaml",
    "workflow.yml",
];

/// Files that are obeyed where they are.
const OBEYED_PAIRS: [(&str, &str); 2] = [(".cargo", "config"), (".cargo", "config.toml")];

/// Whether a file is a secret, by its path below the run's folder.
pub(crate) fn is_secret(path: &Path) -> bool {
    let parts = parts(path);
    let Some((name, folders)) = parts.split_last() else { return false };
    let parent = folders.last().map_or("", String::as_str);
    let held = folders.iter().any(|folder| HOLD_SECRETS.contains(&&**folder));
    is_key(name) || is_secret_pair(parent, name) || (held && !is_code(name)) || in_secret(folders)
}

/// Whether all that is in a folder is secret.
pub(crate) fn is_secret_folder(path: &Path) -> bool {
    in_secret(&parts(path))
}

/// Whether others act on what is at a path, or on something on the way to it.
pub(crate) fn is_obeyed(path: &Path) -> bool {
    let named = |way: &Path| Some(way.file_name()?.to_string_lossy().into_owned());
    path.ancestors().any(|way| {
        let folder = way.parent().unwrap_or(Path::new(""));
        named(way).is_some_and(|name| obeyed(folder, &name))
    })
}

/// Whether others act on what is called `name` in a folder at the end of this path. Files of agents are looked for in all
/// folders of one that is called `agents`.
pub(crate) fn obeyed(folder: &Path, name: &str) -> bool {
    let (folders, name) = (parts(folder), name.to_ascii_lowercase());
    let is_text = name.ends_with(".md") || name.ends_with(".markdown");
    let is_agent = is_text && folders.iter().any(|folder| folder == "agents");
    let parent = folders.last().map_or("", String::as_str);
    let is_pair = OBEYED_PAIRS.contains(&(parent, &*name));
    OBEYED.contains(&&*name) || name.ends_with(".code-workspace") || is_agent || is_pair
}

/// Whether agents are looked for in a folder of this name, wherever a link of the name leads.
pub(crate) fn is_agents(name: &OsStr) -> bool {
    name.eq_ignore_ascii_case("agents")
}

fn in_secret(folders: &[String]) -> bool {
    let pairs = || folders.windows(2).any(|pair| is_secret_pair(&pair[0], &pair[1]));
    folders.iter().any(|folder| SECRET_FOLDERS.contains(&&**folder) || is_env(folder)) || pairs()
}

fn is_secret_pair(parent: &str, name: &str) -> bool {
    SECRET_PAIRS.contains(&(parent, name))
}

/// Whether a name is one of files of keys.
fn is_key(name: &str) -> bool {
    if let Some(of) = COPIES.iter().find_map(|end| name.strip_suffix(end)) {
        return is_key(of);
    }
    SECRET_FOLDERS.contains(&name)
        || SECRET_FILES.contains(&name)
        || SECRET_ENDS.iter().any(|end| name.ends_with(end))
        || SSH_KEYS.iter().any(|start| name.starts_with(start))
        || (name.contains("firebase-adminsdk") && !is_code(name))
        || (name.starts_with("id_") && !name.contains('.'))
        || (SECRET_STARTS.iter().any(|start| name.starts_with(start)) && !is_code(name))
}

fn is_env(name: &str) -> bool {
    name == ".env" || name.starts_with(".env.")
}

fn is_code(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| CODE.contains(&end))
}

fn parts(path: &Path) -> Vec<String> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_string_lossy().to_ascii_lowercase()),
        _ => None,
    };
    path.components().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_at_any_depth_and_in_any_case() {
        for path in [
            ".env",
            "a/.ENV.local",
            "deploy/prod.env",
            ".envrc",
            "a/b/.netrc",
            ".npmrc",
            ".pypirc",
            ".git-credentials",
            "home/.docker/config.json",
            ".git/config",
            "sub/.git/modules/x/config",
            "credentials.json",
            "a/Credentials",
            "credentials/prod.yaml",
            "secrets/prod.env",
            "k8s/secrets/db.yaml",
            "secrets.yml",
            "client_secret_1.json",
            "a/.aws/anything",
            "x/.kube/config",
            ".ssh/known_hosts",
            ".gnupg/a",
            "id_rsa.bak",
            "keys/id_work",
            "server.PEM",
            "tls.key",
            "tls.key.bak",
            ".env~",
            ".npmrc.swp",
            "terraform.tfstate.backup",
            "infra/prod.tfvars",
            ".zsh_history",
            "rclone.conf",
            "a/app-firebase-adminsdk-x1.json",
            "local.settings.json",
            "old.kdb",
        ] {
            assert!(is_secret(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn code_and_what_is_called_alike_is_no_secret() {
        for path in [
            "src/credentials.rs",
            "src/secrets/mod.rs",
            "src/id_map.rs",
            "env/config",
            "config.json",
            ".git/HEAD",
            ".docker/Dockerfile",
            "keyboard.rs",
            "docs/secrets.md",
            "environment.yml",
            "",
            ".",
        ] {
            assert!(!is_secret(Path::new(path)), "{path}");
        }
        assert!(!is_secret_folder(Path::new("src/secrets")), "there is code in it");
        assert!(
            is_secret_folder(Path::new("a/.ssh")) && is_secret_folder(Path::new(".git/modules"))
        );
    }

    #[test]
    fn what_others_obey_is_known_at_any_depth() {
        for path in [
            ".git",
            "sub/.GIT/hooks/pre-commit",
            "sub/.claude/agents/y.md",
            "CLAUDE.md",
            "docs/AGENTS.md",
            ".github/workflows/x.yml",
            ".husky/pre-commit",
            "agents/reviewer.md",
            "team/agents/reviewer.md",
            "workflow.yaml",
            "kapelle.toml",
            "a/.vscode/tasks.json",
            "x.code-workspace",
            "mise.toml",
            ".nvimrc",
            "rust-toolchain.toml",
            "a/.cargo/config.toml",
            ".gitattributes",
            ".gitmodules",
            ".gdbinit",
            ".tool-versions",
            "skills/pdf/SKILL.md",
            "renovate.json",
            "other/agents/a.markdown",
            "other/Agents/more/a.MD",
        ] {
            assert!(is_obeyed(Path::new(path)), "{path}");
        }
        for path in [
            "src/agents/mod.rs",
            "github/x",
            "a.md",
            "git",
            "notes/claude.txt",
            ".gitignore",
            ".cargo/x",
            "config.toml",
        ] {
            assert!(!is_obeyed(Path::new(path)), "{path}");
        }
    }
}
