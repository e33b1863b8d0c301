//! The next token from logits: greedy, temperature, top-k, top-p, min-p, typical, penalties, bias.
//!
//! In this order: penalties, bias, what a grammar forbids, temperature, then each cut of the distribution, then one
//! draw. It is the order of the libraries that models are published with (transformers, vLLM), so that settings mean
//! what a model's page says. A sampler draws from its own generator: the same seed, logits and settings give the same
//! tokens, whatever else runs.

use std::cmp::Ordering;
use std::collections::HashMap;

use kernels::softmax::highest as highest_logit;

use crate::signal::{Distribution, Signal, higher_first, most_probable};

/// How tokens are chosen. The default draws from the model's own distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Divides the logits: 0 always takes the most probable token, 1 leaves the distribution as it is.
    pub temperature: f32,
    /// Keep the `top_k` most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest most probable tokens that together have this probability (Holtzman et al. 2020).
    pub top_p: f32,
    /// Keep tokens that have at least this share of the most probable one's probability (Nguyen et al. 2024).
    pub min_p: f32,
    /// Keep the tokens whose surprise is nearest the entropy, up to this probability (Meister et al. 2023).
    pub typical_p: f32,
    /// Divides the logit of what was read or written before, or multiplies it when negative (Keskar et al. 2019).
    pub repetition_penalty: f32,
    /// Taken off the logit of what was written before.
    pub presence_penalty: f32,
    /// Taken off the logit for each time it was written before.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub bias: Vec<(u32, f32)>,
    /// Where the draws begin.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            bias: Vec::new(),
            seed: 0,
        }
    }
}

/// A setting outside its range.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("`{name}` is {value}, and must be {range}")]
pub struct SettingError {
    /// The setting.
    pub name: &'static str,
    /// What it was set to.
    pub value: f32,
    /// What it may be.
    pub range: &'static str,
}

