//! Amounts as people read them: bytes, parameters, rates, times. All on three digits or so, with a unit.

/// `371 kB`, `1.24 GB`: powers of 1000, as disks and model pages have them.
pub(crate) fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        _ => scaled(bytes as f64, &["kB", "MB", "GB", "TB", "PB"]),
    }
}

/// `260 k`, `7.24 B`: parameters, as models are called after them.
pub(crate) fn show_parameters(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        _ => scaled(count as f64, &["k", "M", "B", "T"]),
    }
}

fn scaled(number: f64, units: &[&str]) -> String {
    let (mut number, mut unit) = (number / 1_000.0, 0);
    // What would be written as 1000 is written as 1 of the next.
    while number >= 999.5 && unit + 1 < units.len() {
        number /= 1_000.0;
        unit += 1;
    }
    format!("{} {}", show_number(number), units[unit])
}

/// Three digits that count, or all before the point.
pub(crate) fn show_number(number: f64) -> String {
    let decimals = match number.abs() {
        n if n >= 99.95 || n == 0.0 => 0,
        n if n >= 9.995 => 1,
        n if n >= 0.995 => 2,
        _ => 3,
    };
    format!("{number:.decimals$}")
}

/// `0.21 ms`, `35 ms`, `1.3 s`, `2 min 05 s`.
pub(crate) fn show_time_ns(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    match ns / 1_000_000 {
        0..10 => format!("{ms:.2} ms"),
        10..1_000 => format!("{ms:.0} ms"),
        1_000..60_000 => format!("{:.1} s", ms / 1e3),
        whole => format!("{} min {:02} s", whole / 60_000, whole % 60_000 / 1_000),
    }
}

/// How long ago something was: `just now`, `5 minutes ago`, `3 days ago`.
pub(crate) fn show_ago(ms: i64) -> String {
    let some = |count: i64, unit: &str| format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" });
    match ms / 1_000 {
        // A clock that was set back is no reason to speak of the future.
        ..60 => "just now".to_owned(),
        s @ 60..3_600 => some(s / 60, "minute"),
        s @ 3_600..86_400 => some(s / 3_600, "hour"),
        s => some(s / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_a_unit() {
        let check = |bytes, expected: &str| assert_eq!(show_bytes(bytes), expected, "{bytes}");
        check(0, "0 B");
        check(999, "999 B");
        check(1_000, "1.00 kB");
        check(370_944, "371 kB");
        check(999_499, "999 kB");
        check(999_500, "1.00 MB");
        check(7_240_000_000, "7.24 GB");
        check(u64::MAX, "18447 PB");
        assert_eq!(show_parameters(260_032), "260 k");
        assert_eq!(show_parameters(134_515_008), "135 M");
        assert_eq!(show_parameters(7_241_732_096), "7.24 B");
        assert_eq!(show_number(0.0), "0");
        assert_eq!(show_number(0.1234), "0.123");
        assert_eq!(show_number(12.345), "12.3");
        assert_eq!(show_number(1234.5), "1234");
    }

    #[test]
    fn times_are_as_fine_as_they_are_short() {
        let check = |ns, expected: &str| assert_eq!(show_time_ns(ns), expected, "{ns}");
        check(210_000, "0.21 ms");
        check(35_400_000, "35 ms");
        check(1_250_000_000, "1.2 s");
        check(125_000_000_000, "2 min 05 s");
        let ago = |ms, expected: &str| assert_eq!(show_ago(ms), expected, "{ms}");
        ago(-5, "just now");
        ago(60_000, "1 minute ago");
        ago(7_200_000, "2 hours ago");
        ago(259_200_000, "3 days ago");
    }
}
