//! `selvedge rm`: removes models from this machine.

use std::io::{self, Write as _};

use node::shelf::facts::Weights;
use node::shelf::name::ModelName;

use crate::amount::show_bytes;
use crate::models::Models;

/// Remove models from this machine. A linked file itself stays where it is.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Names of models, or of downloads that were not finished.
    #[arg(required = true)]
    name: Vec<String>,

    #[command(flatten)]
    models: Models,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let shelf = args.models.shelf()?;
    let mut out = io::stdout().lock();
    // All names are looked at before anything is removed: a slip of the pen shall not leave half of it done.
    let mut found = Vec::new();
    for wanted in &args.name {
        let exactly = ModelName::new(wanted).ok();
        let listing = shelf.list()?;
        // What cannot be read, or is not finished, can be removed under its very name.
        let odd = exactly.filter(|name| {
            listing.unreadable.iter().any(|(other, _)| other == name)
                || listing.unfinished.iter().any(|part| part.name == *name)
        });
        found.push(match odd {
            Some(name) => (name, None),
            None => {
                let facts = args.models.find(wanted)?.facts;
                let link = match facts.weights {
                    Weights::Link { path, .. } => Some(path),
                    Weights::Own { .. } => None,
                };
                (facts.name, link)
            }
        });
    }
    for (name, link) in found {
        let bytes = shelf.remove(&name)?;
        match link {
            Some(path) => writeln!(out, "removed {name}; {} stays", path.display())?,
            None => writeln!(out, "removed {name}: {} are free again", show_bytes(bytes))?,
        }
    }
    Ok(())
}
