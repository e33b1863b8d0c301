//! One connection to a server: a session, a subscription in it, and what drives both.
//!
//! A connection that is lost is lost: whoever supervises sources makes another one. So the library is let neither retry nor restore anything.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _};
use opcua::client::{
    Client, ClientBuilder, IdentityToken, MonitoredItemMap, OnSubscriptionNotificationCore, Session,
    SessionActivity, SessionPollResult, SubscriptionActivity,
};
use opcua::crypto::{CertificateStore, X509};
use opcua::types::{
    DataChangeFilter, DataChangeNotification, DataChangeTrigger, DataValue, DeadbandType, ExtensionObject,
    MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, NotificationMessage,
    ReadValueId, StatusChangeNotification, StatusCode, TimestampsToReturn,
};
use tokio::time::timeout;
use wire::world::WallMs;

use super::own::{self, Own};
use super::settings::{OpcuaSettings, Security};
use super::value::{name, wall_ms};
use super::{server, trust};
use crate::config::token::read_token;
use crate::why::why;

/// Larger messages, and those of more pieces, end the connection.
const MESSAGE_MAX_BYTES: usize = 4 << 20;
const CHUNKS_MAX: usize = 128;
/// The largest piece, in both directions: what the standard's servers take anyway.
const CHUNK_BYTES: usize = 65_535;
/// Texts, bytes and lists within a message.
const TEXT_MAX_BYTES: usize = 1 << 20;
const LIST_MAX: usize = 1 << 16;
/// Variables that are asked for in one request; servers have limits of their own.
const ITEMS_AT_ONCE: usize = 100;
/// Values of a variable that wait at the server while the connection is slow; then the oldest are lost.
const QUEUE: u32 = 10;
/// A session of which the server hears nothing is gone after so long.
const SESSION_MS: u32 = 60_000;
/// A server that hears nothing of us may end the subscription after so long.
const LIFETIME: Duration = Duration::from_secs(60);
/// What a connection that says goodbye may take.
const LEAVE: Duration = Duration::from_secs(1);

type Events = Pin<Box<dyn Stream<Item = Result<SessionPollResult, StatusCode>> + Send>>;

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The node's name.
    pub(super) node: String,
    /// The source's name.
    pub(super) source: String,
    /// Where certificates are.
    pub(super) folder: PathBuf,
}

/// What a server told: the changes of one message, or that nothing changed.
#[derive(Debug)]
pub(super) struct Heard {
    /// When, by the server's clock.
    pub(super) server_ms: Option<WallMs>,
    /// Channels and what is said of them.
    pub(super) values: Vec<(usize, DataValue)>,
    /// The subscription is over.
    pub(super) ended: Option<StatusCode>,
}

/// A connection that listens.
pub(super) struct Line {
    session: Arc<Session>,
    events: Events,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Channels that the server does not give, and why.
    pub(super) refused: Vec<(usize, StatusCode)>,
    /// A message comes at least this often.
    pub(super) beat: Duration,
}

