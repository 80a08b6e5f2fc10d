//! Where agent files are looked for, the folder that wins first.
//!
//! Those that were named, `agents` beside the workflow, `.kapelle/agents` here, `.claude/agents` here and in the folders above, and
//! the user's own. A folder above, or beside the workflow, that belongs to somebody else is passed over, and
//! that is said: whoever can write to `/tmp` must not give us agents.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::exit::Stop;
use super::out;

/// All of them; those that were named have to be there.
pub(super) fn all(named: &[PathBuf]) -> Result<Vec<PathBuf>, Stop> {
    if let Some(missing) = named.iter().find(|folder| !folder.exists()) {
        return Err(Stop::usage(format!("`--agents`: there is no `{}`", missing.display())));
    }
    let mut folders = named.to_vec();
    folders.push(".kapelle/agents".into());
    folders.push(".claude/agents".into());
    if let Ok(here) = std::env::current_dir() {
        let above = here.ancestors().skip(1).map(|above| above.join(".claude/agents"));
        folders.extend(above.filter(|folder| is_trusted(folder)));
    }
    folders.extend(of_user(|name| std::env::var_os(name).map(PathBuf::from)));
    Ok(folders)
}

/// The folder that belongs to a workflow: `agents` beside its file.
pub(super) fn beside(file: &Path) -> Option<PathBuf> {
    let folder = match file {
        stdin if stdin == Path::new("-") => return None,
        folder if folder.is_dir() => folder,
        file => file.parent()?,
    };
    let agents = folder.join("agents");
    is_trusted(&agents).then_some(agents)
}

/// Whether a folder is there and is ours or the administrator's. If it is somebody else's, that is said.
fn is_trusted(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let Ok(is) = folder.metadata() else { return false };
    let is_trusted = is.uid() == me || is.uid() == 0;
    if !is_trusted && is.is_dir() {
        let shown = folder.display();
        out::say(&format!(
            "the agents in `{shown}` are passed over, as the folder belongs to another user; \
             `--agents {shown}` takes them all the same"
        ));
    }
    is_trusted
}

/// The folder in the user's configuration.
fn of_user(env: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let config = env("XDG_CONFIG_HOME").filter(absolute);
    let config = config.or_else(|| Some(env("HOME").filter(absolute)?.join(".config")))?;
    Some(config.join("kapelle/agents"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_folder_is_where_the_environment_says() {
        let of = |pairs: &[(&str, &str)]| {
            let look = |name: &str| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            };
            of_user(look)
        };
        assert_eq!(of(&[("HOME", "/h")]).unwrap(), Path::new("/h/.config/kapelle/agents"));
        let both = [("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")];
        assert_eq!(of(&both).unwrap(), Path::new("/x/kapelle/agents"));
        let relative = [("HOME", "/h"), ("XDG_CONFIG_HOME", "x")];
        assert_eq!(of(&relative).unwrap(), Path::new("/h/.config/kapelle/agents"));
        assert_eq!(of(&[]), None);
    }
}
