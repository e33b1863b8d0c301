//! `selvedge hub backup`, `check` and `archive verify`: a hub's store in a person's hands.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use hub::chains::Verified;
use hub::config::HubConfig;
use hub::config::database::DatabaseUrl;
use hub::store::{self, upkeep};

use super::threads::runtime;

/// Whose store it is.
#[derive(clap::Args)]
pub(super) struct Place {
    /// The hub's settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The folder of the hub's store.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// The PostgreSQL server instead of a file in that folder.
    #[arg(long, value_name = "URL", env = "SELVEDGE_DATABASE_URL", hide_env_values = true)]
    database: Option<DatabaseUrl>,
}

impl Place {
    fn find(self) -> anyhow::Result<(HubConfig, Option<DatabaseUrl>)> {
        let config = self.config.as_deref().map(node::config::problem::read_text).transpose()?;
        let config = config.map(|text| HubConfig::parse(&text)).transpose()?.unwrap_or_default();
        let server = match self.database {
            Some(server) => Some(server),
            None => config.read_database()?,
        };
        let data = self.data.unwrap_or_else(|| config.data.clone());
        Ok((HubConfig { data, ..config }, server))
    }
}

/// Copy the hub's database, while the hub runs: one file, as it is at this moment.
///
/// With a PostgreSQL server, print the command that does it. Packages and keys are not in the database: docs/hub.md says what
/// else belongs to a backup.
#[derive(clap::Args)]
pub(super) struct Backup {
    /// The file to write; there is none of that name yet.
    out: PathBuf,

    #[command(flatten)]
    place: Place,
}

pub(super) fn backup(args: Backup) -> anyhow::Result<()> {
    let (config, server) = args.place.find()?;
    let mut out = std::io::stdout();
    let data = config.data.display();
    match server {
        // The password stays where it is: pg_dump reads PGPASSWORD and the file that PGPASSFILE names.
        Some(url) => writeln!(out, "pg_dump --format=custom --file={} '{url}'", quoted(&args.out))?,
        None => {
            let bytes = runtime()?.block_on(async {
                let readers = store::look(&config.data, None).await?;
                let bytes = upkeep::backup(&readers, &args.out).await?;
                readers.close().await;
                anyhow::Ok(bytes)
            })?;
            writeln!(out, "{}: {bytes} bytes", args.out.display())?;
        }
    }
    let keys =
        config.identity.keys.as_deref().map_or(format!("{data}/keys"), |keys| keys.display().to_string());
    let log =
        config.audit.key_file.as_deref().map_or(format!("{data}/audit.key"), |key| key.display().to_string());
    let packages = match (&config.depot.s3, &config.depot.folder) {
        (Some(bucket), _) => format!("the bucket {}", bucket.bucket),
        (None, Some(folder)) => folder.display().to_string(),
        (None, None) => format!("{data}/packages"),
    };
    let mut err = std::io::stderr();
    writeln!(
        err,
        "not in it, and to be kept apart: packages and the archive ({packages}); keys ({keys}, {log})"
    )?;
    Ok(())
}

/// A path as a shell takes it.
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Look at the whole store: the database file, every record against its chain, what each node was told.
///
/// Ends with 1 if something is wrong. A hub may run meanwhile.
#[derive(clap::Args)]
pub(super) struct Check {
    /// Then give the file's free space back; the hub must be stopped, and the disk have room for a copy.
    #[arg(long)]
    compact: bool,

    /// Write what was found as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

pub(super) fn check(args: Check) -> anyhow::Result<()> {
    let (config, server) = args.place.find()?;
    let (checked, free) = runtime()?.block_on(async {
        let readers = store::look(&config.data, server.as_ref()).await?;
        let checked = upkeep::check(&readers).await?;
        let free = if server.is_none() { upkeep::free_bytes(&readers).await? } else { 0 };
        readers.close().await;
        anyhow::Ok((checked, free))
    })?;
    let faults: Vec<&String> = checked.faults.iter().chain(&checked.chains.faults).collect();
    let mut out = std::io::stdout();
    if args.json {
        let mut told = told(&checked.chains);
        told["free_bytes"] = free.into();
        told["faults"] = serde_json::json!(faults);
        writeln!(out, "{told}")?;
    } else {
        writeln!(out, "{}; {free} bytes free in the file", shown(&checked.chains))?;
        for fault in &faults {
            writeln!(out, "wrong: {fault}")?;
        }
    }
    if !faults.is_empty() || checked.chains.wrong > 0 {
        bail!("the store is not whole; restore it from a backup: docs/hub.md");
    }
    match (args.compact, &server) {
        (false, _) => {}
        (true, Some(_)) => bail!("PostgreSQL gives free space back by itself: see VACUUM in its manual"),
        (true, None) => {
            runtime()?.block_on(async {
                let mut store = store::open(&config.data, None).await?;
                store.readers.close().await;
                upkeep::compact(&mut store.writer).await?;
                anyhow::Ok(())
            })?;
            writeln!(out, "compacted")?;
        }
    }
    Ok(())
}

fn told(found: &Verified) -> serde_json::Value {
    serde_json::json!({
        "records": found.records, "gaps": found.gaps, "chains": found.chains, "begin_late": found.begin_late,
        "again": found.again, "wrong": found.wrong,
    })
}

fn shown(found: &Verified) -> String {
    let Verified { records, gaps, chains, begin_late, .. } = found;
    let late =
        if *begin_late > 0 { format!(", {begin_late} of them from the middle on") } else { String::new() };
    format!("{records} records fit the chains of {chains} streams{late}; {gaps} losses were told of")
}

/// Records as files, in the depot.
#[derive(clap::Args)]
pub(super) struct Archive {
    #[command(subcommand)]
    verb: ArchiveVerb,
}

/// What can be done with them.
#[derive(clap::Subcommand)]
enum ArchiveVerb {
    /// Hold every record of the archive against its chain, from the files alone.
    ///
    /// Ends with 1 if one does not fit.
    Verify(ArchiveVerify),
}

/// Which archive.
#[derive(clap::Args)]
struct ArchiveVerify {
    /// The hub's settings, which say where the depot is.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The folder of the hub's store, if the depot lies in it.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Write what was found as JSON.
    #[arg(long)]
    json: bool,
}

#[cfg(feature = "archive")]
pub(super) fn archive(args: Archive) -> anyhow::Result<()> {
    use hub::archive::verify::verify;
    use hub::depot::Depot;
    use wire::world::{Clock as _, System};

    let ArchiveVerb::Verify(args) = args.verb;
    let (config, _) = Place { config: args.config, data: args.data, database: None }.find()?;
    let found = runtime()?.block_on(async {
        let depot = Depot::open(&config.depot, &config.data, System::new().wall_ms())?;
        anyhow::Ok(verify(&depot).await?)
    })?;
    let mut out = std::io::stdout();
    if args.json {
        let mut told = told(&found);
        told["faults"] = found.faults.clone().into();
        writeln!(out, "{told}")?;
    } else {
        writeln!(out, "{}", shown(&found))?;
        for fault in &found.faults {
            writeln!(out, "wrong: {fault}")?;
        }
    }
    if found.wrong > 0 {
        bail!("the archive is not as it was written");
    }
    Ok(())
}

#[cfg(not(feature = "archive"))]
pub(super) fn archive(_: Archive) -> anyhow::Result<()> {
    bail!("this selvedge was built without an archive: build it with `--features archive`")
}
