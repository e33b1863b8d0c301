//! A chat on a terminal: turn by turn, each answer as it is written, until Ctrl-D.
//!
//! Lines come from `Lines` and go to a writer, so that a chat can be played in a test. What was said before is not read
//! again: the speaker knows it.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use lm::chat::message::{Message, Role};
use lm::guess::Speculation;
use rustyline::error::ReadlineError;
use serde_json::{Value, json};
use wire::world::System;

use super::conversation::{Manner, plain, turns};
use super::question::{Args, question};
use super::screen::{Screen, colours, show_end, show_figures};

use crate::amount::show_parameters;
use crate::engine::Engine;
use crate::interrupt::Interrupt;
use crate::recording::show_count;
use crate::speak::{End, Go, Speaker};

const HELP: &str = "\
  /system [TEXT]  give instructions, and begin anew; without a text, drop them
  /clear          begin anew
  /again          have the last answer written again
  /save FILE      write the conversation to a file, as JSON messages
  /load FILE      go on with a conversation from a file
  /figures        show what was measured after each answer, or no longer
  /bye            leave; Ctrl-D does too
  \"\"\"             begins and ends a text of several lines
  Ctrl-C          ends an answer
";

/// What came from the keyboard.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D.
    End,
}

/// Where lines come from.
trait Lines {
    fn next(&mut self, prompt: &str) -> anyhow::Result<Line>;
}

/// The terminal: with editing, and history of this chat alone.
struct Keyboard(rustyline::Editor<(), rustyline::history::MemHistory>);

impl Lines for Keyboard {
    fn next(&mut self, prompt: &str) -> anyhow::Result<Line> {
        match self.0.readline(prompt) {
            Ok(line) => {
                if !line.trim().is_empty() {
                    self.0.add_history_entry(line.as_str())?;
                }
                Ok(Line::Text(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error).context("the terminal cannot be read"),
        }
    }
}

pub(crate) fn run(args: &Args, engine: &Engine, manner: &Manner, clock: System) -> anyhow::Result<()> {
    let history = rustyline::history::MemHistory::new();
    let mut keyboard = Keyboard(rustyline::Editor::with_history(rustyline::Config::default(), history)?);
    let interrupt = Interrupt::listen_to_ctrl_c()?;
    let interrupted = || interrupt.wait(Duration::ZERO);
    let speculation = args.ahead.speculation(engine, &args.options.models)?;
    let mut chat = Chat::new(args, engine, manner, speculation, clock);
    chat.hold(&mut keyboard, &mut io::stdout(), &interrupted)
}

struct Chat<'a> {
    args: &'a Args,
    engine: &'a Engine,
    manner: &'a Manner,
    speaker: Speaker,
    /// All turns so far; the system's first, if there is one.
    messages: Vec<Message>,
    figures: bool,
}

/// Whether the chat goes on.
#[derive(PartialEq, Eq)]
enum After {
    Next,
    Leave,
    /// The last question is asked again.
    Ask,
}

impl<'a> Chat<'a> {
    fn new(
        args: &'a Args,
        engine: &'a Engine,
        manner: &'a Manner,
        speculation: Speculation,
        clock: System,
    ) -> Chat<'a> {
        let messages = args.system.iter().map(|text| Message::new(Role::System, text.as_str())).collect();
        let speaker = Speaker::new(engine, speculation, clock);
        Chat { args, engine, manner, speaker, messages, figures: args.verbose }
    }

    /// Holds the chat to its end.
    fn hold(
        &mut self,
        lines: &mut dyn Lines,
        out: &mut dyn Write,
        interrupted: &dyn Fn() -> bool,
    ) -> anyhow::Result<()> {
        self.greet(out)?;
        loop {
            let text = match read(lines)? {
                Line::End => {
                    writeln!(out)?;
                    return Ok(());
                }
                Line::Interrupted => {
                    writeln!(out, "Ctrl-D leaves.")?;
                    continue;
                }
                Line::Text(text) => text,
            };
            let after = match text.trim_start().strip_prefix('/') {
                _ if text.trim().is_empty() => After::Next,
                Some(command) => self.command(command, out)?,
                None => {
                    self.messages.push(Message::new(Role::User, text));
                    After::Ask
                }
            };
            match after {
                After::Leave => return Ok(()),
                After::Next => {}
                After::Ask => self.answer(out, interrupted)?,
            }
        }
    }

    fn greet(&self, out: &mut dyn Write) -> io::Result<()> {
        let facts = &self.engine.model.facts;
        writeln!(
            out,
            "{}: {}, {} parameters, {}; context {}. /help shows what else there is, Ctrl-D leaves.",
            self.engine.name,
            facts.family,
            show_parameters(facts.parameters),
            facts.quantisation,
            show_count(self.engine.context as u64)
        )?;
        if matches!(self.manner, Manner::Plain) && !self.args.raw {
            writeln!(
                out,
                "It has no chat template: it continues what you write, and each line stands alone."
            )?;
        }
        Ok(())
    }

    /// Writes the answer to what was said last. A question that cannot be asked is taken back.
    fn answer(&mut self, out: &mut dyn Write, interrupted: &dyn Fn() -> bool) -> anyhow::Result<()> {
        match self.try_answer(out, interrupted) {
            Ok(()) => Ok(()),
            Err(error) if error.downcast_ref::<io::Error>().is_some() => Err(error),
            Err(error) => {
                self.messages.pop();
                writeln!(out, "{error}")?;
                for cause in error.chain().skip(1) {
                    writeln!(out, "  because {cause}")?;
                }
                if self.messages.iter().any(|message| message.role != Role::System) {
                    writeln!(out, "Your last text was taken back; /clear begins anew.")?;
                }
                Ok(())
            }
        }
    }

