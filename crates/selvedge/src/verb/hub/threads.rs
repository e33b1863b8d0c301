//! What a hub runs on in this program.

use anyhow::Context as _;

/// The threads that a hub runs on.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("hub")
        .enable_all()
        .build()
        .context("the system gives no threads")
}
