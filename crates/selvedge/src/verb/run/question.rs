//! What a user may say beside a prompt, and the question that both make.

use lm::sample;

use super::conversation::Prepared;
use super::sampling::{Form, Sampling};
use crate::complaint::Usage;
use crate::engine::{Ahead, Engine, Options};
use crate::speak::Question;

/// Ask a model: once, or turn by turn.
///
/// With a prompt, or with text piped in, the model answers once; the piped text stands before the prompt. Without either a
/// chat begins. A model with a chat template is asked by it; any other continues what is written.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  selvedge run tiny.gguf \"Why is the sky blue?\"
  git diff | selvedge run qwen3 \"Write a commit message for this.\"
  selvedge run qwen3 --json-schema '{\"enum\":[\"yes\",\"no\"]}' \"Is 7 prime?\"
  selvedge run qwen3")]
pub(crate) struct Args {
    /// A .gguf file, or the name of a model on this machine (`selvedge ls`).
    pub(super) model: String,

    /// What to ask.
    #[arg(value_name = "PROMPT")]
    pub(super) prompt: Vec<String>,

    #[command(flatten)]
    pub(super) options: Options,

    /// Instructions that stand before the conversation.
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(super) system: Option<String>,

    /// Leave the model's chat template out: the model continues what is written.
    #[arg(long)]
    pub(super) raw: bool,

    /// Tell a model that can think aloud to think, or not to.
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, conflicts_with = "raw")]
    pub(super) think: Option<bool>,

    /// Write at most so many tokens; without it until the model ends or the context is full.
    #[arg(short = 'n', long, value_name = "TOKENS")]
    pub(super) max_tokens: Option<usize>,

    /// End the answer before this text. Can be given often.
    #[arg(long, value_name = "TEXT")]
    pub(super) stop: Vec<String>,

    #[command(flatten)]
    pub(super) sampling: Sampling,

    #[command(flatten)]
    pub(super) form: Form,

    #[command(flatten)]
    pub(super) ahead: Ahead,

    /// Print one JSON record: text, tokens with how sure the model was, times.
    #[arg(long)]
    pub(super) json: bool,

    /// Tell so many most probable tokens beside each written one, with --json.
    #[arg(long, value_name = "COUNT", default_value_t = 0, requires = "json", value_parser = clap::value_parser!(u16).range(0..=100))]
    pub(super) top: u16,

    /// Print what was measured, to stderr.
    #[arg(long, short)]
    pub(super) verbose: bool,
}

/// A prompt with everything that stands beside it on the command line.
pub(super) fn question(
    args: &Args,
    engine: &Engine,
    prepared: Prepared,
    sampling: sample::Settings,
) -> anyhow::Result<Question> {
    let Prepared { tokens, reader, shown, reasoning } = prepared;
    if tokens.is_empty() {
        return Err(Usage("there is nothing to ask: the prompt is empty".into()).into());
    }
    let room = engine.context.saturating_sub(tokens.len());
    if room == 0 {
        let trained = engine.model.network.shape().context;
        let more = if trained > engine.context { "; --context gives more room" } else { "" };
        anyhow::bail!(
            "the prompt has {} tokens, and prompt and answer together may have {}{more}",
            tokens.len(),
            engine.context
        );
    }
    // A constraint is no comfort where nothing may be written.
    let max_tokens = args.max_tokens.map(|most| most.clamp(1, room));
    Ok(Question {
        prompt: tokens,
        max_tokens,
        sampling,
        stops: args.stop.clone(),
        constraint: args.form.constraint(engine, reasoning)?,
        top: usize::from(args.top),
        reader,
        shown,
    })
}
