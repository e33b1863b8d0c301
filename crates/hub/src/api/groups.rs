//! Saved groups: expressions with a name. A plan keeps the expression itself, so that it never changes with a group.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::facts::FactName;
use wire::select::Selector;
use wire::world::WallMs;

use crate::access::who::Who;
use crate::api::intake;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::fleet::view::Search;
use crate::state::HubState;
use crate::store::groups::{self, GroupRow};
use crate::write::act::{Act, Deed, Done};

/// The most bytes of a group on its way in.
const GROUP_MAX_BYTES: usize = 16 << 10;

/// All groups, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupList {
    /// The groups.
    pub groups: Vec<GroupItem>,
}

/// A group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupItem {
    /// Its name; in an expression `group.<name>`.
    pub group: String,
    /// Which nodes are meant.
    pub expression: String,
    /// How many there are now.
    pub nodes: u64,
    /// Who changed it last.
    pub made_by: String,
    /// When.
    pub changed_ms: WallMs,
}

/// What a group shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupPut {
    /// Which nodes are meant; other groups have no place in it.
    pub expression: String,
}

/// All saved groups.
#[utoipa::path(get, path = "/api/v1/groups", tag = "fleet", responses((status = 200, body = GroupList)))]
pub async fn list(State(state): State<Arc<HubState>>) -> Result<Json<GroupList>, Refusal> {
    read(&state).await.map(Json)
}

/// What [`list`] answers.
pub async fn read(state: &HubState) -> Result<GroupList, Refusal> {
    let rows = groups::list(&state.readers).await?;
    let (nodes, now_ms) = (state.fleet.look(&state.readers).await?, state.now_ms());
    let item = |row: GroupRow| {
        let selector = Selector::parse(&row.expression).ok();
        let search = selector.and_then(|selector| Search::new(&selector, &Default::default()).ok());
        let count =
            nodes.iter().filter(|node| search.as_ref().is_some_and(|it| it.has(node, now_ms))).count();
        GroupItem {
            group: row.name,
            expression: row.expression,
            nodes: count as u64,
            made_by: row.made_by,
            changed_ms: row.changed_ms,
        }
    };
    Ok(GroupList { groups: rows.into_iter().map(item).collect() })
}

/// One group.
#[utoipa::path(
    get, path = "/api/v1/groups/{group}", tag = "fleet",
    params(("group" = String, Path, description = "The group's name")),
    responses((status = 200, body = GroupItem), (status = 404, body = ErrorBody))
)]
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path(group): Path<String>,
) -> Result<Json<GroupItem>, Refusal> {
    let found = read(&state).await?.groups.into_iter().find(|item| item.group == group);
    found.map(Json).ok_or_else(nothing)
}

/// Saves a group.
#[utoipa::path(
    put, path = "/api/v1/groups/{group}", tag = "fleet", request_body = GroupPut,
    params(("group" = String, Path, description = "The group's name: a-z, 0-9, '-', '_' and '.'")),
    responses(
        (status = 204, description = "It is saved"), (status = 400, body = ErrorBody),
        (status = 409, description = "There are as many as there may be", body = ErrorBody),
        (status = 503, body = ErrorBody),
    )
)]
pub async fn put(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(group): Path<String>,
    request: Request<Body>,
) -> Result<StatusCode, Refusal> {
    let bytes = intake::read(&state, request, GROUP_MAX_BYTES).await?;
    let GroupPut { expression } = intake::json(&bytes)?;
    save(&state, &who, &group, &expression).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Saves a group, for the API and the page.
pub async fn save(state: &HubState, who: &Who, group: &str, expression: &str) -> Result<(), Refusal> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if group.is_empty() || group.len() > 64 || !group.chars().all(is_word) {
        let message = "a group's name has 1 to 64 of a-z, 0-9, '-', '_' and '.'".to_owned();
        return Err(Refusal::bad_request("bad-name", message, "choose another name"));
    }
    let selector = Selector::parse(expression).map_err(|bad| Refusal::bad_selector(&bad))?;
    if selector.names().iter().any(|name: &FactName| name.group().is_some()) {
        let message = "a group names no other group".to_owned();
        return Err(Refusal::bad_request(
            "group-in-group",
            message,
            "write the other group's expression out",
        ));
    }
    let what = Deed::SaveGroup { name: group.to_owned(), expression: expression.trim().to_owned() };
    match state.writer.act(Act { who: who.name(), what }).await? {
        Done::Full { most } => {
            let message = format!("there are {most} groups already");
            Err(Refusal::new(StatusCode::CONFLICT, "too-many", message, "remove one that nobody uses"))
        }
        _ => Ok(()),
    }
}

/// Removes a group.
#[utoipa::path(
    delete, path = "/api/v1/groups/{group}", tag = "fleet",
    params(("group" = String, Path, description = "The group's name")),
    responses(
        (status = 204, description = "It is gone"), (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    )
)]
pub async fn delete(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(group): Path<String>,
) -> Result<StatusCode, Refusal> {
    remove(&state, &who, &group).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a group, for the API and the page.
pub async fn remove(state: &HubState, who: &Who, group: &str) -> Result<(), Refusal> {
    let what = Deed::RemoveGroup { name: group.to_owned() };
    match state.writer.act(Act { who: who.name(), what }).await? {
        Done::Nothing => Err(nothing()),
        _ => Ok(()),
    }
}

fn nothing() -> Refusal {
    Refusal::not_found("there is no such group".to_owned(), "groups are listed at /groups")
}
