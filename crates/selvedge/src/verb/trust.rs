//! `selvedge trust`: a repository of TUF that says which releases are approved, and the keys that may say so.
//! A build without the workshop has `trust/here.rs` in the place of this file.

mod add;
mod assign;
mod change;
mod delegate;
mod init;
mod key;
mod life;
mod own_key;
mod push;
mod rebuild;
mod refresh;
mod reset;
mod rotate;
mod show;
mod sign;
mod withdraw;

/// Approve models, and say who may: keys, a repository of signed metadata (TUF), assignments.
///
/// In a few words: `init` makes a repository with keys of its own; `add` approves a package; `refresh`, from a timer, says that
/// nothing newer was hidden. Changes are staged until enough keys have signed them, on this machine or on others.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Init(init::Args),
    #[command(subcommand)]
    Key(key::Verb),
    Add(add::Args),
    Withdraw(withdraw::Args),
    Sign(sign::Args),
    Refresh(refresh::Args),
    Rotate(rotate::Args),
    Delegate(delegate::Args),
    Assign(assign::Args),
    Push(push::Args),
    Show(show::Args),
    Reset(reset::Args),
}

pub(crate) fn run(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Init(args) => init::run(args),
        Verb::Key(verb) => key::run(verb),
        Verb::Add(args) => add::run(args),
        Verb::Withdraw(args) => withdraw::run(args),
        Verb::Sign(args) => sign::run(args),
        Verb::Refresh(args) => refresh::run(args),
        Verb::Rotate(args) => rotate::run(args),
        Verb::Delegate(args) => delegate::run(args),
        Verb::Assign(args) => assign::run(args),
        Verb::Push(args) => push::run(args),
        Verb::Show(args) => show::run(args),
        Verb::Reset(args) => reset::run(args),
    }
}
