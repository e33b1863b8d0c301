//! The relay's door: `CONNECT` to the hub opens a tunnel, `GET` gives what the cache keeps, and nothing else is done for anybody.
//!
//! | call | answer |
//! |---|---|
//! | `CONNECT hub:port` | a tunnel, to our own hub only |
//! | `GET /v2/<name>/blobs/<digest>`, `…/manifests/<digest>` | a blob, in parts if asked |
//! | `GET /tuf/metadata/<file>` | trust metadata |
//! | `GET /api/v1/assignments` | a page of assignments |
//!
//! Both want the relay's token. Headers, connections, their number from one address, and how long they may be of no use have
//! limits ([`gate`](super::gate)).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_RANGE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, RETRY_AFTER,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use package::digest::Digest;
use package::range::{Asked, asked};
use package::registry::RepoName;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::api::connections::Now;
use crate::api::guard::same;
use crate::relay::cache::{Cache, Given, NotGiven};
use crate::relay::documents::{Found, Wanted};
use crate::relay::gate::{Effect, Event, Gate, Refusal, Seat};
use crate::relay::tunnel::{self, HOPS, Opened, Target};
use crate::via::Via;

/// The largest header, and the most fields of one.
const HEADER_MAX_BYTES: usize = 16 << 10;
const HEADERS_MAX: usize = 32;

/// How often it is looked who stays too long.
const TICK: Duration = Duration::from_secs(1);

/// After a failure to accept, this long until the next try.
const AGAIN: Duration = Duration::from_millis(100);

/// The most relays in a row.
const HOPS_MAX: u32 = 4;

/// When to come again, in seconds.
const LATER_S: u32 = 5;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The door.
pub(super) struct Door {
    gate: Arc<Mutex<Gate>>,
    leaving: Mutex<BTreeMap<Seat, Arc<Notify>>>,
    token: String,
    target: Target,
    via: Option<Arc<Via>>,
    /// `None`: nothing is kept.
    cache: Option<Arc<Cache>>,
    opening: Duration,
    now: Now,
}

/// A tunnel that was granted, until the connection is ready for it.
type Granted = Arc<Mutex<Option<(OnUpgrade, Opened)>>>;

/// An answer under way; its end is the seat's rest.
struct Busy {
    door: Arc<Door>,
    seat: Seat,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.door.step(Event::Rests(self.seat));
    }
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Version,
    Blob { name: RepoName, digest: Digest, is_manifest: bool },
    Document(Wanted),
}

/// A question that is not answered.
struct Refused {
    status: StatusCode,
    message: String,
    /// `None`: an honest question, and there is nothing.
    why: Option<Refusal>,
}

impl Refused {
    fn new(status: StatusCode, why: Refusal, message: impl Into<String>) -> Refused {
        Refused { status, message: message.into(), why: Some(why) }
    }

    /// What it may ask for, and nobody has.
    fn absent(message: impl Into<String>) -> Refused {
        Refused { status: StatusCode::NOT_FOUND, message: message.into(), why: None }
    }
}

