//! The hash chain of a stream: each record's hash covers the hash before it, so a record cannot be changed, removed
//! or slipped in without every later hash changing.
//!
//! The hash is SHA-256 over a text header, one field a line, and the body. An auditor can check it with `sha256sum`:
//!
//! ```text
//! selvedge-record/1
//! <hash of the record before, or 64 zeros>
//! <stream> <seq> <class> <kind>
//! <boot> <mono_ns> <wall_ms> <clock>
//! <body>
//! ```

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::class::Class;
use crate::hash::Hash;
use crate::id::StreamName;
use crate::record::Stamp;

/// The part of a record that its hash covers beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// The record's stream.
    pub stream: &'a StreamName,
    /// The stream's class.
    pub class: Class,
    /// The record's place in the stream.
    pub seq: u64,
    /// What the body is.
    pub kind: &'a str,
    /// When it was written.
    pub stamp: Stamp,
}

/// The hash of a record that follows `before`.
pub fn link(before: Hash, link: Link<'_>, body: &str) -> Hash {
    let Link { stream, class, seq, kind, stamp: Stamp { boot, mono_ns, wall_ms, clock } } = link;
    let mut header = String::with_capacity(256);
    // Writing to a String cannot fail.
    let _ = write!(
        header,
        "selvedge-record/1\n{before}\n{stream} {seq} {class} {kind}\n{boot} {mono_ns} {wall_ms} {}\n",
        clock.as_str()
    );
    Hash::from(Sha256::new().chain_update(header.as_bytes()).chain_update(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BootId;
    use crate::world::{ClockQuality, Simulated};

    fn sample(seq: u64, wall_ms: i64, body: &str) -> Hash {
        let stream = StreamName::new("decisions").unwrap();
        let boot = BootId::random(&mut Simulated::new(1));
        let stamp = Stamp { boot, mono_ns: 5, wall_ms, clock: ClockQuality::Checked };
        link(Hash::GENESIS, Link { stream: &stream, class: Class::Audit, seq, kind: "decision", stamp }, body)
    }

    /// The form is public: changing it breaks every journal in the field.
    #[test]
    fn the_hashed_form_is_golden() {
        let text = "selvedge-record/1\n0000000000000000000000000000000000000000000000000000000000000000\n\
             decisions 1 audit decision\nc15c0289ec2d0a9167ec8e65a18debbe 5 10 checked\n{\"a\":1}";
        assert_eq!(sample(1, 10, "{\"a\":1}"), Hash::of(text.as_bytes()));
    }

    #[test]
    fn every_part_changes_the_hash() {
        let base = sample(1, 10, "{}");
        assert_ne!(base, sample(2, 10, "{}"));
        assert_ne!(base, sample(1, 11, "{}"));
        assert_ne!(base, sample(1, 10, "{ }"));
    }
}
