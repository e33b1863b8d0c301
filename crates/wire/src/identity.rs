//! How a node comes to belong to a hub, and keeps its certificate: enrolment by a code that proves both to each other or by
//! its maker's certificate, renewal, and signed time for clocks that are wrong.
//!
//! A code is a secret that the hub drew and the beginning of the digest of the hub's authority, in one string: who has it can
//! tell the true hub from another, and the hub can tell who has it. Keys and certificates are DER, as base64 in JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base32;
use crate::facts::Facts;
use crate::hash::Hash;
use crate::id::NodeId;
use crate::world::{Entropy, WallMs};

/// Where a node enrols.
pub const ENROL_PATH: &str = "/api/v1/enrol";
/// In which header a node shows its request for a certificate again, DER in base64, where it asks about its ticket: a second
/// signature by the key that it is about.
pub const PROOF_HEADER: &str = "selvedge-request";
/// Where it renews its certificate.
pub const RENEW_PATH: &str = "/api/v1/identity/renew";
/// Where the hub says what time it is.
pub const TIME_PATH: &str = "/api/v1/time";

/// The largest request for a certificate, as DER.
pub const CSR_MAX_BYTES: usize = 4 << 10;

/// The largest body of any of these calls, answers included.
pub const BODY_MAX_BYTES: usize = 32 << 10;

/// Characters of each half of a code: 100 bits.
const HALF: usize = 20;

/// What an operator hands to whoever sets up a node: `K7QM2-9DXTF-3WBRA-6HPCE.4TNS8-YQ2VG-KDM5X-A3JRB`. A token, good for
/// several nodes, begins with `T.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    is_token: bool,
    secret: String,
    pin: String,
}

/// What is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no code: it has forty characters in eight groups, with a dot in the middle")]
pub struct NoCode;

impl Code {
    /// Draws one for the authority with this public key, as DER.
    pub fn draw(entropy: &mut dyn Entropy, is_token: bool, authority: &[u8]) -> Code {
        Code { is_token, secret: base32::draw(entropy, HALF), pin: pin(authority) }
    }

    /// Reads what somebody typed.
    pub fn parse(typed: &str) -> Result<Code, NoCode> {
        let typed = typed.trim();
        if typed.len() > 100 {
            return Err(NoCode);
        }
        let (is_token, rest) = match typed.strip_prefix("T.").or_else(|| typed.strip_prefix("t.")) {
            Some(rest) => (true, rest),
            None => (false, typed),
        };
        let half = |text: &str| base32::normal(text).filter(|half| half.len() == HALF).ok_or(NoCode);
        let (secret, pin) = rest.split_once('.').ok_or(NoCode)?;
        Ok(Code { is_token, secret: half(secret)?, pin: half(pin)? })
    }

    /// Whether it is good for several nodes.
    pub fn is_token(&self) -> bool {
        self.is_token
    }

    /// What the hub keeps of it.
    pub fn hash(&self) -> Hash {
        Hash::of(self.secret.as_bytes())
    }

    /// Whether this public key, as DER, is that of the hub's authority.
    pub fn is_authority(&self, key: &[u8]) -> bool {
        self.pin == pin(key)
    }
}

/// As a person reads it.
impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let group = |half: &str, f: &mut std::fmt::Formatter<'_>| {
            let mut rest = half;
            while rest.len() > 5 {
                let (group, after) = rest.split_at(5);
                write!(f, "{group}-")?;
                rest = after;
            }
            f.write_str(rest)
        };
        if self.is_token {
            f.write_str("T.")?;
        }
        group(&self.secret, f)?;
        f.write_str(".")?;
        group(&self.pin, f)
    }
}

/// The first 100 bits of the digest of a public key.
fn pin(key: &[u8]) -> String {
    base32::encode(Hash::of(key).as_bytes(), HALF)
}

/// A node asks to belong to the hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrolAsk {
    /// The code or token, as typed; absent where the connection shows a certificate of the device's maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The request for a certificate, DER in base64. Only the key and the proof that it is held are taken from it.
    pub csr: String,
    /// What the node would like to be called; a code that names one goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeId>,
    /// What it says of itself, for the person who admits it.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A person looks first. The node asks again at [`ticket_path`] until it is in or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketAnswer {
    /// By which it asks.
    pub ticket: String,
    /// After so many seconds.
    pub retry_s: u32,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Where a node asks what became of its ticket.
pub fn ticket_path(ticket: &str) -> String {
    format!("{ENROL_PATH}/{ticket}")
}

/// The hub takes it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// What it is called from now on.
    pub node: NodeId,
    /// Its certificate, DER in base64.
    pub certificate: String,
    /// From when it counts.
    pub not_before_ms: WallMs,
    /// Until when.
    pub not_after_ms: WallMs,
    /// The authority's, which the hub's own certificate ends in, DER in base64.
    pub authority: String,
    /// The key that the hub signs time with: Ed25519, 64 hex digits.
    pub time_key: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A node asks for its next certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewAsk {
    /// As in [`EnrolAsk::csr`]; the key may be a new one.
    pub csr: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Its next certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewAnswer {
    /// DER in base64.
    pub certificate: String,
    /// From when it counts.
    pub not_before_ms: WallMs,
    /// Until when.
    pub not_after_ms: WallMs,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A node asks what time it is, because the hub's certificate does not fit its clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeAsk {
    /// 32 random bytes as hex, so that no old answer counts.
    pub nonce: Hash,
}

/// The hub's wall clock, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeAnswer {
    /// Milliseconds since 1970 UTC.
    pub hub_ms: WallMs,
    /// Ed25519 over [`time_message`], as hex.
    pub signature: String,
}

/// What is signed when the hub says what time it is.
pub fn time_message(hub_ms: WallMs, nonce: Hash) -> Vec<u8> {
    format!("selvedge time v1\n{hub_ms}\n{nonce}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Simulated;

    #[test]
    fn a_code_proves_both_to_each_other() {
        let mut world = Simulated::new(1);
        for is_token in [false, true] {
            let code = Code::draw(&mut world, is_token, b"authority");
            let text = code.to_string();
            assert_eq!(Code::parse(&text), Ok(code.clone()), "{text}");
            let typed = format!(" {} ", text.to_lowercase().replace('0', "o").replace('-', " "));
            assert_eq!(Code::parse(&typed), Ok(code.clone()), "{typed}");
            assert!(code.is_authority(b"authority") && !code.is_authority(b"another"));
            assert_ne!(code.hash(), Code::draw(&mut world, is_token, b"authority").hash());
        }
        let good = Code::draw(&mut world, false, b"a").to_string();
        for wrong in ["", ".", &good[1..], &good.replace('.', "-"), &format!("{good}0"), &"A".repeat(1000)] {
            assert_eq!(Code::parse(wrong), Err(NoCode), "{wrong}");
        }
    }
}
