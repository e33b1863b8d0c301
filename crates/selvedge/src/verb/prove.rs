//! `selvedge prove`, hidden: what a package holds answers its golden set, for a node that started this as a process of its own; with
//! `--shadow` a language model answers what standard input asks.

#[cfg(feature = "language")]
mod beside;
#[cfg(not(feature = "language"))]
#[path = "prove/no_beside.rs"]
mod beside;
mod line;

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use node::install::keys::Keys;
use node::install::prove::answer;
use package::digest::Digest;
use package::disk::system::System;
use package::store::Store;
use wire::world;

use self::line::{end, say};

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
    beside: beside::BesideArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let store = Store::open(System, &args.packages, u64::MAX)?;
    let keys = args.keys.as_deref().map_or_else(|| Ok(Keys::none()), Keys::open)?;
    let Args { manifest, beside, until_eof, .. } = args;
    if beside.is_wanted() {
        return beside.answer(&store, &keys, manifest, *until_eof);
    }
    if *until_eof {
        std::thread::Builder::new().name("parent".into()).spawn(|| {
            // An error is an end, too.
            drop(io::copy(&mut io::stdin(), &mut io::sink()));
            end();
        })?;
    }
    let told = answer(&store, &keys, manifest, beside.threads(), &world::System::new());
    say(&told).context("nobody takes the answers")
}
