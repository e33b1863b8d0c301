//! Durations and sizes as people write them: `30s`, `1.5h`, `256MiB`.

/// Milliseconds of `30s`, `5m`, `250ms`, `1.5h`, `2d`. A bare `0` needs no unit.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, f64); 5] = [("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3_600e3), ("d", 86_400e3)];
    let ms = quantity(text, &UNITS, "a duration such as \"30s\", \"5m\" or \"1.5h\" (units ms, s, m, h, d)")?;
    // A year of 365 days times a thousand: longer than any node stands.
    if ms > 31_536_000e6 {
        return Err(format!("{text:?} is longer than a thousand years"));
    }
    Ok(ms.round() as i64)
}

/// Bytes of `256MiB`, `1GB`, `4096B`.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("B", 1.0),
    ];
    let bytes =
        quantity(text, &UNITS, "a size such as \"256MiB\" or \"2GB\" (units B, kB, MB, GB, TB, KiB …)")?;
    if bytes > 1e18 {
        return Err(format!("{text:?} is more than any disk holds"));
    }
    Ok(bytes.round() as u64)
}

/// A duration in the largest units that show it exactly enough: `30 s`, `5 min`, `1 h 30 min`.
pub fn show_duration(ms: i64) -> String {
    let ms = ms.max(0);
    let (whole, rest, large, small) = match ms {
        0..1_000 => return format!("{ms} ms"),
        1_000..60_000 if ms % 1_000 != 0 => return format!("{:.1} s", ms as f64 / 1e3),
        1_000..60_000 => (ms / 1_000, 0, "s", ""),
        60_000..3_600_000 => (ms / 60_000, ms % 60_000 / 1_000, "min", "s"),
        3_600_000..86_400_000 => (ms / 3_600_000, ms % 3_600_000 / 60_000, "h", "min"),
        _ => (ms / 86_400_000, ms % 86_400_000 / 3_600_000, "d", "h"),
    };
    if rest > 0 { format!("{whole} {large} {rest} {small}") } else { format!("{whole} {large}") }
}

fn quantity(text: &str, units: &[(&str, f64)], wanted: &str) -> Result<f64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = (&text[..split], text[split..].trim());
    let refuse = || format!("{text:?} is not {wanted}");
    let number: f64 = digits.parse().map_err(|_| refuse())?;
    if unit.is_empty() && number == 0.0 {
        return Ok(0.0);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        fn check(text: &str, expected: Option<i64>) {
            assert_eq!(duration_ms(text).ok(), expected, "{text}");
        }
        check("30s", Some(30_000));
        check("250 ms", Some(250));
        check("1.5h", Some(5_400_000));
        check("2d", Some(172_800_000));
        check("0", Some(0));
        check("30", None);
        check("", None);
        check("s", None);
        check("-5s", None);
        check("5 min", None);
        check("1..5s", None);
        check("99999999999999999999d", None);
    }

    #[test]
    fn sizes() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(size_bytes(text).ok(), expected, "{text}");
        }
        check("256MiB", Some(268_435_456));
        check("1GB", Some(1_000_000_000));
        check("4096 B", Some(4096));
        check("5M", None);
        check("1e400B", None);
    }

    #[test]
    fn durations_for_people() {
        fn check(ms: i64, expected: &str) {
            assert_eq!(show_duration(ms), expected);
        }
        check(0, "0 ms");
        check(30_000, "30 s");
        check(1_500, "1.5 s");
        check(300_000, "5 min");
        check(90_000, "1 min 30 s");
        check(5_400_000, "1 h 30 min");
        check(90_000_000, "1 d 1 h");
    }
}
