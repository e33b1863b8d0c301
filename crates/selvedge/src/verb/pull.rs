//! `selvedge pull`: brings a model from the network to this machine.

mod release;
mod teller;

use std::io::{self, Write as _};
use std::path::PathBuf;

use node::pull::{ENDPOINT, Order, Puller, Settings};
use node::shelf::name::ModelName;
use wire::world::System;

use self::release::Wish;
use self::teller::Teller;
use crate::amount::show_bytes;
use crate::complaint::Usage;
use crate::models::Models;
use crate::registries::{Registries, is_place};
use crate::verb::fit::parse_bytes;

/// Bring a model from a repository or an address, or a package from a registry.
///
/// A download that was cut off goes on where it stopped. What comes is checked against the repository's SHA-256; of a package
/// each chunk is checked as it comes. A package is put into a folder: without --to into NAME-RELEASE, and only the variant that
/// a node on this machine would take; with --to all of it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge pull owner/name                    the usual quantisation of the repository
  selvedge pull owner/name:q4_k_m             this one
  selvedge pull owner/name/file.gguf          this file
  selvedge pull https://example.org/m.gguf    an address
  selvedge pull hub:smollm2                   of a package on the hub the variant for this machine
  selvedge pull hub:smollm2:7 --to smollm2    all of its release 7, into this folder
  selvedge pull oci://ghcr.io/team/smollm2:7 --to stick.tar    from any registry, into one file

HF_ENDPOINT names another repository server, HF_TOKEN is the token for it.")]
pub(crate) struct Args {
    /// What to bring.
    model: String,

    /// Of a package: the folder or the .tar that it goes into, all variants of it.
    #[arg(long, value_name = "DIR|FILE.tar", conflicts_with = "name")]
    to: Option<PathBuf>,

    /// Of a package: only this variant; may be said more than once.
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    variant: Vec<String>,

    /// Of a package: at most so many bytes a second, such as 2MB.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, conflicts_with = "name")]
    rate: Option<u64>,

    /// What the model is called here; without it after the repository and the file.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Take the place of another model of the same name, or of another .tar.
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    models: Models,

    /// Where repositories are.
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", default_value = ENDPOINT, hide_env_values = true)]
    endpoint: String,

    #[command(flatten)]
    registries: Registries,

    /// Print what came as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if is_place(&args.model) {
        let place = args.registries.place(&args.model)?;
        return release::run(&Wish {
            words: &args.model,
            access: args.registries.access(&place.base)?,
            place,
            to: args.to.as_deref(),
            variants: &args.variant,
            replace: args.replace,
            bytes_per_s: args.rate,
            json: args.json,
        });
    }
    if args.to.is_some() || !args.variant.is_empty() || args.rate.is_some() {
        let why =
            format!("--to, --variant and --rate are for packages; {} is none of hub: or oci://", args.model);
        return Err(Usage(why).into());
    }
    let name = args.name.as_deref().map(ModelName::new).transpose();
    let name = name.map_err(|error| Usage(format!("--name: {error}")))?;
    let token = args.registries.named_token()?.or_else(|| std::env::var("HF_TOKEN").ok());
    let shelf = args.models.shelf()?;
    let puller = Puller::new(Settings { endpoint: args.endpoint.clone(), token, ..Settings::default() })?;
    let order = Order { name, replace: args.replace };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut world = System::new();
    let mut teller = Teller::new();
    let pulled = runtime.block_on(async {
        tokio::select! {
            pulled = puller.pull(&shelf, &args.model, &order, &mut world, |event| teller.hear(event)) => Some(pulled),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    teller.end();
    let Some(pulled) = pulled else {
        anyhow::bail!("interrupted; the same command goes on where it stopped");
    };
    let pulled = pulled?;
    let facts = &pulled.entry.facts;
    let mut out = io::stdout().lock();
    if args.json {
        let record = serde_json::json!({
            "name": facts.name.to_string(), "file": pulled.entry.path, "size_bytes": facts.size_bytes,
            "sha256": facts.sha256.as_ref().map(ToString::to_string), "origin": facts.origin,
            "was_here": pulled.was_here,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    match pulled.was_here {
        true => writeln!(out, "{} is here already, as the server has it", facts.name)?,
        false => writeln!(out, "pulled {} ({})", facts.name, show_bytes(facts.size_bytes))?,
    }
    writeln!(out, "ask it with `selvedge run {}`", facts.name)?;
    Ok(())
}
