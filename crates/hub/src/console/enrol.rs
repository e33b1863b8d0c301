//! How a device comes in: a code for one, a token for many, shown once with the command that takes it.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::{Form, Json};
use serde::Deserialize;
use wire::id::NodeId;

use crate::access::who::{Role, Who};
use crate::api::enrolments::{self, Enrolment, EnrolmentAsk, NewEnrolment};
use crate::api::intake::Told;
use crate::api::refusal::Refusal;
use crate::api::tickets::{self, Ticket, TicketOrder};
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::{When, when};
use crate::state::HubState;

const MEND: &str = "go back, and fill the form";

/// Which code shall be made; an empty field is one that nobody filled.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sent {
    kind: String,
    name: String,
    uses: String,
    minutes: String,
    replace: bool,
    pattern: String,
    labels: String,
    /// Whether it was asked for at all: a box that is not ticked is not sent.
    approve: bool,
}

/// What is said about somebody who waits.
#[derive(Debug, Deserialize)]
pub struct Settled {
    #[serde(default)]
    why: String,
}

#[derive(Template)]
#[template(path = "enrol.html")]
struct EnrolPage {
    frame: Frame,
    /// Where nodes reach this hub, if they have a door.
    door: Option<String>,
    is_admin: bool,
    made: Option<Made>,
    waiting: Vec<TicketView>,
    living: Vec<CodeView>,
    past: Vec<CodeView>,
}

/// What was just made.
struct Made {
    code: String,
    is_token: bool,
    /// What to type on the device.
    command: String,
    until: When,
}

/// Somebody who waits to come in.
struct TicketView {
    item: Ticket,
    /// The key's digest in groups of four, as the device shows it.
    key: String,
    /// What the device says of itself.
    facts: Vec<String>,
    since: When,
}

struct CodeView {
    item: Enrolment,
    until: When,
    state: &'static str,
}

/// The page.
pub async fn show(
    State(state): State<Arc<HubState>>,
    who: Who,
    headers: HeaderMap,
) -> Result<Response, PageRefusal> {
    page(state, &who, &headers, None).await
}

/// Makes a code or a token, and shows it. It is in this answer and nowhere else.
pub async fn make(
    State(state): State<Arc<HubState>>,
    who: Who,
    headers: HeaderMap,
    sent: Result<Form<Sent>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let Form(sent) = sent.map_err(|error| Refusal::bad_request("bad-form", error.body_text(), MEND))?;
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        text => text.parse::<u32>().map(Some).map_err(|_| {
            Refusal::bad_request("bad-number", format!("{text:?} is no number"), "write digits, or nothing")
        }),
    };
    let is_token = sent.kind == "token";
    let name = Some(sent.name.trim()).filter(|name| !is_token && !name.is_empty());
    let name = name
        .map(NodeId::new)
        .transpose()
        .map_err(|error| Refusal::bad_request("bad-name", error.to_string(), "nodes go by short names"))?;
    let labels = sent.labels.split([',', '\n']).filter_map(|label| label.split_once('='));
    let ask = EnrolmentAsk {
        pattern: Some(sent.pattern.trim().to_owned()).filter(|pattern| is_token && !pattern.is_empty()),
        labels: labels.map(|(label, value)| (label.trim().to_owned(), value.trim().to_owned())).collect(),
        approve: is_token.then_some(sent.approve),
        uses: if is_token { number(&sent.uses)? } else { None },
        minutes: number(&sent.minutes)?,
        replace: sent.replace && name.is_some(),
        name,
    };
    let name = ask.name.as_ref().map(ToString::to_string);
    let made = enrolments::make_one(&state, &who, ask).await?;
    let made = Some((made, is_token, name));
    page(state, &who, &headers, made).await
}

/// Takes a code back.
pub async fn withdraw(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Response, PageRefusal> {
    enrolments::remove(State(state), who, Path(id)).await?;
    Ok(Redirect::to("/enrol").into_response())
}

/// Lets in somebody who waits.
pub async fn admit(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
    sent: Result<Form<Settled>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let Json(_) = tickets::admit(State(state), who, Path(id), order(sent)?).await?;
    Ok(Redirect::to("/enrol").into_response())
}

/// Does not let in somebody who waits.
pub async fn refuse(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
    sent: Result<Form<Settled>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let Json(_) = tickets::refuse(State(state), who, Path(id), order(sent)?).await?;
    Ok(Redirect::to("/enrol").into_response())
}

fn order(sent: Result<Form<Settled>, FormRejection>) -> Result<Told<TicketOrder>, Refusal> {
    let Form(Settled { why }) =
        sent.map_err(|error| Refusal::bad_request("bad-form", error.body_text(), MEND))?;
    Ok(Told(TicketOrder { why }))
}

async fn page(
    state: Arc<HubState>,
    who: &Who,
    headers: &HeaderMap,
    made: Option<(NewEnrolment, bool, Option<String>)>,
) -> Result<Response, PageRefusal> {
    let now_ms = state.now_ms();
    let door = door(&state, headers);
    let is_admin = who.has(Role::Admin);
    let codes = match is_admin {
        true => enrolments::list(State(state.clone())).await?.0,
        false => Vec::new(),
    };
    let waiting = if is_admin { tickets::tickets(&state, false).await? } else { Vec::new() };
    let ticket = |item: Ticket| TicketView {
        key: fingerprint(&item.key),
        facts: facts(&item.facts),
        since: when(item.made_ms, now_ms),
        item,
    };
    let waiting = waiting.into_iter().map(ticket).collect();
    let view = |item: Enrolment| {
        let state = match () {
            () if item.used >= item.uses => "used up",
            () if item.until_ms <= now_ms => "run out",
            () => "waits",
        };
        CodeView { until: when(item.until_ms, now_ms), state, item }
    };
    let (living, past) = codes.into_iter().map(view).partition(|code: &CodeView| code.state == "waits");
    let made = made.map(|(made, is_token, name)| {
        let hub = door.as_deref().unwrap_or_default();
        let name = name.map(|name| format!(" --name {name}")).unwrap_or_default();
        Made {
            command: format!("selvedge node enrol --hub {hub} --code {}{name}", made.code),
            until: when(made.until_ms, now_ms),
            code: made.code,
            is_token,
        }
    });
    let frame = Frame::of(&state, "Enrol", "enrol").await?;
    Ok(render(&EnrolPage { frame, door, is_admin, made, waiting, living, past }))
}

/// The first half of a digest, in groups that two people can read to each other.
fn fingerprint(key: &str) -> String {
    let groups: Vec<&str> = (0..8).filter_map(|at| key.get(at * 4..at * 4 + 4)).collect();
    groups.join(" ")
}

/// What a stranger says of itself, in a few short words.
fn facts(said: &serde_json::Value) -> Vec<String> {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let told = said.as_object().into_iter().flatten().take(8);
    told.map(|(name, value)| format!("{name}={}", text(value).chars().take(40).collect::<String>())).collect()
}

/// Where nodes reach this hub: by the first name in its certificate, else as the browser did.
fn door(state: &HubState, headers: &HeaderMap) -> Option<String> {
    let nodes = state.config.nodes.as_ref()?;
    let port = nodes.listen.port();
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let asked = match asked.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => asked,
    };
    let name = nodes.names.first().map_or(asked, String::as_str);
    let name =
        if name.contains(':') && !name.starts_with('[') { format!("[{name}]") } else { name.to_owned() };
    Some(format!("https://{name}:{port}"))
}
