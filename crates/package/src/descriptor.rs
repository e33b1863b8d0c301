//! An OCI descriptor: what some bytes are, what they are called, and how many there are.
//!
//! Fields that this version does not know are kept, so that a descriptor copied from one document to another is whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::form::{self, Annotations, BLOB_MAX_BYTES, FormError};
use crate::media::{self, Role};

/// Points at bytes that stand elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    pub media_type: String,
    /// Their name.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// What the publisher says of them.
    #[serde(default, deserialize_with = "form::annotations", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
    /// For which machines, if not for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Of a manifest: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Fields of other versions and tools.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Machines that something is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// In Go's words: `amd64`, `arm64`.
    pub architecture: String,
    /// In Go's words: `linux`.
    pub os: String,
    /// Fields of other versions and tools.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Descriptor {
    /// Points at these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Points at `size` bytes with this digest.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: Annotations::new(),
            platform: None,
            artifact_type: None,
            extra: BTreeMap::new(),
        }
    }

    /// The empty config of manifests that need none; its bytes are `{}`.
    pub fn empty() -> Descriptor {
        Descriptor::of(media::OCI_EMPTY, b"{}")
    }

    /// With one annotation more.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Descriptor {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// What is said under this key.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// What a layer is there for; `None` for a stranger's layer and for a role of a later version.
    pub fn role(&self) -> Option<Role> {
        self.annotation(media::ROLE).and_then(Role::of_word)
    }

    /// The name of a layer's file, in ModelPack's words.
    pub fn filepath(&self) -> Option<&str> {
        self.annotation(media::FILEPATH)
    }

    /// Refuses what nothing honest says: sizes beyond OCI's, annotations without end, paths that lead out of a folder.
    pub fn check(&self) -> Result<(), FormError> {
        form::check_annotations(&self.annotations)?;
        if self.size > BLOB_MAX_BYTES {
            let why = format_args!("no blob has more than {BLOB_MAX_BYTES} bytes");
            return Err(form::wrong_value("size", &self.size.to_string(), why));
        }
        match self.filepath() {
            Some(path) if !is_safe_path(path) => {
                let why = "a file's path stays in its folder: parts with '/' between them, none of them '..'";
                Err(form::wrong_value(media::FILEPATH, path, why))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a path stays in the folder that it is joined to, on every system.
pub fn is_safe_path(path: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    let character = |c: char| !c.is_control() && !matches!(c, '\\' | ':');
    path.len() <= 1024 && path.split('/').all(part) && path.chars().all(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_survive() {
        let text = r#"{"mediaType":"a/b","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":9223372036854775807,"annotations":{"k":"v"},"platform":{"architecture":"arm64","os":"linux","variant":"v8"},"artifactType":"c/d","urls":["x"]}"#;
        let read: Descriptor = serde_json::from_str(text).unwrap();
        assert_eq!((read.size, read.annotation("k")), (BLOB_MAX_BYTES, Some("v")));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(read.check().is_ok());
        assert!(serde_json::from_str::<Descriptor>(&text.replace("\"size\":9", "\"size\":-9")).is_err());
        assert!(
            serde_json::from_str::<Descriptor>(&text.replace("\"k\":\"v\"", "\"k\":\"v\",\"k\":\"w\""))
                .is_err()
        );
        assert!(
            serde_json::from_str::<Descriptor>(&text.replace("{\"media", "{\"size\":1,\"media")).is_err()
        );
    }

    #[test]
    fn what_nothing_honest_says() {
        let plain = Descriptor::of("a/b", b"x");
        assert!(plain.check().is_ok());
        assert!(Descriptor { size: BLOB_MAX_BYTES + 1, ..plain.clone() }.check().is_err());
        assert!(plain.clone().with("k", "v".repeat(form::ANNOTATIONS_MAX_BYTES)).check().is_err());
        assert!(plain.clone().with(media::FILEPATH, "a/b.gguf").check().is_ok());
        for path in
            ["", "..", "a/../b", "/etc/passwd", "a//b", "a\\b", "c:x", "a\0", "a/", "./a", &"a/".repeat(2048)]
        {
            assert!(plain.clone().with(media::FILEPATH, path).check().is_err(), "{path:?}");
        }
    }
}