impl Line {
    /// Calls the server. `now_ms`: by the node's clock. The error says what is in the way.
    pub(super) async fn open(
        settings: &OpcuaSettings,
        caller: &Caller,
        now_ms: WallMs,
    ) -> Result<Line, String> {
        let endpoint = &settings.endpoint;
        let own = match &settings.security {
            Security::Open => None,
            Security::Sealed { .. } => Some(own::own(&caller.folder, &caller.node, now_ms)?),
        };
        let mut client = client(settings, caller)?;
        let asked = timeout(settings.timeout, client.get_server_endpoints_from_url(endpoint.as_str())).await;
        let offered = asked
            .map_err(|_| format!("{endpoint} did not answer within {} s", settings.timeout.as_secs_f64()))?
            .map_err(|error| format!("{endpoint} cannot be reached: {}", name(error.status())))?;
        let chosen = server::choose(&offered, settings)?;
        if own.is_some() {
            let shown = trust::leaf(chosen.server_certificate.as_ref()).unwrap_or_default();
            let_in(&caller.folder, shown)?;
        }
        let token = match &settings.user {
            None => IdentityToken::Anonymous,
            Some((user, file)) => {
                let password = read_token(file).map_err(|error| why(&error))?;
                IdentityToken::new_user_name(user.clone(), password)
            }
        };
        let (session, events) = client
            .connect_to_endpoint_directly(chosen, token)
            .map_err(|error| format!("{endpoint}: {}", name(error.status())))?;
        let mut events: Events = Box::pin(events.enter());
        let refused = |status: StatusCode| refused(status, settings, own.as_ref());
        let called = timeout(settings.timeout, connected(&mut events)).await;
        called
            .map_err(|_| format!("{endpoint} opened no session within {} s", settings.timeout.as_secs_f64()))?
            .map_err(|lost| lost.map_or_else(|| "the server ended the session".to_owned(), refused))?;
        let heard = Arc::default();
        let mut line = Line { session, events, heard, refused: Vec::new(), beat: settings.every };
        match timeout(settings.timeout, line.subscribe(settings)).await {
            Ok(Ok(())) => Ok(line),
            Ok(Err(error)) => {
                line.leave().await;
                Err(error)
            }
            Err(_) => {
                Err(format!("{endpoint} gave no subscription within {} s", settings.timeout.as_secs_f64()))
            }
        }
    }

    async fn subscribe(&mut self, settings: &OpcuaSettings) -> Result<(), String> {
        let session = Arc::clone(&self.session);
        let ears = Ears { heard: Arc::clone(&self.heard), channels: settings.nodes.len() };
        let every_ms = settings.every.as_millis().max(1) as u32;
        let lifetime = (LIFETIME.as_millis() as u32 / every_ms).clamp(10, 10_000);
        // At each interval a message, also when nothing changed.
        let asked = session.create_subscription(settings.every, lifetime, 1, 0, 0, true, ears);
        let id = beside(&mut self.events, asked)
            .await?
            .map_err(|error| format!("the server gives no subscription: {}", name(error.status())))?;
        if let Some(subscription) = session.subscription_state.lock().get(id) {
            // As the server has it.
            let beats = subscription.max_keep_alive_count().clamp(1, 1_000);
            self.beat = subscription.publishing_interval().saturating_mul(beats);
        }
        let mut wanted: Vec<(usize, bool)> = (0..settings.nodes.len()).map(|at| (at, true)).collect();
        while !wanted.is_empty() {
            let rest = wanted.split_off(wanted.len().min(ITEMS_AT_ONCE));
            let items: Result<Vec<_>, String> =
                wanted.iter().map(|(at, filtered)| item(settings, *at, *filtered)).collect();
            let asked = session.create_monitored_items(id, TimestampsToReturn::Both, items?);
            let results = beside(&mut self.events, asked)
                .await?
                .map_err(|error| format!("the server lets nothing be watched: {}", name(error.status())))?;
            let mut again = Vec::new();
            for ((at, filtered), made) in wanted.into_iter().zip(&results) {
                let status = made.result.status_code;
                match status {
                    status if status.is_good() => {}
                    // A switch has no width within which it does not change.
                    StatusCode::BadFilterNotAllowed
                    | StatusCode::BadMonitoredItemFilterUnsupported
                    | StatusCode::BadMonitoredItemFilterInvalid
                        if filtered && settings.deadband.is_some() =>
                    {
                        again.push((at, false));
                    }
                    status => self.refused.push((at, status)),
                }
            }
            again.extend(rest);
            wanted = again;
        }
        match self.refused.first() {
            Some((at, status)) if self.refused.len() == settings.nodes.len() => {
                let (channel, node) = &settings.nodes[*at];
                Err(format!(
                    "the server gives none of the nodes; of `{channel}` ({node}) it says {}",
                    name(*status)
                ))
            }
            _ => Ok(()),
        }
    }

