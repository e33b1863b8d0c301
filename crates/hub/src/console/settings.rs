//! Who may do what, who signs, which keys stand behind the hub, and the settings that it runs by.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::{Form, Json};
use package::trust::metadata::{Head, RoleKeys};
use package::trust::trusted::Trusted;
use serde::Deserialize;
use serde_json::Value;
use wire::hash::Hash;

use crate::access::who::{Role, Who};
use crate::api::behind::{RecoverAsk, RecoveryView};
use crate::api::enrolments::{self, DenyAsk, Key, KeysAsked};
use crate::api::intake::Told;
use crate::api::operators::{self, NewToken, Operator, OperatorAsk, Token, TokenAsk};
use crate::api::recovery;
use crate::api::refusal::{Asked, Refusal};
use crate::api::replicas::{self, ReplicaItem};
use crate::api::retention::{self, Retention};
use crate::audit::key;
use crate::config::HubConfig;
use crate::console::number::bytes;
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::{When, when};
use crate::state::HubState;
use crate::tuf::publish;

/// Certificates that end so soon are told.
const SOON_MS: i64 = 30 * 86_400_000;

/// How many of them, and of the denied.
const KEYS: usize = 20;

const MEND: &str = "go back to the settings, and fill the form";

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    me: String,
    role: &'static str,
    is_open: bool,
    is_admin: bool,
    made: Option<NewToken>,
    operators: Vec<OperatorView>,
    tokens: Vec<TokenView>,
    signers: Vec<SignerView>,
    own_keys: Vec<(&'static str, String)>,
    /// Nodes whose certificates end soon.
    ending: Vec<KeyView>,
    denied: Vec<KeyView>,
    replicas: Vec<ReplicaView>,
    keep: Vec<(&'static str, String)>,
    waits: Option<String>,
    recovery: Option<RecoveryView>,
    settings: Vec<Setting>,
}

struct OperatorView {
    item: Operator,
    made: When,
    roles: Vec<(&'static str, bool)>,
}

struct TokenView {
    item: Token,
    made: When,
    until: Option<When>,
}

/// A role of the trust metadata.
struct SignerView {
    role: String,
    /// The first digits of each key's id, and all of them.
    keys: Vec<(String, String)>,
    threshold: u64,
    version: Option<u64>,
    expires: Option<When>,
    /// Whether it has run out, or does so soon.
    late: bool,
}

struct KeyView {
    item: Key,
    until: When,
    brief: String,
    why: String,
}

/// A hub on this database.
struct ReplicaView {
    item: ReplicaItem,
    seen: When,
    began: When,
}

struct Setting {
    name: String,
    value: String,
    /// Whether the settings' file, the command line or the system said so, and not the program itself.
    is_set: bool,
}

/// The page.
pub async fn show(State(state): State<Arc<HubState>>, who: Who) -> Result<Response, PageRefusal> {
    page(state, &who, None).await
}

async fn page(state: Arc<HubState>, who: &Who, made: Option<NewToken>) -> Result<Response, PageRefusal> {
    let now_ms = state.now_ms();
    let is_admin = who.has(Role::Admin);
    let (mut all, mut tokens, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    if is_admin {
        all = operators::list(State(state.clone())).await?.0;
        tokens = operators::tokens(State(state.clone())).await?.0;
        keys = enrolments::keys(State(state.clone()), Asked(KeysAsked { node: None })).await?.0;
    }
    let trusted = publish::published(&state).await.map_err(Refusal::from)?;
    let (denied, living): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(|key| key.denied_ms.is_some());
    let mut newest: BTreeMap<String, Key> = BTreeMap::new();
    for key in living {
        let known = newest.get(&key.node).is_some_and(|known| known.not_after_ms >= key.not_after_ms);
        if !known {
            newest.insert(key.node.clone(), key);
        }
    }
    let mut ending: Vec<Key> =
        newest.into_values().filter(|key| key.not_after_ms < now_ms.saturating_add(SOON_MS)).collect();
    ending.sort_by_key(|key| key.not_after_ms);
    let key_view = |item: Key| KeyView {
        until: when(item.denied_ms.unwrap_or(item.not_after_ms), now_ms),
        brief: brief(&item.id),
        why: item.why.clone().unwrap_or_default(),
        item,
    };
    let role = match who {
        Who::Operator { role, .. } => role.as_str(),
        Who::Nobody | Who::Node { .. } => "nobody",
    };
    let operator = |item: Operator| OperatorView {
        made: when(item.made_ms, now_ms),
        roles: Role::ALL.map(|role| (role.as_str(), role == item.role)).into(),
        item,
    };
    let token = |item: Token| TokenView {
        made: when(item.made_ms, now_ms),
        until: item.until_ms.map(|until| when(until, now_ms)),
        item,
    };
    let kept = retention::read(&state).await?;
    let replica = |item: ReplicaItem| ReplicaView {
        seen: when(item.seen_ms, now_ms),
        began: when(item.began_ms, now_ms),
        item,
    };
    let recovery = match is_admin {
        true => Some(recovery::look(State(state.clone())).await?.0)
            .filter(|view| view.behind || !view.keys.is_empty()),
        false => None,
    };
    Ok(render(&SettingsPage {
        recovery,
        replicas: replicas::read(&state).await?.into_iter().map(replica).collect(),
        keep: keep(&kept, now_ms),
        waits: kept.waits,
        frame: Frame::of(&state, "Settings", "settings").await?,
        me: who.name().trim_start_matches("operator:").to_owned(),
        role,
        is_open: state.access.is_open(),
        is_admin,
        made,
        operators: all.into_iter().map(operator).collect(),
        tokens: tokens.into_iter().map(token).collect(),
        signers: trusted.map(|trusted| signers(&trusted, now_ms)).unwrap_or_default(),
        own_keys: own_keys(&state),
        ending: ending.into_iter().take(KEYS).map(key_view).collect(),
        denied: denied.into_iter().take(KEYS).map(key_view).collect(),
        settings: settings(&state.config),
    }))
}

/// How long what is kept, and what became of the rest.
fn keep(kept: &Retention, now_ms: i64) -> Vec<(&'static str, String)> {
    let days = |days: i64| if days == 1 { "a day".to_owned() } else { format!("{days} days") };
    let mut told = vec![
        ("audit records", days(kept.audit_days)),
        ("events", days(kept.event_days)),
        ("metrics", days(kept.metric_days)),
        ("raw data", days(kept.raw_days)),
        ("how models behaved", days(kept.samples_days)),
    ];
    let looked = kept.ran_ms.map(|ran| format!(", looked for {}", when(ran, now_ms).ago));
    told.push(("cut so far", format!("{} records{}", kept.cut, looked.unwrap_or_default())));
    told.push((
        "archive",
        match kept.archive {
            true => format!(
                "on: {} files, {}; nothing is cut that is not in it",
                kept.archive_files,
                bytes(kept.archive_bytes.max(0) as u64)
            ),
            false => "off".to_owned(),
        },
    ));
    told
}

/// Who must sign what, as the published metadata says.
fn signers(trusted: &Trusted, now_ms: i64) -> Vec<SignerView> {
    let view = |role: &str, keys: &RoleKeys, head: Option<&Head>| SignerView {
        role: role.to_owned(),
        keys: keys.ids.iter().map(|id| (brief(&id.to_string()), id.to_string())).collect(),
        threshold: keys.threshold,
        version: head.map(|head| head.version),
        expires: head.map(|head| when(head.expires_ms, now_ms)),
        late: head.is_some_and(|head| head.expires_ms < now_ms.saturating_add(SOON_MS / 4)),
    };
    let root = &trusted.root.body;
    let mut signers = vec![view("root", &root.root, Some(&root.head))];
    signers.push(view("targets", &root.targets, trusted.targets.as_ref().map(|it| &it.body.head)));
    for role in trusted.targets.iter().flat_map(|targets| &targets.body.delegations.roles) {
        signers.push(view(&role.name.to_string(), &role.keys, None));
    }
    signers.push(view("snapshot", &root.snapshot, trusted.snapshot.as_ref().map(|it| &it.body.head)));
    signers.push(view("timestamp", &root.timestamp, trusted.timestamp.as_ref().map(|it| &it.body.head)));
    signers
}

/// The hub's own keys: what others hold it to.
fn own_keys(state: &HubState) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    match key::public(&state.config) {
        Ok(key) => keys.push(("audit log", key.to_string())),
        Err(error) => tracing::warn!(%error, "the audit log's public key cannot be shown"),
    }
    if let Some(ca) = &state.ca {
        keys.push(("nodes' authority", format!("sha256:{}", Hash::of(ca.certificate()))));
    }
    keys
}

/// The settings in force, one by one, beside what they would be unless told.
fn settings(config: &HubConfig) -> Vec<Setting> {
    let value = |config: &HubConfig| serde_json::to_value(config).unwrap_or_default();
    let (mut now, mut unless) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &value(config), &mut now);
    flatten("", &value(&HubConfig::default()), &mut unless);
    let setting =
        |(name, value): (String, String)| Setting { is_set: unless.get(&name) != Some(&value), name, value };
    now.into_iter().map(setting).collect()
}

fn flatten(name: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                flatten(&name, value, found);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(found.insert(name.to_owned(), text.clone())),
        other => drop(found.insert(name.to_owned(), other.to_string())),
    }
}

