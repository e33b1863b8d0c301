//! Two nodes and a hub on loopback: what a neighbour has does not come from the hub, and what it says is believed by nobody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use package::chunks::{CHUNK_BYTES, Chunks};
use package::descriptor::Descriptor;
use package::disk::write_whole;
use package::manifest::Manifest;
use package::media::Role;
use tokio::sync::watch;
use wire::world;

use super::*;
use crate::api::connections::{Limits, serve};
use crate::transfer::Order;
use crate::transfer::carry::{Settings, carry};
use crate::transfer::origin::Origin;
use crate::transfer::plan::Rules;
use crate::transfer::registry::neighbours;

const TOKEN: &str = "neighbours and nobody else";

/// A variant with weights of three chunks and a bit.
struct Variant {
    blobs: BTreeMap<Digest, Vec<u8>>,
    manifest: Digest,
    weights: Digest,
}

impl Variant {
    fn new() -> Variant {
        let weights: Vec<u8> =
            (0..(3 << 20) + 77_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
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
        let manifest = manifest.to_bytes();
        let (its, their) = (Digest::of(&manifest), Digest::of(&weights));
        let blobs = [manifest, weights, list, b"a card".to_vec(), b"{}".to_vec()];
        let blobs = blobs.into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect();
        Variant { blobs, manifest: its, weights: their }
    }
}

/// A node with a store of its own, and what it was asked for.
struct Node {
    folder: tempfile::TempDir,
    store: Arc<Store<System>>,
    reachable: Reachable,
    asked: Arc<Mutex<BTreeSet<Digest>>>,
    url: String,
    _stop: watch::Sender<bool>,
}

impl Node {
    async fn new(bytes_per_s: u64) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(System, &folder.path().join("packages"), u64::MAX).unwrap());
        let (reachable, asked) = (Reachable::default(), Arc::new(Mutex::new(BTreeSet::new())));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let ticks = Arc::new(AtomicU64::new(0));
        // A clock that goes when it is looked at: no test waits for a rate.
        let now: Now = Arc::new(move || ticks.fetch_add(1_000_000_000, SeqCst));
        let at = (address, Vec::new());
        let door = Door::new(
            Arc::clone(&store),
            Arc::clone(&reachable),
            at,
            Some(TOKEN.into()),
            bytes_per_s,
            now.clone(),
        );
        let notes = Arc::clone(&asked);
        let router = door.router().layer(from_fn(move |request: Request, next: Next| {
            if let Some(Place::Blob(digest) | Place::Manifest(digest)) =
                request.uri().path().strip_prefix("/v2/").and_then(read)
            {
                notes.lock().unwrap().insert(digest);
            }
            next.run(request)
        }));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, router, Limits::default(), now, stopped));
        Node { folder, store, reachable, asked, url: format!("http://{address}"), _stop: stop }
    }

    /// Has these blobs, and slots that reach them.
    fn keeps<'a>(&self, blobs: impl IntoIterator<Item = (&'a Digest, &'a Vec<u8>)>) {
        for (digest, bytes) in blobs {
            write_whole(&System, &self.store.blob_path(digest), bytes).unwrap();
            self.reachable.write().unwrap().insert(*digest);
        }
    }

    fn asked(&self) -> BTreeSet<Digest> {
        self.asked.lock().unwrap().clone()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = reqwest::Client::new().get(format!("{}{path}", self.url)).bearer_auth(TOKEN);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

/// Brings the variant into a new store from these, the first one first; all of it must be there then.
async fn bring(variant: &Variant, from: &[&str]) {
    let home = Node::new(0).await;
    let peers: Vec<String> = from.iter().map(|url| (*url).to_owned()).collect();
    let repo = RepoName::new("team/tiny").unwrap();
    let origins: Vec<Box<dyn Origin>> =
        neighbours(&peers, Some(TOKEN), &repo, Duration::from_secs(5)).unwrap();
    assert!(origins.iter().all(|origin| origin.is_near()));
    let rules = Rules { first_wait_ns: 1, longest_wait_ns: 1, ..Rules::default() };
    let settings = Settings { rules, keep_free_bytes: 0, ..Settings::default() };
    let order = Order::variant(variant.manifest, variant.blobs[&variant.manifest].len() as u64);
    carry(&home.store, &origins, &order, &settings, &mut world::System::new(), |_| {}).await.unwrap();
    for (digest, bytes) in &variant.blobs {
        let there = home.store.read_small(digest, bytes.len() as u64).unwrap();
        assert!(there.as_ref() == Some(bytes), "{digest}");
    }
    assert_eq!(std::fs::read_dir(home.folder.path().join("packages/blobs/sha256")).unwrap().count(), 5);
}

#[tokio::test]
async fn what_a_neighbour_has_does_not_come_from_the_hub() {
    let variant = Variant::new();
    let (near, hub) = (Node::new(0).await, Node::new(0).await);
    hub.keeps(&variant.blobs);
    near.keeps(&variant.blobs);
    bring(&variant, &[&near.url, &hub.url]).await;
    assert_eq!(hub.asked(), BTreeSet::new());
    assert_eq!(near.asked().len(), 5);
    // What its slots do not reach any more it does not give, even while it is there.
    near.reachable.write().unwrap().remove(&variant.weights);
    bring(&variant, &[&near.url, &hub.url]).await;
    assert_eq!(hub.asked(), [variant.weights].into());
    bring(&variant, &["http://127.0.0.1:1", &hub.url]).await;
}

#[tokio::test]
async fn a_neighbour_that_lies_costs_its_turn() {
    let variant = Arc::new(Variant::new());
    let hub = Node::new(0).await;
    hub.keeps(&variant.blobs);
    let blobs = variant.blobs.clone();
    let lie = move |uri: axum::http::Uri, headers: HeaderMap| async move {
        let Some(Place::Blob(digest) | Place::Manifest(digest)) =
            uri.path().strip_prefix("/v2/").and_then(read)
        else {
            return Refused::unknown().into_response();
        };
        let mut bytes = blobs[&digest].clone();
        bytes[0] ^= 1;
        if let Some(middle) = bytes.get_mut(2_000_000) {
            *middle ^= 1;
        }
        let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        match asked(range, bytes.len() as u64) {
            Asked::Part(range) => {
                let place = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
                let part = bytes[range.start as usize..range.end as usize].to_vec();
                (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, place)], part).into_response()
            }
            _ => bytes.into_response(),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().fallback(any(lie))).into_future());
    bring(&variant, &[&url, &hub.url]).await;
    assert_eq!(hub.asked().len(), 5, "nothing of the liar's was kept");
}

