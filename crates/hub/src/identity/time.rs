//! What time it is, signed, for nodes whose clock the hub's certificate does not fit.

use package::trust::sign::{Ed25519Signer, Signer as _};
use wire::hash::Hash;
use wire::identity::{TimeAnswer, time_message};
use wire::world::WallMs;

/// The time with a signature over it and the asker's nonce; `None` if the key does not sign.
pub fn answer(key: &Ed25519Signer, now_ms: WallMs, nonce: Hash) -> Option<TimeAnswer> {
    let signed = key.sign(&time_message(now_ms, nonce)).ok()?;
    let signature = signed.get("sig")?.as_text()?.to_owned();
    Some(TimeAnswer { hub_ms: now_ms, signature })
}

/// The public half, as 64 hex digits.
pub fn public(key: &Ed25519Signer) -> String {
    let public = key.key().get("keyval").and_then(|value| value.get("public"));
    public.and_then(|public| public.as_text()).unwrap_or_default().to_owned()
}
