//! What the API does alike for rollouts and for experiments: their documents, signed elsewhere; their members; orders; and what their
//! plan has for one node.

use axum::body::Body;
use axum::extract::Request;
use package::trust::assignment::BYTES_MAX as DOCUMENT_MAX_BYTES;
use package::trust::canonical::to_json;
use package::trust::envelope::Envelope;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use wire::id::NodeId;
use wire::world::WallMs;

use crate::api::assignments;
use crate::api::intake;
use crate::api::records::RecordRef;
use crate::api::refusal::{Refusal, page_size};
use crate::rollout::documents::{Planned, check};
use crate::rollout::execute::{Granted, NotDone, Wish};
use crate::rollout::member::Standing;
use crate::rollout::step::NodeNo;
use crate::state::HubState;
use crate::store::nodes;
use crate::store::rollouts::{self as store, MemberRow};

/// The most bytes of a plan's documents in one request.
const DOCUMENTS_MAX_BYTES: usize = 4 << 20;

/// The most bytes of an order.
pub(super) const ORDER_MAX_BYTES: usize = 16 << 10;

/// Which members.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MembersAsked {
    /// That stand here, one of the words of a rollout's `members`.
    pub standing: Option<String>,
    /// Behind the node of this name: the `next_after` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 1000; 200 unless told.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// A page of members, by the node's name.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberPage {
    /// The members.
    pub members: Vec<MemberItem>,
    /// Where the next page begins; absent on the last.
    pub next_after: Option<String>,
}

/// A node that was offered a rollout, or takes part in an experiment.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberItem {
    /// Its name.
    pub node: String,
    /// The wave in which it was offered.
    pub wave: u32,
    /// Where it stands.
    pub standing: String,
    /// The highest version of the documents that it was handed.
    pub version: u32,
    /// When it was offered.
    pub offered_ms: WallMs,
    /// When it last stood elsewhere.
    pub changed_ms: WallMs,
    /// What is to be said of it.
    pub why: String,
    /// Whether the machine ran on while it failed; absent where that is not known.
    pub kernel_same: Option<bool>,
    /// The record that says so.
    pub record: Option<RecordRef>,
}

/// All documents that follow from a plan.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentList {
    /// In the order in which they may be needed.
    pub documents: Vec<DocumentItem>,
}

/// A document that follows from a plan.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentItem {
    /// Which one, in words: `wave 1`, `way back of wave 1`, `standing`.
    pub kind: String,
    /// Its id: the plan's, or that of its canaries.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// When it ends.
    pub expires_ms: WallMs,
    /// Whether it lies here, signed.
    pub signed: bool,
    /// Since when it may be handed out.
    pub released_ms: Option<WallMs>,
    /// What is to be signed.
    #[schema(value_type = Object)]
    pub value: Box<RawValue>,
    /// It, as it was signed; absent if it was not.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Box<RawValue>>,
}

/// Signed documents.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedDocuments {
    /// Some or all documents of the plan, each `signed` and `signatures`.
    #[schema(value_type = Vec<Object>)]
    pub documents: Vec<Box<RawValue>>,
}

/// What a rollout has for a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyView {
    /// What it gets when it comes, or the first reason why not.
    pub why: String,
}

/// What a rollout shall do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderAsked {
    /// `start`, `pause`, `resume`, `approve`, `abort`, `revert` or `skip_unknown`.
    #[serde(rename = "do")]
    pub order: String,
    /// Why, for the audit log.
    #[serde(default)]
    pub why: String,
    /// The revision that was looked at: if the rollout has moved on, nothing is done. Absent: whatever it is by now.
    pub revision: Option<u64>,
}

/// Nobody can say now.
pub(super) fn busy() -> Refusal {
    Refusal::later("busy", "ask again".to_owned(), 1)
}

/// Asks the writer.
pub(super) async fn wished(state: &HubState, wish: Wish) -> Result<Result<Granted, NotDone>, Refusal> {
    state.writer.wish(wish).await.map_err(|error| intake::not_written(state, &error))
}

/// What lies in the store and is no plan, or no state, any more. `what`: `rollout`, `experiment`.
pub(super) fn unreadable(what: &str, id: &str, error: &dyn std::error::Error) -> Refusal {
    tracing::error!(what, id, %error, "what lies in the store could not be read");
    Refusal::later("store", format!("{what} {id} could not be read; the hub's log says why"), 60)
}

/// A node that is not there.
pub(super) fn nobody() -> Refusal {
    Refusal::not_found("there is no such node".to_owned(), "all nodes are at /api/v1/nodes")
}

