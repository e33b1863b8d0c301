//! `selvedge rollout`: releases go through the fleet in waves.

pub(in crate::verb) mod ask;
pub(super) mod documents;
mod new;
mod order;
mod renew;
mod show;
mod sign;

/// Bring releases to a fleet in waves: plan, sign, start, watch, and go back.
///
/// In a few words: `new` makes a plan for the nodes that there are and shows what it would do; `create` gives it to the hub; `sign`,
/// where the assigner's key is, signs everything that the rollout can ever hand out; `start` opens the first wave. Gates open the
/// others, or stop it and take the release back. The hub has no key: it can hand out what was signed, and nothing else.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    New(Box<new::Args>),
    Preview(show::Preview),
    Create(show::Create),
    Sign(sign::Args),
    Upload(sign::Upload),
    Ls(show::Ls),
    Show(show::Args),
    Diff(show::Diff),
    Renew(renew::Args),
    /// Open the first wave.
    Start(order::Args),
    /// Hand out nothing more, for now.
    Pause(order::Args),
    /// Go on; also through a gate that waits for a person.
    Resume(order::Args),
    /// Agree. Who made the plan cannot.
    Approve(order::Args),
    /// Do not wait for nodes that fell silent. They count as unknown, never as success.
    SkipUnknown(order::Args),
    /// Stop for good. Nodes that have the release keep it.
    Abort(order::Args),
    /// Take the release back from all who have it.
    Revert(order::Args),
}

pub(crate) fn run(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::New(args) => new::run(args),
        Verb::Preview(args) => show::preview(args),
        Verb::Create(args) => show::create(args),
        Verb::Sign(args) => sign::run(args),
        Verb::Upload(args) => sign::upload(args),
        Verb::Ls(args) => show::ls(args),
        Verb::Show(args) => show::run(args),
        Verb::Diff(args) => show::diff(args),
        Verb::Renew(args) => renew::run(args),
        Verb::Start(args) => order::run("start", args),
        Verb::Pause(args) => order::run("pause", args),
        Verb::Resume(args) => order::run("resume", args),
        Verb::Approve(args) => order::run("approve", args),
        Verb::SkipUnknown(args) => order::run("skip_unknown", args),
        Verb::Abort(args) => order::run("abort", args),
        Verb::Revert(args) => order::run("revert", args),
    }
}