impl Door {
    /// Answers until `stop`.
    pub(super) async fn serve(self: Arc<Door>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => self.came(stream, from, &mut connections),
                    Err(error) => {
                        // Out of file descriptors, most likely: wait for connections to end.
                        tracing::warn!(%error, "the relay could not accept a connection");
                        tokio::time::sleep(AGAIN).await;
                    }
                },
                _ = tick.tick() => {
                    self.step(Event::Tick);
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                // That nobody can tell any more is a stop as well.
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        connections.shutdown().await;
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeMap<Seat, Arc<Notify>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what follows from an event done; gives how long to wait before going on.
    fn step(&self, event: Event) -> Duration {
        let effects = self.gate().step(event, (self.now)());
        let mut wait = Duration::ZERO;
        for effect in effects {
            match effect {
                Effect::Close(seat) => self.close(seat),
                Effect::Wait(ns) => wait = Duration::from_nanos(ns),
                Effect::Admit(_) | Effect::TurnAway => {}
            }
        }
        wait
    }

    fn close(&self, seat: Seat) {
        if let Some(leave) = self.leaving().get(&seat) {
            leave.notify_one();
        }
    }

    fn came(self: &Arc<Door>, stream: TcpStream, from: SocketAddr, connections: &mut JoinSet<()>) {
        let effects = self.gate().step(Event::Came(from.ip()), (self.now)());
        let mut stream = Some(stream);
        for effect in effects {
            match effect {
                Effect::Close(seat) => self.close(seat),
                Effect::Admit(seat) => {
                    let Some(stream) = stream.take() else { continue };
                    let leave = Arc::new(Notify::new());
                    self.leaving().insert(seat, Arc::clone(&leave));
                    let sitting = Sitting { door: Arc::clone(self), seat };
                    connections.spawn(async move {
                        tokio::select! {
                            () = sitting.converse(stream) => {}
                            () = leave.notified() => {}
                        }
                    });
                }
                Effect::TurnAway | Effect::Wait(_) => {}
            }
        }
    }

    /// Answers one question of a seat.
    async fn answer(
        self: Arc<Door>,
        request: Request<Incoming>,
        seat: Seat,
        granted: Granted,
    ) -> Result<Response<Body>, Infallible> {
        let method = request.method().clone();
        let answered = match method {
            Method::CONNECT => self.connect(request, seat, &granted).await,
            Method::GET | Method::HEAD => self.give(&request, seat).await,
            _ => {
                let message = "a relay opens tunnels by CONNECT, and gives what it keeps by GET";
                Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, Refusal::Target, message))
            }
        };
        Ok(answered.unwrap_or_else(|refused| self.refuse(refused)))
    }

    fn refuse(&self, refused: Refused) -> Response<Body> {
        if let Some(why) = refused.why {
            self.step(Event::Refused(why));
        }
        let code = match refused.why {
            None => "absent",
            Some(Refusal::Full | Refusal::Share) => "full",
            Some(Refusal::Token) => "token",
            Some(Refusal::Target) => "target",
            Some(Refusal::NoHub) => "no-hub",
        };
        let said = json!({ "error": { "code": code, "message": refused.message } }).to_string();
        let mut response = Response::new(full(Bytes::from(said)));
        *response.status_mut() = refused.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match refused.status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // What it keeps may not be asked for again on the same connection without end.
            StatusCode::UNAUTHORIZED | StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, HeaderValue::from(LATER_S))),
            _ => {}
        }
        response
    }

    fn knows(&self, shown: Option<&HeaderValue>) -> bool {
        let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ")).unwrap_or("");
        same(shown.as_bytes(), self.token.as_bytes())
    }

    /// Opens a tunnel.
    async fn connect(
        &self,
        request: Request<Incoming>,
        seat: Seat,
        granted: &Granted,
    ) -> Result<Response<Body>, Refused> {
        if !self.knows(request.headers().get(PROXY_AUTHORIZATION)) {
            let message = "show the relay's token as `Proxy-Authorization: Bearer …`";
            return Err(Refused::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED, Refusal::Token, message));
        }
        let is_hub = |to: &hyper::http::uri::Authority| self.target.is(to.host(), to.port_u16());
        if !request.uri().authority().is_some_and(is_hub) {
            let message = format!("this relay leads to the hub {} and nowhere else", self.target);
            return Err(Refused::new(StatusCode::FORBIDDEN, Refusal::Target, message));
        }
        let hops = request.headers().get(HOPS).and_then(|hops| hops.to_str().ok()?.parse().ok()).unwrap_or(0);
        if hops >= HOPS_MAX {
            let message = "relays stand before each other in a circle, or too many in a row";
            return Err(Refused::new(StatusCode::LOOP_DETECTED, Refusal::Target, message));
        }
        self.step(Event::Used(seat));
        let opened = tunnel::open(&self.target, self.via.as_ref(), hops).await;
        self.step(Event::Tried { seat, opened: opened.is_ok() });
        let opened = opened.map_err(|why| {
            self.step(Event::Rests(seat));
            Refused::new(StatusCode::BAD_GATEWAY, Refusal::NoHub, format!("the hub cannot be reached: {why}"))
        })?;
        *granted.lock().unwrap_or_else(PoisonError::into_inner) = Some((hyper::upgrade::on(request), opened));
        Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync()))
    }

    /// Gives what the cache has, or brings.
    async fn give(
        self: &Arc<Door>,
        request: &Request<Incoming>,
        seat: Seat,
    ) -> Result<Response<Body>, Refused> {
        if !self.knows(request.headers().get(AUTHORIZATION)) {
            let message = "show the relay's token as `Authorization: Bearer …`";
            return Err(Refused::new(StatusCode::UNAUTHORIZED, Refusal::Token, message));
        }
        let Some(cache) = &self.cache else {
            return Err(Refused::absent("this relay keeps nothing: the hub has it, through a tunnel"));
        };
        let asks = request.uri().path_and_query().and_then(|asked| read(asked.as_str()));
        let Some(place) = asks else {
            return Err(Refused::new(StatusCode::NOT_FOUND, Refusal::Target, "there is nothing here"));
        };
        self.step(Event::Used(seat));
        let busy = Busy { door: Arc::clone(self), seat };
        let is_head = request.method() == Method::HEAD;
        match place {
            Place::Version => Ok(json_of(Bytes::from_static(b"{}"))),
            Place::Document(wanted) => match cache.document(&wanted).await {
                Found::Bytes(bytes) => {
                    self.step(Event::Given { seat, bytes: bytes.len() as u64 });
                    Ok(json_of(bytes.into()))
                }
                Found::Absent => Err(Refused::absent("there is no such document")),
                Found::Unknown(why) => {
                    Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, Refusal::NoHub, why))
                }
            },
            Place::Blob { name, digest, is_manifest } => {
                let given = cache.blob(&name, digest, is_manifest).await.map_err(|why| match why {
                    NotGiven::Unknown | NotGiven::TooLarge(_) => Refused::absent(why.to_string()),
                    NotGiven::Later(_) => {
                        Refused::new(StatusCode::SERVICE_UNAVAILABLE, Refusal::NoHub, why.to_string())
                    }
                })?;
                blob(given, digest, request.headers(), is_head, busy)
            }
        }
    }
}

