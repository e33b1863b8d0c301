//! Whether a text states only numbers that stand in another one. Pure.
//!
//! A number is a run of digits, with a fraction and with commas or apostrophes between thousands, or an English word for one. "One" is left
//! out, since it seldom counts. What is in doubt counts as a stranger.

/// Words that count.
const WORDS: [(&str, f64); 24] = [
    ("zero", 0.0),
    ("two", 2.0),
    ("three", 3.0),
    ("four", 4.0),
    ("five", 5.0),
    ("six", 6.0),
    ("seven", 7.0),
    ("eight", 8.0),
    ("nine", 9.0),
    ("ten", 10.0),
    ("eleven", 11.0),
    ("twelve", 12.0),
    ("dozen", 12.0),
    ("fifteen", 15.0),
    ("twenty", 20.0),
    ("thirty", 30.0),
    ("fifty", 50.0),
    ("hundred", 100.0),
    ("thousand", 1_000.0),
    ("million", 1_000_000.0),
    ("half", 0.5),
    ("twice", 2.0),
    ("double", 2.0),
    ("thrice", 3.0),
];

/// A number as it is written, and what it may come to: `1,234` is either of two.
type Number = (String, Vec<f64>);

/// The first number of `text` that is none of those in `given`, as it is written; `None` if there is none.
pub fn stranger(text: &str, given: &str) -> Option<String> {
    let known = all(given);
    let near = |a: &f64, b: &f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
    let is_known = |(written, values): &Number| {
        known.iter().any(|(other, others)| {
            other == written || values.iter().any(|value| others.iter().any(|other| near(value, other)))
        })
    };
    all(text).into_iter().find(|number| !is_known(number)).map(|(written, _)| written)
}

/// The numbers of a text.
fn all(text: &str) -> Vec<Number> {
    let chars: Vec<char> = text.chars().collect();
    let is = |at: usize, what: fn(char) -> bool| chars.get(at).is_some_and(|c| what(*c));
    let end_of = |at: usize, what: fn(char) -> bool| (at..).find(|at| !is(*at, what)).unwrap_or(at);
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let begin = at;
        if is(at, char::is_alphabetic) {
            // Digits at the end of a word, as in `pump2`, are looked at all the same.
            at = end_of(at, char::is_alphabetic);
            let word = chars[begin..at].iter().collect::<String>().to_lowercase();
            let value = WORDS.iter().find(|(known, _)| *known == word);
            found.extend(value.map(|(_, value)| (word, vec![*value])));
        } else if is(at, char::is_numeric) {
            at = end_of(at, char::is_numeric);
            while is(at, |c| matches!(c, '.' | ',' | '\'' | '’')) && is(at + 1, char::is_numeric) {
                at = end_of(at + 1, char::is_numeric);
            }
            let written: String = chars[begin..at].iter().collect();
            let values = values(&written);
            found.push((written, values));
        } else {
            at += 1;
        }
    }
    found
}

/// What digits with points and commas between them may come to. None for what is no number, nor for digits of other scripts.
fn values(written: &str) -> Vec<f64> {
    let joined: String = written.chars().filter(|c| !matches!(c, ',' | '\'' | '’')).collect();
    // Groups of three, and perhaps a fraction.
    let whole = written.split('.').next().unwrap_or_default();
    let are_groups = whole.split([',', '\'', '’']).skip(1).all(|group| group.chars().count() == 3);
    let grouped = joined.parse().ok().filter(|_| are_groups);
    let with_comma = written.replacen(',', ".", 1).parse().ok();
    grouped.into_iter().chain(with_comma).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts() {
        let check = |text: &str, given: &str, expected: Option<&str>| {
            assert_eq!(stranger(text, given).as_deref(), expected, "{text:?} of {given:?}");
        };
        check("It was dry.", "", None);
        check("The valve opened 2 times for 90 min.", "2 times, 90 min", None);
        check("The valve opened two times.", "2 times", None);
        check("The valve opened three times.", "2 times", Some("three"));
        check("It was 22.7 % on average", "22.7", None);
        check("It was 22,7 % on average", "22.7", None);
        check("It was 22.70 %", "22.7", None);
        check("It was 23 %", "22.7", Some("23"));
        check("1,234 readings", "1234", None);
        check("1'234.5 readings", "1234.5", None);
        check("1 234 readings", "1234", Some("1"));
        check("1234 readings", "1,234", None);
        check("from 06:00 to 14:00", "2026-01-31 06:00 to 14:00", None);
        check("from 06:00 to 15:00", "2026-01-31 06:00 to 14:00", Some("15"));
        check("One of them fired, and one did not.", "", None);
        check("about half of the readings", "22", Some("half"));
        check("twice", "2", None);
        check("pump2 is well", "pump2", None);
        check("pump3 is well", "pump2", Some("3"));
        check("٣ times", "3", Some("٣"));
        check("version 1.2.3", "1.2.3", None);
        check("version 1.2.4", "1.2.3", Some("1.2.4"));
        check(
            "9999999999999999999999999999999999999999",
            "1",
            Some("9999999999999999999999999999999999999999"),
        );
    }
}
