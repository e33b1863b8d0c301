//! `[source.x.health]`: what is looked for in the channels of a source, and what comes of it. Everything has a default;
//! `health = false` looks for nothing.
//!
//! ```toml
//! [source.pump.health]
//! range = { pressure_bar = [0.0, 16.0] }      # nothing is out of range by default
//! ignore = ["valve_open"]                     # channels that nothing is looked for in
//! watch = ["dead", "stuck", "range", "jumps", "noisy", "quiet", "drift"]
//! isolate = ["dead", "stuck", "range"]        # the others are told, and their values go on
//! dead_after = "30s"                          # learnt by default, as is `stuck_after` (readings)
//! ```

use std::collections::BTreeMap;

use signal::health::course::Fault;
use signal::health::{Health as Judge, HealthConfig};

use super::part::positive;
use crate::config::part::{Nested, Part, Placed};
use crate::config::problem::did_you_mean;
use crate::config::quantity::duration_ms;
use crate::health::HealthSettings;

/// Reads it; `None` where nothing is to be looked for.
pub(super) fn read(source: &mut Part<'_, '_>) -> Option<HealthSettings> {
    let mut part = match source.nested("health") {
        Nested::Absent => return Some(HealthSettings::default()),
        Nested::Off => return None,
        Nested::Wrong => return Some(HealthSettings::default()),
        Nested::Table(part) => part,
    };
    let defaults = HealthConfig::default();
    let learn = part.take_or("learn", defaults.learn, &defaults.learn.to_string()).value;
    let recover = part.take_or("recover", defaults.recover, &defaults.recover.to_string()).value;
    let watch = faults(&mut part, "watch", &defaults.watch);
    let isolate = faults(&mut part, "isolate", &defaults.isolate);
    let mut limits = defaults.limits;
    limits.dead_after_ms =
        part.take_text("dead_after", |text| positive(duration_ms(text)?)).map(|placed| placed.value);
    limits.stuck_after = part.take::<u64>("stuck_after").map(|placed| placed.value);
    limits.jump_factor =
        part.take_or("jump", limits.jump_factor, &format!("{:.1}", limits.jump_factor)).value;
    limits.noise_factor =
        part.take_or("noise", limits.noise_factor, &format!("{:.1}", limits.noise_factor)).value;
    let ranges = part.take::<BTreeMap<String, (f64, f64)>>("range");
    let ignore = part.take_or("ignore", Vec::new(), "[]").value;
    let config = HealthConfig { learn, recover, watch, isolate, limits, of: Vec::new() };
    let (span, path) = (part.span.clone(), part.path.clone());
    if let Err(error) = Judge::new(config.clone(), 1) {
        part.problem(span, format!("`{path}`: {error}"), "leave it out to have its default");
    }
    let mut known = Vec::new();
    if let Some(Placed { value, span }) = ranges {
        for (channel, (low, high)) in value {
            if low < high {
                known.push((channel, (low, high)));
            } else {
                let message = format!("the range of `{channel}` goes up, not from {low} to {high}");
                part.problem(
                    span.clone(),
                    message,
                    "write the lowest value that can be true, then the highest",
                );
            }
        }
    }
    part.finish();
    Some(HealthSettings { config, ranges: known, ignore })
}

fn faults(part: &mut Part<'_, '_>, key: &'static str, default: &[Fault]) -> Vec<Fault> {
    let words: Vec<&str> = default.iter().map(|fault| fault.as_str()).collect();
    let written = part.take_or(key, Vec::<String>::new(), &format!("{words:?}"));
    if written.span == part.span {
        return default.to_vec();
    }
    let mut faults = Vec::new();
    for word in written.value {
        match Fault::ALL.iter().find(|fault| fault.as_str() == word) {
            Some(fault) => faults.push(*fault),
            None => {
                let help = did_you_mean(&word, Fault::ALL.map(Fault::as_str));
                part.problem(written.span.clone(), format!("there is no fault {word:?} to look for"), help);
            }
        }
    }
    faults
}
