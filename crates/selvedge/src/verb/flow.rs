//! `selvedge flow`: make a flow, look at it, and try it, without running a node.

mod check;
mod draw;
mod graph;
mod new;
mod replay;
mod sizing;
mod tap;
mod test;

/// Make a flow, check it, draw it, test it, or try it on a recording.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Check(check::Args),
    Graph(graph::Args),
    New(new::Args),
    Replay(replay::Args),
    /// Print the JSON Schema of flow files, by which editors complete and check them.
    Schema,
    Tap(tap::Args),
    Test(test::Args),
}

pub(crate) fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Check(args) => check::run(&args),
        Verb::Graph(args) => graph::run(&args),
        Verb::New(args) => new::run(&args),
        Verb::Replay(args) => replay::run(args),
        Verb::Schema => new::schema(),
        Verb::Tap(args) => tap::run(&args),
        Verb::Test(args) => test::run(&args),
    }
}
