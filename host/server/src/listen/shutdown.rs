//! How everything that serves comes to an end: first nothing new begins, then what runs may finish, then it is cut.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The end, shared by all that listen. Clones are the same end.
#[derive(Clone, Default)]
pub(crate) struct Shutdown {
    begin: CancellationToken,
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// An end that has not begun.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Nothing new begins from now on.
    pub(crate) fn begin(&self) {
        self.begin.cancel();
        self.tasks.close();
    }

    /// Begins the end, waits for what runs, and cuts what is left after `timeout`. Leads to how many tasks that were.
    pub(crate) async fn drain(self, timeout: Duration) -> usize {
        self.begin();
        if tokio::time::timeout(timeout, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tasks.len();
        self.end.cancel();
        self.tasks.wait().await;
        left
    }

    /// Waits until the end begins.
    pub(crate) async fn begun(&self) {
        self.begin.cancelled().await;
    }

    /// Waits until what is left is cut. Everything that is tracked has to end by it.
    pub(crate) async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Runs something that a drain waits for.
    pub(crate) fn track(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}
