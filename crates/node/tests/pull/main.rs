//! Pulls models from a server on loopback that breaks off, lies, redirects, refuses and changes its files: what comes is whole
//! or is not there, and nothing is loaded twice that need not be. So do packages (`transfer`), trust metadata (`trust`) and assignments.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod assignments;
mod desired;
mod server;
mod transfer;
mod trust;

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use node::pull::event::Event;
use node::pull::{Order, PullError, Pulled, Puller, Settings};
use node::shelf::name::ModelName;
use node::shelf::{Shelf, State};
use node::web::retry::Patience;
use node::why::why;
use package::disk::room::Room;
use server::{Reply, Request, Server};
use wire::hash::Hash;
use wire::world::System;

const REPOSITORY: &str = "me/Tiny-GGUF";
const FILE: &str = "Tiny-Q4_K_M.gguf";

/// A file that begins like a model; `seed` makes it another one.
fn model(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.resize(24, 0);
    bytes.extend((24..len).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed));
    bytes
}

fn tree(file: &str, bytes: &[u8]) -> String {
    let (sha, size) = (Hash::of(bytes), bytes.len());
    format!(
        r#"[{{"type":"directory","path":"sub"}},{{"type":"file","path":"README.md","size":5}},
        {{"type":"file","path":"{file}","size":{size},"oid":"x","lfs":{{"oid":"{sha}","size":{size},"pointerSize":1}}}}]"#
    )
}

fn settings(endpoint: &str) -> Settings {
    let patience = Patience { failures_max: 4, first_ms: 1, longest_ms: 5, asked_longest_ms: 2000 };
    Settings { endpoint: endpoint.into(), idle: Duration::from_secs(5), patience, ..Settings::default() }
}

/// A shelf of its own.
struct Home {
    folder: tempfile::TempDir,
    shelf: Shelf,
}

