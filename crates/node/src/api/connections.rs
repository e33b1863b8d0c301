//! The connections of the local API: how many there may be, how long one may idle, and who leaves when there are too
//! many.
//!
//! At most [`Limits::connections`] are served, and one more waits here; all others wait in the system's queue. When one
//! waits, the connection that has idled longest is closed for it, unless that is but a moment: whoever only holds
//! connections open keeps nobody out. A connection with a request under way stays until its answer, which has a time
//! limit of its own.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use wire::world::MonoNs;

/// The largest header.
const HEADER_MAX_BYTES: usize = 16 << 10;
/// Who has idled for less is not closed for another: his request may be there and not read yet, his answer on its way.
const GRACE_NS: MonoNs = 250_000_000;
/// After a failure to accept, or if nobody can leave, this long until the next try.
const AGAIN: Duration = Duration::from_millis(100);

/// What connections may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many are served at a time.
    pub(crate) connections: usize,
    /// How long a header may take, and how long a connection may idle before one.
    pub(crate) header: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 64, header: Duration::from_secs(20) }
    }
}

/// The monotonic time, in nanoseconds.
pub(crate) type Now = Arc<dyn Fn() -> MonoNs + Send + Sync>;

/// Who asks: on this machine, as the connection says, or elsewhere. It stands in each request. A proxy on this machine makes everybody
/// behind it one who is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IsHere(pub(crate) bool);

impl IsHere {
    fn of(stream: &TcpStream) -> IsHere {
        let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else { return IsHere(false) };
        let (peer, own) = (peer.ip().to_canonical(), own.ip().to_canonical());
        IsHere(peer.is_loopback() || peer == own)
    }
}

/// One connection, as the door sees it.
struct Seat {
    /// `None` while a request is under way.
    idle_since: Mutex<Option<MonoNs>>,
    leave: Notify,
}

impl Seat {
    fn set(&self, idle_since: Option<MonoNs>) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = idle_since;
    }

    fn idle_since(&self) -> Option<MonoNs> {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way, from its header to the end of its answer's body.
struct Busy {
    seat: Arc<Seat>,
    now: Now,
}

impl Busy {
    fn new(seat: &Arc<Seat>, now: &Now) -> Busy {
        seat.set(None);
        Busy { seat: Arc::clone(seat), now: Arc::clone(now) }
    }

    /// Nothing happens here: the body that passes its frames through this holds it.
    fn pass<T>(&self, frame: T) -> T {
        frame
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.seat.set(Some((self.now)()));
    }
}

/// Serves `router` until `stop` says so, then ends the connections as their answers are out.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    now: Now,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut seats: Vec<Arc<Seat>> = Vec::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        // The connection's own hold on its seat is gone when it has ended.
        seats.retain(|seat| Arc::strong_count(seat) > 1);
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: wait for connections to end.
                tracing::warn!(%error, "a connection to the local API could not be accepted");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let slot = tokio::select! {
            slot = slot(&slots, &seats, &now) => slot,
            () = stopped(&mut stop) => break,
        };
        let seat = Arc::new(Seat { idle_since: Mutex::new(Some(now())), leave: Notify::new() });
        seats.push(Arc::clone(&seat));
        let (router, now, stop) = (router.clone(), Arc::clone(&now), stop.clone());
        connections.spawn(async move {
            connection(stream, router, limits, &now, &seat, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// A slot; if there is none, the connection that has idled longest makes room.
async fn slot(slots: &Arc<Semaphore>, seats: &[Arc<Seat>], now: &Now) -> Option<OwnedSemaphorePermit> {
    loop {
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            return Some(slot);
        }
        let here = seats.iter().filter(|seat| Arc::strong_count(seat) > 1);
        let idle = here.filter_map(|seat| Some((seat.idle_since()?, seat)));
        if let Some((since, seat)) = idle.min_by_key(|(since, _)| *since)
            && now().saturating_sub(since) >= GRACE_NS
        {
            seat.leave.notify_one();
        }
        if let Ok(slot) = tokio::time::timeout(AGAIN, Arc::clone(slots).acquire_owned()).await {
            return slot.ok();
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    now: &Now,
    seat: &Arc<Seat>,
    mut stop: watch::Receiver<bool>,
) {
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    let is_here = IsHere::of(&stream);
    let service = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(is_here);
        let busy = Busy::new(seat, now);
        let answer = service.call(request);
        // An answer may be a stream: the request is under way until its last byte is handed on.
        async { answer.await.map(|answer| answer.map(|body| body.map_frame(move |frame| busy.pass(frame)))) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEADER_MAX_BYTES)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the local API ended early");
            }
        }
        () = left(seat, now) => tracing::debug!("an idle connection to the local API was closed for another"),
        () = stopped(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            if seat.idle_since().is_none() {
                let _ = serving.await;
            } else {
                // Half a header is not waited for; what is left of an answer is.
                let _ = tokio::time::timeout(AGAIN, serving).await;
            }
        }
    }
}

/// Until asked to leave while nothing is under way.
async fn left(seat: &Seat, now: &Now) {
    loop {
        seat.leave.notified().await;
        if seat.idle_since().is_some_and(|since| now().saturating_sub(since) >= GRACE_NS) {
            return;
        }
    }
}

/// Until told to stop. That nobody can tell any more is a stop as well.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use wire::world::{Clock as _, System};

    use super::*;

    const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// A server of one route that takes `pause`.
    fn server(limits: Limits, pause: Duration) -> (SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let answer = move || async move {
            tokio::time::sleep(pause).await;
            "here"
        };
        let world = System::new();
        let now: Now = Arc::new(move || world.mono_ns());
        tokio::spawn(serve(listener, Router::new().route("/", get(answer)), limits, now, stopping));
        (address, stop)
    }

    /// Sends, and reads until the other side closes. A reset ends it as well.
    async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(10), reading).await.expect("it stays open");
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn who_comes_from_this_machine_is_here() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        assert_eq!(IsHere::of(&near.unwrap()), IsHere(true));
        assert_eq!(IsHere::of(&far.unwrap().0), IsHere(true));
    }

    #[tokio::test]
    async fn who_says_nothing_more_is_closed() {
        let limits = Limits { header: Duration::from_millis(50), ..Limits::default() };
        let (address, _stop) = server(limits, Duration::ZERO);
        for (bytes, answered) in [(&b""[..], false), (b"GET / HTT", false), (WHOLE, true)] {
            assert_eq!(talk(address, bytes).await.ends_with("here"), answered);
        }
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_gets_it_and_then_makes_room() {
        let limits = Limits { connections: 2, ..Limits::default() };
        let (address, _stop) = server(limits, Duration::from_millis(30));
        // None of them leaves by himself.
        let talks: Vec<_> = (0..10).map(|_| tokio::spawn(ask(address))).collect();
        let mut open = Vec::new();
        for talk in talks {
            let (answer, stream) =
                tokio::time::timeout(Duration::from_secs(10), talk).await.unwrap().unwrap();
            assert!(answer.ends_with("here"), "{answer:?}");
            open.push(stream);
        }
    }

    /// Asks, reads the answer, and keeps the connection.
    async fn ask(address: SocketAddr) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(WHOLE).await.unwrap();
        let (mut answer, mut part) = (String::new(), [0; 512]);
        while !answer.ends_with("here") {
            match stream.read(&mut part).await {
                Ok(count) if count > 0 => answer.push_str(std::str::from_utf8(&part[..count]).unwrap()),
                _ => break,
            }
        }
        (answer, stream)
    }
}
