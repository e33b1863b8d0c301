//! What a model looks at, a row of a source or of a feature, and what comes of it.

use wire::body::{Inference, Readings};
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::{MonoNs, WallMs};

use super::bulkhead::Bulkhead;
use super::products::Product;
use super::recent::Recent;
use crate::flow::model::Without;
use crate::model::{Anomaly, Change, Model};
use crate::why::why;

/// A row for models.
pub(super) struct Row<'a> {
    /// The source behind it.
    pub(super) source: &'a PartName,
    /// Whose row it is: the source itself, or a feature.
    pub(super) part: &'a PartName,
    /// What its numbers are called.
    pub(super) names: &'a [String],
    pub(super) t_ms: WallMs,
    /// Shape: `[names]`; NaN where there is none, or none that can be believed.
    pub(super) values: &'a [f64],
    /// It and those before it, for digests.
    pub(super) recent: &'a Recent,
    /// Whether the sensor of a channel behind it is not believed.
    pub(super) doubtful: bool,
}

/// A model, and what is known of how it fares.
pub(super) struct Consulted<'a> {
    pub(super) model: &'a mut Model,
    pub(super) bulkhead: &'a mut Bulkhead,
    /// What it had learnt in an earlier life, or before it fell.
    pub(super) stored: &'a mut Option<Vec<u8>>,
}

/// Has a model look at a row, if it does not rest. One that panics forgets what it has learnt and rests; then it goes on from
/// what was stored, once, and after that learns anew.
pub(super) fn consult(
    consulted: Consulted<'_>,
    row: &Row<'_>,
    now_ns: MonoNs,
    latency_us: impl FnOnce() -> u64,
    out: &mut Vec<Product>,
) {
    let Consulted { model, bulkhead, stored } = consulted;
    if bulkhead.rests(now_ns) {
        return;
    }
    if bulkhead.is_down() {
        bulkhead.rise();
        out.push(bind(model, row.names, stored.take().as_deref()));
    }
    if let Err(reason) = bulkhead.run(model, now_ns, |model| ask(model, row, latency_us, out)) {
        model.fall();
        out.push(Product::part(&format!("model.{}", model.config().name), "failed", reason));
    }
}

/// Has a model look at a row. `latency_us`: since the reading came in.
fn ask(model: &mut Model, row: &Row<'_>, latency_us: impl FnOnce() -> u64, out: &mut Vec<Product>) {
    if row.doubtful && model.config().without == Without::Skip {
        model.rest();
        return;
    }
    match model.step(row.t_ms, row.values) {
        None => {}
        Some(Change::Ready) => {
            let (part, learn) = (format!("model.{}", model.config().name), model.config().learn);
            out.push(Product::part(&part, "ready", format!("it has learnt from {learn} readings")));
        }
        Some(Change::Episode(anomaly)) => {
            let Anomaly { state, since_ms, score, probability, channels } = anomaly;
            out.push(Product::Inference(Inference {
                model: model.reference(),
                source: row.source.clone(),
                state,
                since_ms,
                at_ms: row.t_ms,
                score,
                probability,
                channels,
                input: digest(&row.recent.body(model.config().lag, row.part, row.names)),
                latency_us: latency_us(),
            }));
        }
    }
}

/// Gives a model the names of what it looks at, and what it had learnt; says how it stands.
pub(super) fn bind(model: &mut Model, names: &[String], stored: Option<&[u8]>) -> Product {
    let learn = model.config().learn;
    let (state, reason) = match model.bind(names, stored) {
        Err(error) => ("failed", why(&error)),
        Ok(Err(error)) => ("learning", format!("{}: it learns anew, from {learn} readings", why(&error))),
        Ok(Ok(())) if model.ready() => {
            ("ready", format!("it learnt from {} readings before", model.samples()))
        }
        Ok(Ok(())) => ("learning", format!("it learns from {learn} readings")),
    };
    Product::part(&format!("model.{}", model.config().name), state, reason)
}

/// The digest of readings, as a body.
fn digest(input: &Readings) -> Hash {
    // Numbers, strings and lists.
    Hash::of(&serde_json::to_vec(input).expect("readings are plain data"))
}
