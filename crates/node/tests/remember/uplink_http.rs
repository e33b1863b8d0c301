//! The uplink over a real connection: what it sends, what it takes for an answer, and that it lets go.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use node::journal::{Durability, Journal};
use node::sync::{Failure, Trouble};
use node::uplink::{Host, Notice, Settings, Uplink};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use wire::batch::{Batch, CONTENT_TYPE};
use wire::checkin::{CheckIn, CheckInAnswer, StreamState};
use wire::class::Class;
use wire::id::{BootId, JournalId, NodeId};
use wire::world::{ClockQuality, Simulated, System};

use crate::stand::{FakeHub, body, draft, folder, open, stamp, stream};

/// A hub whose answers can be replaced, one by one.
#[derive(Default)]
struct Desk {
    hub: FakeHub,
    journal: Option<JournalId>,
    check_ins: Vec<CheckIn>,
    batches: usize,
    /// Answers given instead of what the hub would say, the last first.
    instead: Vec<Response>,
    /// What was wrong with a request.
    wrong: Vec<String>,
    changed: Arc<Notify>,
}

type Shared = Arc<Mutex<Desk>>;

fn look(desk: &mut Desk, headers: &HeaderMap, content_type: &str) -> Option<Response> {
    for (name, expected) in [(header::AUTHORIZATION, "Bearer s3cret"), (header::CONTENT_TYPE, content_type)] {
        if headers.get(&name).is_none_or(|value| value != expected) {
            desk.wrong.push(format!("{name} is {:?}", headers.get(&name)));
        }
    }
    desk.changed.notify_one();
    desk.instead.pop()
}

async fn check_in(State(desk): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mut desk = desk.lock().unwrap();
    if let Some(instead) = look(&mut desk, &headers, "application/json") {
        return instead;
    }
    let said: CheckIn = serde_json::from_slice(&body).unwrap();
    desk.journal = Some(said.journal);
    let watermarks = desk.hub.watermarks(said.journal);
    desk.check_ins.push(said);
    let answer = CheckInAnswer { v: 1, hub_ms: 7, next_ms: 60_000, watermarks, ..CheckInAnswer::default() };
    axum::Json(answer).into_response()
}

async fn records(State(desk): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mut desk = desk.lock().unwrap();
    if let Some(instead) = look(&mut desk, &headers, CONTENT_TYPE) {
        return instead;
    }
    let batch: Batch = serde_json::from_slice(&zstd::decode_all(&body[..]).unwrap()).unwrap();
    desk.batches += 1;
    axum::Json(desk.hub.take(&batch)).into_response()
}

/// The agent's side.
struct Ear {
    notices: Arc<Mutex<Vec<Notice>>>,
    answered: Arc<Mutex<u64>>,
    changed: Arc<Notify>,
}

impl Host for Ear {
    fn check_in(&mut self, journal: JournalId, streams: Vec<StreamState>) -> CheckIn {
        CheckIn {
            v: 1,
            node: NodeId::new("pump-1").unwrap(),
            journal,
            boot: BootId::random(&mut Simulated::new(1)),
            version: "0".into(),
            uptime_ms: 0,
            wall_ms: 0,
            clock: ClockQuality::Unchecked,
            flow: None,
            sources: Vec::new(),
            streams,
            rss_bytes: None,
            journal_bytes: None,
            slots: Vec::new(),
            trust: None,
            hub: None,
            revision: None,
            nonce: None,
            inventory: None,
            accepted: Vec::new(),
            acks: Vec::new(),
            checkpoint: None,
            models: Vec::new(),
            extra: serde_json::Map::new(),
        }
    }

    fn answered(&mut self, answer: &CheckInAnswer, _round_trip_ns: u64) {
        assert_eq!(answer.hub_ms, 7);
        *self.answered.lock().unwrap() += 1;
    }

    fn notice(&mut self, notice: Notice) {
        self.notices.lock().unwrap().push(notice);
        self.changed.notify_one();
    }
}

struct Scene {
    world: Simulated,
    _dir: TempDir,
    journal: Journal,
    desk: Shared,
    notices: Arc<Mutex<Vec<Notice>>>,
    answered: Arc<Mutex<u64>>,
    changed: Arc<Notify>,
    url: String,
}

