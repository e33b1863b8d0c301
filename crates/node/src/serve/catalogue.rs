//! Which models there are: `GET /v1/models` and `/v1/models/{id}` as OpenAI has them; `GET /selvedge/models` and
//! `DELETE /selvedge/models/{id}` for the verbs `ps` and `stop`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Json;
use axum::extract::{self, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::offer::Offer;
use super::problem::Problem;
use super::state::State;
use super::table::Sitting;

/// Whether this is what an offer is when it is loaded, or stands in for it: a slot's model may still be answered by the one before.
fn is_of(offer: &Offer, sitting: &Sitting) -> bool {
    let manifest = |offer: &Offer| offer.weights.slot().map(|slot| slot.manifest);
    let loaded = &sitting.loaded.offer;
    loaded.name == offer.name && (manifest(loaded) == manifest(offer) || loaded.is_spare)
}

fn entry(offer: &Offer, sitting: Option<&Sitting>) -> Value {
    // What really answers is told.
    let stands_in = sitting.map(|sitting| &sitting.loaded.offer).filter(|offer| offer.is_spare);
    let offer = stands_in.unwrap_or(offer);
    let mut extra = json!({ "loaded": sitting.is_some(), "digest": offer.digest });
    offer.name_slot(&mut extra);
    if let Some(sitting) = sitting {
        let facts = &sitting.loaded.model.facts;
        extra["family"] = json!(facts.family);
        extra["quantisation"] = json!(facts.quantisation);
        extra["parameters"] = json!(facts.parameters);
        extra["context"] = json!(sitting.loaded.context);
        extra["embeds"] = json!(sitting.loaded.model.network.shape().pooling.is_some());
        extra["writes"] = json!(sitting.loaded.model.network.writes());
    }
    json!({
        "id": offer.name,
        "object": "model",
        // OpenAI's clients want a number; a file that nobody added has no time.
        "created": offer.added_ms.unwrap_or(0).div_euclid(1_000),
        "owned_by": "selvedge",
        "x_selvedge": extra,
    })
}

pub(super) async fn list(extract::State(state): extract::State<Arc<State>>) -> Result<Response, Problem> {
    let (offers, sitting) = (state.models.offers().await?, state.models.sitting());
    let loaded = |offer: &Offer| sitting.iter().find(|sitting| is_of(offer, sitting));
    let data: Value = offers.iter().map(|offer| entry(offer, loaded(offer))).collect();
    Ok(Json(json!({ "object": "list", "data": data })).into_response())
}

pub(super) async fn one(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (offer, sitting) = (state.models.find(&id).await?, state.models.sitting());
    let loaded = sitting.iter().find(|sitting| is_of(&offer, sitting));
    Ok(Json(entry(&offer, loaded)).into_response())
}

/// What is loaded, and what it is doing.
pub(super) async fn loaded(extract::State(state): extract::State<Arc<State>>) -> Response {
    let now_ns = (state.now)();
    let seconds = |then_ns: u64| now_ns.saturating_sub(then_ns) as f64 / 1e9;
    let models = state.models.sitting().into_iter().map(|sitting| {
        let Sitting { loaded, users, used_ns, leaving } = sitting;
        let (facts, gauges) = (&loaded.model.facts, &loaded.gauges);
        let mut told = json!({
            "id": loaded.offer.name,
            "file": loaded.offer.weights.path().display().to_string(),
            "digest": loaded.offer.digest,
            "family": facts.family,
            "parameters": facts.parameters,
            "quantisation": facts.quantisation,
            "context": loaded.context,
            "memory_bytes": loaded.needed_bytes,
            "weights_bytes": facts.bytes,
            "cache_bytes": gauges.cache_used.load(Relaxed),
            "kept_bytes": gauges.cache_kept.load(Relaxed),
            "running": gauges.running.load(Relaxed),
            "waiting": gauges.waiting.load(Relaxed),
            "users": users,
            "unloading": leaving,
            "tokens_per_s": gauges.tokens_per_s(),
            "tokens": gauges.written_tokens.load(Relaxed),
            "loaded_s": seconds(loaded.loaded_ns),
            "idle_s": if users == 0 { Some(seconds(used_ns)) } else { None },
        });
        loaded.offer.name_slot(&mut told);
        told
    });
    Json(json!({ "object": "list", "data": models.collect::<Value>() })).into_response()
}

/// Unloads a model: 200 if it is going, 202 if answers under way are written first. The node's own stay.
pub(super) async fn unload(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let offer = state.models.find(&id).await?;
    if offer.weights.slot().is_some() {
        let message =
            format!("the model {:?} is the node's own: what is loaded of it, its slots say", offer.name);
        return Err(Problem::new(StatusCode::CONFLICT, Some("model_in_slot"), message).at("model"));
    }
    let Some(users) = state.models.unload(&offer.name) else {
        let message = format!("the model {:?} is not loaded", offer.name);
        return Err(Problem::new(StatusCode::NOT_FOUND, Some("model_not_loaded"), message).at("model"));
    };
    let status = if users == 0 { StatusCode::OK } else { StatusCode::ACCEPTED };
    let answer = json!({ "id": offer.name, "object": "model", "unloading": true, "waits_for": users });
    Ok((status, Json(answer)).into_response())
}
