//! What every answer tells beyond OpenAI's API, under `x_selvedge`: how fast it came, how sure the model was, where it ran.
//!
//! Each number was measured for this answer, or is absent.

use serde_json::{Map, Value, json};

use super::order::Order;
use super::tally::Tally;

/// The block beside an answer.
pub(super) fn block(order: &Order) -> Value {
    let loaded = &order.lease.loaded;
    let mut block = Map::new();
    let mut put = |key: &str, value: Option<Value>| block.extend(value.map(|value| (key.to_owned(), value)));
    put("ran", Some(json!("local")));
    put("model", Some(loaded.named()));
    let turns = &order.turns;
    let ms = |ns: Option<u64>| ns.map(|ns| json!(ns as f64 / 1e6));
    put("queue_ms", ms(turns.iter().filter_map(|turn| turn.times.begun_ns).min()));
    put("first_token_ms", ms(turns.iter().filter_map(|turn| turn.times.first_ns).min()));
    let reused: usize = turns.iter().map(|turn| turn.reused).sum();
    put("reused_prompt_tokens", Some(json!(reused)));
    let ahead = order.ahead();
    put("draft_tokens", Some(json!(ahead.guessed)));
    put("accepted_draft_tokens", Some(json!(ahead.accepted)));
    put(
        "prompt_tokens_per_s",
        per_second(turns.iter().map(|turn| {
            let read = turn.prompt_tokens.saturating_sub(turn.reused);
            (read, turn.times.begun_ns.zip(turn.times.first_ns))
        })),
    );
    // The first token is the prompt's work.
    put(
        "tokens_per_s",
        per_second(
            turns
                .iter()
                .map(|turn| (turn.written.saturating_sub(1), turn.times.first_ns.zip(turn.times.last_ns))),
        ),
    );
    let tokens: usize = turns.iter().map(|turn| turn.tally.tokens).sum();
    if tokens > 0 {
        let mean =
            |sum: fn(&Tally) -> f64| turns.iter().map(|turn| sum(&turn.tally)).sum::<f64>() / tokens as f64;
        let least = turns.iter().map(|turn| turn.tally.least).fold(0.0, f32::min);
        put("mean_logprob", Some(json!(mean(|tally| tally.logprob))));
        put("min_logprob", Some(json!(least)));
        put("mean_margin", Some(json!(mean(|tally| tally.margin))));
        put("mean_entropy", Some(json!(mean(|tally| tally.entropy))));
    }
    if order.ticket.signals {
        let each = turns.iter().map(|turn| turn.tally.each.clone().unwrap_or_default());
        put("signals", Some(json!(each.collect::<Vec<_>>())));
    }
    Value::Object(block)
}

/// Tokens a second over all answers, from the first that began to the last that ended.
fn per_second(turns: impl Iterator<Item = (usize, Option<(u64, u64)>)>) -> Option<Value> {
    let (mut tokens, mut from, mut to) = (0, u64::MAX, 0);
    for (count, span) in turns {
        if let Some((begin, end)) = span {
            (tokens, from, to) = (tokens + count, from.min(begin), to.max(end));
        }
    }
    (tokens > 0 && to > from).then(|| json!(tokens as f64 / ((to - from) as f64 / 1e9)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_measured_or_absent() {
        let check = |turns: &[(usize, Option<(u64, u64)>)], expected: Option<f64>| {
            assert_eq!(per_second(turns.iter().copied()), expected.map(|speed| json!(speed)), "{turns:?}");
        };
        check(&[], None);
        check(&[(5, None)], None);
        check(&[(0, Some((0, 10)))], None);
        check(&[(5, Some((10, 10)))], None);
        check(&[(5, Some((0, 500_000_000)))], Some(10.0));
        check(&[(5, Some((0, 500_000_000))), (5, Some((500_000_000, 1_000_000_000)))], Some(10.0));
    }
}
