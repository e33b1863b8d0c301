//! The verbs. Each file holds the verb's arguments, whose docs are its manual, and what it does.

mod bench;
mod detect;
mod flow;
mod hub;
mod node;
mod serve;
mod up;

/// What a user can ask for.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Up(up::Args),
    Node(node::Args),
    Hub(hub::Args),
    Serve(serve::Args),
    Detect(detect::Args),
    #[command(subcommand)]
    Flow(flow::Verb),
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Write a completion script for a shell to standard output.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

impl Verb {
    /// Does it. `command` is the whole command line, for the completions.
    pub(crate) fn run(self, command: impl FnOnce() -> clap::Command) -> anyhow::Result<()> {
        match self {
            Verb::Up(args) => up::run(args),
            Verb::Node(args) => node::run(&args),
            Verb::Hub(args) => hub::run(args),
            Verb::Serve(args) => serve::run(args),
            Verb::Detect(args) => detect::run(&args),
            Verb::Flow(verb) => flow::run(verb),
            Verb::Bench(verb) => bench::run(verb),
            Verb::Completions { shell } => {
                clap_complete::generate(shell, &mut command(), "selvedge", &mut std::io::stdout());
                Ok(())
            }
        }
    }
}
