//! Numbers for people.

/// About four significant digits, without an exponent where that is readable.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    let text = match size {
        0.0 => return "0".to_owned(),
        1e7.. => return format!("{value:.2e}"),
        ..1e-4 => return format!("{value:.2e}"),
        1000.0.. => format!("{value:.0}"),
        100.0.. => format!("{value:.1}"),
        10.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `1 234 567`, with thin spaces.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `9.4 MB`.
pub fn bytes(value: u64) -> String {
    match value {
        0..1_000 => format!("{value} B"),
        1_000..1_000_000 => format!("{:.1} kB", value as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value as f64 / 1e6),
        _ => format!("{:.1} GB", value as f64 / 1e9),
    }
}

/// A probability that does not claim to be certain: `97 %`, `> 99.9 %`.
pub fn probability(p: f64) -> String {
    match p {
        0.999.. => "> 99.9 %".to_owned(),
        0.99.. => format!("{:.1} %", p * 100.0),
        _ if p.is_finite() => format!("{:.0} %", p * 100.0),
        _ => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.25, "0.25"),
            (12.3456, "12.35"),
            (-7.1, "-7.1"),
            (1234.5, "1234"),
            (100.0, "100"),
            (0.00001, "1.00e-5"),
            (1e12, "1.00e12"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(short(value), expected);
        }
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(12), "12");
        assert_eq!(bytes(9_400_000), "9.4 MB");
        assert_eq!(probability(0.9999), "> 99.9 %");
        assert_eq!(probability(0.97), "97 %");
    }
}
