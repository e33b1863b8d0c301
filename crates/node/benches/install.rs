//! What it costs that a model is checked before it runs: a package of 1 GB verified, opened and loaded, beside SHA-256 alone.
//!
//! `cargo bench -p node --bench install [-- --quick] [-- --in FOLDER]`. In each of five rounds everything is measured once, in
//! another order each time; medians count, and a ratio is that of the same round. The file is in the page cache, as it is
//! after a transfer. *sha256* hashes the same file on one thread, read 1 MiB at a time. *verify* is what follows a
//! transfer: every blob of the variant, byte for byte, on one thread. *open* checks the weights chunk by chunk over the
//! map that they are loaded from, *load* makes of it a model that can be asked; the two together are what every start costs.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench talks to a person and may stop at any fault"
)]

use std::fs::{self, File};
use std::io::{BufWriter, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::format::Format;
use lm::model::Model;
use lm::specimen::Specimen;
use node::install::keys::Keys;
use node::install::state::Slot;
use node::install::verify::verify;
use node::install::weights::gguf::open;
use package::chunks::{CHUNK_BYTES, Chunks};
use package::descriptor::Descriptor;
use package::disk::system::System as Disk;
use package::form::Annotations;
use package::index::{Release, Variant};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::name::{ModelName, VariantName};
use package::store::Store;
use sha2::{Digest as _, Sha256};
use wire::hash::Hash;
use wire::world::{Clock as _, System};

const ROUNDS: usize = 5;

/// The blocks of Llama-3.2-1B, so many that they are 1 GB in Q4_0.
const WHOLE: Specimen = Specimen { layers: 23, ..Specimen::B1 };

/// For a glance.
const QUICK: Specimen = Specimen { format: Format::Q8_0, ..Specimen::M135 };

/// A store with one variant, as a transfer leaves it.
struct Stand {
    store: Store<Disk>,
    slot: Slot,
    weights: PathBuf,
    size: u64,
}

impl Stand {
    fn new(folder: &Path, specimen: &Specimen) -> Stand {
        let store = Store::open(Disk, &folder.join("packages"), u64::MAX).unwrap();
        let made = folder.join("weights.gguf");
        specimen.write(&mut BufWriter::with_capacity(1 << 20, File::create(&made).unwrap())).unwrap();
        let (digest, list) = Chunks::of(File::open(&made).unwrap(), CHUNK_BYTES).unwrap();
        let (weights, size) = (store.blob_path(&digest), fs::metadata(&made).unwrap().len());
        fs::rename(&made, &weights).unwrap();
        let put = |bytes: &[u8]| store.put_small(bytes, 0).unwrap();
        let list = list.to_bytes();
        let layer = |role: Role, digest, size| {
            let layer = Descriptor::new(role.media_type(), digest, size);
            layer.with(media::ROLE, role.word()).with(media::FILEPATH, role.word())
        };
        let list = layer(Role::Chunks, put(&list), list.len() as u64);
        put(b"{}");
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::of(media::MODEL_CONFIG, b"{}"));
        let model = layer(Role::Weights, digest, size).with(media::CHUNKS, list.digest.to_string());
        manifest.layers = vec![model, list];
        let said = [
            (media::FORM, "1"),
            (media::MODEL, "bench"),
            (media::RELEASE, "1"),
            (media::VARIANT, "q4_0"),
            (media::KIND, "lm"),
            (media::RUNTIME, "lm"),
            (media::REQUIRES_RAM, "1"),
            (media::REQUIRES_DISK, "1"),
            (media::REQUIRES_ISA, "any"),
            (media::REQUIRES_ACCELERATOR, "none"),
            (media::REQUIRES_SELVEDGE, "0.1.0"),
        ];
        manifest.annotations = Annotations::from(said.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let variants = vec![Variant::of(&manifest).unwrap()];
        let model = ModelName::new("bench").unwrap();
        let (provenance, annotations) = (Vec::new(), Annotations::new());
        let index = Release { model, release: 1, variants, provenance, annotations }.to_bytes();
        let slot = Slot {
            release: 1,
            index: put(&index),
            manifest: put(&manifest.to_bytes()),
            variant: VariantName::new("q4_0").unwrap(),
            weights: digest,
            golden: None,
            committed_ms: None,
            rollout: None,
        };
        Stand { store, slot, weights, size }
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Sha256,
    Verify,
    /// Open and load, on so many threads.
    Start(usize),
}

const WORK: [Work; 4] = [Work::Sha256, Work::Verify, Work::Start(1), Work::Start(2)];

/// Seconds of one kind of work in each round; of a start, those until it is open, and all.
type Taken = Vec<(f64, f64)>;

fn measure(stand: &Stand, work: Work, clock: &System) -> (f64, f64) {
    let begun_ns = clock.mono_ns();
    let since = || (clock.mono_ns() - begun_ns) as f64 / 1e9;
    match work {
        Work::Sha256 => {
            let (mut file, mut hasher) = (File::open(&stand.weights).unwrap(), Sha256::new());
            let mut piece = vec![0; 1 << 20];
            loop {
                match file.read(&mut piece).unwrap() {
                    0 => break,
                    came => hasher.update(&piece[..came]),
                }
            }
            assert_eq!(Hash::from(hasher), stand.slot.weights.hash());
            (since(), since())
        }
        Work::Verify => {
            verify(&stand.store, &Keys::none(), &stand.slot).unwrap();
            (since(), since())
        }
        Work::Start(threads) => {
            let file = open(&stand.store, &Keys::none(), &stand.slot.manifest, threads, |_| ()).unwrap();
            let opened = since();
            let threads = NonZeroUsize::new(threads).unwrap();
            let compute = Arc::new(Compute::new(Isa::from_environment().unwrap(), threads));
            let model = Model::load(&file, compute).unwrap();
            let all = since();
            drop(model);
            (opened, all)
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut args = std::env::args();
    let (mut quick, mut place) = (false, std::env::temp_dir());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--in" => place = args.next().unwrap().into(),
            _ => {}
        }
    }
    let folder = tempfile::tempdir_in(place).unwrap();
    let stand = Stand::new(folder.path(), if quick { &QUICK } else { &WHOLE });
    let clock = System::new();
    let gigabytes = stand.size as f64 / 1e9;
    println!("a package of {gigabytes:.2} GB, {ROUNDS} rounds");
    // Once for the page cache.
    measure(&stand, Work::Sha256, &clock);
    let mut taken: [Taken; 4] = Default::default();
    for round in 0..ROUNDS {
        for turn in 0..WORK.len() {
            let at = (turn + round) % WORK.len();
            taken[at].push(measure(&stand, WORK[at], &clock));
        }
    }
    let sha: Vec<f64> = taken[0].iter().map(|(_, all)| *all).collect();
    let tell = |what: &str, seconds: &dyn Fn(usize) -> f64| {
        let all: Vec<f64> = (0..ROUNDS).map(seconds).collect();
        let ratio = median(all.iter().zip(&sha).map(|(one, sha)| one / sha).collect());
        let seconds = median(all);
        println!("{what:<28} {seconds:>7.3} s  {:>6.2} GB/s  {ratio:>5.2} x sha256", gigabytes / seconds);
    };
    tell("sha256, 1 thread", &|round| taken[0][round].1);
    tell("verify, all blobs", &|round| taken[1][round].1);
    for (at, on) in [(2, "1 thread"), (3, "2 threads")] {
        tell(&format!("open, {on}"), &|round| taken[at][round].0);
        tell(&format!("load, {on}"), &|round| taken[at][round].1 - taken[at][round].0);
        tell(&format!("open and load, {on}"), &|round| taken[at][round].1);
        tell(&format!("verify, open, load, {on}"), &|round| taken[1][round].1 + taken[at][round].1);
    }
}
