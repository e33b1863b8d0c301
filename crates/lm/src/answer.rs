//! What a sequence writes, as text: tokens in, whole characters out, stop strings held back.
//!
//! Text leaves an [`Answer`] only when it can no longer become something else: half a character waits for its other
//! half, and what could be the beginning of a stop string waits until it is one or is not.

use crate::tokenizer::Tokenizer;
use crate::tokenizer::decoder::Decoder;

/// The text that one sequence has written so far.
pub struct Answer<'t> {
    decoder: Decoder<'t>,
    stops: Vec<String>,
    /// Whole characters that may yet be the beginning of a stop string.
    held: String,
    stopped: Option<usize>,
    tokenizer: &'t Tokenizer,
    /// Control tokens that are text all the same.
    shown: Vec<u32>,
}

impl<'t> Answer<'t> {
    /// An empty answer that ends before the first of `stops` that it would hold. Empty stop strings stop nothing.
    pub fn new(tokenizer: &'t Tokenizer, stops: Vec<String>) -> Answer<'t> {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        let decoder = tokenizer.decoder();
        Answer { decoder, stops, held: String::new(), stopped: None, tokenizer, shown: Vec::new() }
    }

    /// Writes these control tokens out by name: the marks of tool calls and thoughts, which somebody reads.
    #[must_use]
    pub fn showing(mut self, control: Vec<u32>) -> Answer<'t> {
        self.shown = control;
        self
    }

    /// Adds a token; gives the text that is now certain, which may be empty.
    pub fn push(&mut self, token: u32) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        let text = if self.shown.contains(&token) {
            let before = self.decoder.finish().to_owned();
            before + &String::from_utf8_lossy(&self.tokenizer.bytes_of(token))
        } else {
            self.decoder.push(token).to_owned()
        };
        self.take(&text)
    }

    /// Adds text that no token wrote, such as what a decoder gives at its end.
    fn take(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let first = self.stops.iter().enumerate();
        let first =
            first.filter_map(|(index, stop)| self.held.find(stop.as_str()).map(|at| (at, index))).min();
        if let Some((at, index)) = first {
            self.stopped = Some(index);
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let certain = self.held.len() - self.uncertain();
        let rest = self.held.split_off(certain);
        std::mem::replace(&mut self.held, rest)
    }

    /// How many bytes at the end could be the beginning of a stop string.
    fn uncertain(&self) -> usize {
        let held = self.held.as_str();
        let longest = |stop: &String| {
            let starts = held.char_indices().map(|(at, _)| at).filter(|at| held.len() - at < stop.len());
            starts.map(|at| &held[at..]).find(|end| stop.starts_with(end)).map_or(0, str::len)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }

    /// The stop string that ended the answer.
    pub fn stop(&self) -> Option<&str> {
        self.stopped.map(|index| self.stops[index].as_str())
    }

    /// The rest of the text, when no token follows.
    pub fn finish(&mut self) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        let rest = self.decoder.finish().to_owned();
        let mut text = self.take(&rest);
        if self.stopped.is_none() {
            text.push_str(&std::mem::take(&mut self.held));
        }
        text
    }
}