impl Home {
    fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path().join("models"));
        Home { folder, shelf }
    }

    async fn pull(&self, settings: Settings, spec: &str) -> Result<(Pulled, Vec<Event>), PullError> {
        let mut events = Vec::new();
        let puller = Puller::new(settings)?;
        let tell = |event| events.push(event);
        let pulled = puller.pull(&self.shelf, spec, &Order::default(), &mut System::new(), tell).await?;
        Ok((pulled, events))
    }

    /// The model of this name is there, whole, and nothing else is.
    fn holds(&self, name: &str, bytes: &[u8]) {
        let entry = self.shelf.find(name).unwrap();
        assert_eq!(entry.state, State::Ready);
        assert!(fs::read(&entry.path).unwrap() == bytes, "the bytes are others");
        assert_eq!(entry.facts.sha256, Some(Hash::of(bytes)));
        let files = fs::read_dir(entry.path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 2, "the model and its facts");
        assert!(self.shelf.list().unwrap().unfinished.is_empty());
    }

    fn is_empty(&self) {
        let listing = self.shelf.list().unwrap();
        assert!(listing.models.is_empty() && listing.unfinished.is_empty() && listing.unreadable.is_empty());
        let left: Vec<_> = fs::read_dir(self.shelf.root())
            .into_iter()
            .flatten()
            .map(|file| file.unwrap().file_name())
            .filter(|name| name != ".locks")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A repository whose file is sent by `play`.
async fn repository(
    bytes: Vec<u8>,
    play: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
) -> Server {
    let files = AtomicUsize::new(0);
    Server::start(move |request, _| {
        if request.path.starts_with("/api/models/me/Tiny-GGUF/tree/main") {
            return Reply::new(200, tree(FILE, &bytes));
        }
        assert_eq!(request.path, format!("/{REPOSITORY}/resolve/main/{FILE}"));
        play(request, files.fetch_add(1, SeqCst))
    })
    .await
}

#[tokio::test]
async fn a_model_comes_from_a_repository_and_its_storage() {
    let bytes = model(2_500_000, 0);
    let of_storage = bytes.clone();
    let storage = Server::start(move |request, _| Reply::file(request, &of_storage, "s")).await;
    let sha = Hash::of(&bytes);
    let address = format!("{}/blob?Signature=secret", storage.url);
    let hub = repository(bytes.clone(), move |_, _| {
        Reply::new(302, "moved")
            .with("Location", &address)
            .with("X-Linked-Etag", format!("\"{sha}\""))
            .with("X-Repo-Commit", "0123abcd")
    })
    .await;
    let home = Home::new();
    let with_token = Settings { token: Some("hf_secret".into()), ..settings(&hub.url) };
    let (pulled, events) = home.pull(with_token.clone(), REPOSITORY).await.unwrap();
    assert!(!pulled.was_here);
    home.holds("tiny:q4_k_m", &bytes);
    let facts = pulled.entry.facts;
    let origin = facts.origin;
    assert_eq!(origin.repository.as_deref(), Some(REPOSITORY));
    assert_eq!((origin.commit.as_deref(), origin.file.as_deref()), (Some("0123abcd"), Some(FILE)));
    assert!(hub.log().iter().all(|asked| asked.header("authorization") == Some("Bearer hf_secret")));
    assert!(
        storage.log().iter().all(|asked| asked.header("authorization").is_none()),
        "the token stays at home"
    );
    let page = fs::read_to_string(home.shelf.root().join("tiny@q4_k_m/model.toml")).unwrap();
    assert!(!page.contains("secret"), "{page}");
    assert!(matches!(&events[0], Event::Listing { .. }));
    assert!(matches!(&events[1], Event::Chosen { total_bytes: Some(2_500_000), .. }));
    let Some(Event::Loading { done_bytes, total_bytes, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!((*done_bytes, *total_bytes), (2_500_000, Some(2_500_000)));

    let (again, _) = home.pull(with_token, "me/Tiny-GGUF:Q4_K_M").await.unwrap();
    assert!(again.was_here);
    assert_eq!(storage.log().len(), 1, "what is here does not come again");
}

#[test]
fn a_pull_may_move_between_threads() {
    fn check<T: Send>(_: &T) {}
    let home = Home::new();
    let puller = Puller::new(settings("http://127.0.0.1:1")).unwrap();
    let (order, mut world) = (Order::default(), System::new());
    check(&puller.pull(&home.shelf, REPOSITORY, &order, &mut world, |_| ()));
}

#[tokio::test]
async fn broken_lines_cost_nothing_twice() {
    for reset in [false, true] {
        let bytes = model(3_000_000, 1);
        let served = bytes.clone();
        let server = repository(bytes.clone(), move |request, _| {
            let reply = Reply::file(request, &served, "a");
            Reply { cut: Some(700_000), reset, ..reply }
        })
        .await;
        let home = Home::new();
        let (_, events) = home.pull(settings(&server.url), REPOSITORY).await.unwrap();
        home.holds("tiny", &bytes);
        assert!(events.iter().filter(|event| matches!(event, Event::Waiting { .. })).count() >= 4);
        let asked: Vec<_> = server.log().into_iter().filter(|asked| asked.path.ends_with(FILE)).collect();
        assert!(asked[1..].iter().all(|asked| asked.from() > 0 && asked.header("if-range") == Some("\"a\"")));
        assert!(
            server.sent() < bytes.len() + bytes.len() / 50 + 1000,
            "{} for {}",
            server.sent(),
            bytes.len()
        );
    }
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_again() {
    let bytes = model(900_000, 2);
    let served = bytes.clone();
    let server = repository(bytes.clone(), move |_, turn| {
        let reply = Reply::new(200, served.clone()).with("ETag", "\"a\"");
        Reply { cut: (turn == 0).then_some(500_000), ..reply }
    })
    .await;
    let home = Home::new();
    let (_, events) = home.pull(settings(&server.url), REPOSITORY).await.unwrap();
    home.holds("tiny", &bytes);
    assert!(events.contains(&Event::Restarting));
}

#[tokio::test]
async fn a_file_that_changes_while_it_comes_is_the_new_one() {
    for obeys_if_range in [true, false] {
        let (old, new) = (model(900_000, 3), model(950_000, 4));
        let (before, after) = (old.clone(), new.clone());
        let server = Server::start(move |request, turn| match turn {
            0 => Reply { cut: Some(400_000), ..Reply::file(request, &before, "old") },
            1 if !obeys_if_range => {
                let range = format!("bytes {}-{}/{}", request.from(), after.len() - 1, after.len());
                let rest = &after[request.from()..];
                Reply::new(206, rest).with("Content-Range", range).with("ETag", "\"new\"")
            }
            _ => Reply::file(request, &after, "new"),
        })
        .await;
        let home = Home::new();
        home.pull(settings(&server.url), &format!("{}/x/some.gguf", server.url)).await.unwrap();
        home.holds("some", &new);
    }
}

#[tokio::test]
async fn a_download_goes_on_in_another_process_and_what_rotted_comes_again() {
    for rot in [false, true] {
        let bytes = model(2_000_000, 5);
        let served = bytes.clone();
        let server = repository(bytes.clone(), move |request, turn| match turn {
            0 => Reply { cut: Some(1_500_000), ..Reply::file(request, &served, "a") },
            1 => Reply::new(404, ""),
            _ => Reply::file(request, &served, "a"),
        })
        .await;
        let home = Home::new();
        let error = home.pull(settings(&server.url), REPOSITORY).await.unwrap_err();
        assert!(why(&error).contains("there is nothing at"), "{}", why(&error));
        let unfinished = home.shelf.list().unwrap().unfinished;
        assert_eq!(unfinished[0].done_bytes, 1_500_000);
        assert_eq!(
            (unfinished[0].name.as_str(), unfinished[0].total_bytes),
            ("tiny:q4_k_m", Some(2_000_000))
        );
        if rot {
            let part = home.shelf.root().join("tiny@q4_k_m/download.part");
            let mut bytes = fs::read(&part).unwrap();
            bytes[1_000_000] ^= 1;
            fs::write(&part, bytes).unwrap();
        }
        let (_, events) = home.pull(settings(&server.url), REPOSITORY).await.unwrap();
        home.holds("tiny", &bytes);
        assert!(events.iter().any(|event| matches!(event, Event::Checking { done_bytes: 1_500_000, .. })));
        assert_eq!(events.contains(&Event::Restarting), rot);
        if !rot {
            assert!(server.sent() < 2_010_000, "{}", server.sent());
        }
    }
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let check = async |reply: Reply, expected: &str| {
        let bytes = model(1000, 0);
        let server = repository(bytes, move |_, _| reply.clone()).await;
        let home = Home::new();
        let error = why(&home.pull(settings(&server.url), REPOSITORY).await.unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
        home.is_empty();
    };
    check(Reply::new(401, "").with("X-Error-Code", "GatedRepo"), "me/Tiny-GGUF is gated: log in there").await;
    check(Reply::new(403, "no\u{1b}[31m"), "set HF_TOKEN").await;
    check(Reply::new(404, "").with("X-Error-Message", "Entry not found"), "\"Entry not found\"").await;
    check(Reply::new(429, "").with("Retry-After", 1000), "gave up after 1 failures").await;
    check(Reply::new(503, "busy"), "gave up after 4 failures").await;
    check(Reply::new(400, "bad"), "status 400, \"bad\"").await;
    check(
        Reply::new(302, "").with("Location", "/me/Tiny-GGUF/resolve/main/Tiny-Q4_K_M.gguf"),
        "redirects more than 8",
    )
    .await;
    check(Reply::new(302, "").with("Location", "ftp://x/y"), "it is not http").await;
    check(Reply::new(302, ""), "does not say where").await;
    check(Reply::new(206, "x"), "without saying which").await;
}

#[tokio::test]
async fn what_cannot_be_read_as_a_model_is_not_kept() {
    let mut bytes = model(1000, 0);
    // One tensor promised, and bytes that are none.
    bytes[8] = 1;
    let served = bytes.clone();
    let server = repository(bytes, move |request, _| Reply::file(request, &served, "a")).await;
    let home = Home::new();
    let error = why(&home.pull(settings(&server.url), REPOSITORY).await.unwrap_err());
    assert!(error.contains("cannot be read as one"), "{error}");
    home.is_empty();
}

#[tokio::test]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let bytes = model(1000, 0);
    let served = bytes.clone();
    let server = repository(bytes.clone(), move |request, turn| match turn {
        0 => Reply::new(429, "").with("Retry-After", 1),
        _ => Reply::file(request, &served, "a"),
    })
    .await;
    let home = Home::new();
    let (_, events) = home.pull(settings(&server.url), REPOSITORY).await.unwrap();
    home.holds("tiny", &bytes);
    assert!(events.iter().any(|event| matches!(event, Event::Waiting { wait_ms: 1000, .. })), "{events:?}");
}

#[tokio::test]
async fn bodies_that_lie_end_soon() {
    let check = async |play: fn(&Request) -> Reply, expected: &str| {
        let server = Server::start(move |request, _| play(request)).await;
        let home = Home::new();
        let limits =
            Settings { idle: Duration::from_millis(300), max_bytes: 1 << 20, ..settings(&server.url) };
        let error = why(&home.pull(limits, &format!("{}/a.gguf", server.url)).await.unwrap_err());
        assert!(error.contains(expected), "{error}");
        let listing = home.shelf.list().unwrap();
        assert!(
            listing.models.is_empty() && listing.unfinished.iter().all(|part| part.done_bytes <= 1 << 20)
        );
    };
    check(|_| Reply { endless: true, ..Reply::new(200, model(100_000, 0)) }, "larger than 1048576").await;
    check(|_| Reply { length: Some(2 << 20), ..Reply::new(200, model(100, 0)) }, "larger than 1048576").await;
    check(|_| Reply { length: Some(1 << 20), ..Reply::new(200, model(100, 0)) }, "gave up after 4").await;
    check(|_| Reply { length: Some(usize::MAX), ..Reply::new(200, model(100, 0)) }, "gave up after 4").await;
    let slow = |_: &Request| Reply {
        pause: Some(Duration::from_millis(100)),
        piece: 30,
        ..Reply::new(200, model(5000, 0))
    };
    check(slow, "next to nothing comes").await;
    check(
        |_| Reply { pause: Some(Duration::from_secs(60)), piece: 30, ..Reply::new(200, model(5000, 0)) },
        "no answer in time",
    )
    .await;
    check(|_| Reply::new(200, "<!doctype html><html>Please log in"), "this is an HTML page").await;
    check(|_| Reply::new(200, [b"<html>", &[b' '; 5000][..]].concat()), "this is an HTML page").await;
    check(|_| Reply::new(200, ""), "too short").await;
}

#[tokio::test]
async fn what_the_repository_promised_must_come() {
    let bytes = model(100_000, 0);
    let check = async |play: fn(&Request) -> Reply, expected: &str| {
        let server = repository(bytes.clone(), move |request, _| play(request)).await;
        let home = Home::new();
        let error = why(&home.pull(settings(&server.url), REPOSITORY).await.unwrap_err());
        assert!(error.contains(expected), "{error}");
        home.is_empty();
    };
    check(|_| Reply::new(200, model(100_000, 1)), "their SHA-256 is").await;
    check(|_| Reply::new(200, model(100_001, 0)), "has 100001 bytes, but the repository says 100000").await;
    check(|_| Reply { no_length: true, ..Reply::new(200, model(100_001, 0)) }, "more than the 100000 bytes")
        .await;
}

#[tokio::test]
async fn a_full_disk_is_told_before_anything_comes() {
    let bytes = model(300_000, 0);
    let served = bytes.clone();
    let server = repository(bytes.clone(), move |request, _| Reply::file(request, &served, "a")).await;
    let mut home = Home::new();
    home.shelf = home.shelf.clone().with_room(Room::new(|_| Some(300_999), 1000));
    let error = why(&home.pull(settings(&server.url), REPOSITORY).await.unwrap_err());
    assert!(error.contains("300000 bytes are needed, 300999 are free, of which 1000 stay free"), "{error}");
    home.is_empty();
    // Nobody says how much will come: the room is looked at as it fills.
    let endless = Server::start(|_, _| Reply { endless: true, ..Reply::new(200, model(100_000, 0)) }).await;
    let left = AtomicUsize::new(6);
    let room = Room::new(
        move |_| {
            left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                .ok()
                .map_or(Some(0), |_| Some(9 << 20))
        },
        1000,
    );
    home.shelf = home.shelf.clone().with_room(room);
    let error =
        why(&home.pull(settings(&endless.url), &format!("{}/a.gguf", endless.url)).await.unwrap_err());
    assert!(error.contains("not enough room"), "{error}");
    home.shelf = home.shelf.clone().with_room(Room::new(|_| Some(301_000), 1000));
    home.pull(settings(&server.url), REPOSITORY).await.unwrap();
    home.shelf.find("tiny").unwrap();
}

#[tokio::test]
async fn an_address_is_pulled_once_and_brought_up_to_date() {
    let version = Arc::new(AtomicUsize::new(0));
    let now = version.clone();
    let server = Server::start(move |request, _| {
        let version = now.load(SeqCst);
        Reply::file(request, &model(100_000 + version, version as u8), &format!("v{version}"))
    })
    .await;
    let home = Home::new();
    let address =
        server.url.replace("http://", "http://user:password@") + "/models/Tiny-Q8_0.gguf?key=secret";
    let (first, _) = home.pull(settings(&server.url), &address).await.unwrap();
    let page = fs::read_to_string(home.shelf.root().join("tiny@q8_0/model.toml")).unwrap();
    assert!(!page.contains("secret") && !page.contains("password"), "{page}");
    let (again, _) = home.pull(settings(&server.url), &address).await.unwrap();
    assert!(again.was_here && again.entry == first.entry);
    version.store(1, SeqCst);
    let open = fs::File::open(&first.entry.path).unwrap();
    let (newer, _) = home.pull(settings(&server.url), &address).await.unwrap();
    assert!(!newer.was_here && newer.entry.path != first.entry.path);
    assert_eq!(open.metadata().unwrap().len(), 100_000, "who has the old one open keeps it");
    home.holds("tiny:q8_0", &model(100_001, 1));
    // Another place may not take the name unasked.
    let other = format!("{}/elsewhere/Tiny-Q8_0.gguf", server.url);
    assert!(matches!(home.pull(settings(&server.url), &other).await, Err(PullError::Taken { .. })));
    let order = Order { name: None, replace: true };
    let puller = Puller::new(settings(&server.url)).unwrap();
    puller.pull(&home.shelf, &other, &order, &mut System::new(), |_| ()).await.unwrap();
    home.holds("tiny:q8_0", &model(100_001, 1));
}

#[tokio::test]
async fn listings_have_pages_and_old_mirrors_have_none() {
    let bytes = model(1000, 0);
    let (served, listed) = (bytes.clone(), bytes.clone());
    let paged = Server::start(move |request, _| match &*request.path {
        "/api/models/me/Tiny-GGUF/tree/v2?recursive=true" => Reply::new(200, tree("Tiny-Q8_0.gguf", &listed))
            .with("Link", "</api/models/me/Tiny-GGUF/tree/v2?recursive=true&cursor=2>; rel=\"next\""),
        "/api/models/me/Tiny-GGUF/tree/v2?recursive=true&cursor=2" => {
            Reply::new(200, tree("sub/Tiny-Q5_0.gguf", &listed))
        }
        "/me/Tiny-GGUF/resolve/v2/sub/Tiny-Q5_0.gguf" => Reply::file(request, &served, "a"),
        other => Reply::new(404, other),
    })
    .await;
    let home = Home::new();
    home.pull(settings(&paged.url), "me/Tiny-GGUF@v2:q5_0").await.unwrap();
    home.holds("tiny:q5_0", &bytes);
    let error = why(&home.pull(settings(&paged.url), "me/Tiny-GGUF@v2:q6_k").await.unwrap_err());
    assert!(error.contains("has no q6_k; it has q5_0, q8_0"), "{error}");

    let (served, sha) = (bytes.clone(), Hash::of(&bytes));
    let old = Server::start(move |request, _| match &*request.path {
        "/api/models/me/Tiny-GGUF?blobs=true" => Reply::new(
            200,
            format!(r#"{{"id":"x","siblings":[{{"rfilename":"{FILE}","size":1000,"lfs":{{"sha256":"{sha}","size":1000}}}},{{"rfilename":"../../evil.gguf"}}]}}"#),
        ),
        "/me/Tiny-GGUF/resolve/main/Tiny-Q4_K_M.gguf" => Reply::file(request, &served, "a"),
        other => Reply::new(404, other),
    })
    .await;
    let home = Home::new();
    home.pull(settings(&old.url), REPOSITORY).await.unwrap();
    home.holds("tiny", &bytes);
    let nonsense =
        Server::start(|_, _| Reply { endless: true, ..Reply::new(200, vec![b'['; 100_000]) }).await;
    let error = why(&home.pull(settings(&nonsense.url), REPOSITORY).await.unwrap_err());
    assert!(error.contains("it has more than"), "{error}");
}

#[tokio::test]
async fn two_pulls_of_one_model_do_not_meet() {
    let bytes = model(200_000, 0);
    let served = bytes.clone();
    let server = repository(bytes.clone(), move |request, _| Reply {
        pause: Some(Duration::from_millis(10)),
        ..Reply::file(request, &served, "a")
    })
    .await;
    let home = Home::new();
    let (one, two) = tokio::join!(
        home.pull(settings(&server.url), REPOSITORY),
        home.pull(settings(&server.url), REPOSITORY)
    );
    let error = [one.err(), two.err()].into_iter().flatten().map(|error| why(&error)).collect::<Vec<_>>();
    assert_eq!(error.len(), 1);
    assert!(error[0].contains("tiny:q4_k_m is being downloaded"), "{error:?}");
    home.holds("tiny", &bytes);
}

struct Notes(AtomicUsize, Waker);

impl Wake for Notes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
        self.1.wake_by_ref();
    }
}

/// Polls a future so many times at most, then drops it; says whether it ended.
async fn poll_times<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut polls = 0;
    std::future::poll_fn(move |context| {
        let notes = Arc::new(Notes(AtomicUsize::new(0), context.waker().clone()));
        let waker = Waker::from(notes);
        polls += 1;
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if polls >= times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_pull_may_be_dropped_at_every_await() {
    let bytes = model(1_300_000, 9);
    let served = bytes.clone();
    let server = repository(bytes.clone(), move |request, _| Reply::file(request, &served, "a")).await;
    let mut drops = 0;
    for times in 1.. {
        let home = Home::new();
        let ended = poll_times(times, home.pull(settings(&server.url), REPOSITORY)).await;
        if let Some(pulled) = ended {
            pulled.unwrap();
            home.holds("tiny", &bytes);
            break;
        }
        drops += 1;
        // The last piece of blocking work may still be at it: until then the model's place is held.
        let name = ModelName::new("tiny:q4_k_m").unwrap();
        while home.shelf.take(&name).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for entry in home.shelf.list().unwrap().models {
            assert!(fs::read(entry.path).unwrap() == bytes);
        }
        home.pull(settings(&server.url), REPOSITORY).await.unwrap();
        home.holds("tiny", &bytes);
    }
    assert!(drops >= 8, "{drops}");
}

/// Set for the process that is killed: the shelf's folder and the server's address.
const VICTIM: &str = "SELVEDGE_TEST_PULL_VICTIM";

#[tokio::test]
async fn the_victim_of_the_next_test() {
    let Ok(words) = std::env::var(VICTIM) else { return };
    let (folder, endpoint) = words.split_once('|').unwrap();
    let puller = Puller::new(settings(endpoint)).unwrap();
    let shelf = Shelf::new(Path::new(folder).join("models"));
    puller.pull(&shelf, REPOSITORY, &Order::default(), &mut System::new(), |_| ()).await.unwrap();
}

#[tokio::test]
async fn a_process_killed_at_any_time_leaves_a_part_or_the_model() {
    let bytes = model(4_000_000, 11);
    let served = bytes.clone();
    let server = repository(bytes.clone(), move |request, _| Reply {
        pause: Some(Duration::from_micros(300)),
        ..Reply::file(request, &served, "a")
    })
    .await;
    let home = Home::new();
    let words = format!("{}|{}", home.folder.path().display(), server.url);
    let (mut kills, mut most) = (0, 0);
    for turn in 0..40u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_victim_of_the_next_test"])
            .env(VICTIM, &words)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(30 + 17 * (turn % 10))).await;
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        kills += usize::from(!ended.success());
        let listing = home.shelf.list().unwrap();
        assert!(listing.unreadable.is_empty());
        for part in &listing.unfinished {
            assert!(part.done_bytes >= most, "nothing is lost: {} after {most}", part.done_bytes);
            most = part.done_bytes;
            let folder = home.shelf.root().join("tiny@q4_k_m");
            let part =
                fs::read(folder.join("download.part")).or_else(|_| fs::read(folder.join("model.gguf")));
            assert!(bytes.starts_with(&part.unwrap_or_default()));
        }
        if !listing.models.is_empty() {
            break;
        }
    }
    home.pull(settings(&server.url), REPOSITORY).await.unwrap();
    home.holds("tiny", &bytes);
    assert!(kills >= 1, "{kills}");
}