#[tokio::test]
async fn who_may_fetch_what() {
    let variant = Variant::new();
    let node = Node::new(0).await;
    let secret = b"of another model, which no slot reaches".to_vec();
    write_whole(&System, &node.store.blob_path(&Digest::of(&secret)), &secret).unwrap();
    node.keeps(&variant.blobs);
    let blob = |digest: &Digest| format!("/v2/a/blobs/{digest}");
    let card = blob(&Digest::of(b"a card"));
    let manifest = format!("/v2/a/manifests/{}", variant.manifest);
    for (path, status) in [
        (card.clone(), 200),
        (manifest.clone(), 200),
        ("/v2/".to_owned(), 200),
        (blob(&Digest::of(&secret)), 404),
        (blob(&Digest::of(b"nowhere")), 404),
        (format!("/v2/a/manifests/{}", variant.weights), 404),
        ("/v2/a/manifests/7".to_owned(), 404),
        (format!("/v2/A/blobs/{}", variant.weights), 404),
        ("/v2/a/blobs/..".to_owned(), 404),
        ("/v2/a/tags/list".to_owned(), 404),
    ] {
        assert_eq!(node.get(&path, &[]).await.status(), status, "{path}");
    }
    let kind = node.get(&manifest, &[]).await;
    assert_eq!(kind.headers()["content-type"], media::OCI_MANIFEST);
    assert_eq!(kind.headers()["docker-content-digest"], *variant.manifest.to_string());
    let part = node.get(&card, &[("range", "bytes=2-3")]).await;
    assert_eq!(
        (part.status().as_u16(), &part.headers()["content-range"]),
        (206, &"bytes 2-3/6".parse().unwrap())
    );
    assert_eq!(part.text().await.unwrap(), "ca");
    assert_eq!(node.get(&card, &[("range", "bytes=6-")]).await.status(), 416);
    assert_eq!(node.get(&card, &[("host", "evil.example")]).await.status(), 403);
    assert_eq!(node.get(&card, &[("origin", "http://evil.example")]).await.status(), 403);
    let url = format!("{}{card}", node.url);
    let stranger = reqwest::get(&url).await.unwrap();
    assert_eq!(stranger.status(), 401);
    assert!(!stranger.text().await.unwrap().contains("card"));
    let head = reqwest::Client::new().head(&url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"6".parse().unwrap()));
    let put = reqwest::Client::new().put(&url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(put.status(), 405);
}

#[tokio::test]
async fn a_few_bodies_at_a_time() {
    let variant = Variant::new();
    // Each piece waits for a quarter of an hour: no body ends while the test looks.
    let node = Node::new(256).await;
    node.keeps(&variant.blobs);
    let weights = format!("/v2/a/blobs/{}", variant.weights);
    let mut open = Vec::new();
    for _ in 0..BODIES {
        let answer = node.get(&weights, &[]).await;
        assert_eq!(answer.status(), 200);
        open.push(answer);
    }
    let busy = node.get(&weights, &[]).await;
    assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (503, &"2".parse().unwrap()));
    // Who leaves makes room.
    drop(open.pop());
    for _ in 0..500 {
        if node.get(&weights, &[]).await.status() == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the place stays taken");
}
