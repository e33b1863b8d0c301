//! `GET /metrics`: what came in, what became of it and how long it took, as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;

use super::gauges::{BOUNDS_MS, Gauges, Histogram};
use crate::prometheus::{head, label};
use crate::status::rss_bytes;

/// The requests of a server, by route and status.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    /// Answers under way.
    pub(super) under_way: AtomicU64,
}

impl Metrics {
    /// A request was answered. `route` is one of ours, or none: what a stranger made up is no label.
    pub(super) fn answered(&self, route: Option<&str>, status: StatusCode) {
        let key = (route.unwrap_or("other").to_owned(), status.as_u16());
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }

    /// All of it, with what the loaded models tell.
    pub(super) fn text<'g>(
        &self,
        models: impl Iterator<Item = (&'g str, &'g Gauges, u64)> + Clone,
    ) -> String {
        let mut out = String::new();
        head(&mut out, ("selvedge_info", "gauge", "the version that runs"));
        let _ = writeln!(out, "selvedge_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        if let Some(bytes) = rss_bytes() {
            head(&mut out, ("selvedge_resident_bytes", "gauge", "resident memory of the process"));
            let _ = writeln!(out, "selvedge_resident_bytes {bytes}");
        }
        head(&mut out, ("selvedge_requests_under_way", "gauge", "requests that are being answered"));
        let _ = writeln!(out, "selvedge_requests_under_way {}", self.under_way.load(Relaxed));
        head(&mut out, ("selvedge_requests_total", "counter", "requests answered, by route and status"));
        for ((route, status), count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "selvedge_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        let about = "bytes that a loaded model needs, cache included";
        head(&mut out, ("selvedge_model_memory_bytes", "gauge", about));
        for (model, _, needed) in models.clone() {
            let _ = writeln!(out, "selvedge_model_memory_bytes{{model=\"{}\"}} {needed}", label(model));
        }
        for (name, kind, about, read) in NUMBERS {
            head(&mut out, (name, kind, about));
            for (model, gauges, _) in models.clone() {
                let _ = writeln!(out, "{name}{{model=\"{}\"}} {}", label(model), read(gauges));
            }
        }
        for (name, about, read) in HISTOGRAMS {
            head(&mut out, (name, "histogram", about));
            for (model, gauges, _) in models.clone() {
                histogram(&mut out, name, &label(model), read(gauges));
            }
        }
        out
    }
}

type Number = (&'static str, &'static str, &'static str, fn(&Gauges) -> f64);

const NUMBERS: [Number; 13] = [
    ("selvedge_model_running", "gauge", "answers being read or written", |g| g.running.load(Relaxed) as f64),
    ("selvedge_model_waiting", "gauge", "answers that wait for their turn", |g| {
        g.waiting.load(Relaxed) as f64
    }),
    ("selvedge_model_cache_bytes", "gauge", "keys and values of answers under way", |g| {
        g.cache_used.load(Relaxed) as f64
    }),
    ("selvedge_model_kept_bytes", "gauge", "keys and values kept for what begins alike", |g| {
        g.cache_kept.load(Relaxed) as f64
    }),
    ("selvedge_model_tokens_total", "counter", "tokens written", |g| g.written_tokens.load(Relaxed) as f64),
    ("selvedge_model_prompt_tokens_total", "counter", "tokens of prompts", |g| {
        g.prompt_tokens.load(Relaxed) as f64
    }),
    ("selvedge_model_reused_tokens_total", "counter", "tokens of prompts that were known already", |g| {
        g.reused_tokens.load(Relaxed) as f64
    }),
    ("selvedge_model_draft_tokens_total", "counter", "tokens guessed ahead", |g| {
        g.guessed_tokens.load(Relaxed) as f64
    }),
    ("selvedge_model_accepted_draft_tokens_total", "counter", "tokens guessed ahead that were right", |g| {
        g.accepted_tokens.load(Relaxed) as f64
    }),
    ("selvedge_model_embedded_tokens_total", "counter", "tokens of embedded texts", |g| {
        g.embedded_tokens.load(Relaxed) as f64
    }),
    ("selvedge_model_ended_total", "counter", "answers that came to their end", |g| {
        g.ended.load(Relaxed) as f64
    }),
    ("selvedge_model_cancelled_total", "counter", "answers that nobody waited for any more", |g| {
        g.cancelled.load(Relaxed) as f64
    }),
    ("selvedge_model_busy_seconds_total", "counter", "time spent in steps of the model", |g| {
        g.busy_ns.load(Relaxed) as f64 / 1e9
    }),
];

type Times = (&'static str, &'static str, fn(&Gauges) -> &Histogram);

const HISTOGRAMS: [Times; 2] = [
    ("selvedge_model_queue_seconds", "how long answers waited for their turn", |g| &g.queue),
    ("selvedge_model_first_token_seconds", "how long until the first token", |g| &g.first_token),
];

fn histogram(out: &mut String, name: &str, model: &str, histogram: &Histogram) {
    let (counts, sum_s) = histogram.read();
    for (bound_ms, count) in BOUNDS_MS.iter().zip(counts) {
        let bound = *bound_ms as f64 / 1e3;
        let _ = writeln!(out, "{name}_bucket{{model=\"{model}\",le=\"{bound}\"}} {count}");
    }
    let all = counts[BOUNDS_MS.len()];
    let _ = writeln!(out, "{name}_bucket{{model=\"{model}\",le=\"+Inf\"}} {all}");
    let _ = writeln!(out, "{name}_sum{{model=\"{model}\"}} {sum_s}\n{name}_count{{model=\"{model}\"}} {all}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_number() {
        let (metrics, gauges) = (Metrics::default(), Gauges::default());
        metrics.answered(Some("/v1/models"), StatusCode::OK);
        metrics.answered(None, StatusCode::NOT_FOUND);
        gauges.began(3_000_000, 7, 2);
        let text = metrics.text([("a\"b", &gauges, 5)].into_iter());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            assert!(name.starts_with("selvedge_") && value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(text.contains("selvedge_requests_total{route=\"other\",status=\"404\"} 1"));
        assert!(text.contains("selvedge_model_prompt_tokens_total{model=\"a\\\"b\"} 7"));
        assert!(text.contains("selvedge_model_queue_seconds_bucket{model=\"a\\\"b\",le=\"0.005\"} 1"));
    }
}
