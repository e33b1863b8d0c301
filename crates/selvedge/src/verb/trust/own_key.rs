//! `selvedge trust key node`: the key of this node, to which weights are sealed.

use std::io::{self, Write as _};
use std::path::PathBuf;

use node::install::keys::{make_node_key, node_public_path, secret_path};
use package::disk::system::System;
use serde_json::{Value, json};
use wire::world;

/// Make the key of this node, to which weights can be sealed; or show it, if it is there.
///
/// The secret is made here and stays here: keys/node.secret in the node's data folder, for this user alone, without a
/// passphrase, since a node starts by itself. A key that is there is never replaced. keys/node.pub.json goes to whoever packs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node's data folder, as `data` in node.toml names it.
    data: PathBuf,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (public, is_new) = make_node_key(&System, &args.data, &mut world::System::new())?;
    let (secret_file, public_file) = (secret_path(&args.data), node_public_path(&args.data));
    let mut out = io::stdout().lock();
    if args.json {
        let key: Value = serde_json::from_slice(&public.to_bytes())?;
        let record = json!({
            "id": public.id().to_string(), "new": is_new, "secret_file": secret_file,
            "public_file": public_file, "public": key,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    let done = if is_new { "made, for this user alone" } else { "there already, unchanged" };
    writeln!(out, "{}: the secret, {done}; it never leaves this node", secret_file.display())?;
    writeln!(out, "{}: its public half, for whoever packs", public_file.display())?;
    writeln!(out, "id {}\n{}", public.id(), String::from_utf8_lossy(&public.to_bytes()))?;
    Ok(())
}