/// The beginning of a fingerprint.
fn brief(id: &str) -> String {
    let begin: String = id.chars().take(12).collect();
    if begin.len() < id.len() { format!("{begin}…") } else { begin }
}

/// How an operator shall be.
#[derive(Debug, Deserialize)]
pub struct OperatorSent {
    name: String,
    role: Role,
    #[serde(default)]
    disabled: bool,
}

/// Makes an operator, or changes it.
pub async fn put_operator(
    State(state): State<Arc<HubState>>,
    who: Who,
    sent: Result<Form<OperatorSent>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let Form(sent) = sent.map_err(|error| bad_form(&error))?;
    let ask = OperatorAsk { role: sent.role, disabled: sent.disabled };
    operators::put(State(state), who, Path(sent.name.trim().to_owned()), Told(ask)).await?;
    Ok(Redirect::to("/settings#operators").into_response())
}

/// Which token shall be made; an empty field is one that nobody filled.
#[derive(Debug, Deserialize)]
pub struct TokenSent {
    operator: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    days: String,
}

/// Makes a token, and shows it. It is in this answer and nowhere else.
pub async fn make_token(
    State(state): State<Arc<HubState>>,
    who: Who,
    sent: Result<Form<TokenSent>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let Form(sent) = sent.map_err(|error| bad_form(&error))?;
    let days = match sent.days.trim() {
        "" => None,
        days => Some(days.parse().map_err(|_| {
            Refusal::bad_request("bad-days", format!("{days:?} is no number of days"), "write 1 to 65535")
        })?),
    };
    let role = Role::parse(&sent.role);
    let ask = TokenAsk { operator: sent.operator, role, name: sent.name.trim().to_owned(), days };
    let (_, Json(made)) = operators::make_token(State(state.clone()), who.clone(), Told(ask)).await?;
    page(state, &who, Some(made)).await
}

