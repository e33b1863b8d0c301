//! What one node says it is, the labels it was given here, and why an expression means it or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use crate::access::who::Who;
use crate::api::fleet::{Why, judge, known, set_labels};
use crate::api::refusal::{Asked, Refusal};
use crate::console::link::{fleet, text};
use crate::console::nodes::Wrong;
use crate::console::number::bytes;
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::length;
use crate::state::HubState;

/// What the page is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactsAsked {
    #[serde(rename = "where", default)]
    selector: String,
}

#[derive(Template)]
#[template(path = "facts.html")]
struct FactsPage {
    frame: Frame,
    node: String,
    facts: Vec<FactView>,
    set_here: String,
    /// Labels that were set here and that the node does not say.
    not_yet: Vec<String>,
    expression: String,
    wrong: Option<Wrong>,
    why: Option<Why>,
}

struct FactView {
    name: String,
    value: String,
    href: Option<String>,
}

/// The page.
pub async fn show(
    State(state): State<Arc<HubState>>,
    Path(node): Path<String>,
    asked: Result<Asked<FactsAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    use wire::facts::Fact;
    let Asked(asked) = asked?;
    let known = known(&state, &node).await?;
    let expression = asked.selector.trim().to_owned();
    let (why, wrong) = match expression.is_empty() {
        true => (None, None),
        false => match judge(&state, &node, &expression).await {
            Ok(why) => (Some(why), None),
            Err(refusal) if refusal.status().is_client_error() => {
                (None, Some(Wrong::of(&expression, &refusal)))
            }
            Err(refusal) => return Err(refusal.into()),
        },
    };
    let view = |(name, fact): (&wire::facts::FactName, &Fact)| FactView {
        // The nodes that say the same; of a list, nobody asks that.
        href: match fact {
            Fact::Text(value) => Some(fleet(&format!("{name} == {}", text(value)))),
            Fact::Number(value) if name.as_str() != "seen" => Some(fleet(&format!("{name} == {value}"))),
            Fact::Truth(value) => Some(fleet(&format!("{name} == {value}"))),
            Fact::Number(_) | Fact::List(_) => None,
        },
        name: name.to_string(),
        value: match (name.as_str(), fact) {
            ("ram" | "disk", Fact::Number(value)) => bytes(*value as u64),
            ("seen", Fact::Number(value)) => format!("{} ago", length((value * 1000.0) as i64)),
            _ => fact.to_string(),
        },
    };
    let empty = BTreeMap::new();
    let set = known.set_here.as_ref().map_or(&empty, |here| &here.set);
    let pair = |(label, value): (&String, &String)| format!("{label}={value}");
    let said: BTreeMap<String, String> = known
        .facts
        .iter()
        .filter_map(|(name, fact)| Some((name.label()?.to_owned(), fact.to_string())))
        .collect();
    Ok(render(&FactsPage {
        frame: Frame::of(&state, &format!("Facts of {}", known.row.name), "nodes").await?,
        facts: known.with_hubs(state.now_ms()).iter().map(view).collect(),
        set_here: set.iter().map(pair).collect::<Vec<_>>().join("\n"),
        not_yet: set.iter().filter(|(label, value)| said.get(*label) != Some(value)).map(pair).collect(),
        node: known.row.name,
        expression,
        wrong,
        why,
    }))
}

/// What the form sends: a label a line, `line=2`.
#[derive(Debug, Deserialize)]
pub struct Sent {
    labels: String,
}

/// Sets the labels of a node.
pub async fn label(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(node): Path<String>,
    sent: Result<Form<Sent>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let mend = "write a label a line, such as line=2";
    let Form(sent) = sent.map_err(|error| Refusal::bad_request("bad-form", error.body_text(), mend))?;
    let mut set = BTreeMap::new();
    for line in sent.labels.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((label, value)) = line.split_once('=') else {
            let message = format!("there is no = in {:?}", line.chars().take(80).collect::<String>());
            return Err(Refusal::bad_request("bad-labels", message, mend).into());
        };
        set.insert(label.trim().to_owned(), value.trim().to_owned());
    }
    set_labels(&state, &who, &node, set).await?;
    Ok(Redirect::to(&format!("/nodes/{node}/facts")).into_response())
}
