//! `selvedge bench`: measures what this program is steered by, on this machine: models, and with `detect` the detector.

mod against;
mod detect;
mod models;
mod neighbour;
mod peer;

/// Measure how fast models are on this machine, or how good the anomaly detector is.
///
/// For each model: tokens a second of a prompt and of an answer on one thread and on all, how long it takes to load and to
/// write its first token, the most memory that it had, and which share of what the machine can do at most that is.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<Verb>,

    #[command(flatten)]
    models: models::OfModels,
}

/// What else can be measured.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Detect(detect::Args),
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.what {
        Some(Verb::Detect(args)) => detect::run(args),
        None => models::run(&args.models),
    }
}
