//! `selvedge push`: sends a package to a registry.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use forge::publish::{Login, Step, Target, publish};
use indicatif::ProgressBar;
use package::descriptor::Descriptor;
use package::disk::system::System;
use package::layout::Layout;
use package::media::REF_NAME;
use package::registry::{Address, Reference, RepoName, Tag};
use reqwest::Url;

use crate::amount::show_bytes;
use crate::complaint::Usage;
use crate::progress;

/// Send a package to a hub or to any OCI registry.
///
/// What the registry has already is not sent again, and a transfer that was cut goes on where it stopped.
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

    /// The hub's address.
    #[arg(long, value_name = "URL", env = "SELVEDGE_HUB", default_value = "http://127.0.0.1:8420")]
    hub: Url,

    /// A file with the token or password for it.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The name that goes with it; a hub takes any.
    #[arg(long, value_name = "NAME", default_value = "selvedge")]
    user: String,

    /// Print what went as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (base, name, tag) = place(&args.to, &args.hub)?;
    let layout = Layout::open(System, &args.package)?;
    let root = choose(layout.refs()?, args.release.as_deref())?;
    let tag = match tag {
        Some(tag) => tag,
        None => Tag::new(release_of(&root).unwrap_or("latest"))?,
    };
    let login = match &args.token_file {
        Some(file) => {
            let token = std::fs::read_to_string(file);
            let token = token.with_context(|| format!("{} cannot be read", file.display()))?;
            Some(Login { user: args.user.clone(), password: token.trim().to_owned() })
        }
        None => None,
    };
    let shown = format!("{}/{name}:{tag}", base.authority());
    let target = Target { base, name, tag, login };
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
    let mut out = io::stdout().lock();
    if args.json {
        let record = serde_json::json!({
            "to": shown, "digest": published.digest, "blobs": published.blobs,
            "sent_bytes": published.sent_bytes, "there": published.there,
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
    Ok(())
}

/// Which registry, which repository there, and which tag, if one was named.
fn place(to: &str, hub: &Url) -> anyhow::Result<(Url, RepoName, Option<Tag>)> {
    if let Some(rest) = to.strip_prefix("hub:") {
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(Tag::new(tag)?)),
            None => (rest, None),
        };
        return Ok((hub.join("/")?, RepoName::new(name)?, tag));
    }
    let Address { host, name, reference } = Address::parse(to).map_err(|error| Usage(error.to_string()))?;
    let is_named = to.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tag = match reference {
        Reference::Tag(tag) => is_named.then_some(tag),
        Reference::Digest(_) => {
            return Err(
                Usage(format!("{to} names a digest, which the package has already: name a tag")).into()
            );
        }
    };
    let url = Url::parse(&format!("https://{host}/")).map_err(|_| Usage(format!("{host:?} is no host")))?;
    let is_here = match url.host_str().unwrap_or_default().trim_matches(['[', ']']) {
        "localhost" => true,
        host => host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
    };
    match is_here {
        true => Ok((Url::parse(&format!("http://{host}/"))?, name, tag)),
        false => Ok((url, name, tag)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let hub = Url::parse("http://hub:8420").unwrap();
        let check = |to: &str, base: &str, name: &str, tag: Option<&str>| {
            let found = place(to, &hub).unwrap();
            let tag = tag.map(|tag| Tag::new(tag).unwrap());
            assert_eq!(found, (Url::parse(base).unwrap(), RepoName::new(name).unwrap(), tag), "{to}");
        };
        check("hub:smollm2", "http://hub:8420/", "smollm2", None);
        check("hub:team/smollm2:7", "http://hub:8420/", "team/smollm2", Some("7"));
        check("oci://ghcr.io/team/a", "https://ghcr.io/", "team/a", None);
        check("oci://ghcr.io:444/team/a:v1", "https://ghcr.io:444/", "team/a", Some("v1"));
        check("oci://127.0.0.1:5000/a", "http://127.0.0.1:5000/", "a", None);
        check("oci://[::1]:5000/a:7", "http://[::1]:5000/", "a", Some("7"));
        check("oci://localhost/a", "http://localhost/", "a", None);
        for bad in [
            "smollm2",
            "hub:",
            "hub:A",
            "hub:a:b:c",
            "oci://host",
            "oci://host/a@sha256:00",
            "https://host/a",
        ] {
            assert!(place(bad, &hub).is_err(), "{bad}");
        }
    }
}
