//! Who publishes: releases of two models, the metadata that approves them, stage by stage, and who is assigned what; also
//! what an attacker offers.

use std::collections::BTreeMap;

use package::choose::Device;
use package::chunks::Chunks;
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::form::Annotations;
use package::index::{Release, Variant};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::name::ModelName;
use package::requirement::{Kind, Requires, Runtime, Version};
use package::trust::author::{Delegation, Holders, Plan, Repository};
use package::trust::canonical::{Value, canonical, to_json};
use package::trust::metadata::RoleName;
use package::trust::shadow::Limits;
use package::trust::sign::{HybridSigner, Signer};
use package::trust::time::format_utc;
use wire::world::WallMs;

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW_MS: WallMs = 1_767_225_600_000;
const DAY_MS: i64 = 86_400_000;

/// What the store may take: the releases that are needed at a time, and not the one that is too large.
pub(crate) const QUOTA_BYTES: u64 = 240 << 10;

/// A model and a release.
pub(crate) type Name = (&'static str, u64);

/// What a repository serves, by file.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A release that was packed.
pub(crate) struct Packed {
    pub(crate) index: Digest,
    pub(crate) index_bytes: u64,
    /// The variant that is the best for the node of the night.
    pub(crate) manifest: Digest,
    /// A smaller one.
    pub(crate) spare: Option<Digest>,
}

/// All that anybody serves in a night.
pub(crate) struct House {
    /// The first root, which nodes are given.
    pub(crate) root: Vec<u8>,
    /// What the repository serves from stage to stage.
    pub(crate) stages: Vec<Files>,
    pub(crate) releases: BTreeMap<Name, Packed>,
    /// What the registry serves.
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
}

fn key(seed: u8) -> HybridSigner {
    HybridSigner::from_seed(&[seed; 64]).unwrap()
}

fn holders(seed: u8) -> Holders {
    Holders { keys: vec![key(seed).key().clone()], threshold: 1, life_ms: 365 * DAY_MS }
}

/// Who changes the repository.
struct Authors {
    repository: Repository,
    served: Files,
    stages: Vec<Files>,
    root: u8,
    timestamp: u8,
}

impl Authors {
    fn sign(&mut self, role: &RoleName, seeds: &[u8]) {
        for seed in seeds {
            self.repository.sign(role, &key(*seed)).unwrap();
        }
    }

    /// Publishes what is staged: the next stage of the night.
    fn publish(&mut self) {
        let (snapshot, timestamp) = (key(5), key(self.timestamp));
        let published = self.repository.publish(&[&snapshot, &timestamp], NOW_MS).unwrap();
        assert_eq!(published.waiting, []);
        self.served
            .extend(published.files.into_iter().map(|(file, bytes)| (file.as_str().to_owned(), bytes)));
        self.stages.push(self.served.clone());
    }

    /// Lets a role approve a release.
    fn approve(&mut self, role: &RoleName, (model, release): Name, packed: &Packed) {
        let file = (packed.index_bytes, packed.index.hash());
        let path = format!("models/{model}/{release}");
        self.repository.add_target(role, &path, file, None, NOW_MS).unwrap();
    }
}

impl House {
    /// Stages 0…12; which act sees which stands in `night`.
    pub(crate) fn build() -> House {
        let plan =
            Plan { root: holders(1), targets: holders(4), snapshot: holders(5), timestamp: holders(6) };
        let repository = Repository::init(&plan, NOW_MS).unwrap();
        let (served, stages) = (Files::new(), Vec::new());
        let mut authors = Authors { repository, served, stages, root: 1, timestamp: 6 };
        let (root, targets) = (RoleName::root(), RoleName::targets());
        let mut house =
            House { root: Vec::new(), stages: Vec::new(), releases: BTreeMap::new(), blobs: BTreeMap::new() };
        for release in 1..=9 {
            let chunks = if release == 7 { 40 } else { 12 };
            house.pack(("tiny", release), release as u8, chunks);
        }
        house.pack(("other", 1), 2, 12);
        for (release, chunks) in [(1, [4, 8]), (2, [4, 8]), (3, [22, 2])] {
            house.pack_pair(("pair", release), 20 + release as u8, chunks);
        }

        let assignments = RoleName::delegated("assignments").unwrap();
        let delegation = Delegation {
            name: "assignments".into(),
            holders: holders(7),
            paths: vec!["assignments/*".into()],
            terminating: true,
        };
        authors.repository.delegate(&targets, &delegation, NOW_MS).unwrap();
        authors.sign(&root, &[1]);
        authors.sign(&assignments, &[7]);
        let team = RoleName::delegated("team-a").unwrap();
        let news: [&[Name]; 13] = [
            &[("tiny", 1)],
            &[("tiny", 2)],
            &[("other", 1)],
            &[("tiny", 3)],
            &[("tiny", 4)],
            &[("tiny", 5)],
            &[("tiny", 6)],
            &[("tiny", 7)],
            &[("tiny", 8)],
            &[("tiny", 9)],
            &[("pair", 1)],
            &[("pair", 2)],
            &[("pair", 3)],
        ];
        for (stage, new) in news.into_iter().enumerate() {
            if stage == 4 {
                // Other keys for the root and the timestamp.
                let (old_root, new_root) = (authors.root, 9);
                let rotate = |authors: &mut Authors, role: &RoleName, old: u8, new: u8| {
                    let (add, remove) = ([key(new).key().clone()], [key(old).id()]);
                    authors.repository.rotate(role, &add, &remove, None, NOW_MS).unwrap();
                };
                rotate(&mut authors, &root, old_root, new_root);
                let old_timestamp = std::mem::replace(&mut authors.timestamp, 10);
                rotate(&mut authors, &RoleName::timestamp(), old_timestamp, 10);
                authors.sign(&root, &[old_root, new_root]);
                authors.root = new_root;
            }
            let role = if stage == 6 { &team } else { &targets };
            if stage == 6 {
                let (name, paths) = ("team-a".into(), vec!["models/tiny/*".into()]);
                let delegation = Delegation { name, holders: holders(8), paths, terminating: false };
                authors.repository.delegate(&targets, &delegation, NOW_MS).unwrap();
            }
            for name in new {
                authors.approve(role, *name, &house.releases[name]);
            }
            authors.sign(&targets, &[4]);
            if stage == 6 {
                authors.sign(&team, &[8]);
            }
            authors.publish();
        }
        house.root = authors.served["1.root.json"].clone();
        house.stages = authors.stages;
        house
    }

    fn put(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.blobs.insert(digest, bytes);
        digest
    }

    /// A release with one variant, whose weights are made from `seed`.
    fn pack(&mut self, name: Name, seed: u8, chunks: usize) {
        let (variant, manifest) = self.variant(name, "q4_k_m", seed, chunks, None);
        self.release(name, vec![variant], manifest, None);
    }

    /// A release with two variants, of which the second needs less memory and is worse.
    fn pack_pair(&mut self, name: Name, seed: u8, [chunks, spare_chunks]: [usize; 2]) {
        let (large, manifest) = self.variant(name, "q8_0", seed, chunks, Some((100, 10.0)));
        let (small, spare) = self.variant(name, "q4_0", seed ^ 0x55, spare_chunks, Some((50, 12.0)));
        self.release(name, vec![large, small], manifest, Some(spare));
    }

    /// A variant, whose weights are made from `seed`; if `needs`: bytes of memory, and a perplexity.
    fn variant(
        &mut self,
        (model, release): Name,
        variant: &str,
        seed: u8,
        chunks: usize,
        needs: Option<(u64, f64)>,
    ) -> (Variant, Digest) {
        let weights: Vec<u8> = (0..chunks * 4096 - 7).map(|at| (at * 31 % 251) as u8 ^ seed).collect();
        let (_, list) = Chunks::of(&weights[..], 4096).unwrap();
        let list = self.layer(Role::Chunks, list.to_bytes());
        let weights = self.layer(Role::Weights, weights).with(media::CHUNKS, list.digest.to_string());
        let golden = self.layer(Role::Golden, format!("the golden set of {model} {release}").into_bytes());
        let config = self.put(b"{}".to_vec());
        let mut manifest =
            Manifest::new(media::MODEL_MANIFEST, Descriptor::new(media::MODEL_CONFIG, config, 2));
        let requires = Requires {
            ram_bytes: needs.map_or(1, |(bytes, _)| bytes),
            disk_bytes: 1,
            isa: vec![],
            accelerator: None,
            selvedge: Version(0, 1, 0),
            context: None,
        };
        requires.write(&mut manifest.annotations);
        let golden_digest = golden.digest.to_string();
        for (key, value) in [
            (media::FORM, "1"),
            (media::MODEL, model),
            (media::RELEASE, &release.to_string()),
            (media::VARIANT, variant),
            (media::KIND, "lm"),
            (media::RUNTIME, "lm"),
            (Role::Golden.key().unwrap(), &golden_digest),
        ] {
            manifest.annotations.insert(key.into(), value.into());
        }
        if let Some((_, value)) = needs {
            let on = Digest::of(b"a text");
            let quality =
                format!(r#"{{"metric":"perplexity","value":{value:.1},"better":"lower","on":"{on}"}}"#);
            manifest.annotations.insert(media::QUALITY.into(), quality);
        }
        manifest.layers = vec![weights, list, golden];
        let variant = Variant::of(&manifest).unwrap();
        (variant, self.put(manifest.to_bytes()))
    }

    fn release(&mut self, name: Name, variants: Vec<Variant>, manifest: Digest, spare: Option<Digest>) {
        let (model, release) = name;
        let release = Release {
            model: ModelName::new(model).unwrap(),
            release,
            variants,
            provenance: vec![],
            annotations: Annotations::new(),
        };
        let bytes = release.to_bytes();
        let index_bytes = bytes.len() as u64;
        let index = self.put(bytes);
        self.releases.insert(name, Packed { index, index_bytes, manifest, spare });
    }

    fn layer(&mut self, role: Role, bytes: Vec<u8>) -> Descriptor {
        let size = bytes.len() as u64;
        let layer = Descriptor::new(role.media_type(), self.put(bytes), size);
        layer.with(media::ROLE, role.word()).with(media::FILEPATH, role.word())
    }

    /// An assignment of these releases to the node of the night.
    pub(crate) fn assign(&self, version: u64, names: &[Name]) -> Vec<u8> {
        sign(self.assignment(version, names), &key(7))
    }

    /// The same, signed by somebody whom nobody trusts.
    pub(crate) fn forge(&self, version: u64, names: &[Name]) -> Vec<u8> {
        sign(self.assignment(version, names), &key(99))
    }

    fn assignment(&self, version: u64, names: &[Name]) -> Value {
        let models = names.iter().map(|name| {
            let packed = &self.releases[name];
            Value::object([
                ("model", name.0.into()),
                ("release", name.1.into()),
                ("index", packed.index.to_string().into()),
                ("size", packed.index_bytes.into()),
                ("variant", Value::Null),
                ("allow_rollback", false.into()),
                ("forgive", false.into()),
            ])
        });
        Value::object([
            ("_type", "assignment".into()),
            ("spec_version", "1.0.31".into()),
            ("id", "00112233445566778899aabbccddeeff".into()),
            ("version", version.into()),
            ("subject", Value::object([("node", NODE.into())])),
            ("issued", format_utc(NOW_MS).into()),
            ("not_before", format_utc(NOW_MS).into()),
            ("expires", format_utc(NOW_MS + 7 * DAY_MS).into()),
            ("rollout", Value::Null),
            ("models", Value::List(models.collect())),
            ("targets_version", 1u64.into()),
        ])
    }

    /// An experiment's word: this release of `tiny` answers beside the current one.
    pub(crate) fn assign_beside(&self, version: u64, release: u64) -> Vec<u8> {
        let limits =
            Limits { share_ppm: 100_000, core_ppm: 50_000, joules: None, memory_bytes: None, answers: 4 };
        let mut document = of_experiment(self.assignment(version, &[("tiny", release)]));
        let models = document.as_object_mut().and_then(|fields| fields.get_mut("models"));
        if let Some(Value::List(models)) = models {
            let fields = models[0].as_object_mut().unwrap();
            fields.insert("shadow".into(), limits.to_value());
        }
        sign(document, &key(7))
    }

    /// The experiment's last word: nothing answers beside any more.
    pub(crate) fn withdraw(&self, version: u64) -> Vec<u8> {
        sign(of_experiment(self.assignment(version, &[])), &key(7))
    }
}

/// The same for everybody, in a line of versions of its own.
fn of_experiment(mut document: Value) -> Value {
    let fields = document.as_object_mut().unwrap();
    let selector = Value::object([("labels", Value::object([]))]);
    fields.insert("subject".into(), Value::object([("selector", selector)]));
    fields.insert("id".into(), "ffeeddccbbaa99887766554433221100".into());
    document
}

/// The node of the night.
pub(crate) const NODE: &str = "pump-1";

fn sign(signed: Value, signer: &HybridSigner) -> Vec<u8> {
    let signature = signer.sign(&canonical(&signed)).unwrap();
    to_json(&Value::object([("signed", signed), ("signatures", Value::List(vec![signature]))]))
}

/// A device that everything fits.
pub(crate) fn device() -> Device {
    Device {
        memory_bytes: Some(1 << 40),
        free_bytes: Some(1 << 40),
        disk_free_bytes: Some(1 << 40),
        arch: "x86_64",
        runs: vec![(Kind::Lm, Runtime::Lm)],
        selvedge: Some(Version(9, 0, 0)),
        ..Device::default()
    }
}
