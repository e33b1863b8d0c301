//! How the next token is chosen, and what the answer must follow, as the command line says it.

use std::path::PathBuf;

use anyhow::Context as _;
use lm::constraint::{Constraint, Grammar, Reasoning};
use lm::sample::Settings;
use lm::speech;
use wire::world::{Entropy as _, System};

use crate::complaint::Usage;
use crate::engine::Engine;

/// How the next token is chosen.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Sampling {
    /// 0 always takes the most probable token; 1 draws from the model's own distribution.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.8, help_heading = "Sampling")]
    temperature: f32,

    /// Draw from this many most probable tokens; 0 draws from all.
    #[arg(long, value_name = "COUNT", default_value_t = 40, help_heading = "Sampling")]
    top_k: usize,

    /// Draw from the fewest tokens that together have this probability.
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, help_heading = "Sampling")]
    top_p: f32,

    /// Draw from tokens with at least this share of the most probable one's probability.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, help_heading = "Sampling")]
    min_p: f32,

    /// Draw from the tokens whose surprise is nearest the expected one, up to this probability.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, help_heading = "Sampling")]
    typical_p: f32,

    /// Makes what was read or written before less probable; 1 does nothing.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, help_heading = "Sampling")]
    repetition_penalty: f32,

    /// Taken off the logit of what was written before.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0.0,
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    presence_penalty: f32,

    /// Taken off the logit for each time that it was written before.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0.0,
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    frequency_penalty: f32,

    /// Added to the logit of a token: its number (`selvedge tokenize`), a colon, from -100 to 100. Can be given often.
    #[arg(long, value_name = "ID:BIAS", value_parser = parse_bias, allow_hyphen_values = true, help_heading = "Sampling")]
    logit_bias: Vec<(u32, f32)>,

    /// Where chance begins: the same seed gives the same answer. Without it another one each time.
    #[arg(long, value_name = "NUMBER", help_heading = "Sampling")]
    seed: Option<u64>,
}

fn parse_bias(word: &str) -> Result<(u32, f32), String> {
    let (token, bias) = word.split_once(':').ok_or("it reads like 123:-5")?;
    let token = token.trim().parse().map_err(|_| format!("{token:?} is not the number of a token"))?;
    let bias = bias.trim().parse().map_err(|_| format!("{bias:?} is not a number"))?;
    Ok((token, bias))
}

impl Sampling {
    /// As the sampler wants it, checked.
    pub(crate) fn settings(&self, engine: &Engine) -> anyhow::Result<Settings> {
        let vocabulary = engine.model.network.shape().vocabulary;
        if let Some((token, _)) = self.logit_bias.iter().find(|(token, _)| *token as usize >= vocabulary) {
            let why = format!("--logit-bias: there is no token {token}, the vocabulary has {vocabulary}");
            return Err(Usage(why).into());
        }
        let settings = Settings {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            bias: self.logit_bias.clone(),
            seed: self.seed.unwrap_or_else(any_seed),
        };
        settings.check().map_err(|error| {
            let option = error.name.replace('_', "-");
            Usage(format!("--{option} is {}, and must be {}", error.value, error.range))
        })?;
        Ok(settings)
    }
}

/// Short enough to be typed again.
fn any_seed() -> u64 {
    let mut bytes = [0; 4];
    System::new().fill(&mut bytes);
    u64::from(u32::from_le_bytes(bytes))
}

/// What the answer must follow.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Form {
    /// Answer in JSON that this schema allows: a file, or the schema itself.
    #[arg(long, value_name = "FILE|JSON", help_heading = "Form of the answer")]
    json_schema: Option<String>,

    /// Answer with text that this regular expression matches as a whole.
    #[arg(long, value_name = "EXPRESSION", help_heading = "Form of the answer")]
    regex: Option<String>,

    /// Answer in the language of this grammar: GBNF as llama.cpp has it, or Lark in a file that ends in .lark.
    #[arg(long, value_name = "FILE", help_heading = "Form of the answer")]
    grammar: Option<PathBuf>,
}

impl Form {
    /// What was asked for, if anything; `reasoning` may come before it.
    pub(crate) fn constraint(
        &self,
        engine: &Engine,
        reasoning: Option<Reasoning>,
    ) -> anyhow::Result<Option<Constraint>> {
        let Some((option, grammar)) = self.grammar()? else { return Ok(None) };
        let vocabulary = speech::vocabulary(&engine.model.tokenizer)?;
        let constraint = Constraint::new(&grammar.after(reasoning), &vocabulary);
        constraint.map(Some).map_err(|error| Usage(format!("{option}: {error}")).into())
    }

    fn grammar(&self) -> anyhow::Result<Option<(&'static str, Grammar)>> {
        if let Some(schema) = &self.json_schema {
            let text = match schema.trim_start().starts_with(['{', '['])
                || matches!(schema.trim(), "true" | "false")
            {
                true => schema.clone(),
                false => read(std::path::Path::new(schema))?,
            };
            let schema = serde_json::from_str(&text)
                .map_err(|error| Usage(format!("--json-schema: the schema is not JSON: {error}")))?;
            return Ok(Some(("--json-schema", Grammar::json_schema(schema, true))));
        }
        if let Some(expression) = &self.regex {
            return Ok(Some(("--regex", Grammar::regex(expression))));
        }
        let Some(path) = &self.grammar else { return Ok(None) };
        let text = read(path)?;
        let grammar = match path.extension().is_some_and(|end| end.eq_ignore_ascii_case("lark")) {
            true => Grammar::lark(&text),
            false => Grammar::gbnf(&text)
                .map_err(|error| Usage(format!("--grammar: {}: {error}", path.display())))?,
        };
        Ok(Some(("--grammar", grammar)))
    }
}

fn read(path: &std::path::Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_are_read() {
        assert_eq!(parse_bias("12:-1.5"), Ok((12, -1.5)));
        assert!(parse_bias("12").is_err() && parse_bias("a:1").is_err() && parse_bias("1:b").is_err());
    }
}
