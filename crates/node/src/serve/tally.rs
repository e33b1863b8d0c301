//! How sure a model was of an answer, added up token by token.
//!
//! Each number was measured for this answer. `extras` shows it.

use lm::sample::Chosen;
use serde_json::{Value, json};

/// How sure the model was, token by token.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) tokens: usize,
    pub(super) logprob: f64,
    pub(super) least: f32,
    pub(super) margin: f64,
    pub(super) entropy: f64,
    /// One entry a token: number, log probability, margin, entropy; if it was asked for.
    pub(super) each: Option<Vec<Value>>,
}

impl Tally {
    pub(super) fn new(signals: bool) -> Tally {
        Tally { each: signals.then(Vec::new), ..Tally::default() }
    }

    pub(super) fn add(&mut self, chosen: &Chosen) {
        let signal = chosen.signal;
        self.tokens += 1;
        self.logprob += f64::from(signal.logprob);
        self.least = self.least.min(signal.logprob);
        self.margin += f64::from(signal.margin);
        self.entropy += f64::from(signal.entropy);
        if let Some(each) = &mut self.each {
            let (logprob, margin, entropy) = (signal.logprob, signal.margin, signal.entropy);
            each.push(
                json!({ "token": chosen.token, "logprob": logprob, "margin": margin, "entropy": entropy }),
            );
        }
    }
}
