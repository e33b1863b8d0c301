//! `selvedge slots`, `install` and `rollback`: releases on the node that runs on this machine.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use node::config::Config;
use node::control::{self, Answer, Ask, Standing, TrialView, View};
use node::install::state::{Kept, Measured, Slot, SparePhase};
use node::transfer::folder::Folder;
use package::digest::Digest;
use package::index::Release;
use package::name::{ModelName, VariantName};

use crate::amount::show_bytes;
use crate::complaint::Usage;
use crate::interrupt::Interrupt;
use crate::progress;
use crate::recording::show_time;
use crate::table::{Side, Table};

/// How often a node is looked at while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Show the models that came to this node as releases: what serves, what served before, what may serve.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge slots                                  all models of the node that runs here
  selvedge slots --json                           the same for programs
  selvedge slots --forgive smollm2=sha256:9f…     try a variant again that was refused
  selvedge slots --leave-safe smollm2             load a model again that did not start")]
pub(crate) struct Args {
    #[command(flatten)]
    node: Node,

    /// Try a refused variant of a model again.
    #[arg(long, value_name = "MODEL=DIGEST", conflicts_with = "leave_safe")]
    forgive: Option<String>,

    /// Load the current release of a model again that was given up.
    #[arg(long, value_name = "MODEL")]
    leave_safe: Option<ModelName>,

    /// Print all that is known as JSON.
    #[arg(long)]
    json: bool,
}

/// Install a release on the node that runs here: bring it, prove it, try it, keep it or go back.
///
/// Only what the node's trusted targets list is installed, whoever brings it. A stick may bring the newest trust metadata
/// and assignments, too.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge install smollm2                        the newest release that is approved
  selvedge install smollm2:7 --wait               this one, and wait until it serves or is refused
  selvedge install /mnt/stick/smollm2-7.tar       from a stick, with the metadata that it brings
  selvedge install ./smollm2                      from a folder with a package")]
pub(crate) struct Install {
    /// `MODEL`, `MODEL:RELEASE`, or a package: a `.tar`, or a folder as `./FOLDER`.
    #[arg(value_name = "MODEL[:RELEASE]|FILE")]
    what: String,

    #[command(flatten)]
    node: Node,

    /// The release may be older than the one that serves.
    #[arg(long)]
    allow_rollback: bool,

    /// Wait until it serves for good or is refused.
    #[arg(long)]
    wait: bool,
}

/// Take the previous release of a model back; the current one is never tried again unless it is forgiven.
#[derive(clap::Args)]
pub(crate) struct RollBack {
    /// The model.
    model: ModelName,

    #[command(flatten)]
    node: Node,
}

/// The node that runs on this machine.
#[derive(clap::Args)]
struct Node {
    /// The node's settings, which say where its data is.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Its data folder, if its settings are not at hand.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data: Option<PathBuf>,
}

impl Node {
    fn ask(&self, question: &Ask) -> anyhow::Result<Answer> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => Config::load_without_flow(&self.config)?.data,
        };
        Ok(control::ask(&data, question)?)
    }

    fn standing(&self) -> anyhow::Result<Standing> {
        match self.ask(&Ask::Slots)? {
            Answer::Slots(standing) => Ok(standing),
            Answer::Refused { why } => bail!(why),
            _ => bail!("the node answers with something else than its slots; is it of this version?"),
        }
    }

    /// Asks for something to be done.
    fn act(&self, question: &Ask) -> anyhow::Result<()> {
        match self.ask(question)? {
            Answer::Refused { why } => bail!(why),
            _ => Ok(()),
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(model) = args.leave_safe.clone() {
        args.node.act(&Ask::LeaveSafe { model })?;
    }
    if let Some(word) = &args.forgive {
        let (model, manifest) = word
            .split_once('=')
            .ok_or_else(|| Usage(format!("{word:?} is not MODEL=DIGEST, as `selvedge slots` shows them")))?;
        let (model, manifest) = (ModelName::new(model)?, Digest::parse(manifest)?);
        args.node.act(&Ask::Forgive { model, manifest })?;
    }
    let standing = args.node.standing()?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&standing)?)?;
        return Ok(());
    }
    show(&standing, &mut out)
}

