//! An answer on its way to the terminal or the pipe: streamed, thoughts dimmed, with the figures after it.

use std::io::{self, IsTerminal as _, Write};

use crate::amount::{show_number, show_time_ns};
use crate::engine::Engine;
use crate::recording::show_count;
use crate::speak::{End, Piece, Said};

/// Whether stdout takes colours: <https://no-color.org>.
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Where an answer is written as it comes.
pub(crate) struct Screen<W> {
    out: W,
    /// Show thoughts; without colours between marks.
    thoughts: bool,
    colours: bool,
    /// Blanks and line breaks before the first word are the template's or the tokenizer's, not the answer's.
    trims: bool,
    /// What was written last.
    within: Within,
    /// What came ended a line.
    at_line_start: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Nothing,
    Thoughts,
    Answer,
}

impl<W: Write> Screen<W> {
    /// On a terminal thoughts are shown; elsewhere only the answer is wanted.
    pub(crate) fn new(out: W, thoughts: bool, colours: bool, trims: bool) -> Screen<W> {
        Screen { out, thoughts, colours, trims, within: Within::Nothing, at_line_start: true }
    }

    /// Writes a piece.
    pub(crate) fn write(&mut self, piece: Piece) -> io::Result<()> {
        let (within, text) = match piece {
            Piece::Thought(text) if self.thoughts => (Within::Thoughts, text),
            Piece::Thought(_) => return Ok(()),
            Piece::Text(text) => (Within::Answer, text),
        };
        let begins = within != self.within;
        let text =
            if begins && (self.trims || within == Within::Thoughts) { text.trim_start() } else { text };
        if text.is_empty() {
            return Ok(());
        }
        if begins {
            self.turn_to(within)?;
        }
        self.out.write_all(text.as_bytes())?;
        self.at_line_start = text.ends_with('\n');
        // Who reads wants each word when it comes.
        self.out.flush()
    }

    fn turn_to(&mut self, within: Within) -> io::Result<()> {
        let (dim, plain) = if self.colours { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        if within == Within::Thoughts {
            write!(self.out, "{dim}(thinks) ")?;
        } else if self.within == Within::Thoughts {
            let end = if self.at_line_start { "" } else { "\n" };
            writeln!(self.out, "{plain}{end}")?;
        }
        self.within = within;
        Ok(())
    }

    /// Ends the line.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if self.within == Within::Thoughts && self.colours {
            write!(self.out, "\x1b[0m")?;
        }
        if !self.at_line_start || self.within == Within::Nothing {
            writeln!(self.out)?;
        }
        self.out.flush()
    }
}

/// Why the answer ended, where a reader may wonder. `bounded`: a length was asked for.
pub(crate) fn show_end(said: &Said, bounded: bool, engine: &Engine) -> Option<String> {
    match &said.end {
        End::Length if !bounded => {
            let trained = engine.model.network.shape().context;
            let more = if trained > engine.context { "; --context gives more room" } else { "" };
            Some(format!("the context of {} tokens is full{more}", show_count(engine.context as u64)))
        }
        End::Stuck(why) => Some(format!("the answer cannot go on: {why}")),
        _ => None,
    }
}

/// What was measured, line by line.
pub(crate) fn show_figures(
    out: &mut impl Write,
    said: &Said,
    load_ns: Option<u64>,
    seed: u64,
) -> io::Result<()> {
    let per_second =
        |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!(", {} tokens/s", show_number(rate)));
    if let Some(ns) = load_ns {
        writeln!(out, "loaded       in {}", show_time_ns(ns))?;
    }
    let reused = match said.reused_tokens {
        0 => String::new(),
        reused => format!(", {} known from before", show_count(reused as u64)),
    };
    writeln!(
        out,
        "prompt       {} tokens{reused}{}",
        show_count(said.prompt_tokens as u64),
        per_second(said.prompt_rate())
    )?;
    if let Some(ns) = said.first_ns() {
        writeln!(out, "first token  after {}", show_time_ns(ns))?;
    }
    let end = match &said.end {
        End::Stop => "the model ended",
        End::StopString(_) => "a stop string came",
        End::Complete => "its form is complete",
        End::Length => "no more was allowed",
        End::Interrupted => "interrupted",
        End::Stuck(_) => "it could not go on",
    };
    writeln!(
        out,
        "answer       {} tokens{}; {end}",
        show_count(said.tokens.len() as u64),
        per_second(said.answer_rate())
    )?;
    if said.guessed_tokens > 0 {
        writeln!(
            out,
            "ahead        {} tokens guessed, {} right",
            show_count(said.guessed_tokens as u64),
            show_count(said.accepted_tokens as u64)
        )?;
    }
    if let (Some(logprob), Some(margin), Some(entropy)) =
        (said.mean(|token| token.logprob), said.mean(|token| token.margin), said.mean(|token| token.entropy))
    {
        writeln!(
            out,
            "surprise     perplexity {}, margin {}, entropy {} (means, in nats)",
            show_number((-logprob).exp()),
            show_number(margin),
            show_number(entropy)
        )?;
    }
    writeln!(out, "seed         {seed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(colours: bool, pieces: &[Piece]) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, true, colours, true);
        pieces.iter().for_each(|piece| screen.write(*piece).unwrap());
        screen.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn thoughts_stand_apart_and_lines_end() {
        use Piece::{Text, Thought};
        assert_eq!(written(false, &[Text(" "), Text(" a"), Text(" b")]), "a b\n");
        assert_eq!(written(false, &[Text("a\n")]), "a\n");
        assert_eq!(written(false, &[]), "\n");
        let thoughts = [Thought("\nhm"), Thought(" ok\n"), Text("\n\nyes")];
        assert_eq!(written(false, &thoughts), "(thinks) hm ok\n\nyes\n");
        assert_eq!(written(true, &thoughts), "\x1b[2m(thinks) hm ok\n\x1b[0m\nyes\n");
        assert_eq!(written(true, &[Thought("hm")]), "\x1b[2m(thinks) hm\x1b[0m\n");
    }
}
