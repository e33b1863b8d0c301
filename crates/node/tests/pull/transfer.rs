//! Brings packages from registries on loopback that break off, lie and know no ranges, and from folders: what comes is whole,
//! costs next to nothing twice, and is not begun where it cannot end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::transfer::carry::{News, Settings, carry};
use node::transfer::folder::Folder;
use node::transfer::origin::Origin;
use node::transfer::plan::Rules;
use node::transfer::registry::{Login, Registry};
use node::transfer::{GaveUp, Order, Stop};
use package::archive;
use package::chunks::{CHUNK_BYTES, Chunks};
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::disk::simulated::Simulated;
use package::disk::system::System;
use package::disk::{Disk, DiskFile, read_full};
use package::layout::Layout;
use package::manifest::Manifest;
use package::media::{self, Role};
use package::registry::{Reference, RepoName};
use package::store::Store;
use wire::world;

use crate::server::{Reply, Request, Server};

/// A variant: its blobs, and which of them are the manifest and the weights.
#[derive(Clone)]
struct Variant {
    blobs: Arc<BTreeMap<Digest, Vec<u8>>>,
    manifest: Digest,
    weights: Digest,
}

impl Variant {
    /// With weights of `len` bytes.
    fn new(len: usize) -> Variant {
        let mut state = len as u64 | 1;
        let mut weights = Vec::with_capacity(len + 8);
        while weights.len() < len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            weights.extend_from_slice(&state.to_le_bytes());
        }
        weights.truncate(len);
        let list = Chunks::of(&weights[..], CHUNK_BYTES).unwrap().1.to_bytes();
        let layer = |role: Role, bytes: &[u8]| {
            Descriptor::of(role.media_type(), bytes).with(media::ROLE, role.word())
        };
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::of(media::MODEL_CONFIG, b"{}"));
        manifest.layers = vec![
            layer(Role::Weights, &weights).with(media::CHUNKS, Digest::of(&list).to_string()),
            layer(Role::Chunks, &list),
            layer(Role::Card, b"a card"),
        ];
        let (manifest, weights) = (manifest.to_bytes(), weights);
        let (its, their) = (Digest::of(&manifest), Digest::of(&weights));
        let blobs = [manifest, weights, list, b"a card".to_vec(), b"{}".to_vec()];
        let blobs = blobs.into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect();
        Variant { blobs: Arc::new(blobs), manifest: its, weights: their }
    }

    fn order(&self) -> Order {
        Order::variant(self.manifest, self.blobs[&self.manifest].len() as u64)
    }

    fn len(&self) -> usize {
        self.blobs.values().map(Vec::len).sum()
    }

    /// The blob that a question is about; what is a manifest is asked for as one.
    fn asked(&self, request: &Request) -> Option<(Digest, &[u8])> {
        let (place, digest) = request.path.strip_prefix("/v2/team/tiny/")?.split_once('/')?;
        let digest = Digest::parse(digest).unwrap();
        assert_eq!(place == "manifests", digest == self.manifest, "{}", request.path);
        self.blobs.get_key_value(&digest).map(|(digest, bytes)| (*digest, &bytes[..]))
    }

    /// An honest registry's answer.
    fn reply(&self, request: &Request) -> Reply {
        match self.asked(request) {
            Some((digest, bytes)) => Reply::file(request, bytes, &digest.hex()),
            None => Reply::new(404, "{}"),
        }
    }

    /// A registry whose link carries so many bytes and then breaks, again and again; the first bodies come whole.
    async fn cut(&self, every: usize, reset: bool) -> Server {
        let (variant, left) = (self.clone(), AtomicUsize::new(every));
        Server::start(move |request, _| {
            let reply = variant.reply(request);
            let (len, there) = (reply.body.len(), left.load(SeqCst));
            if len < there {
                left.store(there - len, SeqCst);
                return reply;
            }
            left.store(every, SeqCst);
            Reply { cut: Some(there), reset, ..reply }
        })
        .await
    }
}

fn registry(server: &Server) -> Box<dyn Origin> {
    registry_at(&server.url)
}

fn registry_at(url: &str) -> Box<dyn Origin> {
    let repo = RepoName::new("team/tiny").unwrap();
    Box::new(Registry::new(url, repo, &Login::Anonymous, Duration::from_secs(5)).unwrap())
}

