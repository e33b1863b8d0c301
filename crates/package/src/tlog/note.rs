//! Who says what a log holds: notes with signatures (<https://c2sp.org/signed-note>), and the checkpoint, the note of a log
//! (<https://c2sp.org/tlog-checkpoint>).
//!
//! Signatures are Ed25519. Signatures of keys that are not asked for are not looked at, so that witnesses may add theirs.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use wire::hash::Hash;

use crate::form::decimal;
use crate::trust::hex::{from_hex, to_hex};

/// The longest note that is read, in bytes.
pub const NOTE_MAX_BYTES: usize = 64 << 10;

/// The most signatures that are looked at.
const SIGNATURES_MAX: usize = 64;

/// What a signature line begins with: an em dash and a space.
const DASH: &str = "— ";

/// The algorithm of a key, in the words of signed notes.
const ED25519_WORD: u8 = 1;

/// A note that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than anything honest.
    #[error("a note has at most {NOTE_MAX_BYTES} bytes, not {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not a text, an empty line, and signatures.
    #[error("this is no signed note: {why}")]
    Form {
        /// What is wrong.
        why: &'static str,
    },
    /// Nobody who counts has signed it.
    #[error("{name} has not signed this note")]
    Unsigned {
        /// Whose signature is missing.
        name: String,
    },
    /// A key that is none.
    #[error("this is no key of a log: {why}")]
    Key {
        /// What is wrong.
        why: &'static str,
    },
    /// Signed, and no checkpoint.
    #[error("this note is no checkpoint: {why}")]
    Checkpoint {
        /// What is wrong.
        why: &'static str,
    },
}

/// The public key of who signs notes. As text: `name+0123abcd+base64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    public: [u8; 32],
}

impl NoteKey {
    /// A key with a name: not empty, without white space, `+` and control characters.
    pub fn new(name: &str, public: [u8; 32]) -> Result<NoteKey, NoteError> {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
        match !name.is_empty() && name.len() <= 200 && name.chars().all(plain) {
            true => Ok(NoteKey { name: name.to_owned(), public }),
            false => Err(NoteError::Key { why: "its name must be plain words without spaces" }),
        }
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Result<NoteKey, NoteError> {
        let wrong = |why| NoteError::Key { why };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("it reads like name+0123abcd+base64"));
        };
        let key = BASE64_STANDARD.decode(key).map_err(|_| wrong("its last part is no base64"))?;
        let Some((&ED25519_WORD, public)) = key.split_first() else {
            return Err(wrong("it is of another kind than Ed25519"));
        };
        let public = public.try_into().map_err(|_| wrong("an Ed25519 key has 32 bytes"))?;
        let key = NoteKey::new(name, public)?;
        match from_hex(id).is_some_and(|id| id == key.id()) {
            true => Ok(key),
            false => Err(wrong("its number is not that of its name and bytes")),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of Ed25519.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// What tells it from others of the same name.
    pub fn id(&self) -> [u8; 4] {
        let named = [self.name.as_bytes(), &[b'\n', ED25519_WORD], &self.public].concat();
        let hash = Hash::of(&named);
        let [a, b, c, d, ..] = *hash.as_bytes();
        [a, b, c, d]
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_WORD][..], &self.public].concat();
        write!(f, "{}+{}+{}", self.name, to_hex(&self.id()), BASE64_STANDARD.encode(key))
    }
}

/// Who signs notes.
pub struct NoteSigner {
    pair: Ed25519KeyPair,
    key: NoteKey,
}

impl NoteSigner {
    /// The key called `name` that grows from a seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<NoteSigner, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        let pair = pair.map_err(|_| NoteError::Key { why: "the seed makes no key" })?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| NoteError::Key { why: "an Ed25519 key has 32 bytes" })?;
        Ok(NoteSigner { key: NoteKey::new(name, public)?, pair })
    }

    /// Its public half.
    pub fn key(&self) -> &NoteKey {
        &self.key
    }

    /// The note of a text that ends with a line's end and has no control characters but those.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        check_text(text)?;
        let signature = [&self.key.id()[..], self.pair.sign(text.as_bytes()).as_ref()].concat();
        Ok(format!("{text}\n{DASH}{} {}\n", self.key.name, BASE64_STANDARD.encode(signature)))
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    let wrong = |why| Err(NoteError::Form { why });
    match text {
        _ if !text.ends_with('\n') => wrong("its text must end with a line's end"),
        _ if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') => wrong("control characters stand in it"),
        _ => Ok(()),
    }
}

/// The text of a note that `key` has signed.
pub fn open<'a>(note: &'a [u8], key: &NoteKey) -> Result<&'a str, NoteError> {
    if note.len() > NOTE_MAX_BYTES {
        return Err(NoteError::TooLong { bytes: note.len() });
    }
    let form = |why| NoteError::Form { why };
    let note = std::str::from_utf8(note).map_err(|_| form("it is no text"))?;
    let blank = note.rfind("\n\n").ok_or_else(|| form("no empty line stands before the signatures"))?;
    let (text, signatures) = (&note[..=blank], &note[blank + 2..]);
    check_text(text)?;
    let lines = signatures.strip_suffix('\n').ok_or_else(|| form("its last line does not end"))?;
    let mut is_signed = false;
    for (at, line) in lines.split('\n').enumerate() {
        let signature = line.strip_prefix(DASH).and_then(|line| line.split_once(' '));
        let (name, signature) = signature.ok_or_else(|| form("a line is no signature"))?;
        let signature = BASE64_STANDARD.decode(signature).map_err(|_| form("a signature is no base64"))?;
        let Some((id, signature)) = signature.split_first_chunk::<4>() else {
            return Err(form("a signature is too short"));
        };
        if at >= SIGNATURES_MAX {
            return Err(form("it has more signatures than are looked at"));
        }
        if name == key.name && *id == key.id() {
            let public = UnparsedPublicKey::new(&ED25519, key.public);
            // A wrong signature of the right key is not passed over: somebody tried.
            public
                .verify(text.as_bytes(), signature)
                .map_err(|_| NoteError::Unsigned { name: name.to_owned() })?;
            is_signed = true;
        }
    }
    if is_signed { Ok(text) } else { Err(NoteError::Unsigned { name: key.name.clone() }) }
}

