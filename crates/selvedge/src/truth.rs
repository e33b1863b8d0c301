//! How well anomalies found match faults that are known: per row, and per fault.
//!
//! Pure. The row figures are those of the SKAB leaderboard (F1, false-alarm rate, missed-alarm rate); where more than
//! half the rows are faulty, "always alarm" has a high F1, so F1 is never shown without the false-alarm rate.

use node::config::quantity::show_duration;
use serde::Serialize;

use crate::recording::show_count;

/// The comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Match {
    /// Rows judged: those after the detector had learnt.
    pub(crate) rows: u64,
    /// Rows that are faulty.
    pub(crate) faulty: u64,
    /// Harmonic mean of precision and recall over rows; absent when there is nothing to find and nothing was found.
    pub(crate) f1: Option<f64>,
    /// Share of healthy rows that were called anomalous.
    pub(crate) false_alarm_rate: Option<f64>,
    /// Share of faulty rows that were not.
    pub(crate) missed_alarm_rate: Option<f64>,
    /// Known faults: runs of faulty rows.
    pub(crate) faults: usize,
    /// Of those, found while they lasted.
    pub(crate) found: usize,
    /// Median time from a fault's first row to the first row called anomalous in it, in milliseconds.
    pub(crate) delay_ms: Option<i64>,
}

impl std::fmt::Display for Match {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = |share: Option<f64>| {
            share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0))
        };
        let Match { rows, faulty, f1, false_alarm_rate, missed_alarm_rate, faults, found, delay_ms } = self;
        let delay =
            delay_ms.map_or_else(String::new, |ms| format!(", half of them within {}", show_duration(ms)));
        writeln!(f, "against the truth: {found} of {faults} faults found while they lasted{delay}")?;
        writeln!(
            f,
            "rows: {} judged, {} faulty; F1 {}, false alarms {} of healthy rows, missed {} of faulty rows",
            show_count(*rows),
            show_count(*faulty),
            f1.map_or_else(|| "–".to_owned(), |f1| format!("{f1:.3}")),
            share(*false_alarm_rate),
            share(*missed_alarm_rate),
        )
    }
}

/// One judged row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// By the source's clock.
    pub(crate) t_ms: i64,
    /// Whether it is known to be faulty.
    pub(crate) faulty: bool,
    /// Whether the detector called it anomalous.
    pub(crate) called: bool,
}

/// Compares rows in time order.
pub(crate) fn compare(rows: impl IntoIterator<Item = Row>) -> Match {
    let (mut hits, mut false_alarms, mut misses, mut quiet) = (0u64, 0u64, 0u64, 0u64);
    // The fault under way: when it began, and how long until it was called.
    let mut fault: Option<(i64, Option<i64>)> = None;
    let mut faults: Vec<Option<i64>> = Vec::new();
    for row in rows {
        match (row.faulty, row.called) {
            (true, true) => hits += 1,
            (true, false) => misses += 1,
            (false, true) => false_alarms += 1,
            (false, false) => quiet += 1,
        }
        if row.faulty {
            let (since, delay) = fault.get_or_insert((row.t_ms, None));
            if row.called && delay.is_none() {
                *delay = Some(row.t_ms - *since);
            }
        } else if let Some((_, delay)) = fault.take() {
            faults.push(delay);
        }
    }
    faults.extend(fault.map(|(_, delay)| delay));

    let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let mut delays: Vec<i64> = faults.iter().copied().flatten().collect();
    delays.sort_unstable();
    Match {
        rows: hits + misses + false_alarms + quiet,
        faulty: hits + misses,
        f1: ratio(2 * hits, 2 * hits + false_alarms + misses),
        false_alarm_rate: ratio(false_alarms, false_alarms + quiet),
        missed_alarm_rate: ratio(misses, hits + misses),
        faults: faults.len(),
        found: delays.len(),
        delay_ms: delays.get(delays.len() / 2).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `f` and `F` are faulty rows, `F` and `H` are called anomalous; one row a second.
    fn check(rows: &str) -> Match {
        compare(rows.chars().enumerate().map(|(at, letter)| Row {
            t_ms: at as i64 * 1000,
            faulty: letter.eq_ignore_ascii_case(&'f'),
            called: letter.is_uppercase(),
        }))
    }

    #[test]
    fn rows_and_faults() {
        let result = check("hhhhfFFFhhhHffff");
        assert_eq!((result.rows, result.faulty, result.faults, result.found), (16, 8, 2, 1));
        assert_eq!(result.f1, Some(6.0 / (6.0 + 1.0 + 5.0)));
        assert_eq!(result.false_alarm_rate, Some(1.0 / 8.0));
        assert_eq!(result.missed_alarm_rate, Some(5.0 / 8.0));
        assert_eq!(result.delay_ms, Some(1_000));
    }

    #[test]
    fn nothing_to_find() {
        let quiet = check("hhhh");
        assert_eq!((quiet.f1, quiet.false_alarm_rate, quiet.missed_alarm_rate), (None, Some(0.0), None));
        assert_eq!(check("").rows, 0);
    }
}
