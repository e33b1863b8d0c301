//! The fleet: nodes by an expression, the groups that have a name, and a map of it by two labels.

use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use wire::select::Selector;

use crate::api::fleet::{LabelCell, LabelsAsked, label_map};
use crate::api::nodes::{NodeItem, NodeOrder, NodePage, NodesAsked, page, search};
use crate::api::refusal::{Asked, Refusal};
use crate::console::link::{both, fleet, quoted, text};
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::{When, length, when};
use crate::state::HubState;
use crate::store::groups;

/// The most rows and columns of the map.
const MAP_MAX: usize = 24;

/// What the page is asked for.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetAsked {
    #[serde(rename = "where")]
    selector: Option<String>,
    sort: Option<NodeOrder>,
    after: Option<String>,
    limit: Option<u32>,
    one: Option<String>,
    two: Option<String>,
}

#[derive(Template)]
#[template(path = "nodes.html")]
struct NodesPage {
    frame: Frame,
    nodes: Vec<NodeView>,
    matched: u64,
    next: Option<String>,
    first_page: String,
    first: bool,
    address: String,
    expression: String,
    wrong: Option<Wrong>,
    chips: Vec<Chip>,
    /// Words for the search box.
    words: BTreeSet<String>,
    orders: Vec<Chip>,
    labels: Vec<String>,
    one: String,
    two: String,
    map: Option<MapView>,
    save: Option<String>,
}

/// An expression that cannot be read.
pub(crate) struct Wrong {
    /// Its line, and carets under the place.
    pub(crate) caret: String,
    /// What is wrong.
    pub(crate) message: String,
}

struct NodeView {
    item: NodeItem,
    seen: When,
    clock: String,
    labels: Vec<Chip>,
}

/// Something to choose.
struct Chip {
    words: String,
    href: String,
    chosen: bool,
}

/// Nodes by the values of two labels.
struct MapView {
    columns: Vec<String>,
    rows: Vec<(String, Vec<Option<CellView>>)>,
    cut: bool,
}

struct CellView {
    count: u64,
    class: &'static str,
    /// What is not as usual, the worst first.
    told: Vec<Told>,
    href: String,
}

/// So many nodes are so.
struct Told {
    class: &'static str,
    count: u64,
    words: &'static str,
}

impl Wrong {
    /// Why an expression cannot be asked for, if it cannot.
    pub(crate) fn of(expression: &str, refusal: &Refusal) -> Wrong {
        match Selector::parse(expression) {
            Err(bad) => Wrong {
                caret: bad.caret(expression),
                message: format!("Found {}; expected {}.", bad.found, bad.expected),
            },
            Ok(_) => Wrong { caret: String::new(), message: refusal.message().to_owned() },
        }
    }
}