impl Door {
    /// A door to the hub `target`, for who shows `token`.
    pub(super) fn new(
        (gate, opening): (Arc<Mutex<Gate>>, Duration),
        token: String,
        target: Target,
        via: Option<Arc<Via>>,
        cache: Option<Arc<Cache>>,
        now: Now,
    ) -> Door {
        Door { gate, leaving: Mutex::default(), token, target, via, cache, opening, now }
    }
}

/// A seat that is left in the end, however the conversation ends.
struct Sitting {
    door: Arc<Door>,
    seat: Seat,
}

impl Drop for Sitting {
    fn drop(&mut self) {
        self.door.step(Event::Left(self.seat));
        self.door.leaving().remove(&self.seat);
    }
}

impl Sitting {
    /// Speaks HTTP with whoever came, and carries its tunnel if it has got one.
    async fn converse(&self, stream: TcpStream) {
        // Small answers go out at once.
        let _ = stream.set_nodelay(true);
        let granted = Granted::default();
        let service =
            service_fn(|request| Arc::clone(&self.door).answer(request, self.seat, Arc::clone(&granted)));
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.door.opening)
            .max_buf_size(HEADER_MAX_BYTES)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = serving.await {
            tracing::debug!(%error, "a connection to the relay ended early");
        }
        let tunnel = granted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((upgrade, far)) = tunnel else { return };
        let carried = match upgrade.await {
            Ok(near) => {
                let near = TokioIo::new(near);
                tunnel::carry(near, far, self.seat, |event| self.door.step(event)).await
            }
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = carried {
            tracing::debug!(%error, "a tunnel broke");
        }
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn json_of(bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A blob, or the part of it that is asked for, as it comes.
fn blob(
    given: Given,
    digest: Digest,
    headers: &HeaderMap,
    is_head: bool,
    busy: Busy,
) -> Result<Response<Body>, Refused> {
    let (size, etag) = (given.size, format!("\"{digest}\""));
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let range = text(RANGE).filter(|_| text(IF_RANGE).is_none_or(|known| known == etag));
    let (status, range) = match asked(range.filter(|_| !is_head), size) {
        Asked::Whole => (StatusCode::OK, 0..size),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Nowhere => {
            let message = format!("the blob has {size} bytes, none of them was asked for");
            return Err(Refused::new(StatusCode::RANGE_NOT_SATISFIABLE, Refusal::Target, message));
        }
    };
    let mut facts = vec![
        (ETAG, etag),
        (DIGEST, digest.to_string()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, (range.end - range.start).to_string()),
    ];
    if status == StatusCode::PARTIAL_CONTENT {
        facts.push((CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1)));
    }
    let body = if is_head { full(Bytes::new()) } else { pieces(given, range, busy) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let facts =
        facts.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)));
    response.headers_mut().extend(facts);
    Ok(response)
}

