//! Figures to sentences: the report that is always possible. Pure: the same figures give the same words.

use super::ReportConfig;
use super::gather::{Acts, Fired, Gathered, Spread};
use crate::config::quantity::show_duration;

/// The report.
pub fn tell(gathered: &Gathered, config: &ReportConfig) -> String {
    let mut lines = vec![format!("{}, {}.", config.title, config.shifts.shown(gathered.shift()))];
    if gathered.is_empty() {
        lines.push("Nothing was recorded.".to_owned());
        return lines.join("\n");
    }
    let mut rules: Vec<_> = gathered.rules.iter().collect();
    // What is worst comes first.
    let rank =
        |fired: &Fired| ["critical", "warning"].iter().position(|it| *it == fired.severity).unwrap_or(2);
    rules.sort_by_key(|(name, fired)| (rank(fired), !fired.still, (*name).clone()));
    lines.extend(rules.iter().map(|(name, fired)| rule(name, fired)));
    if rules.is_empty() {
        lines.push("No rule fired.".to_owned());
    }
    for (model, begun) in &gathered.models {
        lines.push(format!("The model {model} found something unusual {}.", times(*begun)));
    }
    for ((actuator, to), acts) in &gathered.actuators {
        lines.extend(act(actuator, to, acts));
    }
    for (part, reason) in &gathered.faulty {
        let sensor = part.strip_prefix("source.").unwrap_or(part);
        lines.push(format!("The sensor {} was not believed: {reason}.", called(sensor, config)));
    }
    // In the order in which they were given names.
    let mut channels: Vec<_> = gathered.channels.iter().collect();
    let place = |path: &str| config.names.iter().position(|(known, _)| known == path);
    channels.sort_by_key(|(path, _)| place(path));
    lines.extend(channels.iter().map(|(path, spread)| channel(called(path, config), spread)));
    for (source, readings) in &gathered.sources {
        let count = if *readings == 1 { "1 reading".to_owned() } else { format!("{readings} readings") };
        lines.push(format!("The source {source} gave {count}."));
    }
    lines.join("\n")
}

/// What people call a channel.
fn called<'a>(path: &'a str, config: &'a ReportConfig) -> &'a str {
    config.names.iter().find(|(known, _)| known == path).map_or(path, |(_, name)| name)
}

fn rule(name: &str, fired: &Fired) -> String {
    let Fired { severity, times: count, ms, still, .. } = fired;
    let end = if *still { ", and still does" } else { "" };
    match count {
        0 if *still => format!("The rule {name} ({severity}) had fired before, and still does."),
        0 => format!("The rule {name} ({severity}) had fired before and went on for {}.", show_duration(*ms)),
        _ => format!(
            "The rule {name} ({severity}) fired {}, {} in all{end}.",
            times(*count),
            show_duration(*ms)
        ),
    }
}

fn act(actuator: &str, to: &str, acts: &Acts) -> Option<String> {
    let Acts { done, dry, refused, failed } = *acts;
    let parts = [
        (done, "was set to"),
        (dry, "would have been set to"),
        (refused, "was refused to be set to"),
        (failed, "failed to be set to"),
    ];
    let told: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{what} {to} {}", times(*count)))
        .collect();
    (!told.is_empty()).then(|| format!("The actuator {actuator} {}.", told.join(", and ")))
}

fn channel(name: &str, spread: &Spread) -> String {
    let Some(mean) = spread.mean() else { return format!("{name}: no value in the whole shift.") };
    let (min, max) = (shown(spread.min), shown(spread.max));
    let range = if min == max {
        format!("{min} throughout")
    } else {
        format!("{min} to {max}, {} on average", shown(mean))
    };
    match spread.missing {
        0 => format!("{name}: {range}."),
        missing => format!("{name}: {range}; {missing} of {} readings had no value.", spread.count + missing),
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// A number as people read it: three digits, or all before the point.
fn shown(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        // The first three that say something.
        size => (2 - size.log10().floor() as i32).clamp(0, 9) as usize,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::gather::tests::{FROM, config, morning};

    #[test]
    fn a_morning_in_words() {
        insta::assert_snapshot!(tell(&morning(&config()), &config()), @"
        The farm, 2026-01-31 06:00 to 14:00 (UTC).
        The rule dry (warning) fired 2 times, 1 h 30 min in all, and still does.
        The rule old (warning) had fired before and went on for 15 min.
        The actuator valve was set to open once, and was refused to be set to open 3 times.
        The sensor farm.south was not believed: stuck at 12.
        soil moisture in the north (%): 18.5 to 30, 22.7 on average; 7 of 22 readings had no value.
        The source farm gave 22 readings.
        ");
        let config = config();
        let empty = Gathered::new(config.shifts.last(FROM));
        let told = tell(&empty, &config);
        assert_eq!(told, "The farm, 2026-01-30 22:00 to 2026-01-31 06:00 (UTC).\nNothing was recorded.");
    }

    #[test]
    fn numbers_as_people_read_them() {
        let check = |value: f64, expected: &str| assert_eq!(shown(value), expected);
        check(0.0, "0");
        check(-0.0, "0");
        check(1234.56, "1235");
        check(99.96, "100");
        check(22.666, "22.7");
        check(3.25, "3.25");
        check(3.0, "3");
        check(0.012345, "0.0123");
        check(-0.5, "-0.5");
        check(1e-12, "0");
    }
}
