//! Who may do what: operators, their tokens, and who is asking.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use package::trust::canonical::Value;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::tokens::{NAME_MAX, check_name, draw};
use crate::access::who::{Role, Who};
use crate::api::intake::Told;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::state::HubState;
use crate::store::audit::{self, Entry};
use crate::store::operators::{self, OperatorRow, TokenRow};

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The name in the audit log.
    name: String,
    /// What it may do.
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
}

/// Who is asking, as the hub sees it.
#[utoipa::path(get, path = "/api/v1/me", tag = "operators", responses((status = 200, body = Me)))]
pub async fn me(who: Who) -> Json<Me> {
    let role = match &who {
        Who::Operator { role, .. } => Some(*role),
        Who::Nobody | Who::Node { .. } => None,
    };
    Json(Me { name: who.name(), role })
}

/// An operator.
#[derive(Debug, Serialize, ToSchema)]
pub struct Operator {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Whether it is out: none of its tokens and sessions count.
    pub(crate) disabled: bool,
    pub(crate) made_ms: i64,
}

/// Who there is.
#[utoipa::path(get, path = "/api/v1/operators", tag = "operators", responses((status = 200, body = Vec<Operator>)))]
pub async fn list(State(state): State<Arc<HubState>>) -> Result<Json<Vec<Operator>>, Refusal> {
    let rows = operators::list(&state.readers).await?;
    let operator = |OperatorRow { name, role, disabled, made_ms }| Operator { name, role, disabled, made_ms };
    Ok(Json(rows.into_iter().map(operator).collect()))
}

/// How an operator shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorAsk {
    pub(crate) role: Role,
    /// Whether it shall be out.
    #[serde(default)]
    pub(crate) disabled: bool,
}

/// Makes an operator, or changes it. The last admin stays one.
#[utoipa::path(
    put, path = "/api/v1/operators/{name}", tag = "operators",
    params(("name" = String, Path, description = "Up to 64 of a-z, 0-9, `.`, `_`, `@` and `-`")),
    request_body = OperatorAsk,
    responses(
        (status = 204, description = "So it is"),
        (status = 400, body = ErrorBody),
        (status = 409, description = "There would be no admin left", body = ErrorBody),
    )
)]
pub async fn put(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(name): Path<String>,
    Told(OperatorAsk { role, disabled }): Told<OperatorAsk>,
) -> Result<StatusCode, Refusal> {
    check_name(&name).map_err(|mend| {
        Refusal::bad_request("bad-name", "this is no name for an operator".to_owned(), mend)
    })?;
    let now_ms = state.now_ms();
    let always_admin = state.config.token_file.is_some();
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let before = operators::find(writer, &name).await?;
            let falls = before.as_ref().is_some_and(|row| row.role == Role::Admin && !row.disabled);
            let falls = falls && (role != Role::Admin || disabled);
            if falls && !always_admin && operators::other_admins(writer, &name).await? == 0 {
                return Ok(false);
            }
            operators::put(writer, &name, role, disabled, now_ms).await?;
            let told = |role: Role, disabled: bool| {
                Value::object([("role", role.as_str().into()), ("disabled", Value::Bool(disabled))])
            };
            let entry = Entry {
                before: before.map(|row| told(row.role, row.disabled)),
                after: Some(told(role, disabled)),
                ..Entry::new(now_ms, who.name(), "operator.put", name)
            };
            audit::append(writer, &entry).await?;
            Ok(true)
        })
    });
    if !done.await? {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "last-admin",
            "this is the last admin: nobody could change anything any more".to_owned(),
            "make another admin first",
        ));
    }
    state.refresh_access().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A token, without what it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    pub(crate) id: String,
    pub(crate) operator: String,
    /// At most what its operator may do.
    pub(crate) role: Role,
    /// What it is for.
    pub(crate) name: String,
    pub(crate) made_ms: i64,
    /// Until when it counts; absent: until it is taken back.
    pub(crate) until_ms: Option<i64>,
}

/// Which tokens count.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "operators", responses((status = 200, body = Vec<Token>)))]
pub async fn tokens(State(state): State<Arc<HubState>>) -> Result<Json<Vec<Token>>, Refusal> {
    let rows = operators::tokens(&state.readers).await?;
    let token = |TokenRow { id, operator, role, name, made_ms, until_ms }| Token {
        id,
        operator,
        role,
        name,
        made_ms,
        until_ms,
    };
    Ok(Json(rows.into_iter().map(token).collect()))
}

/// Which token shall be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenAsk {
    /// Whose.
    pub(crate) operator: String,
    /// At most what it may do; absent: what its operator may.
    pub(crate) role: Option<Role>,
    /// What it is for.
    #[serde(default)]
    pub(crate) name: String,
    /// After how many days it counts no more; absent: never.
    pub(crate) days: Option<u16>,
}

/// A new token. It is shown here, once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewToken {
    /// By which it is taken back.
    pub(crate) id: String,
    /// What its owner keeps.
    pub(crate) token: String,
}

/// Makes a token for an operator. Its text is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "operators",
    request_body = TokenAsk,
    responses(
        (status = 201, body = NewToken),
        (status = 400, body = ErrorBody),
        (status = 404, description = "There is no such operator", body = ErrorBody),
    )
)]
pub async fn make_token(
    State(state): State<Arc<HubState>>,
    who: Who,
    Told(ask): Told<TokenAsk>,
) -> Result<(StatusCode, Json<NewToken>), Refusal> {
    if ask.name.chars().count() > NAME_MAX || ask.name.chars().any(char::is_control) {
        let message = format!("a token's name has at most {NAME_MAX} characters, on one line");
        return Err(Refusal::bad_request("bad-name", message, "say in a few words what it is for"));
    }
    let drawn = draw(&mut **state.entropy());
    let (id, hash, now_ms) = (drawn.id.clone(), drawn.hash, state.now_ms());
    let until_ms = ask.days.map(|days| now_ms + i64::from(days) * 86_400_000);
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let Some(operator) = operators::find(writer, &ask.operator).await? else { return Ok(false) };
            let role = operator.role.meet(ask.role.unwrap_or(operator.role));
            let token =
                TokenRow { id, operator: operator.name, role, name: ask.name, made_ms: now_ms, until_ms };
            operators::add_token(writer, &token, &hash).await?;
            let after = Value::object([("id", token.id.into()), ("role", role.as_str().into())]);
            let entry = Entry::new(now_ms, who.name(), "token.make", token.operator);
            audit::append(writer, &Entry { after: Some(after), ..entry }).await?;
            Ok(true)
        })
    });
    if !done.await? {
        let mend = "make it first: PUT /api/v1/operators/<name>";
        return Err(Refusal::not_found("there is no such operator".to_owned(), mend));
    }
    state.refresh_access().await?;
    Ok((StatusCode::CREATED, Json(NewToken { id: drawn.id, token: drawn.text })))
}

/// Takes a token back.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{id}", tag = "operators",
    params(("id" = String, Path, description = "The ten characters after `svt_`")),
    responses((status = 204, description = "It counts no more"), (status = 404, body = ErrorBody))
)]
pub async fn revoke(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let now_ms = state.now_ms();
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let was = operators::revoke(writer, &id).await?;
            if was {
                audit::append(writer, &Entry::new(now_ms, who.name(), "token.revoke", id)).await?;
            }
            Ok(was)
        })
    });
    if !done.await? {
        let mend = "GET /api/v1/tokens lists those that count";
        return Err(Refusal::not_found("there is no such token".to_owned(), mend));
    }
    state.refresh_access().await?;
    Ok(StatusCode::NO_CONTENT)
}
