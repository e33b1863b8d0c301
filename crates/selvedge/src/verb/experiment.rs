//! `selvedge experiment`: two releases beside each other, or one beside what runs, until the figures decide.

mod ask;
mod new;
mod show;
mod sign;

/// Compare two releases on a fleet, or one with what runs, until the figures decide.
///
/// `new` makes a plan: which releases, on whom, by which figure, and when it ends. `create` gives it to the hub; `sign`, where the
/// assigner's key is, signs all that it can ever hand out: an assignment for each arm, and one way back. `new --shadow` plans one in
/// which a release answers beside what runs, and nobody is answered by it. What wins is not rolled
/// out: `selvedge rollout new` does that.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    New(Box<new::Args>),
    Create(show::Create),
    Sign(sign::Args),
    /// Begin.
    Start(show::OrderArgs),
    /// End it, undecided; nodes then do as the plan says.
    Stop(show::OrderArgs),
    Ls(show::Ls),
    Show(show::Args),
}

pub(crate) fn run(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::New(args) => new::run(args),
        Verb::Create(args) => show::create(args),
        Verb::Sign(args) => sign::run(args),
        Verb::Start(args) => show::order("start", args),
        Verb::Stop(args) => show::order("stop", args),
        Verb::Ls(args) => show::ls(args),
        Verb::Show(args) => show::run(args),
    }
}