fn settings() -> Settings {
    let rules = Rules { first_wait_ns: 1, longest_wait_ns: 1, ..Rules::default() };
    Settings { rules, keep_free_bytes: 0, idle: Duration::from_millis(500), ..Settings::default() }
}

/// A store of its own.
struct Home {
    folder: tempfile::TempDir,
    store: Arc<Store<System>>,
}

/// What came: bytes of bodies, and what was waited for.
#[derive(Debug, Default)]
struct Told {
    bytes: u64,
    waits: Vec<String>,
}

impl Home {
    fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(System, &folder.path().join("packages"), u64::MAX).unwrap());
        Home { folder, store }
    }

    async fn bring(&self, origins: &[Box<dyn Origin>], order: &Order) -> Result<Told, GaveUp> {
        bring(&self.store, origins, order).await
    }

    /// All blobs of the variant are there, whole, and nothing else is.
    fn holds(&self, variant: &Variant) {
        for (digest, bytes) in variant.blobs.iter() {
            let file = self.store.open_blob(digest).unwrap().unwrap();
            let mut there = vec![0; bytes.len() + 1];
            assert_eq!(read_full(&file, 0, &mut there).unwrap(), bytes.len());
            assert!(there[..bytes.len()] == bytes[..], "the bytes of {digest} are others");
        }
        let files = std::fs::read_dir(self.folder.path().join("packages/blobs/sha256")).unwrap().count();
        assert_eq!(files, variant.blobs.len());
    }
}

async fn bring<D: Disk + 'static>(
    store: &Arc<Store<D>>,
    origins: &[Box<dyn Origin>],
    order: &Order,
) -> Result<Told, GaveUp> {
    let mut told = Told::default();
    let tell = |news| match news {
        News::Opened { .. } => {}
        News::Came { bytes, .. } => told.bytes += bytes,
        News::Waiting { why, .. } => told.waits.push(why),
    };
    carry(store, origins, order, &settings(), &mut world::System::new(), tell).await?;
    Ok(told)
}

/// The share of bytes that came twice, in percent.
async fn costs(megabytes: usize, cut_every: usize, reset: bool) -> f64 {
    let variant = Variant::new(megabytes * 1_000_000);
    let server = variant.cut(cut_every, reset).await;
    let home = Home::new();
    let told = home.bring(&[registry(&server)], &variant.order()).await.unwrap();
    assert!(told.waits.len() >= variant.len() / cut_every - 1, "{}", told.waits.len());
    home.holds(&variant);
    let more = server.sent().max(told.bytes as usize) - variant.len();
    more as f64 / variant.len() as f64 * 100.0
}

#[tokio::test]
async fn a_link_that_is_cut_again_and_again_costs_next_to_nothing() {
    let percent = costs(50, 2_345_678, false).await;
    assert!(percent <= 1.0, "{percent} %");
    // A reset takes with it what nobody had read yet.
    let percent = costs(5, 1_234_567, true).await;
    assert!(percent <= 1.0, "{percent} %");
}

#[tokio::test]
#[ignore = "half a minute: 500 MB, cut every 5 seconds of a link of 2, 10 and 50 MB/s"]
async fn half_a_gigabyte_over_a_link_that_is_cut_every_five_seconds() {
    for megabytes_per_s in [2, 10, 50] {
        let percent = costs(500, 5_000_000 * megabytes_per_s, false).await;
        assert!(percent <= 1.0, "{percent} % at {megabytes_per_s} MB/s");
    }
}

