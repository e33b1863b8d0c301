//! Keys for trust in two places: the Ed25519 half in a PKCS#11 token, the ML-DSA half in a key file that names the token's key.
//!
//! The line in that file is of the kind `token`: the Ed25519 public key and the ML-DSA seed, 64 bytes, then the URI. The module
//! is what PKCS11_MODULE names, or else what the URI says.

use std::path::Path;

use package::trust::keyfile::Secret;
use package::trust::sign::HybridSigner;

/// The word in files of such keys.
pub(crate) const KIND: &str = "token";

#[cfg(feature = "pkcs11")]
mod with {
    use std::path::{Path, PathBuf};

    use anyhow::Context as _;
    use forge::pkcs11::uri::Uri;
    use forge::pkcs11::{PUBLIC_BYTES, Token};
    use package::trust::keyfile::Secret;
    use package::trust::sign::{Ed25519 as _, HybridSigner};
    use wire::world::{Entropy as _, System};
    use zeroize::Zeroizing;

    use crate::passphrase;

    /// The variable that names the module, as other programs have it.
    const MODULE_VARIABLE: &str = "PKCS11_MODULE";
    /// Bytes of the id of a key that is made.
    const ID_BYTES: usize = 8;
    const SEED_BYTES: usize = 32;

    pub(super) fn open(secret: &Secret) -> anyhow::Result<HybridSigner> {
        let uri: Uri = secret.token.as_deref().context("it names no key in a token")?.parse()?;
        let (public, seed) =
            secret.bytes.split_first_chunk::<PUBLIC_BYTES>().context("its half of the key is too short")?;
        let key = unlocked(&module(None, &uri)?, &uri, false)?.key(&uri, *public)?;
        Ok(HybridSigner::from_halves(Box::new(key), seed)?)
    }

    pub(super) fn create(uri: &str, module_path: Option<&Path>) -> anyhow::Result<(Secret, HybridSigner)> {
        let mut uri: Uri = uri.parse()?;
        let module = module(module_path, &uri)?;
        let mut chance = System::new();
        if uri.id.is_none() {
            let mut id = vec![0; ID_BYTES];
            chance.fill(&mut id);
            uri.id = Some(id);
        }
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        chance.fill(&mut *seed);
        let key = unlocked(&module, &uri, true)?.make(&uri)?;
        let bytes = Zeroizing::new([key.public(), &seed[..]].concat());
        uri.module_path = Some(module);
        let secret = Secret { kind: super::KIND.to_owned(), bytes, token: Some(uri.to_string()) };
        Ok((secret, HybridSigner::from_halves(Box::new(key), &*seed)?))
    }

    fn unlocked(module: &Path, uri: &Uri, write: bool) -> anyhow::Result<Token> {
        let token = Token::find(module, uri, write)?;
        let pin = token.wants_pin()?.then(|| passphrase::ask_pin(token.name())).transpose()?;
        token.log_in(pin.as_ref().map(|pin| pin.as_str()))?;
        Ok(token)
    }

    /// Which module speaks with the token. A path is made absolute; a bare name is looked for where the system has libraries.
    fn module(named: Option<&Path>, uri: &Uri) -> anyhow::Result<PathBuf> {
        let variable =
            || std::env::var_os(MODULE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let named = named.map(Path::to_owned).or_else(variable).or_else(|| uri.module_path.clone());
        let path = named.with_context(|| {
            format!("which PKCS#11 module speaks with the token? --module FILE.so, or {MODULE_VARIABLE}")
        })?;
        if path.components().count() < 2 {
            return Ok(path);
        }
        std::path::absolute(&path).with_context(|| format!("{} is no path", path.display()))
    }
}

#[cfg(not(feature = "pkcs11"))]
mod with {
    use std::path::Path;

    use package::trust::keyfile::Secret;
    use package::trust::sign::HybridSigner;

    const ABSENT: &str = "this selvedge was built without tokens: build it with `--features pkcs11`";

    pub(super) fn open(secret: &Secret) -> anyhow::Result<HybridSigner> {
        anyhow::bail!(
            "half of its key lies in a token, {}, and {ABSENT}",
            secret.token.as_deref().unwrap_or_default()
        )
    }

    pub(super) fn create(_: &str, _: Option<&Path>) -> anyhow::Result<(Secret, HybridSigner)> {
        anyhow::bail!(ABSENT)
    }
}

/// Opens the key of a file that was unlocked; asks for the PIN of its token.
pub(crate) fn open(secret: &Secret) -> anyhow::Result<HybridSigner> {
    with::open(secret)
}

/// Makes a key: its Ed25519 half in the token that `uri` means, called as `uri` says; gives what goes into the key file.
pub(crate) fn create(uri: &str, module: Option<&Path>) -> anyhow::Result<(Secret, HybridSigner)> {
    with::create(uri, module)
}