    fn try_answer(&mut self, out: &mut dyn Write, interrupted: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let prepared = match self.manner {
            Manner::Plain => {
                let text =
                    self.messages.last().and_then(|message| message.content.as_deref()).unwrap_or_default();
                plain(self.engine, text)
            }
            Manner::Chat(template) => turns(self.engine, template, &self.messages, self.args.think)?,
        };
        let trims = matches!(self.manner, Manner::Chat(_));
        let settings = self.args.sampling.settings(self.engine)?;
        let seed = settings.seed;
        let question = question(self.args, self.engine, prepared, settings)?;
        // What was pressed before the question is not meant for its answer.
        let _ = interrupted();
        let mut screen = Screen::new(&mut *out, true, colours(), trims);
        let said = self.speaker.ask(question, |piece| {
            screen.write(piece)?;
            Ok(if interrupted() { Go::Stop } else { Go::On })
        })?;
        screen.end()?;
        if said.end == End::Interrupted {
            writeln!(out, "(interrupted)")?;
        }
        if let Some(end) = show_end(&said, self.args.max_tokens.is_some(), self.engine) {
            writeln!(out, "({end})")?;
        }
        if self.figures {
            show_figures(&mut &mut *out, &said, None, seed)?;
        }
        writeln!(out)?;
        self.messages.push(Message::new(Role::Assistant, said.text));
        Ok(())
    }

    fn command(&mut self, command: &str, out: &mut dyn Write) -> anyhow::Result<After> {
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let done = match word {
            "help" | "?" => out.write_all(HELP.as_bytes()).map(|()| After::Next)?,
            "bye" | "exit" | "quit" => After::Leave,
            "clear" => {
                self.messages.retain(|message| message.role == Role::System);
                self.speaker.forget();
                writeln!(out, "A new conversation.")?;
                After::Next
            }
            "system" => {
                self.set_system(rest, out)?;
                After::Next
            }
            "again" => self.again(out)?,
            "save" | "load" if rest.is_empty() => {
                writeln!(out, "/{word} needs the name of a file.")?;
                After::Next
            }
            "save" => {
                match save(&self.messages, Path::new(rest)) {
                    Ok(()) => writeln!(out, "Saved to {rest}.")?,
                    Err(error) => writeln!(out, "{error:#}")?,
                }
                After::Next
            }
            "load" => {
                match load(Path::new(rest)) {
                    Ok(messages) => {
                        writeln!(out, "{} messages; the conversation goes on.", messages.len())?;
                        self.messages = messages;
                    }
                    Err(error) => writeln!(out, "{error:#}")?,
                }
                After::Next
            }
            "figures" => {
                self.figures = !self.figures;
                writeln!(out, "Figures are {}.", if self.figures { "shown" } else { "not shown" })?;
                After::Next
            }
            _ => {
                writeln!(out, "There is no /{word}; /help shows what there is.")?;
                After::Next
            }
        };
        Ok(done)
    }

    fn set_system(&mut self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        if matches!(self.manner, Manner::Plain) {
            return writeln!(out, "Without a chat template the model knows no instructions.");
        }
        self.messages.clear();
        if !text.is_empty() {
            self.messages.push(Message::new(Role::System, text));
        }
        let what = if text.is_empty() { "without instructions" } else { "with these instructions" };
        writeln!(out, "A new conversation {what}.")
    }

    fn again(&mut self, out: &mut dyn Write) -> io::Result<After> {
        if self.messages.last().is_some_and(|message| message.role == Role::Assistant) {
            self.messages.pop();
        }
        match self.messages.last() {
            Some(message) if message.role == Role::User => Ok(After::Ask),
            _ => writeln!(out, "There is nothing to answer yet.").map(|()| After::Next),
        }
    }
}

/// A line, or a text of several between `"""` and `"""`.
fn read(lines: &mut dyn Lines) -> anyhow::Result<Line> {
    const MARK: &str = "\"\"\"";
    let line = lines.next(">>> ")?;
    let Line::Text(first) = &line else { return Ok(line) };
    let Some(begun) = first.trim_start().strip_prefix(MARK) else { return Ok(line) };
    let mut text = begun.to_owned();
    loop {
        if let Some((whole, _)) = text.split_once(MARK) {
            return Ok(Line::Text(whole.trim_matches('\n').to_owned()));
        }
        match lines.next("... ")? {
            Line::Text(more) => text = format!("{text}\n{more}"),
            // A text that is given up is not sent.
            Line::Interrupted => return Ok(Line::Text(String::new())),
            Line::End => return Ok(Line::End),
        }
    }
}

fn save(messages: &[Message], path: &Path) -> anyhow::Result<()> {
    let messages =
        messages.iter().map(|message| json!({"role": message.role.name(), "content": message.content}));
    let text = serde_json::to_string_pretty(&messages.collect::<Value>())?;
    std::fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))
}

fn load(path: &Path) -> anyhow::Result<Vec<Message>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let not = || format!("{} is no conversation", path.display());
    let value: Value = serde_json::from_str(&text).with_context(not)?;
    Message::list_from_json(&value).with_context(not)
}