    /// Goes on by one step. The error says why there is no connection any more.
    pub(super) async fn step(&mut self) -> Result<(), String> {
        step(self.events.next().await)
    }

    /// What was told since this was last asked.
    pub(super) fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the session, so that the server need not wait for it.
    pub(super) async fn leave(&mut self) {
        let session = Arc::clone(&self.session);
        session.disable_reconnects();
        // Its failures are those of a connection that is gone.
        let _ = timeout(LEAVE, beside(&mut self.events, session.disconnect())).await;
    }
}

/// Takes what the library hands on while it is driven.
struct Ears {
    heard: Arc<Mutex<Vec<Heard>>>,
    channels: usize,
}

impl OnSubscriptionNotificationCore for Ears {
    fn on_subscription_notification(&mut self, message: NotificationMessage, _items: MonitoredItemMap<'_>) {
        let mut heard =
            Heard { server_ms: wall_ms(Some(message.publish_time)), values: Vec::new(), ended: None };
        for object in message.notification_data.into_iter().flatten() {
            if let Some(changes) = object.inner_as::<DataChangeNotification>() {
                for change in changes.monitored_items.iter().flatten() {
                    let channel = (change.client_handle as usize).wrapping_sub(1);
                    if channel < self.channels {
                        heard.values.push((channel, change.value.clone()));
                    }
                }
            } else if let Some(change) = object.inner_as::<StatusChangeNotification>() {
                heard.ended = Some(change.status).filter(|status| !status.is_good());
            }
        }
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
    }
}

/// Does something in the session, which only goes on while it is driven.
async fn beside<T>(events: &mut Events, work: impl Future<Output = T>) -> Result<T, String> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            event = events.next() => step(event)?,
        }
    }
}

/// Until the server has let us in; the error is its word.
async fn connected(events: &mut Events) -> Result<(), Option<StatusCode>> {
    loop {
        match events.next().await {
            Some(Ok(SessionPollResult::Reconnected(_))) => return Ok(()),
            Some(Ok(
                SessionPollResult::ConnectionLost(status) | SessionPollResult::ReconnectFailed(status),
            )) => {
                return Err(Some(status));
            }
            Some(Ok(_)) => {}
            Some(Err(status)) => return Err(Some(status)),
            None => return Err(None),
        }
    }
}

fn step(event: Option<Result<SessionPollResult, StatusCode>>) -> Result<(), String> {
    match event {
        None => Err("the session ended".to_owned()),
        Some(
            Err(status)
            | Ok(SessionPollResult::ConnectionLost(status) | SessionPollResult::ReconnectFailed(status)),
        ) => Err(format!("the connection was lost: {}", name(status))),
        Some(Ok(SessionPollResult::Subscription(
            SubscriptionActivity::FatalFailure(status)
            | SubscriptionActivity::PublishFailed(status @ StatusCode::BadNoSubscription),
        ))) => Err(format!("the server dropped the subscription: {}", name(status))),
        Some(Ok(SessionPollResult::SessionActivity(SessionActivity::KeepAliveFailed(
            status @ (StatusCode::BadSessionClosed | StatusCode::BadSessionIdInvalid),
        )))) => Err(format!("the server dropped the session: {}", name(status))),
        Some(Ok(_)) => Ok(()),
    }
}

