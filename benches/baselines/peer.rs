//! The published peer: `pg-listen` with `ioredis`, from npm, installed into a folder that goes with the value.

use super::Baseline;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const PACKAGES: [&str; 3] = ["pg-listen@1.7.0", "pg@8", "ioredis@5"];

pub(crate) struct Peer(TempDir);

impl Peer {
    /// None, with the reason on stderr, where npm is missing or cannot install.
    pub(crate) fn install() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(folder.path()).args(PACKAGES);
        match npm.stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Ok(status) if status.success() => {
                std::fs::write(folder.path().join("peer.mjs"), include_str!("peer.mjs")).expect("a file");
                Some(Self(folder))
            }
            Ok(status) => {
                eprintln!("   skipped: the npm peer ({status}; is the registry reachable?)");
                None
            }
            Err(e) => {
                eprintln!("   skipped: the npm peer (npm: {e})");
                None
            }
        }
    }

    pub(crate) fn start(&self, words: &[&str]) -> Baseline {
        let mut command = Command::new("node");
        command.arg(self.0.path().join("peer.mjs")).args(words);
        Baseline::spawn("pg-listen + ioredis", command)
    }
}
