//! `selvedge trust sign`: a signature more on a staged document, on whatever machine the key lies.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use package::disk::system::System as Disk;
use package::disk::{read_whole, write_whole};
use package::trust::canonical::{Value, canonical, to_json};
use package::trust::envelope::Envelope;

use crate::complaint::Usage;
use crate::keys::{Keys, Unlocked};

/// Sign a staged document: staged/root.json, staged/targets.json, …
///
/// It may have come from another machine, alone, and goes back there signed; nothing else of the repository is needed here.
/// Look at what it says before you sign. Whether a signature counts is judged when the document is published.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The document.
    file: PathBuf,

    #[command(flatten)]
    keys: Keys,
}

/// The largest document that is read.
const FILE_MAX: u64 = 5 << 20;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.keys.files.is_empty() {
        return Err(Usage("nothing to sign with: --key KEY.age".to_owned()).into());
    }
    let path = args.file.display();
    let bytes =
        read_whole(&Disk, &args.file, FILE_MAX)?.with_context(|| format!("there is no file {path}"))?;
    let envelope =
        Envelope::read(&bytes).with_context(|| format!("{path} is no document of a repository"))?;
    let said = |field: &str| envelope.signed.get(field).and_then(Value::as_text);
    let (kind, expires) = (said("_type"), said("expires"));
    let version = envelope.signed.get("version").and_then(Value::as_u64);
    let (Some(kind), Some(expires), Some(version)) = (kind, expires, version) else {
        anyhow::bail!("{path} is no document of a repository: it has no type, version or expiry");
    };
    let mut signatures: Vec<Value> = envelope.signatures().cloned().collect();
    for key in args.keys.unlock()? {
        let Unlocked::Trust(_) = &key else {
            anyhow::bail!("a key for provenance signs no {kind}: take a hybrid one");
        };
        let id = key.signer().id().to_string();
        let signature = key.signer().sign(&canonical(&envelope.signed))?;
        signatures.retain(|signature| signature.get("keyid").and_then(Value::as_text) != Some(&*id));
        signatures.push(signature);
    }
    let count = signatures.len();
    let signed =
        Value::object([("signed", envelope.signed.clone()), ("signatures", Value::List(signatures))]);
    write_whole(&Disk, &args.file, &to_json(&signed))?;
    let mut out = io::stdout().lock();
    let signatures = if count == 1 { "signature" } else { "signatures" };
    writeln!(out, "{path}: {kind} {version}, which expires {expires}, has {count} {signatures}")?;
    Ok(())
}
