//! `selvedge privacy`: what this node's records say of somebody, and how it is erased.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use node::config::Config;
use node::journal::reader::Reader;
use node::journal::{Journal, OpenError, Settings};
use node::policy::subject::Subject;
use serde_json::{Value, json};
use wire::id::BootId;
use wire::record::{Record, Stamp};
use wire::world::{Clock as _, ClockQuality, System};

use crate::explained::in_words;

/// What this node knows of somebody: explain what was decided about them, or erase it.
///
/// Somebody is known by the `subject` that the policy gives a source, or by the word itself where it stands in a record.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Explain(Explain),
    Erase(Erase),
}

/// Show what was decided about somebody, by what and why: an answer to whoever has a right to one.
#[derive(clap::Args)]
pub(crate) struct Explain {
    /// Whom the records are about.
    subject: String,

    #[command(flatten)]
    node: Node,

    /// All records about them, and not only decisions.
    #[arg(long)]
    all: bool,

    /// Print the records as JSON, one a line.
    #[arg(long)]
    json: bool,
}

/// Erase what stands in records about somebody. The node must not run meanwhile.
///
/// The bodies of the records are overwritten; their numbers and hashes stay, so that the chain still proves that nothing else was
/// changed, and a record says what was erased and why. What the hub already has is not erased by this.
#[derive(clap::Args)]
pub(crate) struct Erase {
    /// Whom the records are about.
    subject: String,

    /// Why, for the journal. It must not name them.
    #[arg(long)]
    why: String,

    /// Do it. Without this, only say what would be erased.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    node: Node,
}

/// The node on this machine.
#[derive(clap::Args)]
struct Node {
    /// The node's settings, which say where its data is.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,
}

pub(crate) fn run(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Explain(args) => explain(args),
        Verb::Erase(args) => erase(args),
    }
}

fn explain(args: &Explain) -> anyhow::Result<()> {
    let config = Config::load_without_flow(&args.node.config)?;
    let subject = Subject::of(&args.subject, &config.data)?;
    let mut found = subject.records(&Reader::open(&config.data)?)?;
    // Of a record that leaves in other words, the one with all of its words stays here: that one is shown.
    let whole: BTreeSet<_> = found
        .iter()
        .filter_map(|(stream, record)| {
            Some((stream.as_str().strip_prefix("private.")?.to_owned(), moment(record)))
        })
        .collect();
    found.retain(|(stream, record)| !whole.contains(&(stream.to_string(), moment(record))));
    let mut out = io::stdout().lock();
    let shown = found.iter().filter(|(_, record)| args.all || record.kind.as_str() == "decision");
    let mut count = 0;
    for (stream, record) in shown {
        count += 1;
        if args.json {
            let line = json!({"stream": stream, "seq": record.seq, "wall_ms": record.wall_ms, "clock": record.clock,
                "kind": record.kind, "body": serde_json::from_str::<Value>(record.body.get())?});
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{}", in_words(record)?)?;
        }
    }
    if count == 0 && !args.json {
        let others = match found.len() {
            0 => "no record speaks of them".to_owned(),
            1 => "1 other record speaks of them: see --all".to_owned(),
            others => format!("{others} other records speak of them: see --all"),
        };
        writeln!(out, "nothing was decided about them here; {others}")?;
    }
    Ok(())
}

/// When a record was written: the two forms of one share it.
fn moment(record: &Record) -> (String, u64) {
    (record.boot.to_string(), record.mono_ns)
}

fn erase(args: &Erase) -> anyhow::Result<()> {
    if args.why.contains(&args.subject) {
        bail!("the reason names whom it is about, and stays in the journal: say it without the name");
    }
    let config = Config::load_without_flow(&args.node.config)?;
    let subject = Subject::of(&args.subject, &config.data)?;
    let mut out = io::stdout().lock();
    if !args.yes {
        let found = subject.records(&Reader::open(&config.data)?)?;
        writeln!(out, "{} records would be erased; nothing was done. --yes does it", found.len())?;
        return Ok(());
    }
    let mut world = System::new();
    let settings = Settings {
        max_bytes: config.journal.max_bytes,
        min_free_bytes: config.journal.min_free_bytes,
        policy: config.policy.clone(),
        ..Settings::default()
    };
    let opened = Journal::open(&config.data, settings, &mut world);
    let mut journal = match opened {
        Err(error @ OpenError::InUse { .. }) => {
            return Err(error).context("the node runs: stop it, erase, and start it again");
        }
        opened => opened?.journal,
    };
    let (boot, mono_ns, wall_ms) = (BootId::random(&mut world), world.mono_ns(), world.wall_ms());
    let stamp = Stamp { boot, mono_ns, wall_ms, clock: ClockQuality::Unchecked };
    let erased = journal.erase(subject.told(), &args.why, stamp, |body| subject.is_meant(body))?;
    journal.close()?;
    writeln!(out, "{erased} records were erased; their hashes stay, and a record says so")?;
    if config.hub.is_some() && erased > 0 {
        writeln!(out, "what the hub already has is not erased by this: ask whoever runs {}", hub(&config))?;
    }
    Ok(())
}

fn hub(config: &Config) -> String {
    config.hub.as_ref().map(|hub| hub.url.clone()).unwrap_or_default()
}
