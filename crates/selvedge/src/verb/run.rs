//! `selvedge run`: asks a model, once or turn by turn.

mod chat;
mod conversation;
mod sampling;
mod screen;

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use lm::chat::message::{Message, Role};
use serde_json::json;
use wire::world::{Clock as _, System};

use self::conversation::{Manner, Prepared, plain, turns};
use self::sampling::{Form, Sampling};
use self::screen::{Screen, colours, show_end, show_figures};
use crate::complaint::Usage;
use crate::engine::{Engine, Options};
use crate::speak::{Go, Question, Said, Speaker};

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
    model: String,

    /// What to ask.
    #[arg(value_name = "PROMPT")]
    prompt: Vec<String>,

    #[command(flatten)]
    options: Options,

    /// Instructions that stand before the conversation.
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,

    /// Leave the model's chat template out: the model continues what is written.
    #[arg(long)]
    raw: bool,

    /// Tell a model that can think aloud to think, or not to.
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, conflicts_with = "raw")]
    think: Option<bool>,

    /// Write at most so many tokens; without it until the model ends or the context is full.
    #[arg(short = 'n', long, value_name = "TOKENS")]
    max_tokens: Option<usize>,

    /// End the answer before this text. Can be given often.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    #[command(flatten)]
    sampling: Sampling,

    #[command(flatten)]
    form: Form,

    /// Print one JSON record: text, tokens with how sure the model was, times.
    #[arg(long)]
    json: bool,

    /// Tell so many most probable tokens beside each written one, with --json.
    #[arg(long, value_name = "COUNT", default_value_t = 0, requires = "json", value_parser = clap::value_parser!(u16).range(0..=100))]
    top: u16,

    /// Print what was measured, to stderr.
    #[arg(long, short)]
    verbose: bool,
}

/// Text that may be piped in.
const PIPED_MAX_BYTES: u64 = 64 << 20;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let clock = System::new();
    let prompt = prompt(args)?;
    let engine = args.options.load(&args.model)?;
    engine.must_write()?;
    let manner = Manner::of(&engine, args.raw)?;
    let load_ns = clock.mono_ns();
    match prompt {
        Some(prompt) => once(args, &engine, &manner, &prompt, clock, load_ns),
        None => chat::run(args, &engine, &manner, clock),
    }
}

/// What to ask; `None`: a chat begins.
fn prompt(args: &Args) -> anyhow::Result<Option<String>> {
    let given = (!args.prompt.is_empty()).then(|| args.prompt.join(" "));
    let mut stdin = io::stdin();
    if stdin.is_terminal() {
        if given.is_none() && (args.json || !io::stdout().is_terminal()) {
            return Err(Usage("there is nothing to ask: give a prompt, or pipe one in".into()).into());
        }
        return Ok(given);
    }
    let mut piped = Vec::new();
    stdin.by_ref().take(PIPED_MAX_BYTES + 1).read_to_end(&mut piped).context("stdin cannot be read")?;
    if piped.len() as u64 > PIPED_MAX_BYTES {
        anyhow::bail!("more than {} MiB were piped in: that is no prompt", PIPED_MAX_BYTES >> 20);
    }
    let piped =
        String::from_utf8(piped).map_err(|_| anyhow::anyhow!("what was piped in is not UTF-8 text"))?;
    match (given, piped.trim_end()) {
        (None, "") => Err(Usage("there is nothing to ask: give a prompt, or pipe one in".into()).into()),
        (Some(given), "") => Ok(Some(given)),
        (None, piped) => Ok(Some(piped.to_owned())),
        (Some(given), piped) => Ok(Some(format!("{piped}\n\n{given}"))),
    }
}

/// One answer.
fn once(
    args: &Args,
    engine: &Engine,
    manner: &Manner,
    prompt: &str,
    clock: System,
    load_ns: u64,
) -> anyhow::Result<()> {
    let prepared = match manner {
        Manner::Plain if args.system.is_some() => {
            let why = format!("--system: {} has no chat template, so it knows no instructions", engine.name);
            return Err(Usage(why).into());
        }
        Manner::Plain => plain(engine, prompt),
        Manner::Chat(template) => {
            let system = args.system.iter().map(|text| Message::new(Role::System, text.as_str()));
            let messages: Vec<Message> = system.chain([Message::new(Role::User, prompt)]).collect();
            turns(engine, template, &messages, args.think)?
        }
    };
    // What continues a text begins where that ends, blank or not; what begins one begins with a word.
    let trims = matches!(manner, Manner::Chat(_)) || prompt.is_empty();
    let settings = args.sampling.settings(engine)?;
    let seed = settings.seed;
    let question = question(args, engine, prepared, settings)?;
    let mut speaker = Speaker::new(engine, clock);
    if args.json {
        let said = speaker.ask(question, |_| Ok(Go::On))?;
        return print_record(&record(engine, &said, seed, load_ns));
    }
    let mut screen = Screen::new(io::stdout().lock(), io::stdout().is_terminal(), colours(), trims);
    let said = speaker.ask(question, |piece| {
        screen.write(piece)?;
        Ok(Go::On)
    })?;
    screen.end()?;
    let mut err = io::stderr().lock();
    if let Some(end) = show_end(&said, args.max_tokens.is_some(), engine.context) {
        writeln!(err, "note: {end}")?;
    }
    if args.verbose {
        writeln!(err)?;
        show_figures(&mut err, &said, Some(load_ns), seed)?;
    }
    Ok(())
}

/// A prompt with everything that stands beside it on the command line.
fn question(
    args: &Args,
    engine: &Engine,
    prepared: Prepared,
    sampling: lm::sample::Settings,
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

/// An answer for programs. Times in milliseconds, log probabilities and entropies in nats.
fn record(engine: &Engine, said: &Said, seed: u64, load_ns: u64) -> serde_json::Value {
    let ms = |ns: u64| ns as f64 / 1e6;
    let facts = &engine.model.facts;
    json!({
        "model": engine.name,
        "family": facts.family,
        "quantisation": facts.quantisation,
        "text": said.text,
        "thoughts": (!said.thoughts.is_empty()).then_some(&said.thoughts),
        "end": said.end,
        "seed": seed,
        "prompt_tokens": said.prompt_tokens,
        "reused_tokens": said.reused_tokens,
        "written_tokens": said.tokens.len(),
        "signals": {
            "mean_logprob": said.mean(|token| token.logprob),
            "mean_margin": said.mean(|token| token.margin),
            "mean_entropy": said.mean(|token| token.entropy),
        },
        "timing": {
            "load_ms": ms(load_ns),
            "first_token_ms": said.first_ns().map(ms),
            "prompt_tokens_per_s": said.prompt_rate(),
            "tokens_per_s": said.answer_rate(),
            "total_ms": ms(said.times.last.saturating_sub(said.times.asked)),
        },
        "tokens": said.tokens,
    })
}

fn print_record(record: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, record).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}
