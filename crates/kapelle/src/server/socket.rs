//! The socket of a node: where other processes on this machine reach it.
//!
//! **Invariant:** nobody but the owner of the process can connect, at no moment: the socket is
//! made in a folder of its own that only they can enter, and moved to its place when its mode is set.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The longest path of a socket that is used: the system's limit is a little over it.
const PATH_MAX: usize = 100;

/// A socket that is listened on; removed when this is dropped.
pub(crate) struct Socket {
    path: PathBuf,
    listener: Option<UnixListener>,
    serving: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
}

/// How long answers that are under way have when the node leaves.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

impl Socket {
    /// Listens in `STORE/nodes`, or where paths are shorter. Who connects waits for [`Self::serve`].
    pub(crate) fn bind(store: &Path) -> io::Result<Self> {
        let name = format!("{}-{:08x}", std::process::id(), random());
        let nodes = std::path::absolute(store)?.join("nodes");
        let fits = nodes.join(format!(".{name}/s")).as_os_str().len() <= PATH_MAX
            && nodes.join(format!("{name}.sock")).as_os_str().len() <= PATH_MAX;
        let dir = if fits { nodes } else { short_dir() };
        fs::create_dir_all(&dir)?;
        let (path, door) = if fits {
            (dir.join(format!("{name}.sock")), dir.join(format!(".{name}")))
        } else {
            (dir.join(format!("kapelle-{name}.sock")), dir.join(format!(".kapelle-{name}")))
        };
        DirBuilder::new().mode(0o700).create(&door)?;
        let made = make(&door.join("s"), &path);
        fs::remove_dir(&door)?;
        Ok(Self { path, listener: Some(made?), serving: None })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Answers from here on.
    pub(crate) fn serve(&mut self, router: Router) {
        let Some(listener) = self.listener.take() else { return };
        let (leave, leaving) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let leaving = async { drop(leaving.await) };
            // Errors of single connections are theirs.
            axum::serve(listener, router).with_graceful_shutdown(leaving).await.ok();
        });
        self.serving = Some((serving, leave));
    }

    /// Takes no new requests, and lets the answers that are under way come to their end.
    pub(crate) async fn close(mut self) {
        fs::remove_file(&self.path).ok();
        if let Some((mut serving, leave)) = self.serving.take() {
            leave.send(()).ok();
            if tokio::time::timeout(LAST_ANSWERS, &mut serving).await.is_err() {
                serving.abort();
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some((serving, _)) = self.serving.take() {
            serving.abort();
        }
        fs::remove_file(&self.path).ok();
    }
}

fn make(hidden: &Path, path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(hidden)?;
    fs::set_permissions(hidden, Permissions::from_mode(0o600))?;
    fs::rename(hidden, path)?;
    Ok(listener)
}

fn short_dir() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime.filter(|dir| dir.is_absolute() && dir.is_dir()).unwrap_or_else(std::env::temp_dir)
}

fn random() -> u32 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let hash = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default()
}
