//! The hub's own numbers, as Prometheus text: what came in, what became of it, how long requests took.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use wire::batch::Outcome;

/// The upper bounds of the latency histogram, in microseconds.
const BOUNDS_US: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// Which part of the hub a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// A node's check-in.
    CheckIn,
    /// A node's records.
    Records,
    /// The rest of the API.
    Api,
    /// Packages and their metadata.
    Packages,
    /// Pages and what belongs to them.
    Console,
}

impl Area {
    const ALL: [Area; 5] = [Area::CheckIn, Area::Records, Area::Api, Area::Packages, Area::Console];

    fn as_str(self) -> &'static str {
        match self {
            Area::CheckIn => "checkin",
            Area::Records => "records",
            Area::Api => "api",
            Area::Packages => "packages",
            Area::Console => "console",
        }
    }
}

/// How a handshake at the nodes' door ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// From the beginning, with certificates.
    Full,
    /// With a ticket of an earlier connection.
    Resumed,
    /// Without a connection.
    Failed,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// All counters. They begin at zero with the process.
#[derive(Debug, Default)]
pub struct Metrics {
    records: AtomicU64,
    lost: AtomicU64,
    stored: AtomicU64,
    ahead: AtomicU64,
    forked: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
    checkins: AtomicU64,
    commits: AtomicU64,
    lost_swaps: AtomicU64,
    handshakes: [AtomicU64; 3],
    held: AtomicI64,
    requests: [Histogram; 5],
    expires: Mutex<Vec<(String, i64)>>,
    /// `None`: nobody has looked, or there is no archive.
    archive_behind: Mutex<Option<i64>>,
    recent: Recent,
}

impl Metrics {
    /// Records were stored, and some were learnt to be lost.
    pub fn ingested(&self, records: u64, lost: u64, now_s: u64) {
        self.records.fetch_add(records, Relaxed);
        self.lost.fetch_add(lost, Relaxed);
        self.recent.add(records, now_s);
    }

    /// A batch was answered.
    pub fn batch(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Stored => &self.stored,
            Outcome::Ahead => &self.ahead,
            Outcome::Forked => &self.forked,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// A batch could not be taken, whatever the hub holds.
    pub fn batch_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// A node was asked to come again later.
    pub fn busy(&self) {
        self.busy.fetch_add(1, Relaxed);
    }

    /// A node checked in.
    pub fn checked_in(&self) {
        self.checkins.fetch_add(1, Relaxed);
    }

    /// A node shook hands, or did not.
    pub fn handshake(&self, ended: Handshake) {
        self.handshakes[ended as usize].fetch_add(1, Relaxed);
    }

    /// A call is held for as long as what is returned lives.
    pub fn hold(self: &Arc<Metrics>) -> impl Drop + Send + use<> {
        self.held.fetch_add(1, Relaxed);
        HeldCall(self.clone())
    }

    /// How many calls are held.
    pub fn held(&self) -> i64 {
        self.held.load(Relaxed)
    }

    /// Something is on disk.
    pub fn committed(&self) {
        self.commits.fetch_add(1, Relaxed);
    }

    /// A rollout was not as it was read, under the turn: a mistake of ours.
    pub fn lost_swap(&self) {
        self.lost_swaps.fetch_add(1, Relaxed);
    }

    /// A request was answered.
    pub fn request(&self, area: Area, micros: u64) {
        let histogram = &self.requests[area as usize];
        let bucket = BOUNDS_US.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_US.len());
        histogram.buckets[bucket].fetch_add(1, Relaxed);
        histogram.sum_us.fetch_add(micros, Relaxed);
    }

    /// Until when each role of TUF holds, in seconds since 1970, as of the last look.
    pub fn expires(&self, roles: Vec<(String, i64)>) {
        *self.expires.lock().unwrap_or_else(PoisonError::into_inner) = roles;
    }

    /// For how many days records are due that the archive does not have, as of the last look.
    pub fn archive_behind(&self, days: i64) {
        *self.archive_behind.lock().unwrap_or_else(PoisonError::into_inner) = Some(days);
    }

    /// Records stored in the last whole minute.
    pub fn records_last_minute(&self, now_s: u64) -> u64 {
        self.recent.sum(now_s)
    }

