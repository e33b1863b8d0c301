//! `selvedge sign`: says who made a package, in the form of OpenSSF's model signing.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use forge::parcel::Parcel;
use forge::sign::sign;

use crate::complaint::Usage;
use crate::keys::{Unlocked, open};

/// Say who made a package: put a signature over each variant's files into its index.
///
/// The signature is a bundle of OpenSSF model signing, which other tools verify too. It says where a model comes from; what
/// a node may run is said by `selvedge trust add`, which comes after this, since signing changes the index.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A package in a folder.
    package: PathBuf,

    /// The secret key of who made it, as `selvedge trust key new MAKER.age --kind ecdsa-p256` makes one.
    #[arg(long, value_name = "KEY.age")]
    provenance: PathBuf,

    /// The release to sign, such as smollm2:7; without it the only one there is.
    #[arg(long, value_name = "NAME:NUMBER")]
    release: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let parcel = Parcel::open(&args.package)?;
    let entry = parcel.entry(args.release.as_deref())?;
    let layout = parcel.layout().with_context(|| {
        format!(
            "{} is one file, which stays as it is: sign the folder, then export it",
            args.package.display()
        )
    })?;
    let Unlocked::Provenance(signer) = open(&args.provenance)? else {
        let why = format!(
            "{} is a key for trust; who made a model is signed with one of `selvedge trust key new --kind ecdsa-p256`",
            args.provenance.display()
        );
        return Err(Usage(why).into());
    };
    let (index, made) = sign(layout, &parcel, &entry, &signer)?;
    let mut out = io::stdout().lock();
    match made {
        0 => writeln!(out, "{} was signed by this key already: nothing changed", entry.name())?,
        1 => writeln!(out, "signed 1 variant of {}", entry.name())?,
        made => writeln!(out, "signed {made} variants of {}", entry.name())?,
    }
    writeln!(out, "index {}", index.digest)?;
    Ok(())
}
