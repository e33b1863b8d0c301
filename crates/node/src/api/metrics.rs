//! `GET /metrics` of the local API: how the node is, in numbers for who watches; and how its door for nodes behind it is.
//!
//! All of it stands in [`Status`], which the API tells in words as well. What models that answer people do is told by their own door
//! (`serve`).

use crate::prometheus::{About, each, one};
use crate::status::{CacheStatus, RelayStatus, Status};

/// The text.
pub(super) fn text(status: &Status) -> String {
    let mut out = String::new();
    let version = [(status.version, 1)];
    each(&mut out, ("selvedge_info", "gauge", "the version that runs"), "version", version);
    let uptime = status.uptime_ms as f64 / 1e3;
    one(&mut out, ("selvedge_uptime_seconds", "gauge", "how long this run has lasted"), uptime);
    if let Some(bytes) = status.rss_bytes {
        one(&mut out, ("selvedge_resident_bytes", "gauge", "resident memory of the process"), bytes);
    }
    flow(&mut out, status);
    journal(&mut out, status);
    if let Some(relay) = &status.relay {
        door(&mut out, relay);
    }
    out
}

fn flow(out: &mut String, status: &Status) {
    let about = ("selvedge_source_up", "gauge", "1 while a source runs");
    let running = |state: &str| u8::from(state == "running");
    each(out, about, "source", status.sources.iter().map(|it| (it.source.as_str(), running(it.state))));
    let about = ("selvedge_source_readings_total", "counter", "readings taken");
    each(out, about, "source", status.sources.iter().map(|it| (it.source.as_str(), it.readings)));
    let about = ("selvedge_source_refused_total", "counter", "readings or cells refused");
    each(out, about, "source", status.sources.iter().map(|it| (it.source.as_str(), it.refused)));
    let about = ("selvedge_rule_firing", "gauge", "1 while a rule fires");
    let firing = |state: &str| u8::from(state == "firing");
    each(out, about, "rule", status.rules.iter().map(|it| (it.rule.as_str(), firing(it.state))));
}

fn journal(out: &mut String, status: &Status) {
    let journal = &status.journal;
    let numbers: [(About, u64); 4] = [
        (("selvedge_journal_bytes", "gauge", "bytes of the journal"), journal.bytes),
        (("selvedge_journal_records_total", "counter", "records written"), journal.records),
        (("selvedge_journal_refused_total", "counter", "records refused"), journal.refused),
        (("selvedge_journal_lost_total", "counter", "records dropped that the hub had not"), journal.lost),
    ];
    for (about, value) in numbers {
        one(out, about, value);
    }
    let Some(uplink) = &status.uplink else { return };
    let is_up = uplink.answered_ms.is_some() && uplink.trouble.is_none();
    one(out, ("selvedge_uplink_up", "gauge", "1 while the hub answers"), u8::from(is_up));
    let behind = journal.streams.iter().map(|it| (it.stream.as_str(), it.last.saturating_sub(it.acked)));
    let about = ("selvedge_uplink_waiting_records", "gauge", "records that the hub is not known to have");
    each(out, about, "stream", behind);
}

/// The door for nodes behind this one. Addresses are no labels: whoever comes would make one.
fn door(out: &mut String, relay: &RelayStatus) {
    let RelayStatus { connections, connections_max, moved, refused, .. } = relay;
    one(out, ("selvedge_relay_connections", "gauge", "connections now"), connections);
    one(out, ("selvedge_relay_connections_max", "gauge", "the most that there may be"), connections_max);
    let about = ("selvedge_relay_connections_total", "counter", "connections that were let in");
    one(out, about, moved.connections);
    one(out, ("selvedge_relay_tunnels_total", "counter", "tunnels to the hub that opened"), moved.tunnels);
    let about = ("selvedge_relay_refused_total", "counter", "how often somebody was refused, and why");
    let why = [
        ("full", refused.full),
        ("share", refused.share),
        ("token", refused.token),
        ("target", refused.target),
        ("no_hub", refused.no_hub),
    ];
    each(out, about, "why", why);
    let about = (
        "selvedge_relay_bytes_total",
        "counter",
        "bytes through tunnels towards the hub and back, and out of the cache",
    );
    each(
        out,
        about,
        "way",
        [("up", moved.up_bytes), ("down", moved.down_bytes), ("cache", moved.cache_bytes)],
    );
    if let Some(up) = relay.hub_up {
        let about = ("selvedge_relay_hub_up", "gauge", "1 if the hub answered the last time");
        one(out, about, u8::from(up));
    }
    if let Some(cache) = &relay.cache {
        kept(out, cache);
    }
}

/// What the door keeps.
fn kept(out: &mut String, cache: &CacheStatus) {
    let numbers: [(About, u64); 7] = [
        (("selvedge_relay_cache_hits_total", "counter", "blobs that were here, or on their way"), cache.hits),
        (("selvedge_relay_cache_misses_total", "counter", "blobs that had to be brought"), cache.misses),
        (("selvedge_relay_cache_bytes", "gauge", "bytes of the blobs that are kept"), cache.bytes),
        (("selvedge_relay_cache_quota_bytes", "gauge", "the most bytes that are kept"), cache.quota_bytes),
        (("selvedge_relay_cache_blobs", "gauge", "blobs that are kept"), cache.blobs as u64),
        (("selvedge_relay_cache_documents", "gauge", "documents that are kept"), cache.documents as u64),
        (
            ("selvedge_relay_brought_bytes_total", "counter", "bytes that came over the line to be kept"),
            cache.brought_bytes,
        ),
    ];
    for (about, value) in numbers {
        one(out, about, value);
    }
    let fetches = &cache.fetches;
    let about = (
        "selvedge_relay_fetches_total",
        "counter",
        "questions to the hub for what is kept; what broke off was answered before",
    );
    let outcomes = [
        ("answered", fetches.answered),
        ("refused", fetches.refused),
        ("failed", fetches.failed),
        ("broken", fetches.broken),
    ];
    each(out, about, "outcome", outcomes);
}