fn show(standing: &Standing, out: &mut impl Write) -> anyhow::Result<()> {
    if let Some(why) = &standing.trust_trouble {
        writeln!(out, "nothing new is accepted: {why}")?;
    }
    if standing.models.is_empty() {
        writeln!(out, "no release has come to this node: `selvedge install` or an assignment brings one")?;
        return Ok(());
    }
    let mut table = Table::new([
        ("model", Side::Left),
        ("slot", Side::Left),
        ("release", Side::Right),
        ("variant", Side::Left),
        ("", Side::Left),
    ]);
    for (model, view) in &standing.models {
        let mut name = model.to_string();
        let mut row = |slot: &str, release: Option<u64>, variant: Option<&VariantName>, state: String| {
            let release = release.map_or_else(String::new, |release| release.to_string());
            let variant = variant.map_or_else(String::new, VariantName::to_string);
            // A model's name stands at its first line only.
            table.row([std::mem::take(&mut name), slot.to_owned(), release, variant, state]);
        };
        let Kept { current, previous, candidate, spare, spareless, wanted, refused, safe, .. } = &view.kept;
        if let Some(slot) = current {
            row("current", Some(slot.release), Some(&slot.variant), current_state(view, slot));
        }
        if let Some(slot) = previous {
            row("previous", Some(slot.release), Some(&slot.variant), String::new());
        }
        if let Some(spare) = spare {
            row("spare", Some(spare.slot.release), Some(&spare.slot.variant), spare_state(view));
        } else if let Some(why) = spareless.as_ref().map(|(_, why)| why).or(view.spare_waits.as_ref()) {
            row("spare", None, None, format!("none: {}", one_line(why)));
        }
        if let Some(candidate) = candidate {
            let slot = &candidate.slot;
            let state = candidate_state(view).unwrap_or_default();
            row("candidate", Some(slot.release), Some(&slot.variant), state);
        }
        if let Some(order) = wanted {
            let told = view.told.clone().unwrap_or_else(|| "its index is being read".to_owned());
            row("ordered", Some(order.release), None, told);
        }
        for refusal in refused {
            row("refused", None, None, format!("{}: {}", refusal.manifest, refusal.why));
        }
        if let Some(why) = safe {
            row("safe mode", None, None, format!("no model is loaded: {why}"));
        }
    }
    write!(out, "{table}")?;
    writeln!(out, "releases take {}", show_bytes(standing.used_bytes))?;
    Ok(())
}

fn current_state(view: &View, slot: &Slot) -> String {
    let serves = match (view.serving == Some(slot.manifest), view.is_loaded) {
        (true, true) => "serves",
        (true, false) => "is being loaded",
        (false, _) => "waits",
    };
    let since = slot.committed_ms.map_or_else(String::new, |ms| format!(", here since {}", show_time(ms)));
    // What answers instead is in the row of the spare.
    let serves = if view.spare_answers { "waits until there is memory for it" } else { serves };
    format!("{serves}{since}{}", took(view, slot))
}

/// What a variant took of memory when it was proven here.
fn took(view: &View, slot: &Slot) -> String {
    let own_bytes = view.kept.measured_of(&slot.manifest).and_then(|Measured { own_bytes, .. }| own_bytes);
    own_bytes.map_or_else(String::new, |bytes| format!(", takes {}", show_bytes(bytes)))
}

/// How far the spare is, for people.
fn spare_state(view: &View) -> String {
    let Some(spare) = &view.kept.spare else { return String::new() };
    let state = match spare.phase {
        SparePhase::Ready if view.spare_answers => "answers: memory is short".to_owned(),
        SparePhase::Ready => "stands by for the time when memory is short".to_owned(),
        phase => phase.as_str().to_owned(),
    };
    let waits = view.spare_waits.as_ref().map_or_else(String::new, |why| format!(" ({})", one_line(why)));
    format!("{state}{}{waits}", took(view, &spare.slot))
}

/// A reason without its line breaks, for a row of a table.
fn one_line(why: &str) -> String {
    why.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How far a candidate is, for people.
fn candidate_state(view: &View) -> Option<String> {
    let candidate = view.kept.candidate.as_ref()?;
    let mut state = candidate.phase.as_str().to_owned();
    if let Some((came, missing)) = view.transfer.filter(|(_, missing)| *missing > 0) {
        state += &format!(", {} of {} came", show_bytes(came.min(missing)), show_bytes(missing));
    }
    if let Some(TrialView { seconds, answers, failed }) = view.trial {
        state += &format!(", {} of {} s, {} of {} answers", seconds.0, seconds.1, answers.0, answers.1);
        if failed > 0 {
            state += &format!(", {failed} failed");
        }
    }
    if let Some(beside) = &candidate.beside {
        let enough = beside.limits.answers;
        state += &format!(", ordered beside what runs: {} of {enough} answers", beside.compared);
    }
    if candidate.misses > 0 {
        state += &format!(", {} time without a result", candidate.misses);
    }
    if let Some(told) = &view.told {
        state += &format!(" ({told})");
    }
    Some(state)
}

pub(crate) fn install(args: &Install) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let (model, release, from) = what(&args.what)?;
    let ask = Ask::Install { model: model.clone(), release, from, allow_rollback: args.allow_rollback };
    let before = args.node.standing()?.models.remove(&model).unwrap_or_default();
    let mut out = io::stdout();
    let (orders, notes) = match args.node.ask(&ask)? {
        Answer::Ordered { orders, notes } => (orders, notes),
        Answer::Refused { why } => bail!(why),
        _ => bail!("the node answers with something else than an order; is it of this version?"),
    };
    for note in notes {
        writeln!(out, "note: {note}")?;
    }
    let release = orders.get(&model).copied().context("the node did not take the order")?;
    writeln!(out, "{model} {release} is ordered")?;
    for (other, release) in orders.iter().filter(|(other, _)| **other != model) {
        writeln!(out, "{other} {release} is assigned")?;
    }
    if !args.wait {
        writeln!(out, "`selvedge slots` shows how far it is")?;
        return Ok(());
    }
    let refused: BTreeSet<Digest> = before.kept.refused.iter().map(|refusal| refusal.manifest).collect();
    wait(&args.node, &model, release, &refused, &interrupt, &mut out)
}

