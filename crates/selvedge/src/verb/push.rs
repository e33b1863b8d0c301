//! `selvedge push`: sends a package to a registry.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use forge::grant::send;
use forge::parcel::Parcel;
use forge::publish::{Login, Step, Target, publish};
use indicatif::ProgressBar;
use package::descriptor::Descriptor;
use package::disk::system::System;
use package::layout::Layout;
use package::media::REF_NAME;
use package::registry::{Reference, Tag};
use package::seal::wrap::Grant;

use crate::amount::show_bytes;
use crate::complaint::Usage;
use crate::progress;
use crate::registries::{Place, Registries};

/// Send a package to a hub or to any OCI registry.
///
/// What the registry has already is not sent again, and a transfer that was cut goes on where it stopped. To the hub go the
/// grants for sealed weights, too, which it hands to the nodes that they are for.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge push smollm2/ hub:smollm2                     to the hub, under the name it has in the package
  selvedge push smollm2/ hub:smollm2:7                   with this tag
  selvedge push smollm2/ oci://ghcr.io/team/smollm2:7    to another registry

Plain HTTP is spoken with this machine only, unless the hub's address says http://.")]
pub(crate) struct Args {
    /// The package, as `selvedge pack` made it.
    #[arg(value_name = "DIR")]
    package: PathBuf,

    /// Where to: `hub:NAME[:TAG]` or `oci://HOST/NAME[:TAG]`.
    to: String,

    /// Which release, if the package has several: its name there.
    #[arg(long, value_name = "NAME")]
    release: Option<String>,

    #[command(flatten)]
    registries: Registries,

    /// Print what went as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Place { base, name, reference } = args.registries.place(&args.to)?;
    let tag = match reference {
        Some(Reference::Tag(tag)) => Some(tag),
        Some(Reference::Digest(_)) => {
            let why = format!("{} names a digest, which the package has already: name a tag", args.to);
            return Err(Usage(why).into());
        }
        None => None,
    };
    let layout = Layout::open(System, &args.package)?;
    let root = choose(layout.refs()?, args.release.as_deref())?;
    let tag = match tag {
        Some(tag) => tag,
        None => Tag::new(release_of(&root).unwrap_or("latest"))?,
    };
    let login = args.registries.token(&base)?;
    let login = login.map(|password| Login { user: args.registries.user.clone(), password });
    let shown = format!("{}/{name}:{tag}", base.authority());
    let grants = grants(&args.package, &root)?;
    let token = login.as_ref().map(|login| login.password.clone());
    let authorities = args.registries.authorities(&base)?;
    let target = Target { base, name, tag, login, authorities };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut bar = ProgressBar::hidden();
    let mut tell = |step| match step {
        Step::Blob { bytes, .. } => {
            bar = progress::bytes(Some(bytes));
            bar.set_message("sending");
        }
        Step::There => bar.finish_and_clear(),
        Step::Sent { bytes } => bar.set_position(bytes),
        Step::Waiting { wait_ms } => bar.set_message(format!("waiting {} s", wait_ms.div_ceil(1000))),
    };
    let published = runtime.block_on(async {
        tokio::select! {
            published = publish(&layout, &root, &target, &mut tell) => Some(published),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    bar.finish_and_clear();
    let Some(published) = published else {
        anyhow::bail!("interrupted; the same command sends what is missing");
    };
    let published = published?;
    let is_hub = args.to.starts_with("hub:");
    if is_hub {
        runtime.block_on(send(&args.registries.hub, token.as_deref(), target.authorities, &grants))?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        let record = serde_json::json!({
            "to": shown, "digest": published.digest, "blobs": published.blobs,
            "sent_bytes": published.sent_bytes, "there": published.there,
            "grants": if is_hub { grants.len() } else { 0 },
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "pushed {shown} ({}, {} of {} files were there)",
        show_bytes(published.sent_bytes),
        published.there,
        published.there + published.blobs
    )?;
    writeln!(out, "it is {}", published.digest)?;
    match grants.len() {
        0 => {}
        1 if is_hub => writeln!(out, "1 grant for sealed weights went with it")?,
        several if is_hub => writeln!(out, "{several} grants for sealed weights went with it")?,
        several => writeln!(
            out,
            "{several} grants for sealed weights stayed here: other registries take none, a stick does (`selvedge export`)"
        )?,
    }
    Ok(())
}

/// The grants for sealed weights of a release.
fn grants(package: &Path, root: &Descriptor) -> anyhow::Result<Vec<Grant>> {
    let parcel = Parcel::open(package)?;
    let mut grants = Vec::new();
    for entry in parcel.entries()?.iter().filter(|entry| entry.index.digest == root.digest) {
        grants.extend(parcel.sealed(entry)?.into_iter().flat_map(|sealed| sealed.grants));
    }
    Ok(grants)
}

/// The one entry of the package, or the one that was named.
fn choose(entries: Vec<Descriptor>, wanted: Option<&str>) -> anyhow::Result<Descriptor> {
    let names: Vec<String> =
        entries.iter().filter_map(|entry| entry.annotation(REF_NAME)).map(str::to_owned).collect();
    let mut found = entries.into_iter().filter(|entry| {
        wanted.is_none() || entry.annotation(REF_NAME) == wanted || release_of(entry) == wanted
    });
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(Usage(format!(
            "the package has several releases: name one by --release: {}",
            names.join(", ")
        ))
        .into()),
        (None, _) => anyhow::bail!("the package has no such release; it has {}", names.join(", ")),
    }
}

/// What stands behind the model's name: `7` of `smollm2:7`.
fn release_of(entry: &Descriptor) -> Option<&str> {
    entry.annotation(REF_NAME).and_then(|name| name.rsplit_once(':')).map(|(_, release)| release)
}