    /// Everything as Prometheus text; `gauges` are `(name, help, value)` of what is counted elsewhere.
    pub fn text(&self, gauges: &[(&str, &str, i64)]) -> String {
        let mut out = String::with_capacity(8192);
        let mut family = |name: &str, help: &str, kind: &str, samples: &[(String, String)]| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let one = |counter: &AtomicU64| vec![(String::new(), counter.load(Relaxed).to_string())];
        let counters = [
            ("hub_records_total", "Records stored.", &self.records),
            ("hub_records_lost_total", "Records that nodes dropped before the hub had them.", &self.lost),
            ("hub_batches_refused_total", "Batches that could not be read.", &self.refused),
            ("hub_busy_total", "Requests sent away because the hub was busy.", &self.busy),
            ("hub_checkins_total", "Check-ins answered.", &self.checkins),
            ("hub_commits_total", "Transactions on disk.", &self.commits),
            (
                "hub_rollout_swaps_lost_total",
                "Rollouts that two hubs moved at once; never any.",
                &self.lost_swaps,
            ),
        ];
        for (name, help, counter) in counters {
            family(name, help, "counter", &one(counter));
        }
        let outcomes = [("stored", &self.stored), ("ahead", &self.ahead), ("forked", &self.forked)];
        let batches = outcomes.map(|(outcome, counter)| {
            (format!("{{outcome=\"{outcome}\"}}"), counter.load(Relaxed).to_string())
        });
        family("hub_batches_total", "Batches answered.", "counter", &batches);
        let ends = ["full", "resumed", "failed"].into_iter().zip(&self.handshakes);
        let handshakes: Vec<(String, String)> = ends
            .map(|(end, count)| (format!("{{end=\"{end}\"}}"), count.load(Relaxed).to_string()))
            .collect();
        family("hub_handshakes_total", "Handshakes at the nodes' door.", "counter", &handshakes);
        let quoted = |role: &str| role.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let expires = self.expires.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let expires: Vec<(String, String)> = expires
            .into_iter()
            .map(|(role, at_s)| (format!("{{role=\"{}\"}}", quoted(&role)), at_s.to_string()))
            .collect();
        if !expires.is_empty() {
            let help = "When the published metadata of a role expires, in seconds since 1970.";
            family("hub_tuf_expires_timestamp_seconds", help, "gauge", &expires);
        }
        let behind = *self.archive_behind.lock().unwrap_or_else(PoisonError::into_inner);
        let help = "For how many days records are due that the archive does not have, as of the last look.";
        let behind = behind.map(|days| ("hub_archive_behind_days", help, days));
        for (name, help, value) in gauges.iter().chain(&behind) {
            family(name, help, "gauge", &[(String::new(), value.to_string())]);
        }
        let _ = writeln!(out, "# HELP hub_request_seconds Time to answer a request.");
        let _ = writeln!(out, "# TYPE hub_request_seconds histogram");
        for area in Area::ALL {
            let histogram = &self.requests[area as usize];
            let area = area.as_str();
            let mut count = 0;
            for (at, bucket) in histogram.buckets.iter().enumerate() {
                count += bucket.load(Relaxed);
                let bound = BOUNDS_US.get(at).map_or("+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
                let _ = writeln!(out, "hub_request_seconds_bucket{{area=\"{area}\",le=\"{bound}\"}} {count}");
            }
            let sum = histogram.sum_us.load(Relaxed) as f64 / 1e6;
            let _ = writeln!(out, "hub_request_seconds_sum{{area=\"{area}\"}} {sum}");
            let _ = writeln!(out, "hub_request_seconds_count{{area=\"{area}\"}} {count}");
        }
        out
    }
}

struct HeldCall(Arc<Metrics>);

impl Drop for HeldCall {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
    }
}

/// Counts by second for the last minute and a little: slot = second mod 64, with the second it stands for.
#[derive(Debug)]
struct Recent {
    slots: [(AtomicU64, AtomicU64); 64],
}

impl Default for Recent {
    fn default() -> Recent {
        Recent { slots: std::array::from_fn(|_| (AtomicU64::new(u64::MAX), AtomicU64::new(0))) }
    }
}

impl Recent {
    /// Called from the one writer, so the two stores cannot be torn apart by another `add`.
    fn add(&self, count: u64, now_s: u64) {
        let (second, sum) = &self.slots[(now_s % 64) as usize];
        if second.swap(now_s, Relaxed) != now_s {
            sum.store(0, Relaxed);
        }
        sum.fetch_add(count, Relaxed);
    }

    fn sum(&self, now_s: u64) -> u64 {
        let minute = now_s.saturating_sub(60)..now_s;
        let in_minute = self.slots.iter().filter(|(second, _)| minute.contains(&second.load(Relaxed)));
        in_minute.map(|(_, sum)| sum.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute() {
        let metrics = Metrics::default();
        metrics.ingested(5, 0, 100);
        metrics.ingested(2, 1, 100);
        metrics.ingested(1, 0, 130);
        assert_eq!(metrics.records_last_minute(100), 0);
        assert_eq!(metrics.records_last_minute(131), 8);
        assert_eq!(metrics.records_last_minute(161), 1);
        metrics.ingested(4, 0, 164);
        assert_eq!(metrics.records_last_minute(165), 5);
    }

    #[test]
    fn prometheus_text() {
        let metrics = Metrics::default();
        metrics.batch(Outcome::Ahead);
        metrics.request(Area::CheckIn, 900);
        metrics.request(Area::CheckIn, 90_000_000);
        metrics.expires(vec![("timestamp".into(), 1_800_000_000), ("team/\"a\"".into(), 7)]);
        assert!(!metrics.text(&[]).contains("archive"), "where there is none, nothing is said of it");
        metrics.archive_behind(2);
        let text = metrics.text(&[("hub_nodes", "Nodes.", 3)]);
        for line in [
            "hub_batches_total{outcome=\"ahead\"} 1",
            "hub_nodes 3",
            "hub_archive_behind_days 2",
            "hub_tuf_expires_timestamp_seconds{role=\"timestamp\"} 1800000000",
            "hub_tuf_expires_timestamp_seconds{role=\"team/\\\"a\\\"\"} 7",
            "hub_request_seconds_bucket{area=\"checkin\",le=\"0.0005\"} 0",
            "hub_request_seconds_bucket{area=\"checkin\",le=\"0.001\"} 1",
            "hub_request_seconds_bucket{area=\"checkin\",le=\"+Inf\"} 2",
            "hub_request_seconds_count{area=\"checkin\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
