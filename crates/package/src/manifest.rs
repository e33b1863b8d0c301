//! An OCI image manifest as ModelPack uses it: one variant of a model, its config and its layers.
//!
//! Reading is tolerant of what other tools write and strict about what could mean two things: a role or a file's name
//! twice, paths that lead out of a folder, sizes that overflow. What is read and written again may differ in bytes;
//! who needs the digest keeps the bytes as they came.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::descriptor::Descriptor;
use crate::form::{self, Annotations, BLOB_MAX_BYTES, ENTRIES_MAX, FormError};
use crate::media::{self, Role};

/// A variant, or one provenance.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What it is: [`media::MODEL_MANIFEST`] for a variant.
    pub artifact_type: Option<String>,
    /// A model's config, or the empty one.
    pub config: Descriptor,
    /// Files, in the order of the publisher.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one speaks of.
    pub subject: Option<Descriptor>,
    /// What the publisher says of it.
    pub annotations: Annotations,
    /// Fields of other versions and tools.
    pub extra: BTreeMap<String, Value>,
}

/// A manifest as it stands in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(default = "own_media_type")]
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    #[serde(default, deserialize_with = "form::list")]
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "form::annotations", skip_serializing_if = "BTreeMap::is_empty")]
    annotations: Annotations,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

fn own_media_type() -> String {
    media::OCI_MANIFEST.to_owned()
}

impl Manifest {
    /// A manifest of this kind, with nothing in it.
    pub fn new(artifact_type: &str, config: Descriptor) -> Manifest {
        Manifest {
            artifact_type: Some(artifact_type.to_owned()),
            config,
            layers: Vec::new(),
            subject: None,
            annotations: Annotations::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Who made a variant: the manifest of a Sigstore bundle, which speaks of the variant's manifest.
    pub fn provenance(bundle: &Descriptor, variant: &Descriptor) -> Manifest {
        let subject = Descriptor::new(&variant.media_type, variant.digest, variant.size);
        let mut manifest = Manifest::new(media::SIGSTORE_BUNDLE, Descriptor::empty());
        manifest.layers.push(bundle.clone());
        manifest.subject = Some(subject);
        manifest
    }

    /// Reads a manifest of at most [`form::DOCUMENT_MAX_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Manifest, FormError> {
        let document: Document = form::read("OCI manifest", bytes)?;
        if document.schema_version != 2 {
            let found = document.schema_version.to_string();
            return Err(FormError::Unsupported { what: "manifest's schemaVersion", found, known: "2" });
        }
        if document.media_type != media::OCI_MANIFEST {
            let found = document.media_type;
            return Err(FormError::Unsupported { what: "media type", found, known: media::OCI_MANIFEST });
        }
        let Document { artifact_type, config, layers, subject, annotations, extra, .. } = document;
        let manifest = Manifest { artifact_type, config, layers, subject, annotations, extra };
        manifest.check()?;
        Ok(manifest)
    }

    /// The manifest as JSON: compact, keys in the order of OCI's own tools. Equal manifests are equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Manifest { artifact_type, config, layers, subject, annotations, extra } = self.clone();
        let media_type = own_media_type();
        form::write(&Document {
            schema_version: 2,
            media_type,
            artifact_type,
            config,
            layers,
            subject,
            annotations,
            extra,
        })
    }

    /// The layer of this role.
    pub fn layer(&self, role: Role) -> Option<&Descriptor> {
        self.layers.iter().find(|layer| layer.role() == Some(role))
    }

    /// What is said under this key.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Whether this is a model, as ModelPack says it.
    pub fn is_model(&self) -> bool {
        self.artifact_type.as_deref() == Some(media::MODEL_MANIFEST)
            || self.config.media_type == media::MODEL_CONFIG
    }

