//! `selvedge flow graph`: what feeds what, as a picture.

use std::io::Write as _;
use std::path::PathBuf;

use node::flow::Flow;

use super::draw::{Picture, mermaid, svg};
use crate::plot;

/// Draw what feeds what in a flow.
///
/// As Mermaid, which many pages show as it is, or as a picture into a file.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow.
    #[arg(default_value = "flow.toml")]
    flow: PathBuf,

    /// Write a picture; its name ends in .svg, or .png.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Print SVG instead of Mermaid.
    #[arg(long, conflicts_with = "out")]
    svg: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let picture = Picture::of(&Flow::load(&args.flow)?);
    let mut out = std::io::stdout().lock();
    match &args.out {
        Some(file) => plot::write(file, &svg(&picture))?,
        None if args.svg => write!(out, "{}", svg(&picture))?,
        None => write!(out, "{}", mermaid(&picture))?,
    }
    Ok(())
}
