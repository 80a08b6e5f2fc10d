//! Where runs begin that come from the network: not just anywhere on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use kapelle_core::Tenant;

use super::problem::Problem;

/// The folders in which such runs may begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots {
    /// As the operator says.
    pub(crate) named: Vec<PathBuf>,
    /// One of the store's own, with a folder for each tenant.
    pub(crate) own: Option<PathBuf>,
}

impl Roots {
    /// Where a run of `tenant` begins that wants to begin in `wanted`.
    pub(super) fn of(&self, tenant: &Tenant, wanted: Option<&str>) -> Result<Box<str>, Problem> {
        let own = self.own.as_ref().map(|own| own.join(tenant.as_str()));
        let refused = |root: &str| {
            let detail = format!("no run may begin in `{root}`: `server.roots` says where it may");
            Problem::forbidden("root_not_allowed", detail)
        };
        let chosen = match wanted {
            None => own.iter().chain(&self.named).next().cloned().ok_or_else(|| refused("/"))?,
            // Where links lead counts, not how they are called.
            Some(root) => fs::canonicalize(root).map_err(|_| refused(root))?,
        };
        if own.as_deref() == Some(&chosen) {
            fs::create_dir_all(&chosen).map_err(|_| refused(&chosen.display().to_string()))?;
        }
        let real = |folder: &PathBuf| fs::canonicalize(folder).ok();
        let inside = |folder: PathBuf| chosen.starts_with(folder);
        let all = own.iter().chain(&self.named);
        let allowed = wanted.is_none() || all.filter_map(real).any(inside);
        let shown = |path: &Path| path.to_str().map(Into::into);
        shown(&chosen).filter(|_| allowed).ok_or_else(|| refused(&chosen.display().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_in_a_folder_of_its_tenant_or_one_that_was_named() {
        let (store, named) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = store.path().canonicalize().unwrap();
        let roots = Roots { named: vec![named.path().to_path_buf()], own: Some(own.clone()) };
        let acme = Tenant::new("acme");
        let of = |wanted: Option<&str>| roots.of(&acme, wanted).map(String::from);
        let first = of(None).unwrap();
        assert_eq!(Path::new(&first), own.join("acme"));
        fs::create_dir_all(named.path().join("in/side")).unwrap();
        fs::create_dir_all(store.path().join("other")).unwrap();
        std::os::unix::fs::symlink("/etc", named.path().join("link")).unwrap();
        assert!(of(Some(named.path().join("in/side").to_str().unwrap())).is_ok());
        assert!(of(Some(&format!("{first}/"))).is_ok());
        let odd = [
            "/".to_owned(),
            "/no/such".to_owned(),
            store.path().join("other").display().to_string(),
            named.path().join("link").display().to_string(),
            format!("{first}/../other"),
        ];
        for odd in odd {
            assert!(of(Some(&odd)).is_err(), "{odd}");
        }
    }
}