impl Settings {
    /// Refuses numbers that make no distribution.
    pub fn check(&self) -> Result<(), SettingError> {
        let check = |name, value: f32, holds: bool, range| {
            if holds && value.is_finite() { Ok(()) } else { Err(SettingError { name, value, range }) }
        };
        check("temperature", self.temperature, self.temperature >= 0.0, "0 or more")?;
        check("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0, at most 1")?;
        check("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1")?;
        check(
            "typical_p",
            self.typical_p,
            self.typical_p > 0.0 && self.typical_p <= 1.0,
            "above 0, at most 1",
        )?;
        check("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0.0, "above 0")?;
        check(
            "presence_penalty",
            self.presence_penalty,
            self.presence_penalty.abs() <= 100.0,
            "from -100 to 100",
        )?;
        check(
            "frequency_penalty",
            self.frequency_penalty,
            self.frequency_penalty.abs() <= 100.0,
            "from -100 to 100",
        )?;
        self.bias
            .iter()
            .try_for_each(|(_, bias)| check("logit_bias", *bias, bias.abs() <= 100.0, "from -100 to 100"))
    }

    fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// Chooses the tokens of one sequence.
#[derive(Clone)]
pub struct Sampler {
    settings: Settings,
    dice: Dice,
    /// How often each token was read or written, and how often written.
    seen: HashMap<u32, Seen>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    written: u32,
}

/// A token and what the model thought of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The token.
    pub token: u32,
    /// How sure the model was of it.
    pub signal: Signal,
    /// The most probable tokens with their log probabilities, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// No token is left: a grammar, or biases of minus infinity, forbid every one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no token of the vocabulary is allowed here")]
pub struct NothingAllowed;

impl Sampler {
    /// A sampler for a sequence that begins with `prompt`.
    pub fn new(settings: Settings, prompt: &[u32]) -> Sampler {
        let dice = Dice::new(settings.seed);
        let seen = match settings.penalises() {
            true => prompt.iter().map(|token| (*token, Seen::default())).collect(),
            false => HashMap::new(),
        };
        Sampler { settings, dice, seen }
    }

    /// Chooses the next token from `logits: [vocabulary]`, which are changed on the way, and remembers it.
    ///
    /// `restrict` sets the logits of forbidden tokens to minus infinity. `top` most probable tokens are told beside the
    /// chosen one.
    pub fn choose(
        &mut self,
        logits: &mut [f32],
        restrict: impl FnOnce(&mut [f32]),
        top: usize,
    ) -> Result<Chosen, NothingAllowed> {
        let distribution = Distribution::of(logits);
        let most = if top == 0 { Vec::new() } else { distribution.top(logits, top) };
        // Logits as the model gave them, of the few tokens that are about to be changed.
        let changed = self.change(logits);
        restrict(logits);
        let token = self.draw(logits)?;
        let own = changed.get(&token).copied().unwrap_or(logits[token as usize]);
        self.remember(token);
        Ok(Chosen { token, signal: distribution.signal(own), top: most })
    }

    /// Counts a token that was written without being drawn: one that a grammar forced.
    pub fn remember(&mut self, token: u32) {
        if self.settings.penalises() {
            self.seen.entry(token).or_default().written += 1;
        }
    }

    /// Applies penalties and bias; gives the former logit of each token that it changed.
    fn change(&self, logits: &mut [f32]) -> HashMap<u32, f32> {
        let settings = &self.settings;
        let mut former = HashMap::new();
        for (&token, seen) in &self.seen {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            former.insert(token, *logit);
            let penalty = settings.repetition_penalty;
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            if seen.written > 0 {
                *logit -= settings.presence_penalty + settings.frequency_penalty * seen.written as f32;
            }
        }
        for &(token, bias) in &settings.bias {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            former.entry(token).or_insert(*logit);
            *logit += bias;
        }
        former
    }

    fn draw(&mut self, logits: &[f32]) -> Result<u32, NothingAllowed> {
        let settings = &self.settings;
        if settings.temperature == 0.0 {
            return highest(logits);
        }
        let highest = highest_logit(logits);
        if highest == f32::NEG_INFINITY {
            return Err(NothingAllowed);
        }
        let mut candidates = self.candidates(logits, highest);
        // Logits to probabilities at this temperature, but for what all of them are divided by.
        candidates.iter_mut().for_each(|(_, x)| *x = ((*x - highest) / settings.temperature).exp());
        if settings.typical_p < 1.0 {
            keep_typical(&mut candidates, settings.typical_p);
        }
        if settings.top_p < 1.0 {
            keep_share(&mut candidates, settings.top_p, higher_first);
        }
        if settings.min_p > 0.0 {
            let most = candidates.iter().map(|(_, p)| *p).fold(0.0, f32::max);
            candidates.retain(|(_, p)| *p >= settings.min_p * most);
        }
        let sum: f64 = candidates.iter().map(|(_, p)| f64::from(*p)).sum();
        let mut left = self.dice.fraction() * sum;
        for (token, p) in &candidates {
            left -= f64::from(*p);
            if left < 0.0 {
                return Ok(*token);
            }
        }
        candidates.last().map(|(token, _)| *token).ok_or(NothingAllowed)
    }

    /// The tokens that may be drawn with their logits, in the order of the vocabulary. What lies more than this far below
    /// the highest has, all together, less than 1e-9 of its probability, and is left out.
    fn candidates(&self, logits: &[f32], highest: f32) -> Vec<(u32, f32)> {
        let Settings { top_k, temperature, .. } = self.settings;
        let least = highest - temperature * (21.0 + (logits.len().max(1) as f32).ln());
        let may = |logit: f32| logit >= least && logit > f32::NEG_INFINITY;
        if (1..logits.len()).contains(&top_k) {
            let mut candidates = most_probable(logits, top_k);
            candidates.retain(|(_, logit)| may(*logit));
            candidates.sort_unstable_by_key(|(token, _)| *token);
            return candidates;
        }
        (0u32..).zip(logits.iter().copied()).filter(|(_, logit)| may(*logit)).collect()
    }
}

/// The token with the highest logit; of equals the first.
pub(crate) fn highest(logits: &[f32]) -> Result<u32, NothingAllowed> {
    let highest = highest_logit(logits);
    let found = logits.iter().position(|logit| *logit == highest && highest > f32::NEG_INFINITY);
    found.map(|token| token as u32).ok_or(NothingAllowed)
}

/// Keeps the fewest that together have `share` of the probability, those first in `order` before the others. Halves what is
/// in question until the last one to be kept is found, so nothing is sorted; those kept stay in their places.
fn keep_share(
    candidates: &mut Vec<(u32, f32)>,
    share: f32,
    order: impl Fn(&(u32, f32), &(u32, f32)) -> Ordering,
) {
    let mass = |of: &[(u32, f32)]| of.iter().map(|(_, p)| f64::from(*p)).sum::<f64>();
    let mut left = f64::from(share) * mass(candidates);
    let mut copy = candidates.clone();
    let mut question = copy.as_mut_slice();
    while question.len() > 1 {
        let half = question.len() / 2;
        question.select_nth_unstable_by(half, &order);
        let (first, rest) = question.split_at_mut(half);
        let its = mass(first);
        question = match its < left {
            true => {
                left -= its;
                rest
            }
            false => first,
        };
    }
    if let [last] = question {
        candidates.retain(|one| order(one, last).is_le());
    }
}

/// Keeps the tokens whose surprise is nearest the entropy of all, up to `typical_p` of the probability.
fn keep_typical(candidates: &mut Vec<(u32, f32)>, typical_p: f32) {
    let sum: f64 = candidates.iter().map(|(_, p)| f64::from(*p)).sum();
    let surprise = |p: f32| -(f64::from(p) / sum).ln();
    let entropy: f64 =
        candidates.iter().filter(|(_, p)| *p > 0.0).map(|(_, p)| f64::from(*p) / sum * surprise(*p)).sum();
    let distance = |p: f32| (surprise(p) - entropy).abs();
    keep_share(candidates, typical_p, |one, other| {
        distance(one.1).total_cmp(&distance(other.1)).then(one.0.cmp(&other.0))
    });
}

/// xoshiro256++ (Blackman & Vigna 2021), seeded by SplitMix64.
#[derive(Clone)]
struct Dice {
    state: [u64; 4],
}

impl Dice {
    fn new(seed: u64) -> Dice {
        let mut seed = seed;
        let state = std::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Dice { state }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// From 0 to below 1, 53 bits of it.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { seed: 7, ..Settings::default() }
    }

    /// Forbids all other tokens.
    fn only(logits: &mut [f32], allowed: &[usize]) {
        let forbidden = (0..logits.len()).filter(|token| !allowed.contains(token));
        forbidden.collect::<Vec<_>>().into_iter().for_each(|token| logits[token] = f32::NEG_INFINITY);
    }

    /// How often each token is drawn from fixed logits, out of 20 000.
    fn shares(settings: Settings, logits: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(settings, &[]);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            let token = sampler.choose(&mut logits.to_vec(), |_| {}, 0).expect("a token").token;
            counts[token as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn check(settings: Settings, probabilities: &[f64], expected: &[f64]) {
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() as f32).collect();
        let shares = shares(settings.clone(), &logits);
        for (share, expected) in shares.iter().zip(expected) {
            // Four standard deviations of a share of 20 000 draws are at most 0.015.
            assert!((share - expected).abs() < 0.015, "{settings:?}: {shares:?}");
            assert!(*expected > 0.0 || *share == 0.0, "{settings:?}: {shares:?}");
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_the_settings_say() {
        let p = [0.5, 0.25, 0.15, 0.1];
        check(settings(), &p, &p);
        check(Settings { temperature: 0.0, ..settings() }, &p, &[1.0, 0.0, 0.0, 0.0]);
        // At temperature 2 each probability becomes its square root.
        let roots = p.map(f64::sqrt);
        let sum: f64 = roots.iter().sum();
        check(Settings { temperature: 2.0, ..settings() }, &p, &roots.map(|root| root / sum));
        check(Settings { top_k: 2, ..settings() }, &p, &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        check(Settings { top_p: 0.74, ..settings() }, &p, &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        check(Settings { top_p: 0.76, ..settings() }, &p, &[5.0 / 9.0, 2.5 / 9.0, 1.5 / 9.0, 0.0]);
        check(Settings { min_p: 0.25, ..settings() }, &p, &[5.0 / 9.0, 2.5 / 9.0, 1.5 / 9.0, 0.0]);
        // Entropy is 1.21; surprises 0.69, 1.39, 1.90, 2.30: the second is nearest, then the first.
        check(Settings { typical_p: 0.2, ..settings() }, &p, &[0.0, 1.0, 0.0, 0.0]);
        check(Settings { typical_p: 0.7, ..settings() }, &p, &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        check(Settings { bias: vec![(0, -100.0)], ..settings() }, &p, &[0.0, 0.5, 0.3, 0.2]);
    }

    #[test]
    fn what_is_kept_is_what_sorting_would_keep() {
        let mut dice = Dice::new(5);
        for len in [1, 2, 3, 10, 500] {
            for share in [1e-6, 0.1, 0.5, 0.9, 0.999] {
                let all: Vec<(u32, f32)> =
                    (0..len).map(|token| (token, (dice.fraction() * 8.0).floor().exp() as f32)).collect();
                let mut sorted = all.clone();
                sorted.sort_by(higher_first);
                let sum: f64 = all.iter().map(|(_, p)| f64::from(*p)).sum();
                let mut left = f64::from(share) * sum;
                let mut expected: Vec<(u32, f32)> = Vec::new();
                for one in sorted {
                    if left > 0.0 {
                        expected.push(one);
                    }
                    left -= f64::from(one.1);
                }
                expected.sort_by_key(|(token, _)| *token);
                let mut kept = all;
                keep_share(&mut kept, share, higher_first);
                assert_eq!(kept, expected, "{len} {share}");
            }
        }
    }

    #[test]
    fn what_was_written_is_penalised_and_what_was_read_only_by_repetition() {
        let greedy = Settings { temperature: 0.0, ..Settings::default() };
        let draw = |settings: &Settings, prompt: &[u32], logits: &[f32]| {
            let mut sampler = Sampler::new(settings.clone(), prompt);
            let mut next = || sampler.choose(&mut logits.to_vec(), |_| {}, 0).expect("a token").token;
            [next(), next(), next()]
        };
        let presence = Settings { presence_penalty: 1.5, ..greedy.clone() };
        assert_eq!(draw(&presence, &[0], &[3.0, 2.0, 0.0]), [0, 1, 0]);
        let frequency = Settings { frequency_penalty: 0.6, ..greedy.clone() };
        assert_eq!(draw(&frequency, &[0], &[3.0, 2.0, 0.0]), [0, 0, 1]);
        let repetition = Settings { repetition_penalty: 2.0, ..greedy };
        assert_eq!(draw(&repetition, &[0], &[3.0, 2.0, 1.4]), [1, 0, 0]);
    }

    #[test]
    fn a_mask_forbids_and_the_signal_stays_the_models_own() {
        let mut sampler = Sampler::new(Settings { temperature: 0.0, ..settings() }, &[]);
        let logits = [2.0, 1.0, 0.0];
        let chosen = sampler.choose(&mut logits.to_vec(), |logits| only(logits, &[1]), 1).expect("a token");
        assert_eq!(chosen.token, 1);
        let own = 1.0 - logits.iter().map(|x: &f32| x.exp()).sum::<f32>().ln();
        assert!((chosen.signal.logprob - own).abs() < 1e-6);
        assert_eq!(chosen.top[0].0, 0);
        assert_eq!(sampler.choose(&mut logits.to_vec(), |logits| only(logits, &[]), 0), Err(NothingAllowed));
    }

    #[test]
    fn biased_and_penalised_tokens_report_what_the_model_thought() {
        let settings = Settings { temperature: 0.0, bias: vec![(1, 50.0)], ..settings() };
        let chosen = Sampler::new(settings, &[]).choose(&mut [1.0, 1.0], |_| {}, 0).expect("a token");
        assert_eq!(chosen.token, 1);
        assert!((chosen.signal.logprob + std::f32::consts::LN_2).abs() < 1e-6);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let draw = |seed| {
            let mut sampler = Sampler::new(Settings { seed, ..Settings::default() }, &[]);
            (0..50)
                .map(|_| sampler.choose(&mut [0.0; 100], |_| {}, 0).expect("a token").token)
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn numbers_that_make_no_distribution_are_refused() {
        for (settings, name) in [
            (Settings { temperature: f32::NAN, ..settings() }, "temperature"),
            (Settings { temperature: -1.0, ..settings() }, "temperature"),
            (Settings { top_p: 0.0, ..settings() }, "top_p"),
            (Settings { min_p: 1.5, ..settings() }, "min_p"),
            (Settings { repetition_penalty: 0.0, ..settings() }, "repetition_penalty"),
            (Settings { bias: vec![(0, f32::INFINITY)], ..settings() }, "logit_bias"),
        ] {
            assert_eq!(settings.check().expect_err("out of range").name, name);
        }
        assert_eq!(settings().check(), Ok(()));
    }
}