/// Takes a token back.
pub async fn revoke(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Response, PageRefusal> {
    operators::revoke(State(state), who, Path(id)).await?;
    Ok(Redirect::to("/settings#tokens").into_response())
}

/// Why a node's keys are denied.
#[derive(Debug, Deserialize)]
pub struct Denied {
    #[serde(default)]
    why: String,
}

/// Keeps a node out, and goes back to its page.
pub async fn deny(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(node): Path<String>,
    sent: Result<Form<Denied>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let Form(sent) = sent.map_err(|error| bad_form(&error))?;
    let name = wire::id::NodeId::new(&node);
    let name = name.map_err(|error| Refusal::bad_request("bad-node", error.to_string(), MEND))?;
    let ask = DenyAsk { node: Some(name), key: None, why: sent.why };
    let Json(_) = enrolments::deny(State(state), who, Told(ask)).await?;
    Ok(Redirect::to(&format!("/nodes/{node}#identity")).into_response())
}

/// Lets a key in again.
pub async fn pardon(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(key): Path<String>,
) -> Result<Response, PageRefusal> {
    enrolments::pardon(State(state), who, Path(key)).await?;
    Ok(Redirect::to("/settings#keys").into_response())
}

/// What an admin says who has looked at both sides.
#[derive(Debug, Deserialize)]
pub struct Recovering {
    #[serde(default)]
    adopt: bool,
    #[serde(default)]
    all_keys: bool,
    #[serde(default)]
    why: String,
}

/// Adopts what nodes report, or lets their keys in.
pub async fn recover(
    State(state): State<Arc<HubState>>,
    who: Who,
    sent: Result<Form<Recovering>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let Form(Recovering { adopt, all_keys, why }) = sent.map_err(|error| bad_form(&error))?;
    let ask = RecoverAsk { adopt, keys: Vec::new(), all_keys, why };
    let Json(_) = recovery::recover(State(state), who, Told(ask)).await?;
    Ok(Redirect::to("/settings#recovery").into_response())
}

fn bad_form(error: &FormRejection) -> Refusal {
    Refusal::bad_request("bad-form", error.body_text(), MEND)
}