/// The page.
pub async fn show(
    State(state): State<Arc<HubState>>,
    asked: Result<Asked<FleetAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let expression = asked.selector.clone().unwrap_or_default().trim().to_owned();
    let list = NodesAsked {
        selector: asked.selector.clone(),
        sort: asked.sort,
        after: asked.after.clone(),
        limit: asked.limit,
    };
    let (list, wrong) = match page(&state, &list).await {
        Ok(list) => (list, None),
        Err(refusal) if refusal.status().is_client_error() && !expression.is_empty() => {
            let nothing = NodePage { nodes: Vec::new(), matched: 0, next_after: None };
            (nothing, Some(Wrong::of(&expression, &refusal)))
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let found = match wrong {
        None => search(&state, asked.selector.as_deref()).await?,
        Some(_) => search(&state, None).await?,
    };
    let words: BTreeSet<String> = found
        .iter()
        .flat_map(|node| node.facts.iter())
        .map(|(name, _)| name.label().unwrap_or(name.as_str()).to_owned())
        .chain(["state".to_owned(), "seen".to_owned()])
        .collect();
    let (one, two) = (asked.one.clone().unwrap_or_default(), asked.two.clone().unwrap_or_default());
    let chosen = |label: &str| Some(label.to_owned()).filter(|label| !label.is_empty());
    let labels = LabelsAsked { one: chosen(&one), two: chosen(&two), selector: None };
    let labels = label_map(&state, &found, &labels).await?;
    let map = (!one.is_empty()).then(|| map(&expression, &one, &two, &labels.cells));
    let groups = groups::list(&state.readers).await.map_err(Refusal::from)?;
    let chips: Vec<Chip> = groups
        .into_iter()
        .map(|group| {
            let own = format!("group.{}", group.name);
            Chip { href: fleet(&own), chosen: own == expression, words: group.name }
        })
        .collect();
    let is_saved = chips.iter().any(|chip| chip.chosen) || expression.contains("group.");
    let save = (!expression.is_empty() && wrong.is_none() && !is_saved)
        .then(|| format!("/groups?expression={}", quoted(&expression)));
    let order = |(words, sort, word): (&str, NodeOrder, &str)| Chip {
        words: words.to_owned(),
        href: format!("/nodes?where={}&sort={word}", quoted(&expression)),
        chosen: asked.sort.unwrap_or_default() == sort,
    };
    let orders = [
        ("by name", NodeOrder::Name, "name"),
        ("worst first", NodeOrder::Health, "health"),
        ("longest unheard", NodeOrder::Seen, "seen"),
    ];
    let sort = match asked.sort.unwrap_or_default() {
        NodeOrder::Name => "name",
        NodeOrder::Health => "health",
        NodeOrder::Seen => "seen",
    };
    let next = list
        .next_after
        .map(|after| format!("/nodes?where={}&sort={sort}&after={}", quoted(&expression), quoted(&after)));
    let view = |item: NodeItem| NodeView {
        seen: when(item.last_seen_ms, now_ms),
        clock: clock_words(item.clock.as_deref(), item.clock_offset_ms),
        labels: item.labels.iter().map(|(label, value)| label_chip(&expression, label, value)).collect(),
        item,
    };
    Ok(render(&NodesPage {
        frame: Frame::of(&state, "Fleet", "nodes").await?,
        nodes: list.nodes.into_iter().map(view).collect(),
        matched: list.matched,
        next,
        first_page: fleet(&expression),
        first: asked.after.is_none(),
        address: format!("http://{}", state.config.listen),
        wrong,
        chips,
        words,
        orders: orders.into_iter().map(order).collect(),
        labels: labels.labels.into_iter().map(|label| label.label).collect(),
        one,
        two,
        map,
        save,
        expression,
    }))
}

fn label_chip(expression: &str, label: &str, value: &str) -> Chip {
    let term = format!("label.{label} == {}", text(value));
    Chip { words: format!("{label}={value}"), href: fleet(&both(expression, &term)), chosen: false }
}

fn map(expression: &str, one: &str, two: &str, cells: &[LabelCell]) -> MapView {
    let values = |pick: fn(&LabelCell) -> &Option<String>| {
        let all: BTreeSet<Option<String>> = cells.iter().map(|cell| pick(cell).clone()).collect();
        let cut = all.len() > MAP_MAX;
        (all.into_iter().take(MAP_MAX).collect::<Vec<_>>(), cut)
    };
    let (rows, cut_rows) = values(|cell| &cell.one);
    let (columns, cut_columns) = values(|cell| &cell.two);
    let words = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    let cell = |row: &Option<String>, column: &Option<String>| {
        let cell = cells.iter().find(|cell| cell.one == *row && cell.two == *column)?;
        let term = |label: &str, value: &Option<String>| match value {
            Some(value) => format!("label.{label} == {}", text(value)),
            None => format!("!label.{label}"),
        };
        let mut terms = both(expression, &term(one, row));
        if !two.is_empty() {
            terms = both(&terms, &term(two, column));
        }
        Some(cell_view(cell, fleet(&terms)))
    };
    let row = |row: &Option<String>| (words(row), columns.iter().map(|column| cell(row, column)).collect());
    MapView {
        rows: rows.iter().map(row).collect(),
        columns: match two {
            "" => vec!["nodes".to_owned()],
            _ => columns.iter().map(words).collect(),
        },
        cut: cut_rows || cut_columns,
    }
}

/// The colour is of the worst; every kind is counted in words.
fn cell_view(cell: &LabelCell, href: String) -> CellView {
    let kinds = [
        ("bad", cell.firing, "with alerts"),
        ("ahead", cell.conflict, "in conflict"),
        ("unknown", cell.silent, "silent"),
        ("trial", cell.trial, "on trial"),
    ];
    let found = kinds.into_iter().filter(|(_, count, _)| *count > 0);
    let told: Vec<Told> = found.map(|(class, count, words)| Told { class, count, words }).collect();
    CellView { count: cell.nodes, class: told.first().map_or("good", |worst| worst.class), told, href }
}

/// How a node's clock is, in a few words.
pub fn clock_words(clock: Option<&str>, offset_ms: Option<i64>) -> String {
    let offset_ms = offset_ms.unwrap_or(0);
    match clock {
        None => "–".to_owned(),
        Some("off") if offset_ms > 0 => format!("{} ahead", length(offset_ms)),
        Some("off") => format!("{} behind", length(offset_ms.saturating_neg())),
        Some("checked") => "agrees".to_owned(),
        Some(_) => "unchecked".to_owned(),
    }
}
