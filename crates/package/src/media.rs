//! Media types and the keys of annotations, each written once; and the roles that a manifest's layers have.
//!
//! Media types of weights, documents and data are ModelPack's own (<https://github.com/modelpack/model-spec>), so that
//! other tools can move and unpack a package. What they have no word for stands in annotations.

/// An OCI image manifest: a variant, or one provenance.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index: a release.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The config of a manifest that needs none: `{}`.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// `artifactType` of a model's manifest.
pub const MODEL_MANIFEST: &str = "application/vnd.cncf.model.manifest.v1+json";
/// A model's config.
pub const MODEL_CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
/// Weights, byte for byte.
pub const WEIGHT_RAW: &str = "application/vnd.cncf.model.weight.v1.raw";
/// What belongs to weights.
pub const WEIGHT_CONFIG_RAW: &str = "application/vnd.cncf.model.weight.config.v1.raw";
/// Text for people.
pub const DOC_RAW: &str = "application/vnd.cncf.model.doc.v1.raw";
/// Inputs and outputs.
pub const DATASET_RAW: &str = "application/vnd.cncf.model.dataset.v1.raw";

/// `artifactType` of a release's index.
pub const PACKAGE: &str = "application/vnd.selvedge.package.v1";
/// Weights that only the nodes they are meant for can open.
pub const SEALED: &str = "application/vnd.selvedge.sealed.v1";
/// How those are sealed, the value of [`SEALED_AS`]: AES-256-GCM in chunks of 1 MiB.
pub const AES_256_GCM_1M: &str = "aes-256-gcm-1m";
/// Who made a variant: a Sigstore bundle.
pub const SIGSTORE_BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The name of a layer's file, as ModelPack calls it.
pub const FILEPATH: &str = "org.cncf.model.filepath";
/// What a person calls an entry of a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The version, for tools that know OCI only.
pub const OCI_VERSION: &str = "org.opencontainers.image.version";
/// The licence as SPDX writes it.
pub const OCI_LICENSES: &str = "org.opencontainers.image.licenses";
/// When it was made, RFC 3339.
pub const OCI_CREATED: &str = "org.opencontainers.image.created";

/// The form that this version writes and reads.
pub const FORM_1: &str = "1";

/// What all annotations of ours begin with.
pub const PREFIX: &str = "dev.selvedge.";

/// A key of ours.
macro_rules! key {
    ($($(#[$what:meta])* $name:ident = $word:literal;)*) => {
        $($(#[$what])* pub const $name: &str = concat!("dev.selvedge.", $word);)*
    };
}

key! {
    /// The form of a package: `1`.
    FORM = "form";
    /// The model's name.
    MODEL = "model";
    /// The release: a number that only grows.
    RELEASE = "release";
    /// The variant's name, once in an index.
    VARIANT = "variant";
    /// `lm`, `net`, `adapter`, `detector` or `flow`.
    KIND = "kind";
    /// `lm`, `onnx`, `signal` or `flow`.
    RUNTIME = "runtime";
    /// Memory that running takes, in bytes.
    REQUIRES_RAM = "requires.ram";
    /// Disk that the blobs take, in bytes.
    REQUIRES_DISK = "requires.disk";
    /// `any`, or alternatives such as `x86_64+avx2,aarch64+neon`.
    REQUIRES_ISA = "requires.isa";
    /// `none`, or one such as `cuda`.
    REQUIRES_ACCELERATOR = "requires.accelerator";
    /// The least version of ours.
    REQUIRES_SELVEDGE = "requires.selvedge";
    /// Tokens that [`REQUIRES_RAM`] is reckoned with.
    CONTEXT = "context";
    /// What was measured of its answers, as JSON.
    QUALITY = "quality";
    /// How long answers took on some machines, as JSON.
    LATENCY = "latency";
    /// What answers took of energy on some machines, as JSON.
    ENERGY = "energy";
    /// An adapter's base: the digest of its manifest.
    BASE = "base";
    /// How the weights are sealed.
    SEALED_AS = "sealed";
    /// What a layer is there for, see [`Role`].
    ROLE = "role";
    /// Of a layer: the digest of its list of chunks.
    CHUNKS = "chunks";
}

/// What a layer is there for. Each stands in a manifest once at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The numbers.
    Weights,
    /// Hashes of the pieces of the weights.
    Chunks,
    /// Questions with answers that a device tries before it trusts.
    Golden,
    /// How a score becomes a probability.
    Calibration,
    /// What goes in: tensors, units, window.
    Input,
    /// What stands before and after a network.
    Recipe,
    /// The model card.
    Card,
    /// The licence's text.
    Licence,
    /// The bill of materials.
    Bom,
    /// Where time goes, as measured.
    Profile,
}

impl Role {
    /// All of them, in the order in which layers are written.
    pub const ALL: [Role; 10] = [
        Role::Weights,
        Role::Chunks,
        Role::Golden,
        Role::Calibration,
        Role::Input,
        Role::Recipe,
        Role::Card,
        Role::Licence,
        Role::Bom,
        Role::Profile,
    ];

    /// The value of [`ROLE`].
    pub fn word(self) -> &'static str {
        match self {
            Role::Weights => "weights",
            Role::Chunks => "chunks",
            Role::Golden => "golden",
            Role::Calibration => "calibration",
            Role::Input => "input",
            Role::Recipe => "recipe",
            Role::Card => "card",
            Role::Licence => "licence",
            Role::Bom => "bom",
            Role::Profile => "profile",
        }
    }

    /// Reads [`Role::word`]; `None` for a role of a later version.
    pub fn of_word(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }

    /// The media type of a plain layer of this role.
    pub fn media_type(self) -> &'static str {
        match self {
            Role::Weights => WEIGHT_RAW,
            Role::Chunks | Role::Calibration | Role::Input | Role::Recipe => WEIGHT_CONFIG_RAW,
            Role::Golden => DATASET_RAW,
            Role::Card | Role::Licence | Role::Bom | Role::Profile => DOC_RAW,
        }
    }

    /// The manifest's annotation that holds the layer's digest, for the roles that have one.
    pub fn key(self) -> Option<&'static str> {
        Some(match self {
            Role::Weights | Role::Chunks | Role::Licence => return None,
            Role::Golden => "dev.selvedge.golden",
            Role::Calibration => "dev.selvedge.calibration",
            Role::Input => "dev.selvedge.input",
            Role::Recipe => "dev.selvedge.recipe",
            Role::Card => "dev.selvedge.card",
            Role::Bom => "dev.selvedge.bom",
            Role::Profile => "dev.selvedge.profile",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_words_agree() {
        assert_eq!(REQUIRES_RAM.strip_prefix(PREFIX), Some("requires.ram"));
        for role in Role::ALL {
            assert_eq!(Role::of_word(role.word()), Some(role));
            if let Some(key) = role.key() {
                assert_eq!(key.strip_prefix(PREFIX), Some(role.word()));
            }
        }
        assert_eq!(Role::of_word("tokenizer"), None);
    }
}