fn client(settings: &OpcuaSettings, caller: &Caller) -> Result<Client, String> {
    let Caller { node, source, folder } = caller;
    let beat = settings.every.max(Duration::from_secs(1));
    ClientBuilder::new()
        .application_name(format!("Selvedge node {node}"))
        .application_uri(own::application_uri(node))
        .product_uri("urn:selvedge:node")
        .session_name(format!("{node} {source}"))
        .pki_dir(folder)
        .certificate_path(own::CERTIFICATE)
        .private_key_path(own::KEY)
        .create_sample_keypair(false)
        .trust_server_certs(false)
        // What is trusted is one certificate, whatever it says of names and years.
        .verify_server_certs(false)
        .session_retry_limit(0)
        .recreate_subscriptions(false)
        .session_timeout(SESSION_MS)
        .keep_alive_interval(Duration::from_millis(u64::from(SESSION_MS) / 4))
        .max_failed_keep_alive_count(2)
        .request_timeout(settings.timeout)
        .publish_timeout(beat.saturating_mul(20).max(settings.silence))
        .min_publish_interval(settings.every.min(Duration::from_millis(100)))
        .max_message_size(MESSAGE_MAX_BYTES)
        .max_chunk_count(CHUNKS_MAX)
        .max_chunk_size(CHUNK_BYTES)
        .max_incoming_chunk_size(CHUNK_BYTES)
        .max_string_length(TEXT_MAX_BYTES)
        .max_byte_string_length(TEXT_MAX_BYTES)
        .max_array_length(LIST_MAX)
        .client()
        .map_err(|wrong| format!("a client cannot be made: {}", wrong.join(", ")))
}

/// Lets the library know the one certificate that was just held against the flow.
fn let_in(folder: &Path, certificate: &[u8]) -> Result<(), String> {
    let read =
        X509::from_der(certificate).map_err(|_| "the server's certificate cannot be read".to_owned())?;
    let place = folder.join("trusted");
    std::fs::create_dir_all(&place)
        .and_then(|()| std::fs::write(place.join(CertificateStore::cert_file_name(&read)), certificate))
        .map_err(|error| format!("the server's certificate cannot be kept in {}: {error}", place.display()))
}

fn item(settings: &OpcuaSettings, at: usize, filtered: bool) -> Result<MonitoredItemCreateRequest, String> {
    let (channel, node) = &settings.nodes[at];
    let node =
        NodeId::from_str(node.as_str()).map_err(|_| format!("`{channel}`: {node} is no id of a node"))?;
    let filter = match settings.deadband.filter(|_| filtered) {
        None => ExtensionObject::null(),
        Some(deadband_value) => ExtensionObject::from_message(DataChangeFilter {
            trigger: DataChangeTrigger::StatusValue,
            deadband_type: DeadbandType::Absolute as u32,
            deadband_value,
        }),
    };
    let parameters = MonitoringParameters {
        client_handle: at as u32 + 1,
        sampling_interval: settings.every.as_secs_f64() * 1e3,
        filter,
        queue_size: QUEUE,
        discard_oldest: true,
    };
    Ok(MonitoredItemCreateRequest::new(ReadValueId::from(node), MonitoringMode::Reporting, parameters))
}

/// Why a server does not let us in, with what to do.
fn refused(status: StatusCode, settings: &OpcuaSettings, own: Option<&Own>) -> String {
    let word = name(status);
    match (status, &settings.user, own) {
        (
            StatusCode::BadUserAccessDenied
            | StatusCode::BadIdentityTokenRejected
            | StatusCode::BadIdentityTokenInvalid,
            Some((user, _)),
            _,
        ) => format!(
            "the server refuses `{user}` with this password ({word}): correct `user` or `password_file`"
        ),
        (StatusCode::BadUserAccessDenied | StatusCode::BadIdentityTokenRejected, None, _) => {
            format!("the server wants to know who asks ({word}): add `user` and `password_file`")
        }
        (_, _, Some(own)) if is_about_trust(status) => format!(
            "the server does not let this node in ({word}): if it does not know the node's certificate yet, have it trust {} (SHA-256 {})",
            own.certificate.display(),
            own.digest
        ),
        _ => format!("{} opens no session: {word}", settings.endpoint),
    }
}

fn is_about_trust(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BadSecurityChecksFailed
            | StatusCode::BadCertificateInvalid
            | StatusCode::BadCertificateUntrusted
            | StatusCode::BadCertificateTimeInvalid
            | StatusCode::BadCertificateUriInvalid
            | StatusCode::BadCertificateUseNotAllowed
            | StatusCode::BadCertificateChainIncomplete
            | StatusCode::BadConnectionClosed
            | StatusCode::BadConnectionRejected
    )
}