fn pieces(given: Given, range: Range<u64>, busy: Busy) -> Body {
    let pieces = stream::try_unfold((given, range, busy), |(mut given, range, busy)| async move {
        let Some((bytes, rest)) = given.next(range).await? else { return Ok::<_, io::Error>(None) };
        busy.door.step(Event::Given { seat: busy.seat, bytes: bytes.len() as u64 });
        Ok(Some((Frame::data(bytes), (given, rest, busy))))
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Reads a path with its query.
fn read(asked: &str) -> Option<Place> {
    let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
    if path == "/v2/" {
        return Some(Place::Version);
    }
    if let Some(file) = path.strip_prefix("/tuf/metadata/") {
        return Wanted::metadata(file).map(Place::Document);
    }
    if path == "/api/v1/assignments" {
        // Ids of assignments need no escape, and nothing else of a query is ours.
        let after = query.split('&').find_map(|pair| pair.strip_prefix("after="));
        return Wanted::assignments(after).map(Place::Document);
    }
    let (rest, digest) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
    let (name, kind) = rest.rsplit_once('/')?;
    let (name, digest) = (RepoName::new(name).ok()?, Digest::parse(digest).ok()?);
    match kind {
        "blobs" => Some(Place::Blob { name, digest, is_manifest: false }),
        "manifests" => Some(Place::Blob { name, digest, is_manifest: true }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_asked_for() {
        let digest = Digest::of(b"x");
        let name = RepoName::new("plant/tiny").unwrap();
        let blob = |is_manifest| Some(Place::Blob { name: name.clone(), digest, is_manifest });
        for (path, expected) in [
            (format!("/v2/plant/tiny/blobs/{digest}"), blob(false)),
            (format!("/v2/plant/tiny/manifests/{digest}?x=1"), blob(true)),
            ("/v2/".to_owned(), Some(Place::Version)),
            ("/v2/plant/tiny/manifests/latest".to_owned(), None),
            (format!("/v2/../blobs/{digest}"), None),
            (format!("/v2/plant/tiny/uploads/{digest}"), None),
            (
                "/tuf/metadata/timestamp.json".to_owned(),
                Wanted::metadata("timestamp.json").map(Place::Document),
            ),
            ("/tuf/metadata/../secret.json".to_owned(), None),
            (
                "/api/v1/assignments?node=pump-1&after=00ff".to_owned(),
                Some(Place::Document(Wanted::Assignments(Some("00ff".to_owned())))),
            ),
            ("/api/v1/records".to_owned(), None),
            ("/".to_owned(), None),
        ] {
            assert_eq!(read(&path), expected, "{path}");
        }
    }
}
