//! The wire form of protocol buffers, as far as a reader needs it: fields with numbers, one after the other
//! (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! Nothing is copied and nothing allocated; every length is checked against the bytes that are there.

/// A message, or the bytes of a field: a part of the file that knows where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Where it begins in the file.
    at: usize,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A number; negative ones as two's complement.
    Varint(u64),
    /// Text, bytes, a message, or packed numbers.
    Bytes(Message<'a>),
    /// Four or eight bytes.
    Fixed(&'a [u8]),
}

/// A place where no field can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {why}")]
pub struct WireError {
    /// Where, in bytes from the file's begin.
    pub at: usize,
    /// What is wrong there.
    pub why: &'static str,
}

impl<'a> Message<'a> {
    /// A whole file.
    pub fn new(bytes: &'a [u8]) -> Message<'a> {
        Message { bytes, at: 0 }
    }

    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// An error here.
    pub fn wrong(self, why: &'static str) -> WireError {
        WireError { at: self.at, why }
    }

    /// Its fields, in order, up to the first that cannot be read.
    pub fn fields(self) -> Fields<'a> {
        Fields { rest: self }
    }

    /// Text, if it is that and not longer than `max_bytes`.
    pub fn text(self, max_bytes: usize) -> Result<&'a str, WireError> {
        if self.bytes.len() > max_bytes {
            return Err(self.wrong("the name is longer than any honest one"));
        }
        std::str::from_utf8(self.bytes).map_err(|_| self.wrong("the name is no text"))
    }

    /// The next number.
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (place, byte) in self.bytes.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if place == 9 && bits > 1 {
                return Err(self.wrong("a number of more than 64 bits"));
            }
            value |= bits << (7 * place);
            if byte & 0x80 == 0 {
                self.skip(place + 1);
                return Ok(value);
            }
        }
        Err(self.wrong("a number that does not end"))
    }

    /// The next bytes.
    fn take(&mut self, length: u64) -> Result<Message<'a>, WireError> {
        let cut = usize::try_from(length).ok().and_then(|length| self.bytes.split_at_checked(length));
        let (taken, _) = cut.ok_or_else(|| self.wrong("a field is longer than what is left"))?;
        let at = self.at;
        self.skip(taken.len());
        Ok(Message { bytes: taken, at })
    }

    fn skip(&mut self, length: usize) {
        self.bytes = &self.bytes[length..];
        self.at += length;
    }
}

/// The fields of a message.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: Message<'a>,
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), WireError> {
        let rest = &mut self.rest;
        let tag = rest.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(rest.varint()?),
            1 => Value::Fixed(rest.take(8)?.bytes),
            2 => {
                let length = rest.varint()?;
                Value::Bytes(rest.take(length)?)
            }
            5 => Value::Fixed(rest.take(4)?.bytes),
            _ => return Err(rest.wrong("a field of no known kind")),
        };
        match tag >> 3 {
            0 => Err(rest.wrong("a field without a number")),
            number => Ok((number, value)),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.bytes.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest.bytes = &[];
        }
        Some(field)
    }
}

/// The numbers of a field that may stand one by one or packed.
pub fn numbers<'a>(value: Value<'a>) -> impl Iterator<Item = Result<u64, WireError>> + 'a {
    let (one, mut packed) = match value {
        Value::Varint(number) => (Some(Ok(number)), None),
        Value::Bytes(message) => (None, Some(message)),
        Value::Fixed(_) => (None, None),
    };
    one.into_iter().chain(std::iter::from_fn(move || {
        let rest = packed.as_mut().filter(|rest| !rest.bytes.is_empty())?;
        let number = rest.varint();
        if number.is_err() {
            packed = None;
        }
        Some(number)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_or_refused_where_they_break() {
        let read = |bytes: &[u8]| {
            let fields = Message::new(bytes).fields();
            fields.map(|field| field.map(|(number, _)| number)).collect::<Result<Vec<_>, _>>()
        };
        assert_eq!(read(&[]), Ok(vec![]));
        assert_eq!(read(&[0x08, 0x96, 0x01, 0x12, 0x02, b'a', b'b', 0x1d, 0, 0, 0, 0]), Ok(vec![1, 2, 3]));
        let wrong: [(&[u8], usize); 7] = [
            (&[0x08], 1),
            (&[0x08, 0xff], 1),
            (&[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02], 1),
            (&[0x12, 0x03, b'a', b'b'], 2),
            (&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 11),
            (&[0x0b], 1), // a group
            (&[0x00, 0x01], 2),
        ];
        for (bytes, at) in wrong {
            assert_eq!(read(bytes).unwrap_err().at, at, "{bytes:?}");
        }
        let list = |value| numbers(value).collect::<Result<Vec<_>, _>>();
        assert_eq!(list(Value::Varint(7)), Ok(vec![7]));
        assert_eq!(list(Value::Bytes(Message::new(&[1, 0x96, 0x01]))), Ok(vec![1, 150]));
        assert!(list(Value::Bytes(Message::new(&[1, 0x96]))).is_err());
    }
}
