//! `selvedge trust` in a build without the workshop: what a node needs of it, a key of its own and a new beginning.

mod own_key;
mod reset;

/// Make the key of this node, and let it begin again from a root that you vouch for.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    #[command(subcommand)]
    Key(Key),
    Reset(reset::Args),
}

/// Make the key of this node.
#[derive(clap::Subcommand)]
pub(crate) enum Key {
    Node(own_key::Args),
}

pub(crate) fn run(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Key(Key::Node(args)) => own_key::run(args),
        Verb::Reset(args) => reset::run(args),
    }
}
