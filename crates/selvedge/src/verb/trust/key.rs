//! `selvedge trust key`: secret keys in files, and what is public of them.

use std::io::{self, Write as _};
use std::path::PathBuf;

use package::trust::key::{KeyId, PublicKey};
use serde_json::json;

use super::own_key;
use crate::complaint::Usage;
use crate::keys::{self, Purpose, WORK, kind_name, public_path, read_public};
use crate::passphrase;

/// Make keys, and show what is public of them.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    New(New),
    Node(own_key::Args),
    Show(Show),
}

/// Make a key: the secret in a file that a passphrase locks, its public half beside it.
///
/// The file is one of age (`age -d` opens it). The public half is NAME.pub.json, as TUF writes keys; of a key for provenance
/// NAME.pub.pem too, which OpenSSF's model_signing reads.
///
/// With --token the Ed25519 half of a key for trust is made in a token, which never gives it out: a smart card or a hardware
/// module that speaks PKCS#11. The file then holds the other half and says where the first is; to sign takes both, the
/// passphrase and the token's PIN.
#[derive(clap::Args)]
pub(crate) struct New {
    /// The file to make, such as targets.age.
    file: PathBuf,

    /// hybrid (Ed25519 with ML-DSA-65, for trust), ecdsa-p256 (for `selvedge sign`), or content (for `selvedge pack --seal-key`;
    /// it has no public half).
    #[arg(long, value_name = "KIND", default_value = "hybrid")]
    kind: Purpose,

    /// Make the Ed25519 half in this token, under this name: pkcs11:token=LABEL;object=NAME (RFC 7512).
    #[arg(long, value_name = "URI")]
    token: Option<String>,

    /// The PKCS#11 module of the token, a shared library; without it what PKCS11_MODULE names, or module-path of the URI.
    #[arg(long, value_name = "FILE.so", requires = "token")]
    module: Option<PathBuf>,

    /// What each guess of the passphrase costs: 2^WORK KiB of memory.
    #[arg(long, value_name = "WORK", default_value_t = WORK, hide = true, value_parser = clap::value_parser!(u8).range(1..=20))]
    work: u8,
}

/// Show a key's id and kind.
#[derive(clap::Args)]
pub(crate) struct Show {
    /// A public key, NAME.pub.json or PEM; or a secret one, whose passphrase is then asked for.
    file: PathBuf,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::New(args) => new(args),
        Verb::Node(args) => own_key::run(args),
        Verb::Show(args) => show(args),
    }
}

fn new(args: &New) -> anyhow::Result<()> {
    if args.file.exists() {
        anyhow::bail!("{} is there already: a key is never overwritten", args.file.display());
    }
    if args.token.is_some() && args.kind != Purpose::Trust {
        return Err(Usage("tokens hold keys for trust alone: --kind hybrid".to_owned()).into());
    }
    let passphrase = passphrase::ask_new(&args.file)?;
    if args.kind == Purpose::Content {
        keys::create_seal(&args.file, &passphrase, args.work)?;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{}: a key that seals, locked; without it no further node can be let in",
            args.file.display()
        )?;
        return Ok(());
    }
    let key = match &args.token {
        Some(uri) => keys::create_in_token(&args.file, uri, args.module.as_deref(), &passphrase, args.work)?,
        None => keys::create(&args.file, args.kind, &passphrase, args.work)?,
    };
    let mut out = io::stdout().lock();
    let secret =
        if args.token.is_some() { "half of the secret, the other in the token" } else { "the secret" };
    writeln!(out, "{}: {secret}, locked; keep it off machines that are reachable", args.file.display())?;
    writeln!(out, "{}: its public half, for everybody", public_path(&args.file).display())?;
    writeln!(out, "id {}", key.signer().id())?;
    Ok(())
}

fn show(args: &Show) -> anyhow::Result<()> {
    let is_secret = args.file.extension().is_some_and(|extension| extension == "age");
    let value = match is_secret {
        true => keys::open(&args.file)?.signer().key().clone(),
        false => read_public(&args.file)?.0,
    };
    let kind = PublicKey::read(&value).map_or("unknown", |key| kind_name(&key));
    let id = KeyId::of(&value);
    let mut out = io::stdout().lock();
    if args.json {
        let record = json!({ "file": args.file, "id": id.to_string(), "kind": kind, "secret": is_secret });
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    let half = if is_secret { "secret and public half" } else { "public half" };
    writeln!(out, "{kind}, {half}\nid {id}")?;
    Ok(())
}
