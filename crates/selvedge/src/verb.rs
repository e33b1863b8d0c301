//! The verbs. Each file holds the verb's arguments, whose docs are its manual, and what it does.

mod act;
#[cfg(feature = "hub")]
mod audit;
#[cfg(feature = "language")]
mod bench;
mod detect;
mod doctor;
#[cfg(feature = "language")]
mod embed;
#[cfg(feature = "hub")]
mod experiment;
#[cfg(feature = "language")]
mod export;
#[cfg(feature = "language")]
mod fit;
#[cfg(feature = "hub")]
mod fleet;
mod flow;
#[cfg(feature = "language")]
mod grant;
mod guard;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "language")]
mod imatrix;
#[cfg(feature = "language")]
mod import;
#[cfg(feature = "language")]
mod inspect;
#[cfg(feature = "hub")]
mod login;
#[cfg(feature = "language")]
mod ls;
#[cfg(feature = "agents")]
mod mcp;
#[cfg(feature = "hub")]
mod named;
mod node;
#[cfg(feature = "language")]
mod pack;
#[cfg(feature = "language")]
mod perplexity;
mod privacy;
#[cfg(feature = "packages")]
mod prove;
#[cfg(feature = "language")]
mod ps;
#[cfg(feature = "language")]
mod pull;
#[cfg(feature = "language")]
mod push;
#[cfg(feature = "language")]
mod quantize;
#[cfg(feature = "hub")]
mod release;
#[cfg(feature = "language")]
mod rm;
#[cfg(feature = "hub")]
mod rollout;
#[cfg(feature = "language")]
mod run;
#[cfg(feature = "language")]
mod serve;
#[cfg(feature = "language")]
mod show;
#[cfg(feature = "language")]
mod sign;
#[cfg(feature = "hub")]
mod sim;
#[cfg(feature = "packages")]
mod slots;
#[cfg(feature = "language")]
mod tokenize;
#[cfg(feature = "language")]
mod trust;
#[cfg(all(feature = "packages", not(feature = "language")))]
#[path = "verb/trust/here.rs"]
mod trust;
#[cfg(feature = "hub")]
mod up;
#[cfg(feature = "language")]
mod verify;

