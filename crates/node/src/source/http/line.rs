//! Readings as Influx line protocol: `pump,site=oslo pressure=1.2,temperature=40.1 1700000000000000000`.
//!
//! One line is one reading. Fields are channels: floats, integers (`5i`, `5u`) and booleans. The measurement and the
//! tags say where it came from, which the source's name says already; but lines of two series in one body would mix
//! two sensors into one, so they are refused.

use super::brought::{Brought, MAX_READINGS, MAX_VALUES, Refusal, bad, check_channels};

/// Reads a body. `unit_ns`: nanoseconds of one unit of its timestamps.
pub(in crate::source) fn read(text: &str, unit_ns: i64) -> Result<Vec<Brought>, Refusal> {
    let (mut brought, mut values, mut series): (Vec<Brought>, usize, Option<&str>) = (Vec::new(), 0, None);
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("line {}", at + 1);
        let (this_series, reading) = read_line(line, unit_ns, &place)?;
        if *series.get_or_insert(this_series) != this_series {
            return Err(bad(
                &place,
                "it is of another series than the lines before: one source is one series",
            ));
        }
        values += reading.values.len();
        if brought.len() == MAX_READINGS || values > MAX_VALUES {
            return Err(Refusal::TooLarge);
        }
        brought.push(reading);
    }
    Ok(brought)
}

/// Gives the series (measurement and tags) and the reading.
fn read_line<'a>(line: &'a str, unit_ns: i64, place: &str) -> Result<(&'a str, Brought), Refusal> {
    let (series, rest) = split_at(line, b' ').ok_or_else(|| bad(place, "it has no fields"))?;
    let (fields, time) = split_at(rest.trim_start(), b' ').unwrap_or((rest.trim(), ""));
    let mut values: Vec<(String, f64)> = Vec::new();
    let mut left = Some(fields);
    while let Some(fields) = left {
        let (field, more) = match split_at(fields, b',') {
            Some((field, more)) => (field, Some(more)),
            None => (fields, None),
        };
        left = more;
        let (name, value) =
            split_at(field, b'=').ok_or_else(|| bad(place, format!("{} is no field", shown(field))))?;
        let name = unescape(name);
        let Some(value) = number(value) else {
            let reason = format!("field `{name}` is {}: a channel takes numbers and booleans", shown(value));
            return Err(bad(place, reason));
        };
        values.push((name, value));
    }
    check_channels(place, &values)?;
    let t_ms = match time.trim() {
        "" => None,
        digits => match digits.parse::<i64>() {
            // In 128 bits, as seconds times a thousand million do not fit into 64.
            Ok(time) => i64::try_from((i128::from(time) * i128::from(unit_ns)).div_euclid(1_000_000)).ok(),
            Err(_) => return Err(bad(place, format!("its time {} is no whole number", shown(digits)))),
        },
    };
    if t_ms.is_none() && !time.trim().is_empty() {
        return Err(bad(place, "its time lies beyond the year 9999: is `precision` right?"));
    }
    Ok((series, Brought { place: place.to_owned(), t_ms, values }))
}

/// Splits at the first `byte` that is neither escaped nor in a quoted string.
fn split_at(text: &str, byte: u8) -> Option<(&str, &str)> {
    let (mut escaped, mut quoted) = (false, false);
    for (at, found) in text.bytes().enumerate() {
        match found {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if found == byte && !quoted => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescape(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(',' | '=' | ' ' | '\\')) => plain.extend(chars.next()),
            _ => plain.push(c),
        }
    }
    plain
}

fn number(text: &str) -> Option<f64> {
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => return Some(0.0),
        _ => {}
    }
    if let Some(digits) = text.strip_suffix(['i', 'u']) {
        return Some(digits.parse::<i64>().ok()? as f64);
    }
    // `inf` and `nan` are numbers to Rust and not to Influx.
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(30).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        fn check(text: &str, unit_ns: i64, expected: &[&str]) {
            let shown = |reading: &Brought| {
                let values: Vec<String> =
                    reading.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{:?}: {}", reading.t_ms, values.join(", "))
            };
            let found: Vec<String> = read(text, unit_ns).unwrap().iter().map(shown).collect();
            assert_eq!(found, expected, "{text}");
        }
        check(
            "pump,site=oslo pressure=1.2,temperature=40.1 1700000000000000000",
            1,
            &["Some(1700000000000): pressure=1.2, temperature=40.1"],
        );
        let two = "m a=5i,b=t,c=-1e3\n\n# note\nm a=7u 5\n";
        check(two, 1_000_000_000, &["None: a=5, b=1, c=-1000", "Some(5000): a=7"]);
        check("m\\ n,t=a\\,b flow\\ rate=1,x\\=y=2 3", 1_000_000, &["Some(3): flow rate=1, x=y=2"]);
        check("", 1, &[]);
    }

    #[test]
    fn refusals() {
        fn check(text: &str, expected: &str) {
            let refusal = read(text, 1_000_000_000).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
        check("m", "line 1: it has no fields");
        check("m a", "is no field");
        check("m a=1\nm a=\"on, off\" 5", "line 2: field `a` is \"\\\"on, off\\\"\"");
        check("m a=nan", "field `a` is \"nan\"");
        check("m a=1,a=2", "twice");
        check("m a=1 5.5", "no whole number");
        check("m a=1 9223372036854775807", "precision");
        check("m,h=1 a=1\nm,h=2 a=1", "line 2: it is of another series");
        check("m =1", "1 to 256 bytes");
        check(
            &format!("m {}", (0..2_000).map(|n| format!("f{n}=1")).collect::<Vec<_>>().join(",")),
            "1024 channels",
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "[a-c=,\\\\ \"0-9i\\n#é]{0,60}") {
            let _ = read(&text, 1);
        }
    }
}
