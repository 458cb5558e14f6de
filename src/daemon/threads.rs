//! The daemon's threads, each with a runtime that has no other: ARCHITECTURE, "Threads", says who does what, and why.

use std::panic::resume_unwind;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinError;

/// A runtime of one thread: whatever wakes a task there is at home already, and nobody else has to be woken.
///
/// # Errors
/// The kernel gives no more files.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A thread at work.
#[derive(Debug)]
pub(super) struct Working<T> {
    /// For giving it more to do.
    pub(super) handle: Handle,
    came_to: oneshot::Receiver<Result<T, JoinError>>,
}

/// Begins `work` on a thread of that name.
pub(super) fn begin<T, F>(name: &str, work: impl FnOnce() -> F + Send + 'static) -> std::io::Result<Working<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    let (sender, came_to) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // A task like all others: the future that a runtime blocks on is woken by way of the kernel, also by its own thread.
        let task = runtime.spawn(work());
        let outcome = runtime.block_on(task);
        // Not waited for: a look-up of a name may hang for as long as it likes.
        runtime.shutdown_background();
        // Nobody waits any more where a second signal ended the process.
        let _ = sender.send(outcome);
    })?;
    Ok(Working { handle, came_to })
}

impl<T> Working<T> {
    /// What the work came to; a panic of that thread is one of this thread, too.
    pub(super) async fn ended(&mut self) -> T {
        match (&mut self.came_to).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => resume_unwind(panic.into_panic()),
            // It sends whatever happens.
            Err(_) => resume_unwind(Box::new("a thread ended without a word")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_a_thread_of_that_name_and_comes_back() {
        let name = || std::thread::current().name().map(str::to_owned);
        let mut working = begin("elsewhere", move || async move { name() }).unwrap();
        assert_eq!(runtime().unwrap().block_on(working.ended()).as_deref(), Some("elsewhere"));
    }

    #[test]
    fn a_panic_of_the_thread_is_not_swallowed() {
        let mut working = begin("elsewhere", || async { std::panic::panic_any("over") }).unwrap();
        let ended = std::thread::spawn(move || runtime().unwrap().block_on(async { () = working.ended().await }));
        assert_eq!(ended.join().unwrap_err().downcast_ref(), Some(&"over"));
    }
}