/// What a log was at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name of its key.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root.as_bytes()))
    }

    /// Reads a text that was signed. Lines of later versions are left out.
    pub fn parse(text: &str) -> Result<Checkpoint, NoteError> {
        let wrong = |why| NoteError::Checkpoint { why };
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(wrong("it has three lines at least"));
        };
        if origin.is_empty() || lines.next().is_none() {
            return Err(wrong("a line is empty, or does not end"));
        }
        let size = decimal(size).ok_or_else(|| wrong("its second line is no number"))?;
        let root = BASE64_STANDARD.decode(root).ok().and_then(|root| Hash::from_slice(&root));
        let root = root.ok_or_else(|| wrong("its third line is no hash in base64"))?;
        Ok(Checkpoint { origin: origin.to_owned(), size, root })
    }

    /// What a witness names of it: `<size> <root in base64>`.
    pub fn brief(&self) -> String {
        format!("{} {}", self.size, BASE64_STANDARD.encode(self.root.as_bytes()))
    }

    /// The inverse of [`Checkpoint::brief`]: size and root.
    pub fn read_brief(text: &str) -> Option<(u64, Hash)> {
        let (size, root) = text.split_once(' ').filter(|_| text.len() <= 100)?;
        let root = BASE64_STANDARD.decode(root).ok()?;
        Some((decimal(size)?, Hash::from_slice(&root)?))
    }

    /// The checkpoint of a note that the log's own key has signed.
    pub fn open(note: &[u8], key: &NoteKey) -> Result<Checkpoint, NoteError> {
        let checkpoint = Checkpoint::parse(open(note, key)?)?;
        match checkpoint.origin == key.name {
            true => Ok(checkpoint),
            false => Err(NoteError::Checkpoint { why: "it is of another log than its key" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_specification_is_read() {
        // From golang.org/x/mod/sumdb/note, the library that defined the form.
        let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key = NoteKey::parse(vkey).unwrap();
        assert_eq!((key.name(), key.to_string()), ("PeterNeumann", vkey.to_owned()));
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert!(open(note.as_bytes(), &key).unwrap().starts_with("If you think"));
        for wrong in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+AhpcAA==",
            "PeterNeumann+c74f20a3+ARpcAA==",
        ] {
            assert!(NoteKey::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_checkpoint_is_believed_by_its_signature_alone() {
        let signer = NoteSigner::from_seed("selvedge/hub", &[7; 32]).unwrap();
        let other = NoteSigner::from_seed("selvedge/hub", &[8; 32]).unwrap();
        let origin = "selvedge/hub".to_owned();
        let checkpoint = Checkpoint { origin, size: 300, root: Hash::of(b"root") };
        let note = signer.sign(&checkpoint.text()).unwrap();
        assert_eq!(Checkpoint::open(note.as_bytes(), signer.key()), Ok(checkpoint.clone()));
        assert!(matches!(Checkpoint::open(note.as_bytes(), other.key()), Err(NoteError::Unsigned { .. })));
        for at in 0..note.len() {
            let mut wrong = note.clone().into_bytes();
            wrong[at] ^= 1;
            assert!(Checkpoint::open(&wrong, signer.key()).is_err(), "byte {at}");
            assert!(Checkpoint::open(&note.as_bytes()[..at], signer.key()).is_err(), "first {at}");
        }
        // A witness adds a line; it is neither needed nor in the way.
        let witness = other.sign(&checkpoint.text()).unwrap();
        let (_, line) = witness.split_once("\n\n").unwrap();
        let both = format!("{note}{line}");
        assert_eq!(Checkpoint::open(both.as_bytes(), signer.key()), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::open(both.as_bytes(), other.key()), Ok(checkpoint.clone()));
        let later = signer.sign(&format!("{}more\n", checkpoint.text())).unwrap();
        assert_eq!(Checkpoint::open(later.as_bytes(), signer.key()), Ok(checkpoint.clone()));
        let elsewhere = Checkpoint { origin: "other".into(), ..checkpoint };
        let elsewhere = signer.sign(&elsewhere.text()).unwrap();
        assert!(matches!(
            Checkpoint::open(elsewhere.as_bytes(), signer.key()),
            Err(NoteError::Checkpoint { .. })
        ));
        for wrong in ["", "no end", "a\tb\n"] {
            assert!(signer.sign(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["a\n1\n", "a\n01\nAA==\n", "a\n1\nAA==\n", "\n1\n\n"] {
            assert!(Checkpoint::parse(wrong).is_err(), "{wrong:?}");
        }
        let long = signer.sign(&format!("{}\n", "x".repeat(NOTE_MAX_BYTES))).unwrap();
        assert!(matches!(open(long.as_bytes(), signer.key()), Err(NoteError::TooLong { .. })));
    }
}
