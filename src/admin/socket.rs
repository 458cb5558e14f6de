//! The unix socket's file: its folder, its mode, what an earlier daemon left, and its end.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// Owner and group may connect.
const MODE: u32 = 0o660;
/// A living daemon accepts at once; what takes longer is busy, not gone.
const CONNECT: Duration = Duration::from_secs(2);

/// A bound socket; its file goes when this is dropped, unless somebody else has put another there.
#[derive(Debug)]
pub(super) struct Bound {
    listener: Option<UnixListener>,
    path: PathBuf,
    inode: u64,
}

impl Bound {
    /// Binds, and replaces what a dead daemon left.
    ///
    /// # Errors
    /// For people, with a remedy.
    pub(super) async fn new(path: &Path) -> Result<Self, String> {
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
            fs::create_dir_all(folder).map_err(|e| {
                format!(
                    "the folder {} does not exist and cannot be made: {e}: make it, writable for this user (systemd: \
                     RuntimeDirectory=pgevict), or set admin.socket",
                    folder.display()
                )
            })?;
        }
        free(path).await?;
        let fail = |e: io::Error| {
            format!(
                "{} cannot be bound: {e}: the folder must be writable for this user, or set admin.socket",
                path.display()
            )
        };
        // Bound under another name and renamed: whoever finds the file finds it with its mode, and no moment is
        // without a socket when a stale one is replaced.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(fail)?;
        let placed = || -> io::Result<u64> {
            fs::set_permissions(&new, fs::Permissions::from_mode(MODE))?;
            let inode = fs::metadata(&new)?.ino();
            fs::rename(&new, path)?;
            Ok(inode)
        };
        let inode = placed().map_err(|e| {
            // The half-made file is of no use to anybody.
            let _ = fs::remove_file(&new);
            fail(e)
        })?;
        Ok(Self { listener: Some(listener), path: path.to_owned(), inode })
    }

    /// The listener, once.
    pub(super) fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            // A file that stays is stale and replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the path may be taken: nothing there, or a socket that nobody answers.
async fn free(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt as _;
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(format!("{shown} cannot be looked at: {e}")),
        Ok(m) if !m.file_type().is_socket() => {
            return Err(format!("{shown} is there and is no socket: move it away, or set admin.socket"));
        }
        Ok(_) => {}
    }
    match tokio::time::timeout(CONNECT, UnixStream::connect(path)).await {
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(Err(e)) => Err(format!("{shown} is there and cannot be tried: {e}: set admin.socket to another path")),
        Ok(Ok(_)) | Err(_) => {
            Err(format!("another daemon answers at {shown}: give this one a path of its own by admin.socket"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[tokio::test]
    async fn the_folder_is_made_and_the_file_is_for_owner_and_group() {
        let dir = folder();
        let path = dir.path().join("run/pgevict/admin.sock");
        let bound = Bound::new(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        UnixStream::connect(&path).await.unwrap();
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_dead_daemon_left_is_replaced() {
        let dir = folder();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _bound = Bound::new(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_living_daemon_keeps_its_socket() {
        let dir = folder();
        let path = dir.path().join("s");
        let _first = Bound::new(&path).await.unwrap();
        let refused = Bound::new(&path).await.unwrap_err();
        assert!(refused.starts_with("another daemon answers at"), "{refused}");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = folder();
        let path = dir.path().join("s");
        fs::write(&path, "precious").unwrap();
        let refused = Bound::new(&path).await.unwrap_err();
        assert!(refused.contains("is no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_end_leaves_the_socket_of_a_successor() {
        let dir = folder();
        let path = dir.path().join("s");
        let mut first = Bound::new(&path).await.unwrap();
        drop(first.take_listener());
        let second = Bound::new(&path).await.unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_says_so() {
        let dir = folder();
        let path = dir.path().join("x".repeat(150));
        let refused = Bound::new(&path).await.unwrap_err();
        assert!(refused.contains("set admin.socket"), "{refused}");
    }
}
