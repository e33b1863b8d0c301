//! Puts a hub under the load of a large fleet on an ordinary day, and reads everything back.
//!
//! `cargo run --release -p hub --example load -- 10000 60 3000 1800`: so many nodes that check in once in so many seconds
//! and together write so many records a second, for so many seconds. Each has a key and a certificate and speaks TLS with the
//! hub, which is another process; a rollout is under way. 3 000 records/s for half an hour take 6 GB in the system's
//! temporary folder. Prints what nodes saw, what both processes took, and whether anything is missing.

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
#[path = "../tests/load/tally.rs"]
mod tally;

use std::time::Duration;

fn main() {
    if stand::be_hub_if_asked() {
        return;
    }
    let arguments: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let number = |at: usize, default: u64| arguments.get(at).copied().unwrap_or(default);
    let day = steady::Day {
        nodes: number(0, 10_000) as usize,
        period: Duration::from_secs(number(1, 60)),
        records: number(2, 3000),
        lasts: Duration::from_secs(number(3, 180)),
        trial: Duration::from_secs(30),
        print: Duration::from_secs(60),
    };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(steady::play(folder.path(), day, &[]));
}
