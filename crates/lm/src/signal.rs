//! How sure the model was of a token: log probability, margin to the second, entropy.
//!
//! All three are of the model's own distribution, before temperature, penalties, bias or a grammar changed it: they say
//! what the model thought, not what it was made to say.

use std::cmp::Ordering;

use kernels::softmax::{Spread, spread};

/// How sure the model was when it wrote one token. In nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signal {
    /// Natural logarithm of the token's probability.
    pub logprob: f32,
    /// By how much the most probable token's log probability exceeds that of the second.
    pub margin: f32,
    /// Entropy of the whole distribution: 0 when the model sees one way to go on.
    pub entropy: f32,
}

/// What the model thought of all tokens at one position.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// Logarithm of the sum of the logits' exponentials: `logit - log_sum` is a log probability.
    log_sum: f32,
    margin: f32,
    entropy: f32,
}

impl Distribution {
    /// Of logits as the model gave them.
    pub fn of(logits: &[f32]) -> Distribution {
        let Spread { log_sum, largest: [first, second], entropy } = spread(logits);
        let margin = if second == f32::NEG_INFINITY { 0.0 } else { first - second };
        Distribution { log_sum, margin, entropy }
    }

    /// Of the token with this logit.
    pub fn signal(&self, logit: f32) -> Signal {
        Signal { logprob: logit - self.log_sum, margin: self.margin, entropy: self.entropy }
    }

    /// The `count` most probable tokens with their log probabilities, most probable first; of equals the lower token.
    pub fn top(&self, logits: &[f32], count: usize) -> Vec<(u32, f32)> {
        let mut tokens = most_probable(logits, count);
        tokens.iter_mut().for_each(|(_, logit)| *logit -= self.log_sum);
        tokens
    }
}

/// Of two tokens with a number each: the higher number before the lower, of equals the lower token.
pub(crate) fn higher_first(one: &(u32, f32), other: &(u32, f32)) -> Ordering {
    other.1.total_cmp(&one.1).then(one.0.cmp(&other.0))
}

/// So many are found by keeping the best while going through the vocabulary once.
const FEW: usize = 64;

/// The `count` tokens with the highest logits, highest first; without sorting the vocabulary.
pub(crate) fn most_probable(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let tokens = (0u32..).zip(logits.iter().copied());
    if count > FEW {
        let mut tokens: Vec<(u32, f32)> = tokens.collect();
        if count < tokens.len() {
            tokens.select_nth_unstable_by(count - 1, higher_first);
            tokens.truncate(count);
        }
        tokens.sort_unstable_by(higher_first);
        return tokens;
    }
    let mut most: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    let mut least = if count == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
    for token in tokens {
        // The first few come in whatever they are.
        if token.1 <= least && most.len() >= count {
            continue;
        }
        let place = most.partition_point(|other| higher_first(other, &token).is_lt());
        most.insert(place, token);
        most.truncate(count);
        if most.len() == count {
            least = most.last().map_or(least, |(_, logit)| *logit);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_coin_has_one_bit_and_no_margin() {
        let distribution = Distribution::of(&[3.0, 3.0]);
        let signal = distribution.signal(3.0);
        let ln2 = std::f32::consts::LN_2;
        assert!((signal.logprob + ln2).abs() < 1e-6, "{signal:?}");
        assert!((signal.entropy - ln2).abs() < 1e-6, "{signal:?}");
        assert_eq!(signal.margin, 0.0);
    }

    #[test]
    fn the_margin_is_between_the_first_two_wherever_they_stand() {
        for logits in [[5.0, 1.0, 3.0], [1.0, 3.0, 5.0], [3.0, 5.0, 1.0]] {
            assert_eq!(Distribution::of(&logits).signal(5.0).margin, 2.0);
        }
        assert_eq!(Distribution::of(&[4.0]).signal(4.0), Signal { logprob: 0.0, margin: 0.0, entropy: 0.0 });
    }

    #[test]
    fn the_top_is_sorted_and_equals_go_by_token() {
        let logits = [1.0, 4.0, 2.0, 4.0, 0.0];
        let tokens: Vec<u32> =
            Distribution::of(&logits).top(&logits, 3).iter().map(|(token, _)| *token).collect();
        assert_eq!(tokens, [1, 3, 2]);
        assert_eq!(Distribution::of(&logits).top(&logits, 0), []);
        assert_eq!(Distribution::of(&logits).top(&logits, 99).len(), 5);
        let many: Vec<f32> = (0..1_000).map(|token| ((token * 37) % 200) as f32).collect();
        let mut sorted: Vec<(u32, f32)> = (0..).zip(many.iter().copied()).collect();
        sorted.sort_by(higher_first);
        for count in [1, 2, FEW, FEW + 1, 500, 2_000] {
            assert_eq!(most_probable(&many, count), sorted[..count.min(1_000)], "{count}");
        }
    }
}
