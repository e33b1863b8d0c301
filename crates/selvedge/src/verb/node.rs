//! `selvedge node`: the agent, on the device.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use node::agent;
use node::config::Config;
use wire::world::System;

use crate::interrupt::Interrupt;

/// Run the node: sources → model → rules → journal, and the journal's way up to the hub.
///
/// Works without a hub and without a network; what it has decided and not yet sent waits in its journal.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Who the node is, and what may leave it.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Print every setting with its value and where it came from, and end.
    #[arg(long)]
    show_config: bool,

    /// End when every source has ended and is journalled, instead of waiting for more.
    #[arg(long)]
    until_end: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let mut out = std::io::stdout();
    if args.show_config {
        for setting in config.effective() {
            writeln!(out, "{} = {}  # {}", setting.key, setting.value, setting.origin.as_str())?;
        }
        return Ok(());
    }
    let interrupt = Interrupt::listen()?;
    let name = config.name.clone();
    let hub = config.hub.as_ref().map_or_else(|| "no hub".to_owned(), |hub| format!("hub {}", hub.url));
    let running = agent::start(config, System::new())?;
    let api =
        running.api_addr().map_or_else(|| "local API off".to_owned(), |at| format!("local API http://{at}"));
    let models =
        running.serve_addr().map_or_else(String::new, |at| format!("; language models http://{at}/v1"));
    writeln!(out, "node {name} runs; {api}; {hub}{models}. Ctrl-C ends it.")?;
    while !interrupt.wait(Duration::from_millis(200)) {
        // What it died of, if it did, is what stopping it says.
        if running.failed() || args.until_end && running.sources_ended() {
            break;
        }
    }
    running.stop()?;
    writeln!(out, "node {name} ended; its journal is closed")?;
    Ok(())
}