    /// The bytes of all blobs that it names.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum::<u64>() + self.config.size
    }

    fn check(&self) -> Result<(), FormError> {
        form::check_annotations(&self.annotations)?;
        let found = self.layers.len();
        if found > ENTRIES_MAX {
            return Err(FormError::TooMany { what: "layers", found, most: ENTRIES_MAX });
        }
        let (mut size, mut roles, mut paths) = (self.config.size, BTreeSet::new(), BTreeSet::new());
        self.config.check()?;
        self.subject.iter().try_for_each(Descriptor::check)?;
        for layer in &self.layers {
            layer.check()?;
            size = size.saturating_add(layer.size);
            if let Some(role) = layer.role().filter(|role| !roles.insert(*role)) {
                return Err(FormError::Twice { what: "layers", name: role.word().to_owned() });
            }
            if let Some(path) = layer.filepath().filter(|path| !paths.insert(*path)) {
                return Err(FormError::Twice { what: "files", name: path.to_owned() });
            }
        }
        if size > BLOB_MAX_BYTES {
            let why = format_args!("no package has more than {BLOB_MAX_BYTES} bytes");
            return Err(form::wrong_value("size", &size.to_string(), why));
        }
        self.check_roles()
    }

    /// What the annotations say of the layers is so: digests of roles, the weights' list of chunks, plain media types.
    fn check_roles(&self) -> Result<(), FormError> {
        for role in Role::ALL {
            let layer = self.layer(role);
            if let Some(layer) = layer
                && layer.media_type != role.media_type()
                && !(role == Role::Weights && layer.media_type == media::SEALED)
            {
                let found = layer.media_type.clone();
                return Err(FormError::Unsupported { what: "media type", found, known: role.media_type() });
            }
            let Some((key, said)) = role.key().and_then(|key| Some((key, self.annotation(key)?))) else {
                continue;
            };
            if layer.is_none_or(|layer| layer.digest.to_string() != said) {
                return Err(form::wrong_value(key, said, "no layer of this role has this digest"));
            }
        }
        let said = self.layer(Role::Weights).and_then(|weights| weights.annotation(media::CHUNKS));
        let chunks = self.layer(Role::Chunks).map(|layer| layer.digest.to_string());
        match said {
            Some(said) if chunks.as_deref() != Some(said) => {
                Err(form::wrong_value(media::CHUNKS, said, "no layer of the role chunks has this digest"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    /// A variant as `pack` writes it.
    fn variant() -> Manifest {
        let chunks = layer(Role::Chunks, "model.gguf.chunks", b"SVCHUNK1");
        let weights =
            layer(Role::Weights, "model.gguf", b"GGUF").with(media::CHUNKS, chunks.digest.to_string());
        let golden = layer(Role::Golden, "golden.json", b"{}");
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::of(media::MODEL_CONFIG, b"{}"));
        manifest.annotations.insert("dev.selvedge.golden".into(), golden.digest.to_string());
        manifest.layers = vec![weights, chunks, golden];
        manifest
    }

    fn layer(role: Role, path: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::of(role.media_type(), bytes).with(media::FILEPATH, path).with(media::ROLE, role.word())
    }

    #[test]
    fn written_as_the_formats_page_says() {
        let bytes = variant().to_bytes();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let (gguf, chunks) = (Digest::of(b"GGUF"), Digest::of(b"SVCHUNK1"));
        let head = concat!(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""artifactType":"application/vnd.cncf.model.manifest.v1+json","#,
            r#""config":{"mediaType":"application/vnd.cncf.model.config.v1+json","#,
            r#""digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"#,
        );
        let weights = format!(
            r#""layers":[{{"mediaType":"application/vnd.cncf.model.weight.v1.raw","digest":"{gguf}","size":4,"annotations":{{"dev.selvedge.chunks":"{chunks}","dev.selvedge.role":"weights","org.cncf.model.filepath":"model.gguf"}}}},"#
        );
        assert!(text.starts_with(&format!("{head}{weights}")), "{text}");
        let read = Manifest::parse(&bytes).unwrap();
        assert_eq!(read, variant());
        assert_eq!(read.to_bytes(), bytes);
        assert!(read.is_model());
        assert_eq!(read.size(), 2 + 4 + 8 + 2);
        assert_eq!(read.layer(Role::Golden).unwrap().filepath(), Some("golden.json"));
        assert_eq!(read.layer(Role::Card), None);
    }

    #[test]
    fn what_other_tools_write_is_read() {
        let digest = Digest::of(b"");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x/y","digest":"{digest}","size":0}},"layers":null,"annotations":null,"new":[1]}}"#
        );
        let read = Manifest::parse(text.as_bytes()).unwrap();
        assert!(read.layers.is_empty() && !read.is_model());
        assert!(read.extra.contains_key("new"));
        let docker = text
            .replace("\"schemaVersion\":2", "\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker\"");
        assert!(matches!(Manifest::parse(docker.as_bytes()), Err(FormError::Unsupported { .. })));
        let first = text.replace("\"schemaVersion\":2", "\"schemaVersion\":1");
        assert!(matches!(Manifest::parse(first.as_bytes()), Err(FormError::Unsupported { .. })));
        assert!(matches!(Manifest::parse(b"[]"), Err(FormError::Json { .. })));
        assert!(matches!(Manifest::parse("[".repeat(100_000).as_bytes()), Err(FormError::Json { .. })));
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        fn check(change: impl FnOnce(&mut Manifest), expected: &str) {
            let mut manifest = variant();
            change(&mut manifest);
            let error = Manifest::parse(&manifest.to_bytes()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        check(|m| m.layers.push(m.layers[0].clone()), "two layers");
        check(
            |m| {
                let mut again = m.layers[2].clone();
                again.annotations.remove(media::ROLE);
                m.layers.push(again);
            },
            "two files",
        );
        check(|m| m.layers[0].size = u64::MAX, "no blob has more");
        check(
            |m| {
                m.layers[0].size = BLOB_MAX_BYTES;
                m.layers[1].size = BLOB_MAX_BYTES;
                m.layers[2].size = BLOB_MAX_BYTES;
            },
            "no package has more",
        );
        check(|m| m.layers.resize(257, Descriptor::empty()), "257 layers");
        check(
            |m| m.layers[0].media_type = "application/vnd.cncf.model.weight.v1.tar".into(),
            "not supported",
        );
        check(|m| drop(m.layers.remove(1)), "no layer of the role chunks");
        check(|m| drop(m.layers.remove(2)), "no layer of this role");
        check(
            |m| drop(m.layers[0].annotations.insert(media::FILEPATH.into(), "../x".into())),
            "stays in its folder",
        );
        check(|m| drop(m.annotations.insert("k".into(), "v".repeat(70_000))), "bytes of annotations");
    }

    #[test]
    fn provenance_speaks_of_a_variant() {
        let variant = Descriptor::of(media::OCI_MANIFEST, &variant().to_bytes()).with("k", "v");
        let manifest = Manifest::provenance(&Descriptor::of(media::SIGSTORE_BUNDLE, b"{}"), &variant);
        let read = Manifest::parse(&manifest.to_bytes()).unwrap();
        assert_eq!(read, manifest);
        assert!(!read.is_model());
        let subject = read.subject.unwrap();
        assert_eq!((subject.digest, subject.annotations.len()), (variant.digest, 0));
    }

    #[test]
    fn a_sealed_layer_is_weights() {
        let mut manifest = variant();
        manifest.layers[0].media_type = media::SEALED.into();
        assert!(Manifest::parse(&manifest.to_bytes()).is_ok());
    }
}
