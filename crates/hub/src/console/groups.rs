//! Saved groups: what each means now, and what a change would do to it before it is saved.

use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use crate::access::who::Who;
use crate::api::groups::{self, GroupItem};
use crate::api::nodes::search;
use crate::api::refusal::{Asked, Refusal};
use crate::console::link::{fleet, quoted};
use crate::console::nodes::Wrong;
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::{When, when};
use crate::state::HubState;

/// How many names a difference shows.
const NAMES: usize = 12;

/// A group that somebody thinks of.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupsAsked {
    group: Option<String>,
    expression: Option<String>,
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub struct Sent {
    group: String,
    #[serde(default)]
    expression: String,
    #[serde(rename = "do")]
    order: String,
}

#[derive(Template)]
#[template(path = "groups.html")]
struct GroupsPage {
    frame: Frame,
    groups: Vec<GroupView>,
    group: String,
    expression: String,
    wrong: Option<Wrong>,
    change: Option<Change>,
}

struct GroupView {
    item: GroupItem,
    href: String,
    edit: String,
    changed: When,
}

/// What would come of saving.
struct Change {
    nodes: usize,
    is_new: bool,
    come: Vec<String>,
    go: Vec<String>,
    more: usize,
    can_save: bool,
}

/// The page.
pub async fn show(
    State(state): State<Arc<HubState>>,
    asked: Result<Asked<GroupsAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let groups = groups::read(&state).await?.groups;
    let (group, expression) = (asked.group.unwrap_or_default(), asked.expression.unwrap_or_default());
    let (mut wrong, mut change) = (None, None);
    if !expression.trim().is_empty() {
        match names(&state, &expression).await {
            Ok(new) => {
                let before = groups.iter().find(|item| item.group == group);
                let old = match before {
                    Some(before) => names(&state, &before.expression).await.unwrap_or_default(),
                    None => BTreeSet::new(),
                };
                let is_new = before.is_none();
                let (come, go): (Vec<_>, Vec<_>) = (
                    new.difference(&old).filter(|_| !is_new).cloned().collect(),
                    old.difference(&new).cloned().collect(),
                );
                let more = come.len().saturating_sub(NAMES) + go.len().saturating_sub(NAMES);
                let first = |names: Vec<String>| names.into_iter().take(NAMES).collect();
                let can_save = !group.is_empty();
                change = Some(Change {
                    nodes: new.len(),
                    is_new,
                    come: first(come),
                    go: first(go),
                    more,
                    can_save,
                });
            }
            Err(refusal) if refusal.status().is_client_error() => {
                wrong = Some(Wrong::of(&expression, &refusal));
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let view = |item: GroupItem| GroupView {
        href: fleet(&format!("group.{}", item.group)),
        edit: format!("/groups?group={}&expression={}#edit", item.group, quoted(&item.expression)),
        changed: when(item.changed_ms, now_ms),
        item,
    };
    Ok(render(&GroupsPage {
        frame: Frame::of(&state, "Groups", "groups").await?,
        groups: groups.into_iter().map(view).collect(),
        group,
        expression,
        wrong,
        change,
    }))
}

/// An expression that is still being written.
#[derive(Debug, Deserialize)]
pub struct MatchedAsked {
    #[serde(rename = "where")]
    selector: String,
}

/// How many nodes an expression means, in words; nothing while it cannot be read.
pub async fn matched(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<MatchedAsked>,
) -> Result<String, Refusal> {
    match search(&state, Some(&asked.selector)).await {
        Ok(found) if found.len() == 1 => Ok("1 node".to_owned()),
        Ok(found) => Ok(format!("{} nodes", found.len())),
        Err(refusal) if refusal.status().is_client_error() => Ok(String::new()),
        Err(refusal) => Err(refusal),
    }
}

async fn names(state: &HubState, expression: &str) -> Result<BTreeSet<String>, Refusal> {
    Ok(search(state, Some(expression)).await?.into_iter().map(|node| node.row.name).collect())
}

/// Saves or removes a group.
pub async fn change(
    State(state): State<Arc<HubState>>,
    who: Who,
    sent: Result<Form<Sent>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let mend = "go back, and fill the form";
    let Form(sent) = sent.map_err(|error| Refusal::bad_request("bad-form", error.body_text(), mend))?;
    match sent.order.as_str() {
        "save" => groups::save(&state, &who, sent.group.trim(), &sent.expression).await?,
        "remove" => groups::remove(&state, &who, &sent.group).await?,
        _ => {
            let message = "a group is saved or removed".to_owned();
            return Err(Refusal::bad_request("bad-form", message, mend).into());
        }
    }
    Ok(Redirect::to("/groups").into_response())
}