#[tokio::test]
async fn who_knows_no_ranges_sends_all_and_nothing_is_appended_blindly() {
    let variant = Variant::new(20_000_000);
    let served = variant.clone();
    let weights = AtomicUsize::new(0);
    let server = Server::start(move |request, _| {
        let (digest, bytes) = served.asked(request).unwrap();
        let cut = digest == served.weights && weights.fetch_add(1, SeqCst) == 0;
        Reply { cut: cut.then_some(13_000_000), ..Reply::new(200, bytes) }
    })
    .await;
    let home = Home::new();
    let told = home.bring(&[registry(&server)], &variant.order()).await.unwrap();
    home.holds(&variant);
    // Cut once; asked from the middle once, and left; then all of it, once.
    let asked: Vec<_> =
        server.log().into_iter().filter(|asked| asked.path.contains(&variant.weights.hex())).collect();
    let ranges: Vec<_> = asked.iter().map(Request::range).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert_eq!((ranges[0], ranges[2]), (Some((0, Some((8 << 20) - 1))), None));
    assert!(ranges[1].is_some_and(|(from, _)| from == 13_000_000), "{ranges:?}");
    assert!(told.bytes as usize <= variant.len() + 13_000_000, "{}", told.bytes);
    // With somebody who knows ranges beside it, only that one is asked for the rest.
    let knows = variant.clone();
    let knows = Server::start(move |request, _| knows.reply(request)).await;
    let served = variant.clone();
    let weights = AtomicUsize::new(0);
    let server = Server::start(move |request, _| {
        let (digest, bytes) = served.asked(request).unwrap();
        let cut = digest == served.weights && weights.fetch_add(1, SeqCst) == 0;
        Reply { cut: cut.then_some(13_000_000), ..Reply::new(200, bytes) }
    })
    .await;
    let home = Home::new();
    home.bring(&[registry(&server), registry(&knows)], &variant.order()).await.unwrap();
    home.holds(&variant);
    assert!(knows.log().iter().all(|asked| asked.from() >= 13_000_000));
}

#[tokio::test]
async fn a_wrong_chunk_comes_from_the_next() {
    let variant = Variant::new(6_000_000);
    let lies = variant.clone();
    let liar = Server::start(move |request, _| {
        let mut reply = lies.reply(request);
        // One byte of the third chunk.
        let from = request.from();
        if lies.asked(request).unwrap().0 == lies.weights
            && (from..from + reply.body.len()).contains(&2_500_000)
        {
            reply.body[2_500_000 - from] ^= 1;
        }
        reply
    })
    .await;
    let honest = variant.clone();
    let honest = Server::start(move |request, _| honest.reply(request)).await;
    let home = Home::new();
    let told = home.bring(&[registry(&liar), registry(&honest)], &variant.order()).await.unwrap();
    home.holds(&variant);
    let log = honest.log();
    let chunk = (2 << 20, Some((3 << 20) - 1));
    assert_eq!(log.iter().map(Request::range).collect::<Vec<_>>(), [Some(chunk)], "that chunk and no more");
    assert!(told.bytes as usize <= variant.len() + (4 << 20), "{}", told.bytes);
    // Nobody else: it is not taken from who lied twice.
    let gave_up = Home::new().bring(&[registry(&liar)], &variant.order()).await.unwrap_err();
    assert!(gave_up.to_string().contains("its bytes 2097152 to 3145728 are wrong"), "{gave_up}");
}

#[tokio::test]
async fn answers_that_lie_or_never_end_are_left_for_the_next() {
    let variant = Variant::new(3_000_000);
    let check = async |play: fn(Reply, &Request) -> Reply, expected: &str| {
        let lies = variant.clone();
        let liar = Server::start(move |request, _| {
            let is_weights = lies.asked(request).unwrap().0 == lies.weights;
            let reply = lies.reply(request);
            if is_weights { play(reply, request) } else { reply }
        })
        .await;
        let gave_up = Home::new().bring(&[registry(&liar)], &variant.order()).await.unwrap_err();
        assert!(gave_up.to_string().contains(expected), "{gave_up}");
        let honest = variant.clone();
        let honest = Server::start(move |request, _| honest.reply(request)).await;
        let home = Home::new();
        let told = home.bring(&[registry(&liar), registry(&honest)], &variant.order()).await.unwrap();
        home.holds(&variant);
        assert!((told.bytes as usize) < 4 * variant.len(), "{}", told.bytes);
    };
    let drips = |reply, _: &Request| Reply { pause: Some(Duration::from_millis(100)), piece: 1, ..reply };
    check(drips, "next to nothing came").await;
    check(|_, _| Reply::new(206, "x").with("Content-Range", "bytes 0-0/3000000"), "other bytes than").await;
    check(|_, _| Reply { endless: true, ..Reply::new(200, vec![0; 100_000]) }, "are wrong").await;
    check(|_, _| Reply::new(200, "<html>"), "another size").await;
    check(|_, _| Reply::new(403, "no"), "status 403").await;
    check(|_, _| Reply::new(404, "no"), "does not have the blob").await;
    check(|_, _| Reply::new(503, "no"), "wants to be left alone").await;
    check(|_, _| Reply::new(302, "").with("Location", "ftp://x/y"), "it is not http").await;
}

