//! `selvedge guard`, hidden: holds the devices of a node that started this as a process of its own, and brings them back to their
//! safe settings when the node is gone.

use std::io::{self, BufReader};

use node::act::guard::{PATIENCE, guard};
use wire::world::System;

use crate::interrupt::Interrupt;

/// Hold devices, as a node says on standard input; bring them back when that ends.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    // Whoever ends the node tells this process, too: it has something to do first, and goes when standard input ends.
    let _listening = Interrupt::listen()?;
    Ok(guard(BufReader::new(io::stdin()), io::stdout(), &System::new(), PATIENCE)?)
}
