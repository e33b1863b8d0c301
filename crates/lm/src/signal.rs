//! How sure the model was of a token: log probability, margin to the second, entropy.
//!
//! All three are of the model's own distribution, before temperature, penalties, bias or a grammar changed it: they say
//! what the model thought, not what it was made to say.

use kernels::softmax::log_sum_exp;

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
        let log_sum = log_sum_exp(logits);
        let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        // In f64, as entropy sums over up to a quarter of a million small numbers.
        let mut entropy = 0.0f64;
        for &logit in logits {
            second = second.max(logit.min(first));
            first = first.max(logit);
            let logprob = logit - log_sum;
            // Beyond this a token adds less than 1e-10 to the entropy; and most tokens are beyond.
            if logprob > -26.0 {
                entropy -= f64::from(logprob.exp() * logprob);
            }
        }
        let margin = if second == f32::NEG_INFINITY { 0.0 } else { first - second };
        Distribution { log_sum, margin, entropy: entropy as f32 }
    }

    /// Of the token with this logit.
    pub fn signal(&self, logit: f32) -> Signal {
        Signal { logprob: logit - self.log_sum, margin: self.margin, entropy: self.entropy }
    }

    /// The `count` most probable tokens with their log probabilities, most probable first; of equals the lower token.
    pub fn top(&self, logits: &[f32], count: usize) -> Vec<(u32, f32)> {
        let mut tokens = most_probable(logits, count);
        tokens.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        tokens.iter_mut().for_each(|(_, logit)| *logit -= self.log_sum);
        tokens
    }
}

/// The `count` tokens with the highest logits, in no order; without sorting the vocabulary.
pub(crate) fn most_probable(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut tokens: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
    if count < tokens.len() {
        if count > 0 {
            tokens.select_nth_unstable_by(count - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        }
        tokens.truncate(count);
    }
    tokens
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
    }
}
