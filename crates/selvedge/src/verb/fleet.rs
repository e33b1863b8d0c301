//! `selvedge fleet`: the nodes that a hub knows, what they are, and how they come in.

mod enrol;
mod label;
mod ls;
mod show;

/// Look at the nodes of a hub, label and group them, let them in and keep them out.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    Ls(ls::Args),
    Show(show::Args),
    Why(show::Why),
    Label(label::Args),
    Groups(label::Groups),
    Enrol(enrol::Args),
    Tickets(enrol::Tickets),
    /// Let a node in that waits with a ticket.
    Admit(enrol::Order),
    /// Let a node not in that waits with a ticket.
    Refuse(enrol::Order),
    Deny(enrol::Deny),
}

pub(crate) fn run(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Ls(args) => ls::run(args),
        Verb::Show(args) => show::run(args),
        Verb::Why(args) => show::why(args),
        Verb::Label(args) => label::run(args),
        Verb::Groups(args) => label::groups(args),
        Verb::Enrol(args) => enrol::run(args),
        Verb::Tickets(args) => enrol::tickets(args),
        Verb::Admit(args) => enrol::order("admit", args),
        Verb::Refuse(args) => enrol::order("refuse", args),
        Verb::Deny(args) => enrol::deny(args),
    }
}
