//! `selvedge prove --shadow`: a language model answers what standard input asks, beside the one that serves.
//!
//! A build without language models has `no_beside.rs` in the place of this file.

use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::sync_channel;

use anyhow::Context as _;
use node::install::keys::Keys;
use node::install::shadow::{Beside, answer_each, read_questions};
use package::digest::Digest;
use package::disk::system::System;
use package::store::Store;

use super::line::{end, say};
use crate::engine::{CacheType, Threads};

/// How a language model answers.
#[derive(clap::Args)]
pub(super) struct BesideArgs {
    /// Answer each line of standard input, `{"prompt":[1,2],"max":8}`, by a line with tokens, until there are no more.
    #[arg(long)]
    shadow: bool,

    /// With --shadow: how keys and values are kept.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    cache_type: CacheType,

    /// With --shadow: bytes of memory that stay free, or the model is not loaded.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    leave: u64,

    #[command(flatten)]
    threads: Threads,
}

impl BesideArgs {
    /// The threads to compute on.
    pub(super) fn threads(&self) -> NonZeroUsize {
        self.threads.count()
    }

    /// Whether standard input asks.
    pub(super) fn is_wanted(&self) -> bool {
        self.shadow
    }

    /// Answers what standard input asks.
    pub(super) fn answer(
        &self,
        store: &Store<System>,
        keys: &Keys,
        manifest: &Digest,
        until_eof: bool,
    ) -> anyhow::Result<()> {
        let (ask, questions) = sync_channel(1);
        std::thread::Builder::new().name("parent".into()).spawn(move || {
            read_questions(&mut io::stdin().lock(), &ask);
            if until_eof {
                end();
            }
        })?;
        let (threads, cache, keep_bytes) = (self.threads(), self.cache_type.0, self.leave);
        let beside = Beside { store, keys, manifest, threads, cache, keep_bytes };
        answer_each(&beside, &questions, say).context("no more can be answered")
    }
}
