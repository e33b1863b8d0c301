//! `selvedge bench`: measures what this program is steered by, on this machine: models, and with `detect` the detector.

mod detect;
mod models;

/// Measure how fast models are on this machine, or how good the anomaly detector is.
///
/// For each model: tokens a second of a prompt and of an answer on one thread and on all, how long it takes to load and to
/// write its first token, and the most memory that it had.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, flatten_help = false)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<Verb>,

    #[command(flatten)]
    models: models::Args,
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
