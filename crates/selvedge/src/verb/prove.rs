//! `selvedge prove`, hidden: a package's model answers its golden set, for a node that started this as a process of its own; with
//! `--shadow` it answers what standard input asks.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use anyhow::Context as _;
use node::install::keys::Keys;
use node::install::prove::answer;
use node::install::shadow::{Beside, answer_each, read_questions};
use package::digest::Digest;
use package::disk::system::System;
use package::store::Store;
use serde::Serialize;
use wire::world;

use crate::engine::{CacheType, Threads};

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

    /// Answer each line of standard input, `{"prompt":[1,2],"max":8}`, by a line with tokens, until there are no more.
    #[arg(long)]
    shadow: bool,

    /// With --shadow: how keys and values are kept.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    cache_type: CacheType,

    /// With --shadow: bytes of memory that stay free, or the model is not loaded.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    leave: u64,

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
    let store = Store::open(System, &args.packages, u64::MAX)?;
    let keys = args.keys.as_deref().map_or_else(|| Ok(Keys::none()), Keys::open)?;
    if args.shadow {
        return shadow(args, &store, &keys);
    }
    if args.until_eof {
        std::thread::Builder::new().name("parent".into()).spawn(|| {
            // An error is an end, too.
            drop(io::copy(&mut io::stdin(), &mut io::sink()));
            end();
        })?;
    }
    let told = answer(&store, &keys, &args.manifest, args.threads.count(), &world::System::new());
    say(&told).context("nobody takes the answers")
}

/// Answers what standard input asks.
fn shadow(args: &Args, store: &Store<System>, keys: &Keys) -> anyhow::Result<()> {
    let (ask, questions) = sync_channel(1);
    let until_eof = args.until_eof;
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        read_questions(&mut io::stdin().lock(), &ask);
        if until_eof {
            end();
        }
    })?;
    let (manifest, threads) = (&args.manifest, args.threads.count());
    let (cache, keep_bytes) = (args.cache_type.0, args.leave);
    let beside = Beside { store, keys, manifest, threads, cache, keep_bytes };
    answer_each(&beside, &questions, say).context("no more can be answered")
}

/// Prints one line of JSON.
fn say(said: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}