#[tokio::test]
async fn a_body_without_an_end_is_read_to_the_blobs_end() {
    let variant = Variant::new(3_000_000);
    let served = variant.clone();
    let server = Server::start(move |request, _| Reply { endless: true, ..served.reply(request) }).await;
    let home = Home::new();
    let told = home.bring(&[registry(&server)], &variant.order()).await.unwrap();
    home.holds(&variant);
    assert!((told.bytes as usize) < variant.len() + (1 << 20), "{}", told.bytes);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anybody_is_asked() {
    let variant = Variant::new(3_000_000);
    let served = variant.clone();
    let server = Server::start(move |request, _| served.reply(request)).await;
    let disk = Simulated::new();
    let store = Arc::new(Store::open(disk.clone(), Path::new("/packages"), u64::MAX).unwrap());
    disk.full_at(0);
    let needed = variant.blobs[&variant.manifest].len() as u64;
    match bring(&store, &[registry(&server)], &variant.order()).await {
        Err(GaveUp::Stopped(Stop::NoRoom(no_room))) => {
            assert_eq!((no_room.needed_bytes, no_room.free_bytes), (needed, 0));
            let told = no_room.to_string();
            assert!(told.contains(&format!("{needed} bytes are needed, 0 are free")), "{told}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.log().len(), 0);
    // Room for the documents, not for the weights: they are not asked for.
    disk.full_at(100_000);
    match bring(&store, &[registry(&server)], &variant.order()).await {
        Err(GaveUp::Stopped(Stop::NoRoom(no_room))) => assert_eq!(no_room.needed_bytes, 3_000_000),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.log().len(), 2, "the manifest and the list of chunks");
    disk.full_at(u64::MAX);
    bring(&store, &[registry(&server)], &variant.order()).await.unwrap();
    assert!(store.has(&variant.weights).unwrap());
}

#[tokio::test]
async fn a_package_comes_from_a_folder_and_from_a_stick() {
    let variant = Variant::new(3_000_000);
    let home = Home::new();
    let folder = home.folder.path().join("package");
    let layout = Layout::create(System, &folder).unwrap();
    for bytes in variant.blobs.values() {
        layout.put_blob(bytes).unwrap();
    }
    let manifest = Descriptor::of(media::OCI_MANIFEST, &variant.blobs[&variant.manifest]);
    layout.set_ref("tiny:1", &manifest).unwrap();
    let stick = home.folder.path().join("package.tar");
    archive::write(&layout, &BTreeMap::new(), std::fs::File::create(&stick).unwrap()).unwrap();
    for place in [&folder, &stick] {
        let home = Home::new();
        let origin: Box<dyn Origin> = Box::new(Folder::open(place).unwrap());
        home.bring(&[origin], &variant.order()).await.unwrap();
        home.holds(&variant);
    }
    // A damaged stick is found out, and the rest comes from elsewhere.
    let mut bytes = std::fs::read(&stick).unwrap();
    let at = bytes.windows(8).position(|some| *some == variant.blobs[&variant.weights][..8]).unwrap();
    bytes[at + 1_500_000] ^= 1;
    std::fs::write(&stick, bytes).unwrap();
    let served = variant.clone();
    let server = Server::start(move |request, _| served.reply(request)).await;
    let home = Home::new();
    let origin: Box<dyn Origin> = Box::new(Folder::open(&stick).unwrap());
    home.bring(&[origin, registry(&server)], &variant.order()).await.unwrap();
    home.holds(&variant);
    assert_eq!(server.log().len(), 1, "one chunk");
    assert!(Folder::open(&home.folder.path().join("nothing")).is_err());
}

#[tokio::test]
async fn a_registry_that_asks_who_we_are_is_told() {
    let variant = Variant::new(1000);
    let repo = || RepoName::new("team/tiny").unwrap();
    let idle = Duration::from_secs(5);
    let login = Login::Basic { user: "me".into(), password: "secret".into() };
    let basic = "Basic bWU6c2VjcmV0";
    for kind in ["basic", "bearer"] {
        let served = variant.clone();
        let at = Arc::new(Mutex::new(String::new()));
        let here = at.clone();
        let server = Server::start(move |request, _| {
            let told = request.header("authorization");
            if request.path.starts_with("/token?") {
                assert_eq!(request.path, "/token?service=the+registry&scope=repository%3Ateam%2Ftiny%3Apull");
                return match told {
                    Some(told) if told == basic => Reply::new(200, r#"{"token":"t-1"}"#),
                    _ => Reply::new(401, ""),
                };
            }
            let url = here.lock().unwrap().clone();
            let (expected, challenge) = match kind {
                "basic" => (basic, "Basic realm=\"x\"".to_owned()),
                _ => ("Bearer t-1", format!("Bearer realm=\"{url}/token\",service=\"the registry\"")),
            };
            match told == Some(expected) {
                true => served.reply(request),
                false => Reply::new(401, "{}").with("WWW-Authenticate", challenge),
            }
        })
        .await;
        *at.lock().unwrap() = server.url.clone();
        let home = Home::new();
        let origin: Box<dyn Origin> = Box::new(Registry::new(&server.url, repo(), &login, idle).unwrap());
        home.bring(&[origin], &variant.order()).await.unwrap();
        home.holds(&variant);
        let refused = server.log().iter().filter(|asked| asked.header("authorization").is_none()).count();
        assert_eq!(refused, 1, "asked who we are once");
        let nobody = Registry::new(&server.url, repo(), &Login::Anonymous, idle).unwrap();
        let fault = nobody.manifest(&Reference::Digest(variant.manifest)).await.unwrap_err();
        assert!(fault.to_string().contains("it refuses"), "{fault}");
    }
    assert_eq!(format!("{login:?}"), "Basic(***)");
}

#[tokio::test]
async fn a_secret_does_not_follow_a_redirect_to_another_host() {
    let variant = Variant::new(1000);
    let served = variant.clone();
    let storage = Server::start(move |request, _| served.reply(request)).await;
    let to = storage.url.clone();
    let server = Server::start(move |request, _| {
        Reply::new(307, "").with("Location", format!("{to}{}", request.path))
    })
    .await;
    let repo = RepoName::new("team/tiny").unwrap();
    let login = Login::Bearer("secret".into());
    let origin: Box<dyn Origin> =
        Box::new(Registry::new(&server.url, repo, &login, Duration::from_secs(5)).unwrap());
    Home::new().bring(&[origin], &variant.order()).await.unwrap();
    assert!(server.log().iter().all(|asked| asked.header("authorization") == Some("Bearer secret")));
    assert!(storage.log().iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn a_transfer_may_move_between_threads() {
    fn check<T: Send>(_: &T) {}
    let (home, settings, mut world) = (Home::new(), settings(), world::System::new());
    let (origins, order) = ([registry_at("http://127.0.0.1:1")], Order::index(Digest::of(b"x"), 1));
    check(&carry(&home.store, &origins, &order, &settings, &mut world, |_| ()));
}

/// Where a process of its own finds its work: the registry's address, the store's folder, the manifest and its size.
const WORK: &str = "SELVEDGE_TEST_TRANSFER";

/// The work of a process of its own, which the next test starts; without that it has nothing to do.
#[tokio::test]
async fn a_process_of_its_own() {
    let Ok(work) = std::env::var(WORK) else { return };
    let work: Vec<&str> = work.split('|').collect();
    let [url, root, digest, size] = work[..] else { panic!("{work:?}") };
    let store = Arc::new(Store::open(System, Path::new(root), u64::MAX).unwrap());
    let order = Order::variant(Digest::parse(digest).unwrap(), size.parse().unwrap());
    bring(&store, &[registry_at(url)], &order).await.unwrap();
}

#[tokio::test]
async fn two_processes_never_bring_one_blob_twice() {
    let variant = Variant::new(3_000_000);
    let served = variant.clone();
    let server = Server::start(move |request, _| {
        // Slow enough that both are at it.
        Reply { pause: Some(Duration::from_millis(5)), ..served.reply(request) }
    })
    .await;
    let home = Home::new();
    let root: PathBuf = home.folder.path().join("packages");
    let Order { digest, size, .. } = variant.order();
    let work = format!("{}|{}|{digest}|{size}", server.url, root.display());
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "transfer::a_process_of_its_own", "--nocapture"])
            .env(WORK, &work)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let children = [start(), start()];
    for mut child in children {
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert!(status.success());
    }
    home.holds(&variant);
    assert_eq!(server.sent(), variant.len(), "not one byte twice");
    // Nor does a third one find anything to do.
    home.bring(&[registry(&server)], &variant.order()).await.unwrap();
    assert_eq!(server.sent(), variant.len());
    assert!(home.store.open_blob(&variant.weights).unwrap().unwrap().size_bytes().unwrap() == 3_000_000);
}
