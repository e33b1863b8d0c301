//! `selvedge flow new` and `selvedge flow schema`: a flow to begin with, and what editors know of flows.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

/// Write a flow to begin with.
///
/// Each passes `selvedge flow check` as it is, with tests of its own; put your source in the place of its source.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is watched.
    #[arg(long, value_enum, default_value_t = Kind::Pump)]
    kind: Kind,

    /// Where to write it; it must not be there yet. `-` is standard output.
    #[arg(default_value = "flow.toml")]
    file: PathBuf,
}

/// A kind of plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A pump station: a detector over its channels, and limits.
    Pump,
    /// A cold store: a door, a temperature, and an alert that waits for the door.
    ColdStore,
    /// A machine that turns: vibration with hysteresis, held back while it starts.
    Machine,
    /// A field: soil moisture that comes every quarter of an hour.
    Field,
}

impl Kind {
    fn flow(self) -> &'static str {
        match self {
            Kind::Pump => include_str!("templates/pump.toml"),
            Kind::ColdStore => include_str!("templates/cold_store.toml"),
            Kind::Machine => include_str!("templates/machine.toml"),
            Kind::Field => include_str!("templates/field.toml"),
        }
    }
}

/// What editors know of flows.
const SCHEMA: &str = include_str!("flow.schema.json");

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let flow = args.kind.flow();
    if args.file.as_os_str() == "-" {
        std::io::stdout().write_all(flow.as_bytes())?;
        return Ok(());
    }
    let shown = args.file.display();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&args.file)
        .with_context(|| format!("{shown} cannot be written: nothing was changed"))?;
    file.write_all(flow.as_bytes())?;
    writeln!(std::io::stdout(), "{shown} is a flow to begin with; next: selvedge flow check {shown}")?;
    Ok(())
}

pub(crate) fn schema() -> anyhow::Result<()> {
    std::io::stdout().write_all(SCHEMA.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use node::flow::Flow;
    use node::play::rehearse::rehearse;

    use super::*;

    #[test]
    fn each_is_sound_and_passes_its_own_tests() {
        for kind in Kind::value_variants() {
            let flow = Flow::parse("flow.toml".as_ref(), kind.flow().into());
            let flow = flow.unwrap_or_else(|problems| panic!("{kind:?}: {problems}"));
            let tests = rehearse(&flow).unwrap_or_else(|problems| panic!("{kind:?}: {problems}"));
            assert!(tests > 0, "{kind:?}");
        }
    }
}
