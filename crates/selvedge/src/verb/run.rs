//! `selvedge run`: asks a model, once or turn by turn.

mod chat;
mod conversation;
mod question;
mod sampling;
mod screen;

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use lm::chat::message::{Message, Role};
use serde_json::json;
use wire::world::{Clock as _, System};

pub(crate) use self::question::Args;

use self::conversation::{Manner, plain, turns};
use self::question::question;
use self::screen::{Screen, colours, show_end, show_figures};
use crate::complaint::Usage;
use crate::engine::Engine;
use crate::speak::{Go, Said, Speaker};

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
    let speculation = args.ahead.speculation(engine, &args.options.models)?;
    let mut speaker = Speaker::new(engine, speculation, clock);
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
    if let Some(end) = show_end(&said, args.max_tokens.is_some(), engine) {
        writeln!(err, "note: {end}")?;
    }
    if args.verbose {
        writeln!(err)?;
        show_figures(&mut err, &said, Some(load_ns), seed)?;
    }
    Ok(())
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
        "draft_tokens": said.guessed_tokens,
        "accepted_draft_tokens": said.accepted_tokens,
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
