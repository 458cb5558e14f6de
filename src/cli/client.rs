//! The client of the admin socket: HTTP/1.1 over a unix socket.

use super::{Common, exit::Exit};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// From connecting to the head of the answer, and for the whole of a short one.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The status of thousands of edges is some hundred kB.
const MAX_BODY: usize = 64 << 20;

/// Where the daemon is.
#[derive(Debug, Clone, clap::Args)]
pub struct Daemon {
    /// Admin socket of the daemon [default: admin.socket of the configuration]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Why there is no answer; its text is for people.
#[derive(Debug)]
pub struct NoAnswer(String);

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl NoAnswer {
    /// Says it on stderr.
    #[must_use]
    pub fn tell(&self) -> Exit {
        eprintln!("error: {}", self.0);
        Exit::Unreachable
    }
}

/// Runs a command that needs nothing but the socket.
#[must_use]
pub fn block_on(work: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(e) => {
            eprintln!("error: the runtime cannot start: {e}");
            Exit::Bug
        }
    }
}

/// The path of the socket: `--socket`, or `admin.socket` of the configuration.
///
/// # Errors
/// The exit code for a configuration that cannot be read; its problems have been printed.
pub fn socket(daemon: &Daemon, common: &Common) -> Result<PathBuf, Exit> {
    match &daemon.socket {
        Some(path) => Ok(path.clone()),
        None => super::load::load(common).map(|loaded| loaded.config.admin.socket),
    }
}

/// A short answer: status code and text.
///
/// # Errors
/// Nobody answers at the socket, or not within 5 s.
pub async fn get(path: &Path, target: &str) -> Result<(u16, String), NoAnswer> {
    short(path, Method::GET, target).await
}

/// Asks for something to be done; the answer is as short as that of [`get`].
///
/// # Errors
/// As [`get`].
pub async fn post(path: &Path, target: &str) -> Result<(u16, String), NoAnswer> {
    short(path, Method::POST, target).await
}

async fn short(path: &Path, method: Method, target: &str) -> Result<(u16, String), NoAnswer> {
    let answer = async {
        let (code, body) = begin(path, method, target).await?;
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|e| broken(path, &e.to_string()))?;
        let text = String::from_utf8(body.to_bytes().to_vec()).map_err(|_| broken(path, "the answer is no text"))?;
        Ok((code, text))
    };
    tokio::time::timeout(TIMEOUT, answer).await.unwrap_or_else(|_| Err(broken(path, "no answer within 5 s")))
}

/// A stream of lines.
#[derive(Debug)]
pub struct Stream {
    path: PathBuf,
    body: Incoming,
    rest: Vec<u8>,
    /// Bytes of `rest` that are known to hold no line break.
    searched: usize,
}

/// Opens a stream of lines.
///
/// # Errors
/// Nobody answers at the socket within 5 s, or it is no pgevict that does.
pub async fn stream(path: &Path, target: &str) -> Result<Stream, NoAnswer> {
    let begun = tokio::time::timeout(TIMEOUT, begin(path, Method::GET, target)).await;
    match begun.unwrap_or_else(|_| Err(broken(path, "no answer within 5 s")))? {
        (200, body) => Ok(Stream { path: path.to_owned(), body, rest: Vec::new(), searched: 0 }),
        (code, _) => {
            Err(broken(path, &format!("{target} is answered with HTTP {code}; is that daemon older than this?")))
        }
    }
}

impl Stream {
    /// The next line, without its end.
    ///
    /// # Errors
    /// The daemon has gone.
    pub async fn line(&mut self) -> Result<String, NoAnswer> {
        loop {
            if let Some(end) = self.rest[self.searched..].iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=self.searched + end).collect();
                self.searched = 0;
                return Ok(String::from_utf8_lossy(&line[..line.len() - 1]).into_owned());
            }
            self.searched = self.rest.len();
            if self.searched > MAX_BODY {
                return Err(broken(&self.path, "a line has no end"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.rest.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d)),
                Some(Err(e)) => return Err(broken(&self.path, &e.to_string())),
                None => return Err(broken(&self.path, "the daemon has ended the stream; it stops or is gone")),
            }
        }
    }
}

async fn begin(path: &Path, method: Method, target: &str) -> Result<(u16, Incoming), NoAnswer> {
    let stream = UnixStream::connect(path).await.map_err(|e| nobody(path, &e))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(path, &e.to_string()))?;
    // Ends with the answer; its error is the answer's error too.
    tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(target)
        .header(hyper::header::HOST, "pgevict")
        .body(Empty::<Bytes>::new())
        .map_err(|e| broken(path, &e.to_string()))?;
    let response = sender.send_request(request).await.map_err(|e| broken(path, &e.to_string()))?;
    Ok((response.status().as_u16(), response.into_body()))
}

fn nobody(path: &Path, e: &io::Error) -> NoAnswer {
    let remedy = match e.kind() {
        io::ErrorKind::PermissionDenied => {
            "its file belongs to the daemon's user and group: use sudo, or join the group"
        }
        _ => "is it running? `systemctl status pgevict` tells; --socket or -c names another one",
    };
    NoAnswer(format!("no daemon answers at {}: {e}: {remedy}", path.display()))
}

fn broken(path: &Path, why: &str) -> NoAnswer {
    NoAnswer(format!("the daemon at {} cannot be talked to: {why}", path.display()))
}
