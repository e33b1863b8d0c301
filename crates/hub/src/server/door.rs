//! A door: takes connections, each with its limits, until the hub stops. Plain, or with TLS before HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use wire::hash::Hash;

use crate::identity::ca::spki;
use crate::identity::peer::Peer;
use crate::metrics::{Handshake, Metrics};
use crate::state::stopped;

/// How long a header may take, and how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// The same while more than half of the connections are taken: what idles makes room for whoever knocks.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connections get to end by themselves when the hub stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long a handshake may take, its turn included.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many handshakes run at once: each is half a millisecond of a core.
const HANDSHAKES: usize = 256;

/// TLS at a door.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    turns: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    asks: Asks,
}

/// What a door wants to know of whoever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Nothing: people say who they are later.
    Nothing,
    /// The key that they prove, and who vouches for it.
    Certificates,
}

impl Tls {
    /// With these settings.
    pub fn new(settings: Arc<rustls::ServerConfig>, asks: Asks, metrics: Arc<Metrics>) -> Tls {
        let turns = Arc::new(Semaphore::new(HANDSHAKES));
        Tls { acceptor: TlsAcceptor::from(settings), turns, metrics, asks }
    }
}

/// Serves what comes in at `listener`, at most `connections_max` at once, until the hub stops.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    connections_max: usize,
    mut stopping: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (router, tls, stopping) = (router.clone(), tls.clone(), stopping.clone());
                let is_crowded = slots.available_permits() < connections_max / 2;
                let idle = if is_crowded { CROWDED_TIMEOUT } else { HEADER_TIMEOUT };
                connections.spawn(async move {
                    connection(stream, router, tls, idle, stopping).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for connections to end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::info!(open = connections.len(), "closing connections that did not end by themselves");
    }
    connections.shutdown().await;
}

async fn connection(
    stream: TcpStream,
    router: Router,
    tls: Option<Tls>,
    idle: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return speak(stream, router, None, idle, stopping).await;
    };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        let _turn = tls.turns.acquire().await;
        tls.acceptor.accept(stream).await
    });
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = stopped(&mut stopping) => return,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let session = stream.get_ref().1;
            let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
            tls.metrics.handshake(if resumed { Handshake::Resumed } else { Handshake::Full });
            let chain = session.peer_certificates().unwrap_or_default();
            let key = chain.first().and_then(key_of);
            let peer = Peer { key, chain: chain.iter().map(|it| it.clone().into_owned()).collect() };
            speak(stream, router, (tls.asks != Asks::Nothing).then_some(peer), idle, stopping).await;
        }
        Ok(Err(error)) => {
            tls.metrics.handshake(Handshake::Failed);
            tracing::debug!(%error, "a handshake failed");
        }
        Err(_) => {
            tls.metrics.handshake(Handshake::Failed);
            tracing::debug!("a handshake took too long");
        }
    }
}

/// SHA-256 of the public key that a certificate is for.
fn key_of(certificate: &CertificateDer<'_>) -> Option<Hash> {
    spki(certificate).map(|spki| Hash::of(&spki))
}

/// Speaks HTTP. `peer`: who is there, if this is the nodes' door; requests carry it.
/// `idle`: how long a header may take.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    peer: Option<Peer>,
    idle: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let answer = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        answer.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(64 * 1024)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        }
        () = stopped(&mut stopping) => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}
