//! Small files that say of themselves whether they are as they were written: a line about the rest, and the rest.
//!
//! ```text
//! {"form":1,"sequence":17,"length":N,"sha256":"…"}
//! …
//! ```
//!
//! Writing a file whole survives power cuts; this finds what nothing survives: a disk that lies, and a hand that slipped.

use serde::{Deserialize, Serialize};
use wire::hash::Hash;

/// The form that is written and read.
const FORM: u32 = 1;

/// The longest first line.
const HEAD_MAX_BYTES: usize = 256;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// How often the file was replaced.
    pub sequence: u64,
    /// The rest.
    pub body: Vec<u8>,
}

/// Why a file is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Not what was written.
    #[error("its checksum or its form is wrong")]
    Damaged,
    /// Written by a newer program.
    #[error("it has form {found}, this program knows {FORM}")]
    Form {
        /// The form.
        found: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    form: u32,
    sequence: u64,
    length: u64,
    sha256: Hash,
}

impl Checked {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Checked { sequence, ref body } = *self;
        let head = Head { form: FORM, sequence, length: body.len() as u64, sha256: Hash::of(body) };
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(body);
        bytes
    }

    /// Reads what [`Checked::to_bytes`] gave.
    pub fn parse(bytes: &[u8]) -> Result<Checked, Damage> {
        let head = &bytes[..bytes.len().min(HEAD_MAX_BYTES)];
        let end = head.iter().position(|byte| *byte == b'\n').ok_or(Damage::Damaged)?;
        let head: Head = serde_json::from_slice(&head[..end]).map_err(|_| Damage::Damaged)?;
        if head.form != FORM {
            return Err(Damage::Form { found: head.form });
        }
        let body = &bytes[end + 1..];
        if body.len() as u64 != head.length || Hash::of(body) != head.sha256 {
            return Err(Damage::Damaged);
        }
        Ok(Checked { sequence: head.sequence, body: body.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damage_is_found() {
        let checked = Checked { sequence: 17, body: b"{\"a\":1}".to_vec() };
        let bytes = checked.to_bytes();
        assert_eq!(Checked::parse(&bytes), Ok(checked.clone()));
        for end in 0..bytes.len() {
            assert_eq!(Checked::parse(&bytes[..end]), Err(Damage::Damaged), "{end}");
        }
        for at in bytes.len() - checked.body.len()..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(Checked::parse(&bytes), Err(Damage::Damaged), "{at}");
        }
        let newer = String::from_utf8(bytes).unwrap().replace("\"form\":1", "\"form\":2");
        assert_eq!(Checked::parse(newer.as_bytes()), Err(Damage::Form { found: 2 }));
    }
}