/// What a person means: a model and perhaps a release, or a package and what it holds.
fn what(text: &str) -> anyhow::Result<(ModelName, Option<u64>, Option<PathBuf>)> {
    // A folder called like a model is meant as `./smollm2`.
    if text.contains(std::path::MAIN_SEPARATOR) || text.ends_with(".tar") {
        let path = std::path::absolute(text)?;
        let mut releases = Folder::open(&path)?.releases()?;
        let name = |release: &Release| format!("{}:{}", release.model, release.release);
        if releases.len() > 1 {
            let names: Vec<String> = releases.iter().map(name).collect();
            bail!(
                "{} holds {}: only a package with one release is installed",
                path.display(),
                names.join(", ")
            );
        }
        let release = releases.pop().with_context(|| {
            format!("{} holds no release of a model: `selvedge pack` makes such packages", path.display())
        })?;
        return Ok((release.model, Some(release.release), Some(path)));
    }
    let (model, release) =
        text.split_once(':').map_or((text, None), |(model, release)| (model, Some(release)));
    let release = release.map(|word| {
        word.parse()
            .map_err(|_| Usage(format!("{word:?} is no release: releases are numbers, as in smollm2:7")))
    });
    Ok((ModelName::new(model)?, release.transpose()?, None))
}

/// Waits until a release is the current one, or not to be. `before`: what was refused before it was ordered.
fn wait(
    node: &Node,
    model: &ModelName,
    release: u64,
    before: &BTreeSet<Digest>,
    interrupt: &Interrupt,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let bar = progress::waiting("");
    let mut told = String::new();
    let ended = loop {
        let standing = node.standing()?;
        let view = standing.models.get(model).cloned().unwrap_or_default();
        let Kept { current, candidate, wanted, refused, unfit, .. } = &view.kept;
        // What answers beside the current one is not what a person waits for.
        let candidate = candidate.as_ref().filter(|candidate| candidate.beside.is_none());
        if current.as_ref().is_some_and(|slot| slot.release == release) && candidate.is_none() {
            break Ok(());
        }
        let is_under_way = wanted.as_ref().is_some_and(|order| order.release == release)
            || candidate.is_some_and(|candidate| candidate.slot.release == release);
        if !is_under_way {
            let refusal = refused.iter().rev().find(|refusal| !before.contains(&refusal.manifest));
            let why = refusal.map(|refusal| refusal.why.clone());
            let why = why.or_else(|| unfit.as_ref().map(|(_, why)| why.clone())).or(view.told);
            break Err(why.unwrap_or_else(|| "the node does not say why".to_owned()));
        }
        let state =
            candidate_state(&view).or(view.told).unwrap_or_else(|| "its index is being read".to_owned());
        bar.set_message(format!("{model} {release}: {state}"));
        let phase = candidate.map_or("ordered", |candidate| candidate.phase.as_str());
        if told != phase {
            bar.suspend(|| writeln!(out, "{model} {release}: {phase}"))?;
            phase.clone_into(&mut told);
        }
        if interrupt.wait(LOOK_EVERY) {
            bar.finish_and_clear();
            writeln!(out, "it goes on without you: `selvedge slots` shows how far it is")?;
            return Ok(());
        }
    };
    bar.finish_and_clear();
    match ended {
        Ok(()) => Ok(writeln!(out, "{model} {release} serves")?),
        Err(why) => bail!("{model} {release} is not installed: {why}"),
    }
}

pub(crate) fn roll_back(args: &RollBack) -> anyhow::Result<()> {
    let before = args.node.standing()?;
    args.node.act(&Ask::RollBack { model: args.model.clone() })?;
    let previous = before.models.get(&args.model).and_then(|view| view.kept.previous.clone());
    let mut out = io::stdout();
    match previous {
        Some(slot) => writeln!(out, "{} {} serves again", args.model, slot.release)?,
        None => writeln!(out, "the previous release of {} serves again", args.model)?,
    }
    Ok(())
}
