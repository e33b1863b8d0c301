//! Text token by token: never half a character, U+FFFD for what never becomes one.
//!
//! Stands after the sampler. Always: all that was given out, in order, is `String::from_utf8_lossy` of the tokens'
//! bytes. At most three bytes are held back.

use super::Tokenizer;

/// Turns a stream of tokens into text.
#[derive(Debug)]
pub struct Decoder<'t> {
    tokenizer: &'t Tokenizer,
    /// Bytes that may still become a character.
    held: Vec<u8>,
    /// What the last call gave out.
    given: String,
    shows_control: bool,
    /// A blank at the beginning of the next token is SentencePiece's own.
    drops_blank: bool,
}

impl Tokenizer {
    /// The text of tokens that begin a text, control tokens left out: the blank that SentencePiece puts before the
    /// first word is taken off. What is not UTF-8 becomes U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        self.decode_with(self.decoder().at_start(), tokens)
    }

    /// The same with the names of control tokens: `<|im_start|>user`.
    pub fn decode_with_control(&self, tokens: &[u32]) -> String {
        self.decode_with(self.decoder().at_start().with_control(), tokens)
    }

    fn decode_with(&self, mut decoder: Decoder<'_>, tokens: &[u32]) -> String {
        let mut text = String::with_capacity(tokens.len() * 4);
        for &token in tokens {
            text.push_str(decoder.push(token));
        }
        text.push_str(decoder.finish());
        text
    }

    /// Text token by token, for an answer that goes on after a prompt.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder::new(self)
    }
}

impl<'t> Decoder<'t> {
    fn new(tokenizer: &'t Tokenizer) -> Decoder<'t> {
        Decoder {
            tokenizer,
            held: Vec::new(),
            given: String::new(),
            shows_control: false,
            drops_blank: false,
        }
    }

    /// The tokens begin a text: the blank that SentencePiece puts before the first word is taken off.
    #[must_use]
    pub fn at_start(mut self) -> Decoder<'t> {
        self.drops_blank = match &self.tokenizer.engine {
            super::Engine::SentencePiece(engine) => engine.adds_blank(),
            super::Engine::WordPiece(_) => true,
            super::Engine::Bpe(_) => false,
        };
        self
    }

    /// Control tokens are shown by name.
    #[must_use]
    pub fn with_control(mut self) -> Decoder<'t> {
        self.shows_control = true;
        self
    }

    /// Takes a token and gives the text that is whole now; often a word, sometimes nothing.
    pub fn push(&mut self, token: u32) -> &str {
        self.given.clear();
        if self.tokenizer.is_special(token) && !self.shows_control {
            return "";
        }
        let bytes = self.tokenizer.bytes_of(token);
        let mut bytes = &bytes[..];
        if self.drops_blank && !self.tokenizer.is_special(token) {
            self.drops_blank = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.held.extend_from_slice(bytes);
        let mut done = 0;
        while let Err(error) = std::str::from_utf8(&self.held[done..]) {
            let valid = done + error.valid_up_to();
            push_valid(&mut self.given, &self.held[done..valid]);
            match error.error_len() {
                Some(length) => {
                    self.given.push(char::REPLACEMENT_CHARACTER);
                    done = valid + length;
                }
                None => {
                    self.held.drain(..valid);
                    return &self.given;
                }
            }
        }
        push_valid(&mut self.given, &self.held[done..]);
        self.held.clear();
        &self.given
    }

    /// No more tokens: what was held back, as U+FFFD.
    pub fn finish(&mut self) -> &str {
        self.given.clear();
        if !self.held.is_empty() {
            self.held.clear();
            self.given.push(char::REPLACEMENT_CHARACTER);
        }
        &self.given
    }

    /// True if bytes are held back that are no whole character yet.
    pub fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }
}

fn push_valid(text: &mut String, bytes: &[u8]) {
    // Nothing is lost: the bytes were found to be UTF-8.
    text.push_str(std::str::from_utf8(bytes).unwrap_or_default());
}
