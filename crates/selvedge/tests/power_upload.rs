//! Kills a hub, the real process, fifty times at random instants while packages come in. What it has is always whole: no blob is
//! other than its name, no manifest lacks what it names, no tag names nothing; and what kills leave goes away.
//!
//! Stops by itself: after so many lives, the end of each is a kill. Reads the depot's folder directly, so that the hub's own view
//! cannot hide a fault.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use package::descriptor::Descriptor;
use package::digest::Digest;
use package::disk::system::System as Disk;
use package::index::Index;
use package::layout::Layout;
use package::manifest::Manifest;
use package::media;
use package::registry::{Reference, RepoName, Told, Upload, UploadStep};
use reqwest::{Client, Method, Response};
use serde_json::Value;
use tempfile::TempDir;
use wire::world::{Clock, Entropy, Simulated, System};

/// Lives of the hub.
const LIVES: u32 = 50;

/// The longest that anything may take that the test waits for.
const PATIENCE_NS: u64 = 30_000_000_000;

/// More than goes into a depot in one part.
const LARGE_BYTES: usize = 9 << 20;

/// Where the packages go.
const NAME: &str = "team/m";

/// A release with two layers, unlike any other.
struct Package {
    blobs: Vec<Vec<u8>>,
    manifest: Vec<u8>,
    index: Vec<u8>,
}

impl Package {
    fn new(number: u64) -> Package {
        let mut large: Vec<u8> = (0..LARGE_BYTES).map(|n| (n % 251) as u8).collect();
        large[..8].copy_from_slice(&number.to_le_bytes());
        let small = format!("the card of {number}").into_bytes();
        let blobs = vec![b"{}".to_vec(), small, large];
        let mut manifest =
            Manifest::new(media::MODEL_MANIFEST, Descriptor::of(media::MODEL_CONFIG, &blobs[0]));
        manifest.layers = blobs[1..].iter().map(|layer| Descriptor::of(media::WEIGHT_RAW, layer)).collect();
        let manifest = manifest.to_bytes();
        let mut index = Index { artifact_type: Some(media::PACKAGE.into()), ..Index::default() };
        index.manifests.push(Descriptor::of(media::OCI_MANIFEST, &manifest));
        Package { blobs, manifest, index: index.to_bytes() }
    }
}

/// What killer and client share.
#[derive(Default)]
struct Shared {
    /// Where the hub listens in this life.
    url: Mutex<String>,
    /// Whether a blob is on its way.
    is_sending: AtomicBool,
    /// Packages that are there.
    done: AtomicU64,
    stop: AtomicBool,
}

