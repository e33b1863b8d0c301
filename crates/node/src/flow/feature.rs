//! `[feature.x]`: numbers that are computed from a run of one channel's samples.
//!
//! ```toml
//! [feature.vib]
//! type = "envelope"
//! inputs = ["source.acc"]
//! channel = "x"
//! window = "1s"
//! hop = "0.5s"
//! rate_hz = 2000
//! band = [500, 900]
//! shaft_hz = 25
//! orders = { outer = 3.585, inner = 5.415 }
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use signal::feature::envelope::{EnvelopeConfig, MAX_ORDERS};
use wire::id::PartName;

use super::part::{Named, inputs, positive};
use crate::config::part::{Part, Placed};
use crate::config::problem::did_you_mean;
use crate::config::quantity::duration_ms;
use crate::feature::{FeatureConfig, Kind};
use crate::why::why;

/// A feature before it is known whose channel it is.
pub(super) struct FeatureDraft {
    pub(super) inputs: Vec<Placed<String>>,
    /// Its source is not known yet.
    pub(super) config: FeatureConfig,
    /// Where its channel stands in the file.
    pub(super) channel_span: Range<usize>,
}

/// Reads one.
pub(super) fn read(name: PartName, mut part: Part<'_, '_>) -> Option<Named<FeatureDraft>> {
    const KINDS: [&str; 4] = ["statistics", "spectrum", "envelope", "heart"];
    let written = part.require::<String>("type", "\"statistics\"")?;
    let span = part.span.clone();
    let inputs = inputs(&mut part);
    let channel = part.take::<String>("channel");
    let (window, hop) = if written.value == "heart" { ("10s", "1s") } else { ("1s", "0.5s") };
    let window = part.take_text_or("window", window, |text| positive(duration_ms(text)?));
    let hop = part.take_text_or("hop", hop, |text| positive(duration_ms(text)?));
    let rate = part.take::<f64>("rate_hz");
    let kind = match written.value.as_str() {
        "statistics" => Some(Kind::Statistics),
        "heart" => Some(Kind::Heart),
        "spectrum" => Some(Kind::Spectrum(part.take::<Vec<(f64, f64)>>("bands").map(|bands| bands.value))),
        "envelope" => envelope(&mut part).map(Kind::Envelope),
        other => {
            let help = did_you_mean(other, KINDS);
            part.problem(written.span.clone(), format!("there is no feature of type {other:?}"), help);
            // What else stands there belongs to a type we do not know.
            return None;
        }
    };
    let channel_span = channel.as_ref().map_or(span.clone(), |channel| channel.span.clone());
    let draft = kind.map(|kind| FeatureDraft {
        inputs,
        config: FeatureConfig {
            name: name.clone(),
            source: 0,
            channel: channel.map(|channel| channel.value),
            kind,
            window_ms: window.value,
            hop_ms: hop.value,
            rate_hz: rate.as_ref().map(|rate| rate.value),
        },
        channel_span,
    });
    // What a rate allows is known where the rate is.
    if let (Some(draft), Some(rate)) = (&draft, rate)
        && let Err(error) = draft.config.build(rate.value)
    {
        let help = "change `window`, `hop` or `rate_hz`, or what is computed";
        let message = format!("`{}` cannot be computed: {}", part.path, why(&error));
        part.problem(rate.span, message, help);
    }
    part.finish();
    Some(Named { part: draft?, name, span })
}

fn envelope(part: &mut Part<'_, '_>) -> Option<EnvelopeConfig> {
    let band = part.require::<(f64, f64)>("band", "[2000, 4000]");
    let shaft_hz = part.require::<f64>("shaft_hz", "29.95");
    let orders = part.require::<BTreeMap<String, f64>>("orders", "{ outer = 3.585, inner = 5.415 }");
    let orders = orders.and_then(|orders| {
        let count = orders.value.len();
        if count == 0 || count > MAX_ORDERS {
            let message = format!("1 to {MAX_ORDERS} orders can be watched, not {count}");
            part.problem(
                orders.span,
                message,
                "name what strikes, with how often in a turn: `{ outer = 3.585 }`",
            );
            return None;
        }
        // The names are fields that conditions speak of.
        let bad = orders.value.keys().find(|name| {
            let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            !(name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(word))
                || ["rms", "kurtosis"].contains(&name.as_str())
        });
        if let Some(bad) = bad {
            let message = format!("an order cannot be called {bad:?}");
            let help = "a name begins with a letter, has a-z, 0-9 and _, and is neither `rms` nor `kurtosis`";
            part.problem(orders.span, message, help);
            return None;
        }
        Some(orders.value.into_iter().collect())
    });
    Some(EnvelopeConfig { band: band?.value, shaft_hz: shaft_hz?.value, orders: orders? })
}
