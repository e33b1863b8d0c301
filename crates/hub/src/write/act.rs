//! What people do to the fleet here: each act and its entry in the audit log are one transaction.

use std::collections::BTreeMap;

use package::trust::canonical::Value;
use sqlx::Error;
use wire::checkin::HubLabels;
use wire::world::WallMs;

use crate::fleet::labels::{self, BadLabels};
use crate::store::audit::{self, Entry};
use crate::store::connection::Writer;
use crate::store::facts;
use crate::store::groups::{self, GroupRow};

/// The most saved groups.
const GROUPS_MAX: i64 = 1000;

/// An act of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who: `operator:<name>`.
    pub who: String,
    /// What.
    pub what: Deed,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Sets all labels of a node that are set here.
    Label {
        /// The node's number.
        node: i64,
        /// Its name.
        name: String,
        /// The labels.
        set: BTreeMap<String, String>,
    },
    /// Saves a group, whose expression was read.
    SaveGroup {
        /// Its name.
        name: String,
        /// Which nodes are meant.
        expression: String,
    },
    /// Removes a group.
    RemoveGroup {
        /// Its name.
        name: String,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It is done.
    Done,
    /// A node has these labels from here now.
    Labelled(HubLabels),
    /// There is nothing of that name.
    Nothing,
    /// Labels that cannot be set.
    BadLabels(BadLabels),
    /// There are as many as there may be.
    Full {
        /// How many.
        most: i64,
    },
}

/// Does it, within a transaction.
pub async fn act(writer: &mut Writer, act: &Act, now_ms: WallMs) -> Result<Done, Error> {
    let entry = |what: &str, about: &str, before: Option<Value>, after: Option<Value>| Entry {
        at_ms: now_ms,
        who: act.who.clone(),
        act: what.to_owned(),
        about: about.to_owned(),
        why: String::new(),
        before,
        after,
    };
    match &act.what {
        Deed::Label { node, name, set } => {
            let held = facts::held(writer, *node).await?.labels;
            let before: Option<HubLabels> = held.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let now = match labels::set(before.as_ref(), set.clone()) {
                Ok(now) => now,
                Err(bad) => return Ok(Done::BadLabels(bad)),
            };
            if before.as_ref().map(|before| &before.set) == Some(&now.set) {
                return Ok(Done::Labelled(before.unwrap_or_default()));
            }
            let text = serde_json::to_string(&now).map_err(|error| Error::Encode(error.into()))?;
            facts::label(writer, *node, &text).await?;
            let told = entry("node.label", name, before.as_ref().map(value), Some(value(&now)));
            audit::append(writer, &told).await?;
            Ok(Done::Labelled(now))
        }
        Deed::SaveGroup { name, expression } => {
            let before = groups::find(writer, name).await?;
            if before.is_none() && groups::count(writer).await? >= GROUPS_MAX {
                return Ok(Done::Full { most: GROUPS_MAX });
            }
            if before.as_ref().is_some_and(|before| before.expression == *expression) {
                return Ok(Done::Done);
            }
            let (name, expression, made_by) = (name.clone(), expression.clone(), act.who.clone());
            let group = GroupRow { name, expression, made_by, changed_ms: now_ms };
            groups::save(writer, &group).await?;
            let before = before.map(|before| Value::Text(before.expression));
            let told = entry("group.save", &group.name, before, Some(Value::Text(group.expression.clone())));
            audit::append(writer, &told).await?;
            Ok(Done::Done)
        }
        Deed::RemoveGroup { name } => {
            let Some(before) = groups::find(writer, name).await? else { return Ok(Done::Nothing) };
            groups::remove(writer, name).await?;
            let told = entry("group.remove", name, Some(Value::Text(before.expression)), None);
            audit::append(writer, &told).await?;
            Ok(Done::Done)
        }
    }
}

fn value(labels: &HubLabels) -> Value {
    let text = |(name, value): (&String, &String)| (name.clone(), Value::Text(value.clone()));
    Value::Object(labels.set.iter().map(text).collect())
}
