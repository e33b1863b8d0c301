//! The tokenizer.model of a folder: a SentencePiece model, of which the pieces are needed.
//!
//! The file is a protocol buffer (`sentencepiece_model.proto`): field 1 are the pieces (text, score, type), field 2 the
//! trainer's settings, of which the kind of model matters, field 3 the normaliser's, of which the space before a text
//! matters. Read here in the few lines it takes; everything else is stepped over.

/// A tokenizer.model that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SentencePieceError {
    /// Not a protocol buffer, or cut short.
    #[error("tokenizer.model is not a SentencePiece model, or was cut short, at byte {at}")]
    Broken {
        /// Where.
        at: usize,
    },
    /// A model that is no BPE.
    #[error("tokenizer.model holds a {found} model; BPE and unigram are supported")]
    Kind {
        /// What it is.
        found: &'static str,
    },
}

/// A piece of the vocabulary.
#[derive(Clone, PartialEq, Debug)]
pub struct Piece {
    /// Its text, `▁` for a space.
    pub text: String,
    /// The higher, the earlier it is joined.
    pub score: f32,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte: the same numbers as in GGUF.
    pub kind: i32,
}

/// What is needed of a model.
#[derive(Clone, PartialEq, Debug)]
pub struct SentencePiece {
    /// The vocabulary.
    pub pieces: Vec<Piece>,
    /// A space is put before every text.
    pub space_prefix: bool,
}

/// Reads a model.
pub fn read(bytes: &[u8]) -> Result<SentencePiece, SentencePieceError> {
    let mut fields = Fields { bytes, at: 0 };
    let mut model = SentencePiece { pieces: Vec::new(), space_prefix: true };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(content, at)) => model.pieces.push(piece(content, at)?),
            (2, Field::Bytes(content, at)) => trainer(content, at)?,
            (3, Field::Bytes(content, at)) => normaliser(content, at, &mut model.space_prefix)?,
            _ => {}
        }
    }
    if model.pieces.is_empty() { Err(SentencePieceError::Broken { at: 0 }) } else { Ok(model) }
}

fn piece(bytes: &[u8], base: usize) -> Result<Piece, SentencePieceError> {
    let mut fields = Fields { bytes, at: 0 };
    let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
    let shifted = |error| shift(error, base);
    while let Some((number, field)) = fields.next().map_err(shifted)? {
        match (number, field) {
            (1, Field::Bytes(text, at)) => {
                let text = std::str::from_utf8(text);
                piece.text = text.map_err(|_| SentencePieceError::Broken { at: base + at })?.to_owned();
            }
            (2, Field::Four(score)) => piece.score = f32::from_bits(score),
            (3, Field::Number(kind @ 1..=6)) => piece.kind = kind as i32,
            _ => {}
        }
    }
    Ok(piece)
}

fn trainer(bytes: &[u8], base: usize) -> Result<(), SentencePieceError> {
    let mut fields = Fields { bytes, at: 0 };
    while let Some((number, field)) = fields.next().map_err(|error| shift(error, base))? {
        match (number, field) {
            (3, Field::Number(3)) => return Err(SentencePieceError::Kind { found: "word" }),
            (3, Field::Number(4)) => return Err(SentencePieceError::Kind { found: "character" }),
            _ => {}
        }
    }
    Ok(())
}

fn normaliser(bytes: &[u8], base: usize, space_prefix: &mut bool) -> Result<(), SentencePieceError> {
    let mut fields = Fields { bytes, at: 0 };
    while let Some((number, field)) = fields.next().map_err(|error| shift(error, base))? {
        if let (3, Field::Number(prefix)) = (number, field) {
            *space_prefix = prefix != 0;
        }
    }
    Ok(())
}

fn shift(error: SentencePieceError, base: usize) -> SentencePieceError {
    match error {
        SentencePieceError::Broken { at } => SentencePieceError::Broken { at: base + at },
        other => other,
    }
}

/// A field of a protocol buffer.
enum Field<'a> {
    Number(u64),
    Four(u32),
    Eight,
    /// The content, and where it begins.
    Bytes(&'a [u8], usize),
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// The next field and its number; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, SentencePieceError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.number()?;
        let field = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => {
                self.take(8)?;
                Field::Eight
            }
            2 => {
                let length = self.number()?;
                let content = self.take(length)?;
                Field::Bytes(content, self.at - content.len())
            }
            5 => {
                let four = self.take(4)?;
                Field::Four(u32::from_le_bytes(four.try_into().expect("four were taken")))
            }
            _ => return Err(SentencePieceError::Broken { at: self.at }),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn number(&mut self) -> Result<u64, SentencePieceError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(SentencePieceError::Broken { at: self.at })
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], SentencePieceError> {
        let broken = SentencePieceError::Broken { at: self.at };
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(broken)?;
        self.at += taken.len();
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | kind];
        if kind == 2 {
            bytes.push(content.len() as u8);
        }
        bytes.extend(content);
        bytes
    }

    fn sample() -> Vec<u8> {
        let piece = |text: &str, score: f32, kind: u8| {
            let inside =
                [field(1, 2, text.as_bytes()), field(2, 5, &score.to_le_bytes()), field(3, 0, &[kind])];
            field(1, 2, &inside.concat())
        };
        let trainer =
            field(2, 2, &[field(3, 0, &[2]), field(10, 5, &[0; 4]), field(11, 1, &[0; 8])].concat());
        let normaliser = field(3, 2, &[field(1, 2, b"identity"), field(3, 0, &[0])].concat());
        [piece("<unk>", 0.0, 2), piece("▁the", -3.5, 1), piece("<0x0A>", 0.0, 6), trainer, normaliser]
            .concat()
    }

    #[test]
    fn pieces_are_read_and_the_rest_is_stepped_over() {
        let model = read(&sample()).unwrap();
        assert!(!model.space_prefix);
        let found = model.pieces;
        let expected = [("<unk>", 0.0, 2), ("▁the", -3.5, 1), ("<0x0A>", 0.0, 6)];
        for (piece, (text, score, kind)) in found.iter().zip(expected) {
            assert_eq!(*piece, Piece { text: text.to_owned(), score, kind });
        }
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn broken_models_are_errors() {
        let whole = sample();
        let mut whole_prefixes = 0;
        for length in 0..whole.len() {
            // A cut between two fields leaves a valid file of fewer pieces.
            whole_prefixes += usize::from(read(&whole[..length]).is_ok());
        }
        assert_eq!(whole_prefixes, 4);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            // Any outcome but a panic.
            drop(read(&changed));
        }
        let word = field(2, 2, &field(3, 0, &[3]));
        assert_eq!(read(&word), Err(SentencePieceError::Kind { found: "word" }));
        assert_eq!(read(&[0xff; 20]), Err(SentencePieceError::Broken { at: 10 }));
    }
}
