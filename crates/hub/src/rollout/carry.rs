//! What whoever carries out rollouts and experiments writes beside their rows, alike for both: entries of the audit log and alerts; and
//! what they read with them.

use std::collections::HashMap;

use package::index::Release;
use package::trust::canonical::Value;
use sqlx::Error;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::rollout::member::{Member, Standing};
use crate::rollout::plan::PlanId;
use crate::rollout::step::NodeNo;
use crate::store::audit::Entry;
use crate::store::connection::Writer;
use crate::store::rollouts as rows;

/// A swap was lost: a mistake of ours, since whoever has the turn writes alone. Nothing of the transaction is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} was moved by somebody else")]
pub struct LostSwap(pub PlanId);

impl LostSwap {
    /// Whether that is why the store took nothing.
    pub fn is(error: &Error) -> bool {
        matches!(error, Error::AnyDriverError(source) if source.is::<LostSwap>())
    }
}

impl From<LostSwap> for Error {
    fn from(lost: LostSwap) -> Error {
        Error::AnyDriverError(Box::new(lost))
    }
}

/// A state as its row has it.
pub fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Encode(error.into()))
}

/// What of a row cannot be read, and why. `what`: `rollout`, `experiment`.
pub fn unreadable<'a>(what: &'a str, id: &'a str) -> impl Fn(String) -> Error + 'a {
    move |why| Error::Decode(format!("{what} {id}: {why}").into())
}

/// An entry of the audit log about a plan.
pub fn entry(who: &str, act: &str, id: PlanId, why: &str, after: Option<Value>, at_ms: WallMs) -> Entry {
    let (who, act, why) = (who.to_owned(), act.to_owned(), why.to_owned());
    Entry { at_ms, who, act, about: id.to_string(), why, before: None, after }
}

/// Who did something by a step: the person that it names, else the hub, by the plan.
pub fn doer(who: &str) -> String {
    if who.is_empty() { "hub".to_owned() } else { format!("operator:{who}") }
}

/// An alert stands on a node: the one that failed last, else one that has it.
pub fn on_whom(members: &HashMap<NodeNo, Member>) -> Option<NodeNo> {
    let rank = |(node, member): &(&NodeNo, &Member)| {
        (member.standing == Standing::Failed, member.changed_ms, **node)
    };
    members.iter().max_by_key(rank).map(|(node, _)| *node)
}

/// The release with this index, if the hub has it.
pub async fn release(writer: &mut Writer, index: &Hash) -> Result<Option<Release>, Error> {
    let text = rows::index(writer, index).await?.filter(|text| Hash::of(text.as_bytes()) == *index);
    Ok(text.and_then(|text| Release::read(text.as_bytes()).ok()))
}
