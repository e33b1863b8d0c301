//! A fleet comes back to its hub all at once, after a day without it; and everything is read back.
//!
//! `cargo run --release -p hub --example storm -- 10000 60 200 20`: so many nodes within so many seconds, each with so many
//! records in its outbox, of which so many are audit. Their tickets are worth nothing any more, and one certificate in twenty
//! has run out. Prints when the audit records of all were in, when everything was, and whether anything is missing.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "an example talks to its reader and may end"
)]
#![allow(unreachable_pub, dead_code, reason = "its rooms are shared with a test")]

#[path = "../tests/fleet/mod.rs"]
mod fleet;
#[path = "../tests/load/node.rs"]
mod node;
#[path = "../tests/load/proof.rs"]
mod proof;
#[path = "../tests/load/stand.rs"]
mod stand;
#[path = "../tests/load/steady.rs"]
mod steady;
#[path = "../tests/load/storm.rs"]
mod storm;
#[path = "../tests/load/tally.rs"]
mod tally;

use std::time::Duration;

fn main() {
    if stand::be_hub_if_asked() {
        return;
    }
    let arguments: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let number = |at: usize, default: u64| arguments.get(at).copied().unwrap_or(default);
    let storm = storm::Storm {
        nodes: number(0, 10_000) as usize,
        window: Duration::from_secs(number(1, 60)),
        outbox: number(2, 200),
        audit: number(3, 20),
        period: Duration::from_secs(60),
        patience: Duration::from_secs(3600),
    };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(storm::play(folder.path(), storm, &[]));
}
