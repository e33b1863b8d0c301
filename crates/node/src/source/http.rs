//! A source whose readings are brought to the local API, as JSON or as Influx line protocol.
//!
//! A body is taken as a whole or not at all. Its channels are declared in the flow, or fixed by the first reading:
//! a channel that appears later is refused by name, one that lacks is missing.

pub mod brought;
mod json;
pub(super) mod line;

use std::collections::BTreeMap;

use wire::world::WallMs;

use super::queue::{Batch, Event, Inlet, NotTaken};
use crate::config::problem::did_you_mean;
use brought::{Brought, MAX_READINGS, MAX_VALUES, Refusal, bad};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{"t_ms": 1700000000000, "values": {"pressure": 1.2}}`, or a list of such; without `t_ms` it is now.
    Json,
    /// `pump pressure=1.2,temperature=40.1 1700000000000000000`; fields are channels, the measurement and the tags are
    /// not looked at.
    Lines {
        /// Nanoseconds of one unit of its timestamps.
        unit_ns: i64,
    },
}

/// The source's end of the local API.
pub struct HttpSource {
    inlet: Inlet,
    channels: Option<Vec<String>>,
    refused: u64,
}

impl HttpSource {
    /// A source with `channels`, if they are declared.
    pub fn new(mut inlet: Inlet, channels: Option<Vec<String>>) -> HttpSource {
        if let Some(channels) = &channels {
            // Fails only if the node is stopping already.
            let _ = inlet.tell(Event::Opened { channels: channels.clone() });
        }
        HttpSource { inlet, channels, refused: 0 }
    }

    /// Takes a body that came in at `now_ms`; how many readings it had.
    pub fn take(&mut self, form: Form, body: &[u8], now_ms: WallMs) -> Result<usize, Refusal> {
        let taken = self.try_take(form, body, now_ms);
        if matches!(taken, Err(Refusal::Bad { .. } | Refusal::TooLarge)) {
            self.refused += 1;
            self.inlet.set_refused(self.refused);
        }
        taken
    }

    fn try_take(&mut self, form: Form, body: &[u8], now_ms: WallMs) -> Result<usize, Refusal> {
        let Ok(text) = std::str::from_utf8(body) else {
            return Err(bad("the body", "it is not UTF-8 text"));
        };
        let brought = match form {
            Form::Json => json::read(text)?,
            Form::Lines { unit_ns } => line::read(text, unit_ns)?,
        };
        let Some(first) = brought.first() else {
            return Err(bad("the body", "it has no reading"));
        };
        let new_channels = match &self.channels {
            Some(_) => None,
            None => Some(first.values.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()),
        };
        let channels = new_channels.as_ref().or(self.channels.as_ref()).map_or(&[][..], Vec::as_slice);
        let batch = arrange(&brought, channels, now_ms)?;
        let readings = batch.t_ms.len();
        if let Some(channels) = new_channels {
            self.inlet.tell(Event::Opened { channels: channels.clone() }).map_err(|_| NotTaken::Stopped)?;
            self.channels = Some(channels);
        }
        self.inlet.offer(batch)?;
        Ok(readings)
    }
}

/// Puts each reading's values in the order of the channels.
fn arrange(brought: &[Brought], channels: &[String], now_ms: WallMs) -> Result<Batch, Refusal> {
    if brought.len() > MAX_READINGS || brought.len() * channels.len() > MAX_VALUES {
        return Err(Refusal::TooLarge);
    }
    // Years 1 to 9999: what can be shown.
    const TIMES: std::ops::RangeInclusive<WallMs> = -62_135_596_800_000..=253_402_300_799_999;
    let places: BTreeMap<&str, usize> =
        channels.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let mut batch = Batch::default();
    for reading in brought {
        let row = batch.values.len();
        batch.values.resize(row + channels.len(), f64::NAN);
        let t_ms = reading.t_ms.unwrap_or(now_ms);
        if !TIMES.contains(&t_ms) {
            return Err(bad(&reading.place, format!("its time {t_ms} ms lies beyond the year 9999")));
        }
        batch.t_ms.push(t_ms);
        for (at, (name, value)) in reading.values.iter().enumerate() {
            // Readings mostly bring their channels in the same order.
            let guess = (channels.get(at) == Some(name)).then_some(at);
            match guess.or_else(|| places.get(name.as_str()).copied()) {
                Some(channel) => batch.values[row + channel] = *value,
                None => {
                    let help = did_you_mean(name, channels.iter().map(String::as_str));
                    let reason = format!("there is no channel `{name}` in this source ({help})");
                    return Err(bad(&reading.place, reason));
                }
            }
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::queue::{ALLOWANCE_CELLS, Outlet};
    use wire::world::Simulated;

    fn source(channels: Option<&[&str]>) -> (Outlet, HttpSource) {
        let outlet = Outlet::new(1);
        let inlet = outlet.inlet(0, Box::new(Simulated::new(0)));
        let channels = channels.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        (outlet, HttpSource::new(inlet, channels))
    }

    #[test]
    fn the_first_reading_fixes_the_channels() {
        let (outlet, mut source) = source(None);
        let body = br#"[{"t_ms":5,"values":{"a":1,"b":2}},{"values":{"b":4}}]"#;
        assert_eq!(source.take(Form::Json, body, 77), Ok(2));
        let opened = outlet.next_now().unwrap().event;
        assert_eq!(opened, Event::Opened { channels: vec!["a".into(), "b".into()] });
        let Event::Batch(batch) = outlet.next_now().unwrap().event else { panic!() };
        assert_eq!(batch.t_ms, [5, 77]);
        assert_eq!(batch.values[..2], [1.0, 2.0]);
        assert!(batch.values[2].is_nan() && batch.values[3] == 4.0);

        let refused = source.take(Form::Json, br#"{"values":{"a":1,"B":2}}"#, 78).unwrap_err().to_string();
        assert_eq!(refused, "reading 1: there is no channel `B` in this source (did you mean `b`?)");
        assert!(outlet.next_now().is_none(), "nothing of a refused body is taken");
    }

    #[test]
    fn a_body_is_taken_as_a_whole() {
        let (outlet, mut source) = source(Some(&["a"]));
        assert!(matches!(outlet.next_now().unwrap().event, Event::Opened { .. }));
        let lines = Form::Lines { unit_ns: 1_000_000 };
        let refused = source.take(lines, b"m a=1 5\nm a=x 6\n", 0).unwrap_err().to_string();
        assert!(refused.starts_with("line 2: "), "{refused}");
        assert!(outlet.next_now().is_none());
        assert_eq!(source.take(lines, b"m a=1 5\nm a=2 6\n", 0), Ok(2));
        assert_eq!(outlet.next_now().unwrap().refused, 1);
    }

    #[test]
    fn a_full_queue_and_a_large_body_are_refused() {
        let (outlet, mut source) = source(Some(&["a"]));
        let many = |count: usize| format!("[{}]", vec![r#"{"values":{"a":1}}"#; count].join(","));
        let full = (0..ALLOWANCE_CELLS / 20_000 + 1)
            .map(|_| source.take(Form::Json, many(MAX_READINGS).as_bytes(), 0));
        assert_eq!(full.last(), Some(Err(Refusal::NotTaken(NotTaken::Full))));
        drop(outlet);
        let refused = source.take(Form::Json, many(MAX_READINGS + 1).as_bytes(), 0).unwrap_err();
        assert_eq!(refused, Refusal::TooLarge);
    }
}
