//! `selvedge flow test`: what the flow's own tests say of it.

use std::io::Write as _;
use std::path::PathBuf;

use node::flow::Flow;
use node::play::rehearse::rehearse;

/// Play the `[[test]]` blocks of a flow.
///
/// Given values go through the whole flow, on the tests' own clock, so that a test of a day takes a blink. `flow check` plays
/// them too.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow.
    #[arg(default_value = "flow.toml")]
    flow: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let flow = Flow::load(&args.flow)?;
    let count = rehearse(&flow)?;
    let mut out = std::io::stdout().lock();
    let file = args.flow.display();
    match count {
        0 => writeln!(out, "{file} has no tests: see docs/flows.md for `[[test]]`")?,
        1 => writeln!(out, "{file}: 1 test passed")?,
        count => writeln!(out, "{file}: {count} tests passed")?,
    }
    Ok(())
}
