//! What answers cost on this machine, for a package to say: time to the first token, time of a token, energy where it is counted.

use anyhow::Context as _;
use lm::model::Model;
use lm::processor::energy_uj;
use node::device::machine;
use node::install::prove::language::answer_case;
use node::install::prove::p95;
use package::golden::{Case, Golden, Text};
use package::requirement::Measurement;
use wire::world::{Clock as _, System};

/// Without golden prompts this is asked.
const PROMPT: &str = "The weather today is";

/// Tokens of an answer to it.
const TOKENS: usize = 32;

/// Every prompt is asked so often.
const ROUNDS: usize = 3;

/// Asks a model its golden prompts, and takes the time; energy is absent where the machine does not count it.
pub(crate) fn measure(model: &Model, golden: Option<&Golden>) -> anyhow::Result<Measurement> {
    let (cpu, machine) = machine().context("this machine does not say what its processor is called")?;
    let unasked = [Case::Text(Text { prompt: PROMPT.to_owned(), max_tokens: TOKENS, tokens: Vec::new() })];
    let cases = golden.map_or(&unasked[..], |golden| &golden.cases);
    let clock = System::new();
    let ask = |case: &Case, times_ms: &mut Vec<f64>| {
        answer_case(model, case, &|| clock.mono_ns(), times_ms).map(drop).map_err(anyhow::Error::msg)
    };
    let (mut first_ms, mut token_ms) = (Vec::new(), Vec::new());
    // The first answer of a process pays for what the others find ready.
    cases.iter().try_for_each(|case| ask(case, &mut Vec::new()))?;
    for case in cases {
        if let Case::Text(text) = case {
            ask(&Case::Text(Text { max_tokens: 1, ..text.clone() }), &mut first_ms)?;
        }
    }
    let before_uj = energy_uj();
    for _ in 0..ROUNDS {
        cases.iter().try_for_each(|case| ask(case, &mut token_ms))?;
    }
    // The counter may have begun again.
    let used_uj = energy_uj().zip(before_uj).and_then(|(after, before)| after.checked_sub(before));
    let joules = used_uj.filter(|_| !token_ms.is_empty()).map(|uj| uj as f64 / 1e6 / token_ms.len() as f64);
    let rounded = |ms: f64| (ms * 1e3).round() / 1e3;
    let (prompt_ms, token_p95_ms) = (p95(&first_ms).map(rounded), p95(&token_ms).map(rounded));
    Ok(Measurement { machine, cpu, prompt_ms, token_p95_ms, joules })
}
