//! How long a signature holds, as people write it: `7d`, `1y`.

use wire::world::WallMs;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Longer than any key should be trusted.
const LONGEST_MS: i64 = 20 * 365 * DAY_MS;

/// Reads a number and `h`, `d`, `w` or `y` (365 days); gives milliseconds.
pub(super) fn parse_life(word: &str) -> Result<i64, String> {
    let (number, unit) = word.split_at(word.len() - word.chars().next_back().map_or(0, char::len_utf8));
    let unit_ms = match unit {
        "h" => Some(HOUR_MS),
        "d" => Some(DAY_MS),
        "w" => Some(7 * DAY_MS),
        "y" => Some(365 * DAY_MS),
        _ => None,
    };
    let life_ms = number.parse::<i64>().ok().zip(unit_ms).and_then(|(number, ms)| number.checked_mul(ms));
    let life_ms = life_ms.filter(|ms| (HOUR_MS..=LONGEST_MS).contains(ms));
    life_ms.ok_or_else(|| "it reads like 12h, 7d, 4w or 1y, at most 20 years".to_owned())
}

/// `in 29 days`, `3 hours ago`.
pub(super) fn show_left(ms: WallMs) -> String {
    let (count, unit) = match ms.abs() {
        ms if ms < 2 * HOUR_MS => (ms / 60_000, "minutes"),
        ms if ms < 2 * DAY_MS => (ms / HOUR_MS, "hours"),
        ms => (ms / DAY_MS, "days"),
    };
    if ms >= 0 { format!("in {count} {unit}") } else { format!("{count} {unit} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_read_and_shown() {
        assert_eq!(parse_life("12h"), Ok(12 * HOUR_MS));
        assert_eq!(parse_life("4w"), Ok(28 * DAY_MS));
        assert_eq!(parse_life("1y"), Ok(365 * DAY_MS));
        for wrong in ["", "d", "1", "1m", "-1d", "0d", "21y", "9999999999999y", "1ä"] {
            assert!(parse_life(wrong).is_err(), "{wrong}");
        }
        assert_eq!(show_left(7 * DAY_MS + 5), "in 7 days");
        assert_eq!(show_left(-3 * HOUR_MS), "3 hours ago");
        assert_eq!(show_left(90 * 60_000), "in 90 minutes");
    }
}