impl Scene {
    /// A journal with `count` decisions and a hub that first gives the answers `instead`.
    async fn new(count: u64, instead: Vec<Response>) -> Scene {
        let (dir, mut world, changed) = (folder(), Simulated::new(1), Arc::new(Notify::new()));
        let mut journal = open(&dir, 8 << 20, &mut world);
        let drafts = (0..count).map(|n| draft("d", Class::Audit, &body(n, 1000)));
        journal.append(drafts, stamp(&mut world)).unwrap();
        journal.commit(Durability::Full).unwrap();
        let desk = Desk { instead, changed: changed.clone(), ..Desk::default() };
        let desk = Arc::new(Mutex::new(desk));
        let app = Router::new()
            .route("/api/v1/checkin", post(check_in))
            .route("/api/v1/records", post(records))
            .with_state(desk.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let (notices, answered) = Default::default();
        Scene { world, _dir: dir, journal, desk, notices, answered, changed, url }
    }

    /// Runs the uplink until `done`, which must come within ten seconds; `meanwhile` happens after the first check-in.
    async fn play(
        &mut self,
        mut done: impl FnMut(&Desk, &[Notice]) -> bool,
        meanwhile: impl FnOnce(&mut Journal),
    ) {
        let settings = Settings {
            hub_url: self.url.clone(),
            token: Some("s3cret".into()),
            tls: None,
            node: NodeId::new("pump-1").unwrap(),
        };
        let uplink = Uplink::new(settings, self.journal.outbox().unwrap(), self.journal.bell()).unwrap();
        let ear = Ear {
            notices: self.notices.clone(),
            answered: self.answered.clone(),
            changed: self.changed.clone(),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let run =
            tokio::spawn(
                async move { uplink.run(System::new(), ear, async { stopped.await.unwrap() }).await },
            );
        let mut meanwhile = Some(meanwhile);
        let wait = async {
            loop {
                let enough = done(&self.desk.lock().unwrap(), &self.notices.lock().unwrap());
                if enough {
                    break;
                }
                tokio::time::timeout(Duration::from_millis(20), self.changed.notified()).await.ok();
                if *self.answered.lock().unwrap() > 0
                    && let Some(meanwhile) = meanwhile.take()
                {
                    meanwhile(&mut self.journal);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("done within ten seconds");
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(1), run).await.expect("it stops at once").unwrap();
        assert_eq!(self.desk.lock().unwrap().wrong, Vec::<String>::new());
    }

    fn held(&self) -> u64 {
        let desk = self.desk.lock().unwrap();
        let held = &desk.hub.streams[&(self.journal.id(), stream("d"))];
        held.check().unwrap();
        held.seq
    }
}

fn has(count: u64) -> impl FnMut(&Desk, &[Notice]) -> bool {
    move |desk, _| desk.hub.streams.values().any(|held| held.seq == count)
}

#[tokio::test]
async fn everything_goes_up_and_then_what_comes_after() {
    let mut scene = Scene::new(1000, Vec::new()).await;
    let mut world = scene.world.clone();
    scene
        .play(has(1001), |journal| {
            journal.append([draft("d", Class::Audit, "\"fresh\"")], stamp(&mut world)).unwrap();
            journal.commit(Durability::Relaxed).unwrap();
        })
        .await;
    assert_eq!(scene.held(), 1001);
    let desk = scene.desk.lock().unwrap();
    // A megabyte, a quarter of one at a time.
    assert!((5..10).contains(&desk.batches), "{}", desk.batches);
    let states = &desk.check_ins[0].streams;
    assert_eq!((states.len(), states[0].last, states[0].acked), (1, 1000, 0));
    assert!(scene.notices.lock().unwrap().is_empty());
}

#[tokio::test]
async fn trouble_is_told_once_and_so_is_its_end() {
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")], "a\nwhile").into_response();
    let mut scene = Scene::new(10, vec![busy(), busy()]).await;
    scene.play(has(10), |_| {}).await;
    let notices = scene.notices.lock().unwrap();
    let [Notice::Trouble(Trouble::Hub(failure)), Notice::Recovered] = &notices[..] else {
        panic!("{notices:?}");
    };
    let why = "a while".to_owned();
    assert_eq!(*failure, Failure::Status { status: 503, retry_after_ns: Some(0), why });
}

#[tokio::test]
async fn an_answer_that_is_none_is_trouble_and_nothing_worse() {
    type Answer = fn() -> Response;
    let cases: [(Answer, &str); 5] = [
        (|| "not JSON".into_response(), "cannot be used"),
        (|| "x".repeat(2 << 20).into_response(), "more than 1048576 bytes"),
        (|| StatusCode::UNAUTHORIZED.into_response(), "answered 401"),
        (
            || (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
            "answered 307",
        ),
        (|| (StatusCode::BAD_GATEWAY, vec![0xff; 1 << 20]).into_response(), "answered 502"),
    ];
    for (answer, expected) in cases {
        let mut scene = Scene::new(10, vec![answer()]).await;
        scene.play(|_, notices| !notices.is_empty(), |_| {}).await;
        let said = scene.notices.lock().unwrap()[0].to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn a_hub_that_never_answers_does_not_hold_up_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut scene = Scene::new(10, Vec::new()).await;
    scene.url = format!("http://{}", listener.local_addr().unwrap());
    let changed = scene.changed.clone();
    let connected = Arc::new(Mutex::new(false));
    let seen = connected.clone();
    tokio::spawn(async move {
        let _open = listener.accept().await.unwrap();
        *seen.lock().unwrap() = true;
        changed.notify_one();
        std::future::pending::<()>().await;
    });
    scene.play(|_, _| *connected.lock().unwrap(), |_| {}).await;
}