/// A node's number.
pub(super) async fn number_of(state: &HubState, name: &str) -> Result<NodeNo, Refusal> {
    let name = NodeId::new(name).map_err(|_| nobody())?;
    Ok(nodes::get(&state.readers, &name).await?.ok_or_else(nobody)?.id)
}

/// Reads documents of a plan that somebody signed: each is one that follows from it, and signed by whom nodes would believe. `mend`:
/// how they are signed.
pub(super) async fn signed<K: Copy + std::fmt::Debug + std::fmt::Display>(
    state: &HubState,
    request: Request<Body>,
    planned: &[Planned<K>],
    mend: &'static str,
) -> Result<Vec<(K, Vec<u8>)>, Refusal> {
    let bytes = intake::read(state, request, DOCUMENTS_MAX_BYTES).await?;
    let SignedDocuments { documents } = intake::json(&bytes)?;
    let refuse = |why: String| Refusal::bad_request("bad-document", why, mend);
    if documents.is_empty() || documents.len() > planned.len() {
        let count = planned.len();
        return Err(refuse(format!("{count} documents follow from the plan: send 1 to all of them")));
    }
    let (mut envelopes, mut taken) = (Vec::new(), Vec::new());
    for document in &documents {
        let bytes = document.get().as_bytes();
        if bytes.len() > DOCUMENT_MAX_BYTES {
            let count = bytes.len();
            return Err(refuse(format!(
                "a document has {count} bytes, at most {DOCUMENT_MAX_BYTES} are taken"
            )));
        }
        let envelope = Envelope::read(bytes).map_err(|error| refuse(error.to_string()))?;
        let found = check(planned, &envelope.signed).map_err(|error| refuse(error.to_string()))?;
        taken.push((found.kind, bytes.to_vec()));
        envelopes.push(envelope);
    }
    assignments::check_signed(state, &envelopes).await?.map_err(refuse)?;
    Ok(taken)
}

/// All documents of a plan, and whether each lies here signed. `what`, `id`: the rollout's or experiment's row.
pub(super) async fn list_of<K: std::fmt::Display>(
    state: &HubState,
    what: &str,
    id: &str,
    planned: Vec<Planned<K>>,
) -> Result<DocumentList, Refusal> {
    let here = store::read_documents(&state.readers, id).await?;
    let raw = |text| RawValue::from_string(text).map_err(|error| unreadable(what, id, &error));
    let item = |planned: Planned<K>| {
        let of = planned.id.to_string();
        let found = here.iter().find(|document| document.id == of && document.version == planned.version);
        let value = String::from_utf8_lossy(&to_json(&planned.value)).into_owned();
        let body = found.map(|document| String::from_utf8_lossy(&document.body).into_owned());
        Ok(DocumentItem {
            kind: planned.kind.to_string(),
            id: of,
            version: planned.version,
            expires_ms: planned.expires_ms,
            signed: found.is_some(),
            released_ms: found.and_then(|document| document.released_ms),
            value: raw(value)?,
            document: body.map(raw).transpose()?,
        })
    };
    Ok(DocumentList { documents: planned.into_iter().map(item).collect::<Result<_, Refusal>>()? })
}

/// A page of members of a rollout or an experiment.
pub(super) async fn page_of_members(
    state: &HubState,
    id: &str,
    asked: &MembersAsked,
) -> Result<MemberPage, Refusal> {
    let standing = standing_of(asked.standing.as_deref())?;
    let limit = page_size(asked.limit, 200, 1000)?;
    let after = asked.after.as_deref().unwrap_or_default();
    let rows = store::list_members(&state.readers, id, standing, after, i64::from(limit)).await?;
    let next_after =
        (rows.len() == limit as usize).then(|| rows.last().map(|row| row.node.clone())).flatten();
    Ok(MemberPage { members: rows.into_iter().map(member).collect(), next_after })
}

/// Where somebody stands, by its word.
fn standing_of(word: Option<&str>) -> Result<Option<Standing>, Refusal> {
    let standing = |word: &str| {
        Standing::parse(word).ok_or_else(|| {
            let message = format!("nobody stands at {:?}", word.chars().take(40).collect::<String>());
            Refusal::bad_request("bad-query", message, "the words are listed at /api")
        })
    };
    word.map(standing).transpose()
}

/// A member, as it is answered.
fn member(row: MemberRow) -> MemberItem {
    let MemberRow { node, member, record } = row;
    let record = record.map(|(journal, stream, seq)| RecordRef { node: node.clone(), journal, stream, seq });
    MemberItem {
        node,
        wave: member.wave,
        standing: member.standing.to_string(),
        version: member.version,
        offered_ms: member.offered_ms,
        changed_ms: member.changed_ms,
        why: member.why,
        kernel_same: member.kernel_same,
        record,
    }
}
