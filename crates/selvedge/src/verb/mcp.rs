//! `selvedge mcp`: agents ask the node that runs on this machine, over the Model Context Protocol.
//!
//! In reading order: [`question`] is what an agent may ask; [`tools`] is how a client is told of it; [`near`] answers from the node's
//! journal, its local API and its door of the actuators; [`server`] is the protocol around them.

mod near;
mod question;
mod server;
mod tools;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use node::act::door::NAME_MAX_BYTES;
use node::config::Config;
use wire::id::PartName;

use self::near::Near;
use self::server::Server;
use crate::complaint::Usage;
use crate::state::LocalApi;

/// Let an agent ask the node that runs here: an MCP server on standard input and output.
///
/// An agent is a program around a language model; it starts this as a tool server, and hears how the node is, what it decided, and
/// why. It changes nothing, unless `--may-act` names actuators: those it may ask for, if the flow says `agents = true` of them.
/// The node holds it to the same envelope as people and rules, lets both go before it, and journals whatever it asks.
///
/// What it is told goes wherever its model runs. So it is told what the node's policy lets leave, of records and of the state.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge mcp --config /etc/selvedge/node.toml             look, and nothing else
  selvedge mcp --may-act valve,fan --as night-watch         it may ask for these two

Actuators, and a client's configuration to paste: docs/actuators.md")]
pub(crate) struct Args {
    /// The node's settings, which say where its data and its local API are.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Actuators that the agent may ask for; without it the tools `act` and `release` are not there.
    #[arg(long, value_name = "ACTUATORS", value_delimiter = ',')]
    may_act: Vec<PartName>,

    /// The agent's name, for the journal.
    #[arg(long = "as", value_name = "NAME", default_value = "agent", value_parser = read_name)]
    name: String,

    /// Without the tool `state`.
    #[arg(long)]
    without_state: bool,

    /// Tell the state as it is, with the latest readings, whatever the policy lets leave: for a model that runs on this machine.
    #[arg(long, conflicts_with = "without_state")]
    whole_state: bool,
}

fn read_name(text: &str) -> Result<String, String> {
    let is_name = !text.trim().is_empty() && text.len() <= NAME_MAX_BYTES && !text.contains(char::is_control);
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!("a name has 1 to {NAME_MAX_BYTES} bytes in one line"))
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        let wrong = "this is started by a client of the Model Context Protocol, and speaks with it: see selvedge mcp --help";
        return Err(Usage(wrong.to_owned()).into());
    }
    let config = Config::load_without_flow(&args.config)?;
    // Without a local API the other tools are still there; this one says what is missing.
    let api = (!args.without_state).then(|| LocalApi::of(&config).map_err(|error| format!("{error:#}")));
    let near = Near::new(config.data.clone(), args.name.clone(), args.may_act.clone())
        .with_policy(config.policy.clone());
    let outside = (!args.whole_state).then(|| config.policy.clone());
    let server = Server::new(config.name.as_str(), near, api, outside);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no thread for the server can be made")?;
    let done = runtime.block_on(server.run());
    // A question under way may still wait for a device; who asked it is gone.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_journal() {
        assert_eq!(read_name("night-watch"), Ok("night-watch".to_owned()));
        for bad in ["", "  ", "a\nb", &"x".repeat(NAME_MAX_BYTES + 1)] {
            assert!(read_name(bad).is_err(), "{bad:?}");
        }
    }
}
