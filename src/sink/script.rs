//! A script's call, written into its command word by word. The crate's own invocation first copies every key into a vector of its
//! own: an allocation a key, and the page twice in memory.

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisError, Script, ServerErrorKind, ToRedisArgs, Value};

/// What a command has beside the words of the caller: its name, the hash, the number of keys.
const OWN: usize = 64;

/// A call that is being written.
#[derive(Debug)]
pub struct Call<'s> {
    script: &'s Script,
    command: Cmd,
}

impl<'s> Call<'s> {
    /// Begins a call. The first `keys` words are the keys; about `words` words follow in all, of about `bytes` bytes.
    #[must_use]
    pub fn of(script: &'s Script, keys: usize, words: usize, bytes: usize) -> Self {
        let mut command = Cmd::with_capacity(3 + words, OWN + bytes);
        command.arg("EVALSHA").arg(script.get_hash()).arg(keys);
        Self { script, command }
    }

    /// The next word, or words.
    pub fn word(&mut self, word: impl ToRedisArgs) {
        self.command.arg(word);
    }

    /// The command as it is sent.
    #[must_use]
    pub fn command(&self) -> &Cmd {
        &self.command
    }

    /// Sends it; where the server does not know the script, once more with it.
    ///
    /// # Errors
    /// What Redis refuses, or that it is gone.
    pub async fn run(self, connection: &mut impl ConnectionLike) -> Result<Value, RedisError> {
        match self.command.query_async(connection).await {
            Err(e) if e.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.script.load_async(connection).await?;
                self.command.query_async(connection).await
            }
            answer => answer,
        }
    }
}