/// What a user can ask for.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    #[cfg(feature = "hub")]
    Up(up::Args),
    Node(node::Args),
    #[cfg(feature = "hub")]
    Hub(hub::Args),
    #[cfg(feature = "language")]
    Serve(Box<serve::Args>),
    Detect(detect::Args),
    Doctor(doctor::Args),
    #[command(subcommand)]
    Flow(flow::Verb),
    #[cfg(feature = "language")]
    Run(Box<run::Args>),
    #[cfg(feature = "language")]
    Pull(pull::Args),
    #[cfg(feature = "language")]
    Push(push::Args),
    #[cfg(feature = "language")]
    Import(import::Args),
    #[cfg(feature = "language")]
    Ls(ls::Args),
    #[cfg(feature = "language")]
    Show(show::Args),
    #[cfg(feature = "language")]
    Rm(rm::Args),
    #[cfg(feature = "language")]
    Ps(ps::Args),
    #[cfg(feature = "language")]
    Stop(ps::Stop),
    #[cfg(feature = "language")]
    Embed(embed::Args),
    #[cfg(feature = "language")]
    Tokenize(tokenize::Args),
    #[cfg(feature = "language")]
    Quantize(quantize::Args),
    #[cfg(feature = "language")]
    Imatrix(imatrix::Args),
    #[cfg(feature = "language")]
    Perplexity(perplexity::Args),
    #[cfg(feature = "language")]
    Fit(fit::Args),
    #[cfg(feature = "language")]
    Bench(bench::Args),
    #[cfg(feature = "language")]
    Pack(Box<pack::Args>),
    #[cfg(feature = "language")]
    Inspect(inspect::Args),
    #[cfg(feature = "language")]
    Sign(sign::Args),
    #[cfg(feature = "language")]
    Verify(verify::Args),
    #[cfg(feature = "language")]
    Export(export::Args),
    #[cfg(feature = "language")]
    Grant(grant::Args),
    #[cfg(feature = "hub")]
    Sim(Box<sim::Args>),
    #[cfg(feature = "packages")]
    Install(slots::Install),
    #[cfg(feature = "packages")]
    Slots(slots::Args),
    #[cfg(feature = "packages")]
    Rollback(slots::RollBack),
    #[cfg(feature = "hub")]
    Login(login::Args),
    #[cfg(feature = "hub")]
    #[command(subcommand)]
    Fleet(fleet::Verb),
    #[cfg(feature = "hub")]
    #[command(subcommand)]
    Release(release::Verb),
    #[cfg(feature = "hub")]
    #[command(subcommand)]
    Rollout(rollout::Verb),
    #[cfg(feature = "hub")]
    #[command(subcommand)]
    Experiment(experiment::Verb),
    #[cfg(feature = "packages")]
    #[command(subcommand)]
    Trust(trust::Verb),
    #[cfg(feature = "hub")]
    #[command(subcommand)]
    Audit(audit::Verb),
    Act(act::Args),
    #[cfg(feature = "agents")]
    Mcp(mcp::Args),
    #[command(subcommand)]
    Privacy(privacy::Verb),
    #[cfg(feature = "packages")]
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
            #[cfg(feature = "hub")]
            Verb::Up(args) => up::run(args),
            Verb::Node(args) => node::run(&args),
            #[cfg(feature = "hub")]
            Verb::Hub(args) => hub::run(args),
            #[cfg(feature = "language")]
            Verb::Serve(args) => serve::run(*args),
            Verb::Detect(args) => detect::run(&args),
            Verb::Doctor(args) => doctor::run(&args),
            Verb::Flow(verb) => flow::run(verb),
            #[cfg(feature = "language")]
            Verb::Run(args) => run::run(&args),
            #[cfg(feature = "language")]
            Verb::Pull(args) => pull::run(&args),
            #[cfg(feature = "language")]
            Verb::Push(args) => push::run(&args),
            #[cfg(feature = "language")]
            Verb::Import(args) => import::run(&args),
            #[cfg(feature = "language")]
            Verb::Ls(args) => ls::run(&args),
            #[cfg(feature = "language")]
            Verb::Show(args) => show::run(&args),
            #[cfg(feature = "language")]
            Verb::Rm(args) => rm::run(&args),
            #[cfg(feature = "language")]
            Verb::Ps(args) => ps::run(&args),
            #[cfg(feature = "language")]
            Verb::Stop(args) => ps::stop(&args),
            #[cfg(feature = "language")]
            Verb::Embed(args) => embed::run(&args),
            #[cfg(feature = "language")]
            Verb::Tokenize(args) => tokenize::run(&args),
            #[cfg(feature = "language")]
            Verb::Quantize(args) => quantize::run(&args),
            #[cfg(feature = "language")]
            Verb::Imatrix(args) => imatrix::run(&args),
            #[cfg(feature = "language")]
            Verb::Perplexity(args) => perplexity::run(&args),
            #[cfg(feature = "language")]
            Verb::Fit(args) => fit::run(&args),
            #[cfg(feature = "language")]
            Verb::Bench(args) => bench::run(args),
            #[cfg(feature = "language")]
            Verb::Pack(args) => pack::run(&args),
            #[cfg(feature = "language")]
            Verb::Inspect(args) => inspect::run(&args),
            #[cfg(feature = "language")]
            Verb::Sign(args) => sign::run(&args),
            #[cfg(feature = "language")]
            Verb::Verify(args) => verify::run(&args),
            #[cfg(feature = "language")]
            Verb::Export(args) => export::run(&args),
            #[cfg(feature = "language")]
            Verb::Grant(args) => grant::run(&args),
            #[cfg(feature = "hub")]
            Verb::Sim(args) => sim::run(&args),
            #[cfg(feature = "packages")]
            Verb::Install(args) => slots::install(&args),
            #[cfg(feature = "packages")]
            Verb::Slots(args) => slots::run(&args),
            #[cfg(feature = "packages")]
            Verb::Rollback(args) => slots::roll_back(&args),
            #[cfg(feature = "hub")]
            Verb::Login(args) => login::run(&args),
            #[cfg(feature = "hub")]
            Verb::Fleet(verb) => fleet::run(&verb),
            #[cfg(feature = "hub")]
            Verb::Release(verb) => release::run(&verb),
            #[cfg(feature = "hub")]
            Verb::Rollout(verb) => rollout::run(&verb),
            #[cfg(feature = "hub")]
            Verb::Experiment(verb) => experiment::run(&verb),
            #[cfg(feature = "packages")]
            Verb::Trust(verb) => trust::run(&verb),
            #[cfg(feature = "hub")]
            Verb::Audit(verb) => audit::run(verb),
            Verb::Act(args) => act::run(&args),
            #[cfg(feature = "agents")]
            Verb::Mcp(args) => mcp::run(&args),
            Verb::Privacy(verb) => privacy::run(&verb),
            #[cfg(feature = "packages")]
            Verb::Prove(args) => prove::run(&args),
            Verb::Guard(args) => guard::run(&args),
            Verb::Completions { shell } => {
                clap_complete::generate(shell, &mut command(), "selvedge", &mut std::io::stdout());
                Ok(())
            }
        }
    }
}
