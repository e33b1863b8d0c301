//! The verbs. Each file holds the verb's arguments, whose docs are its manual, and what it does.

mod act;
mod audit;
mod bench;
mod detect;
mod embed;
mod experiment;
mod export;
mod fit;
mod fleet;
mod flow;
mod grant;
mod guard;
mod hub;
mod imatrix;
mod import;
mod inspect;
mod login;
mod ls;
mod node;
mod pack;
mod perplexity;
mod privacy;
mod prove;
mod ps;
mod pull;
mod push;
mod quantize;
mod release;
mod rm;
mod rollout;
mod run;
mod serve;
mod show;
mod sign;
mod sim;
mod slots;
mod tokenize;
mod trust;
mod up;
mod verify;

/// What a user can ask for.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Up(up::Args),
    Node(node::Args),
    Hub(hub::Args),
    Serve(Box<serve::Args>),
    Detect(detect::Args),
    #[command(subcommand)]
    Flow(flow::Verb),
    Run(Box<run::Args>),
    Pull(pull::Args),
    Push(push::Args),
    Import(import::Args),
    Ls(ls::Args),
    Show(show::Args),
    Rm(rm::Args),
    Ps(ps::Args),
    Stop(ps::Stop),
    Embed(embed::Args),
    Tokenize(tokenize::Args),
    Quantize(quantize::Args),
    Imatrix(imatrix::Args),
    Perplexity(perplexity::Args),
    Fit(fit::Args),
    Bench(bench::Args),
    Pack(Box<pack::Args>),
    Inspect(inspect::Args),
    Sign(sign::Args),
    Verify(verify::Args),
    Export(export::Args),
    Grant(grant::Args),
    Sim(Box<sim::Args>),
    Install(slots::Install),
    Slots(slots::Args),
    Rollback(slots::RollBack),
    Login(login::Args),
    #[command(subcommand)]
    Fleet(fleet::Verb),
    #[command(subcommand)]
    Release(release::Verb),
    #[command(subcommand)]
    Rollout(rollout::Verb),
    #[command(subcommand)]
    Experiment(experiment::Verb),
    #[command(subcommand)]
    Trust(trust::Verb),
    #[command(subcommand)]
    Audit(audit::Verb),
    Act(act::Args),
    #[command(subcommand)]
    Privacy(privacy::Verb),
    #[command(hide = true)]
    Prove(prove::Args),
    #[command(hide = true)]
    Guard(guard::Args),
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
            Verb::Serve(args) => serve::run(*args),
            Verb::Detect(args) => detect::run(&args),
            Verb::Flow(verb) => flow::run(verb),
            Verb::Run(args) => run::run(&args),
            Verb::Pull(args) => pull::run(&args),
            Verb::Push(args) => push::run(&args),
            Verb::Import(args) => import::run(&args),
            Verb::Ls(args) => ls::run(&args),
            Verb::Show(args) => show::run(&args),
            Verb::Rm(args) => rm::run(&args),
            Verb::Ps(args) => ps::run(&args),
            Verb::Stop(args) => ps::stop(&args),
            Verb::Embed(args) => embed::run(&args),
            Verb::Tokenize(args) => tokenize::run(&args),
            Verb::Quantize(args) => quantize::run(&args),
            Verb::Imatrix(args) => imatrix::run(&args),
            Verb::Perplexity(args) => perplexity::run(&args),
            Verb::Fit(args) => fit::run(&args),
            Verb::Bench(args) => bench::run(args),
            Verb::Pack(args) => pack::run(&args),
            Verb::Inspect(args) => inspect::run(&args),
            Verb::Sign(args) => sign::run(&args),
            Verb::Verify(args) => verify::run(&args),
            Verb::Export(args) => export::run(&args),
            Verb::Grant(args) => grant::run(&args),
            Verb::Sim(args) => sim::run(&args),
            Verb::Install(args) => slots::install(&args),
            Verb::Slots(args) => slots::run(&args),
            Verb::Rollback(args) => slots::roll_back(&args),
            Verb::Login(args) => login::run(&args),
            Verb::Fleet(verb) => fleet::run(&verb),
            Verb::Release(verb) => release::run(&verb),
            Verb::Rollout(verb) => rollout::run(&verb),
            Verb::Experiment(verb) => experiment::run(&verb),
            Verb::Trust(verb) => trust::run(&verb),
            Verb::Audit(verb) => audit::run(verb),
            Verb::Act(args) => act::run(&args),
            Verb::Privacy(verb) => privacy::run(&verb),
            Verb::Prove(args) => prove::run(&args),
            Verb::Guard(args) => guard::run(&args),
            Verb::Completions { shell } => {
                clap_complete::generate(shell, &mut command(), "selvedge", &mut std::io::stdout());
                Ok(())
            }
        }
    }
}