/// Pushes one package after the other, each until the hub has it.
async fn push_on(shared: &Shared) {
    let http = Client::new();
    for number in 0.. {
        let package = Package::new(number);
        while push(&http, shared, number, &package).await.is_none() {
            if shared.stop.load(SeqCst) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        shared.done.fetch_add(1, SeqCst);
        if shared.stop.load(SeqCst) {
            return;
        }
    }
}

/// `None` if something went wrong, which is what a hub that is killed does.
async fn push(http: &Client, shared: &Shared, number: u64, package: &Package) -> Option<()> {
    let url = shared.url.lock().unwrap().clone();
    let name = RepoName::new(NAME).unwrap();
    for blob in &package.blobs {
        shared.is_sending.store(true, SeqCst);
        let pushed = push_blob(http, &url, &name, blob).await;
        shared.is_sending.store(false, SeqCst);
        pushed?;
    }
    let digest = Digest::of(&package.manifest).to_string();
    let documents = [
        (digest, media::OCI_MANIFEST, &package.manifest),
        (number.to_string(), media::OCI_INDEX, &package.index),
    ];
    for (reference, kind, bytes) in documents {
        let path = name.manifest(&Reference::parse(&reference).unwrap());
        let request = http.put(format!("{url}{path}")).header("content-type", kind).body(bytes.clone());
        let answer = request.send().await.ok()?;
        (answer.status() == 201).then_some(())?;
    }
    Some(())
}

async fn push_blob(http: &Client, url: &str, name: &RepoName, bytes: &[u8]) -> Option<()> {
    let mut upload = Upload::new(name, Digest::of(bytes), bytes.len() as u64, 4 << 20);
    loop {
        let ask = async |method: Method, path: &str, place: Option<String>, body: Vec<u8>| {
            let mut request = http.request(method, format!("{url}{path}")).body(body);
            if let Some(place) = place {
                request = request.header("content-range", place);
            }
            request.send().await.ok()
        };
        let answer: Response = match upload.step().clone() {
            UploadStep::Done => return Some(()),
            UploadStep::Look { path } => ask(Method::HEAD, &path, None, Vec::new()).await?,
            UploadStep::Begin { path } => ask(Method::POST, &path, None, Vec::new()).await?,
            UploadStep::Ask { location } => ask(Method::GET, &location, None, Vec::new()).await?,
            UploadStep::Finish { location } => ask(Method::PUT, &location, None, Vec::new()).await?,
            UploadStep::Send { location, range } => {
                let place = format!("{}-{}", range.start, range.end - 1);
                let piece = bytes[range.start as usize..range.end as usize].to_vec();
                ask(Method::PATCH, &location, Some(place), piece).await?
            }
        };
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let status = answer.status().as_u16();
        upload.take(Told { status, location: header("location"), range: header("range") }).ok()?;
    }
}

/// The names in a folder; none if it is not there.
fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

struct Plant {
    folder: TempDir,
    shared: Arc<Shared>,
    dice: Simulated,
    /// Blobs that were looked at; what has its name keeps it.
    known: BTreeSet<String>,
}

impl Plant {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A life of the hub begins; the client is told where as soon as it listens.
    fn start(&self) -> Child {
        let mut hub = Command::new(env!("CARGO_BIN_EXE_selvedge"))
            .args(["hub", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.path("hub"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (shared, out) = (Arc::clone(&self.shared), hub.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(out).read_line(&mut line);
            let url = line.split_once("console ").and_then(|(_, rest)| rest.split(';').next());
            if let (Ok(_), Some(url)) = (read, url) {
                url.clone_into(&mut shared.url.lock().unwrap());
            }
        });
        hub
    }

    fn wait_until(&self, what: &str, done: impl Fn(&Shared) -> bool) -> Duration {
        let clock = System::new();
        while !done(&self.shared) {
            assert!(clock.mono_ns() < PATIENCE_NS, "{what} never comes");
            std::thread::sleep(Duration::from_millis(2));
        }
        Duration::from_nanos(clock.mono_ns())
    }

    /// Starts a hub and waits until it listens.
    fn start_whole(&self) -> Child {
        self.shared.url.lock().unwrap().clear();
        let hub = self.start();
        self.wait_until("the hub", |shared| !shared.url.lock().unwrap().is_empty());
        hub
    }

    /// Everything in the depot is whole. Gives how many half files there are, which nobody is ever served.
    fn check(&mut self) -> usize {
        let blobs = self.path("hub/packages/blobs/sha256");
        let (half, whole): (BTreeSet<_>, BTreeSet<_>) =
            names(&blobs).into_iter().partition(|name| name.contains('#'));
        for name in whole.difference(&self.known) {
            let bytes = std::fs::read(blobs.join(name)).unwrap();
            assert_eq!(Digest::of(&bytes).hex(), *name, "a blob is not what it is called");
        }
        let repository = self.path("hub/packages/repos").join(NAME);
        let is_whole = |name: &&String| !name.contains('#');
        let manifests = names(&repository.join("_manifests"));
        for manifest in manifests.iter().filter(is_whole) {
            let document: Value =
                serde_json::from_slice(&std::fs::read(blobs.join(manifest)).unwrap()).unwrap();
            let lists = ["layers", "manifests"].into_iter().filter_map(|list| document[list].as_array());
            for named in lists.flatten().chain(document.get("config")) {
                let hex = named["digest"].as_str().unwrap().trim_start_matches("sha256:");
                assert!(whole.contains(hex), "the manifest {manifest} lacks {named}");
                let bytes = std::fs::metadata(blobs.join(hex)).unwrap().len();
                assert_eq!(Some(bytes), named["size"].as_u64(), "{named}");
            }
        }
        for tag in names(&repository.join("_tags")).iter().filter(is_whole) {
            let named = std::fs::read_to_string(repository.join("_tags").join(tag)).unwrap();
            assert!(manifests.contains(named.trim_start_matches("sha256:")), "the tag {tag} names {named}");
        }
        self.known = whole;
        let below = [repository.join("_manifests"), repository.join("_tags")];
        half.len() + below.iter().flat_map(|folder| names(folder)).filter(|name| name.contains('#')).count()
    }

    fn end(&self, mut hub: Child) {
        hub.kill().unwrap();
        hub.wait().unwrap();
    }

    /// The real client sends a package to the real hub.
    fn push_a_folder(&self) {
        let package = Package::new(u64::MAX);
        let layout = Layout::create(Disk, &self.path("package")).unwrap();
        for bytes in package.blobs.iter().chain([&package.manifest, &package.index]) {
            layout.put_blob(bytes).unwrap();
        }
        layout.set_ref("m:7", &Descriptor::of(media::OCI_INDEX, &package.index)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
        command.arg("push").arg(self.path("package")).arg(format!("hub:{NAME}:last")).arg("--hub");
        let pushed = command.arg(&*self.shared.url.lock().unwrap()).output().unwrap();
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    }
}

#[test]
fn fifty_kills_leave_nothing_half() {
    let shared = Arc::new(Shared::default());
    let folder = tempfile::tempdir().unwrap();
    let mut plant =
        Plant { folder, shared: Arc::clone(&shared), dice: Simulated::new(50), known: BTreeSet::new() };
    let client = std::thread::spawn({
        let shared = Arc::clone(&shared);
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(push_on(&shared));
        }
    });

    // How long a life takes to begin and to push something, on this machine, at this hour.
    let clock = System::new();
    let hub = plant.start();
    plant.wait_until("a package", |shared| shared.done.load(SeqCst) > 0);
    let life_ms = (clock.mono_ns() as f64 / 1e6).clamp(100.0, 700.0);
    plant.end(hub);
    let (mut in_the_midst, mut half) = (0, 0);
    for _ in 0..LIVES {
        let mut hub = plant.start();
        std::thread::sleep(Duration::from_micros((plant.dice.unit() * life_ms * 1e3) as u64));
        assert_eq!(hub.try_wait().unwrap(), None, "the hub ended by itself");
        in_the_midst += u32::from(shared.is_sending.load(SeqCst));
        plant.end(hub);
        half = plant.check();
    }
    assert!(in_the_midst > LIVES / 10, "the client hardly worked: {in_the_midst} of {LIVES}");
    assert!(half <= LIVES as usize + 1, "{half} half files: more than one for each kill");

    // After all that, what is pushed arrives.
    let done = shared.done.load(SeqCst);
    let hub = plant.start_whole();
    plant.wait_until("another package", |shared| shared.done.load(SeqCst) > done);
    shared.stop.store(true, SeqCst);
    client.join().unwrap();
    plant.push_a_folder();
    plant.end(hub);
    plant.check();

    // What the kills left goes: uploads at the next start, half files when nobody can be at work on them any more.
    let depot = plant.path("hub/packages");
    let old = SystemTime::UNIX_EPOCH + Duration::from_millis(System::new().wall_ms().unsigned_abs())
        - Duration::from_secs(3600);
    let mut folders = vec![depot];
    while let Some(folder) = folders.pop() {
        for name in names(&folder) {
            let path = folder.join(&name);
            if path.is_dir() {
                folders.push(path);
            } else if name.contains('#') {
                std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
            }
        }
    }
    let hub = plant.start_whole();
    assert_eq!(names(&plant.path("hub/uploads")), BTreeSet::new());
    assert_eq!(plant.check(), 0);
    plant.end(hub);
    plant.known.clear();
    plant.check();
}
