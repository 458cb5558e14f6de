//! A private redis-server on a Unix socket in a temporary folder: a value that ends when it is dropped.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

pub(crate) struct RedisServer {
    child: Child,
    folder: tempfile::TempDir,
    /// Kept so that the server can go on writing its log.
    _log: BufReader<ChildStdout>,
}

impl RedisServer {
    /// Starts one and waits until it says that it is ready.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"])
            .arg(folder.path().join("redis.sock"))
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server must be installed (apt install redis-server)");
        let mut log = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut said = String::new();
        while !said.lines().last().is_some_and(|line| line.contains("eady to accept connections")) {
            let read = log.read_line(&mut said).expect("the log of redis-server");
            assert!(read > 0, "redis-server ended at once:\n{said}");
        }
        Self { child, folder, _log: log }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub(crate) fn connect(&self) -> redis::Connection {
        let url = format!("redis+unix://{}", self.socket().display());
        redis::Client::open(url).expect("a client").get_connection().expect("a connection")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
