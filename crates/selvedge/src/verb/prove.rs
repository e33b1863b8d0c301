//! `selvedge prove`, hidden: a package's model answers its golden set, for a node that started this as a process of its own.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use node::install::keys::Keys;
use node::install::prove::answer;
use package::digest::Digest;
use package::disk::system::System;
use package::store::Store;
use wire::world;

use crate::engine::Threads;

/// Let a variant answer its golden set, and print the answers and what they cost as one line of JSON.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the store.
    #[arg(long, value_name = "FOLDER")]
    packages: PathBuf,

    /// The node's data folder, with the key and the grants that open sealed weights.
    #[arg(long, value_name = "FOLDER")]
    keys: Option<PathBuf>,

    /// End when standard input does: whoever started this is gone.
    #[arg(long)]
    until_eof: bool,

    /// The digest of the variant's manifest.
    manifest: Digest,

    #[command(flatten)]
    threads: Threads,
}

/// Nothing is open that would have to be closed.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever reads the answers is gone, and the model may be in the middle of one"
)]
fn end() {
    std::process::exit(1);
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.until_eof {
        std::thread::Builder::new().name("parent".into()).spawn(|| {
            // An error is an end, too.
            drop(io::copy(&mut io::stdin(), &mut io::sink()));
            end();
        })?;
    }
    let store = Store::open(System, &args.packages, u64::MAX)?;
    let keys = args.keys.as_deref().map_or_else(|| Ok(Keys::none()), Keys::open)?;
    let told = answer(&store, &keys, &args.manifest, args.threads.count(), &world::System::new());
    let mut line = serde_json::to_vec(&told)?;
    line.push(b'\n');
    io::stdout().write_all(&line).context("nobody takes the answers")
}
