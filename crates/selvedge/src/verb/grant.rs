//! `selvedge grant`: lets a further node open sealed weights.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use forge::grant::{grants, send};
use forge::parcel::Parcel;
use package::disk::system::System as Disk;
use package::seal::folder;
use serde_json::json;
use wire::world::System;

use crate::complaint::Usage;
use crate::hub_client::HubArgs;
use crate::keys::{open_seal, read_nodes};

/// Let further nodes open a package whose weights are sealed.
///
/// A grant is a small file for one node and one file of weights; nobody else can use it, and the package stays as it is. It is put
/// beside the package, into a folder for a stick, or is given to the hub, where the node finds it by itself.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge grant smollm2/ --to pump-7.pub.json --key seal.age             beside the package
  selvedge grant smollm2/ --to pump-7.pub.json --key seal.age -o stick    into the folder stick/grants
  selvedge grant smollm2/ --to pump-7.pub.json --key seal.age -o hub:     to the hub")]
pub(crate) struct Args {
    /// A package: a folder or a .tar.
    package: PathBuf,

    /// The node's public key, as `selvedge trust key node` wrote it there; several if need be.
    #[arg(long, value_name = "KEY.pub.json", required = true)]
    to: Vec<PathBuf>,

    /// The key that sealed the package.
    #[arg(long, value_name = "FILE.age")]
    key: PathBuf,

    /// Where the grants go: a folder, or `hub:`; without it into the package's own folder.
    #[arg(short, long, value_name = "DIR|hub:")]
    output: Option<String>,

    /// The release, such as smollm2:7; without it the only one there is.
    #[arg(long, value_name = "NAME:NUMBER")]
    release: Option<String>,

    #[command(flatten)]
    hub: HubArgs,

    /// Print what was granted as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let parcel = Parcel::open(&args.package)?;
    let entry = parcel.entry(args.release.as_deref())?;
    let folder = match args.output.as_deref() {
        Some("hub:") => None,
        Some(folder) => Some(Path::new(folder)),
        None if parcel.layout().is_some() => Some(args.package.as_path()),
        None => {
            let why =
                format!("{} is one file: say where the grants go, -o DIR or -o hub:", args.package.display());
            return Err(Usage(why).into());
        }
    };
    let nodes = read_nodes(&args.to)?;
    let key = open_seal(&args.key)?;
    let grants = grants(&parcel, &entry, &key, &nodes, &mut System::new())?;
    match folder {
        Some(folder) => {
            for grant in &grants {
                folder::put(&Disk, folder, grant)?;
            }
        }
        None => {
            let (token, authorities) = (args.hub.token()?, args.hub.authorities()?);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(send(&args.hub.hub, token.as_deref(), authorities, &grants))?;
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        let record = |grant: &package::seal::wrap::Grant| json!({ "sealed": grant.sealed().to_string(), "to": grant.to().to_string() });
        let record = json!({
            "package": args.package, "release": entry.name(), "folder": folder,
            "grants": grants.iter().map(record).collect::<Vec<_>>(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    let place = match folder {
        Some(folder) => format!("in {}", folder.join("grants").display()),
        None => format!("at the hub {}", args.hub.hub.authority()),
    };
    let names: Vec<String> = nodes.iter().map(|node| node.id().to_string()).collect();
    let grants = match grants.len() {
        1 => "1 grant".to_owned(),
        several => format!("{several} grants"),
    };
    writeln!(out, "{}: {grants} {place}, for {}", entry.name(), names.join(", "))?;
    Ok(())
}
