//! Cuts a stranger's bytes into records of cells, in bounded memory.
//!
//! Beneath `csv`: knows separators, quotes, line ends and the byte-order mark, nothing of times and numbers. A record
//! is at most 1 MiB and 1 024 columns; whatever is longer is refused before it is read, so a line of 1 GB (or a quote
//! that nobody closed) costs 1 MiB.

use std::io::{Cursor, Read};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// The longest record, in bytes.
pub const RECORD_MAX_BYTES: usize = 1 << 20;
const BUFFER_BYTES: usize = 1 << 16;

/// Why the bytes are no table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Reading failed.
    #[error("cannot be read")]
    Io(#[source] std::io::Error),
    /// Nothing but blank space.
    #[error("the file is empty: it should begin with the names of its columns")]
    Empty,
    /// A header, and nothing below it.
    #[error("the file ends after its header: put rows of data below it")]
    HeaderOnly,
    /// Something else than text.
    #[error("this is {what}, not a CSV file in UTF-8: {help}")]
    NotText {
        /// What it looks like.
        what: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// A record beyond [`RECORD_MAX_BYTES`].
    #[error(
        "line {line} is longer than {RECORD_MAX_BYTES} bytes: the rest was not read \
         (a quote that is not closed makes one record of many lines)"
    )]
    TooLong {
        /// The line it begins on, from 1.
        line: u64,
    },
    /// A record with more columns than allowed.
    #[error("line {line} has more than {max} columns: leave some out, or make several files of it")]
    TooWide {
        /// The line it begins on, from 1.
        line: u64,
        /// The most allowed.
        max: usize,
    },
}

/// One record, borrowed from its reader.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    /// The line it begins on, from 1.
    pub line: u64,
    /// The cells, unquoted, one behind the other.
    pub bytes: &'a [u8],
    /// Where each cell ends in `bytes`.
    pub ends: &'a [usize],
}

/// A record's cells as text.
#[derive(Debug, Clone, Copy)]
pub struct Split<'a> {
    /// The cells, one behind the other.
    pub text: &'a str,
    /// Where each ends.
    pub ends: &'a [usize],
}

impl<'a> Split<'a> {
    /// How many cells.
    #[expect(clippy::len_without_is_empty, reason = "a record has at least one cell")]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Cell `at`; empty where the record has none, or where cells were cut inside a character.
    pub fn get(&self, at: usize) -> &'a str {
        let Some(end) = self.ends.get(at) else { return "" };
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        self.text.get(start..*end).unwrap_or("")
    }
}

/// Reads record after record.
pub struct Records<R> {
    bytes: R,
    reader: Reader,
    max_columns: usize,
    buffer: Vec<u8>,
    /// The part of `buffer` not yet parsed.
    unread: std::ops::Range<usize>,
    cells: Vec<u8>,
    ends: Vec<usize>,
}

impl<R: Read> Records<R> {
    /// Records of `bytes`, whose cells are separated by `delimiter`.
    pub fn new(bytes: R, delimiter: u8, max_columns: usize) -> Records<R> {
        let reader = ReaderBuilder::new().delimiter(delimiter).build();
        let (buffer, cells, ends) = (vec![0; BUFFER_BYTES], vec![0; 1 << 10], vec![0; 32]);
        Records { bytes, reader, max_columns, buffer, unread: 0..0, cells, ends }
    }

    /// The next record; `None` at the end. Blank lines are no records.
    pub fn next_record(&mut self) -> Result<Option<RawRecord<'_>>, TableError> {
        let (mut cells_len, mut ends_len) = (0, 0);
        loop {
            if self.unread.is_empty() {
                let len = read_some(&mut self.bytes, &mut self.buffer)?;
                self.unread = 0..len;
            }
            let input = &self.buffer[self.unread.clone()];
            let (result, read, wrote, ended) =
                self.reader.read_record(input, &mut self.cells[cells_len..], &mut self.ends[ends_len..]);
            // The line of a terminated record has been counted already; quoted line ends too.
            let terminated = read > 0 && input[read - 1] == b'\n';
            self.unread.start += read;
            cells_len += wrote;
            ends_len += ended;
            let line = |cells: &[u8]| {
                let inner = cells.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.reader.line().saturating_sub(u64::from(terminated) + inner)
            };
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.cells.len() < RECORD_MAX_BYTES => {
                    let longer = (2 * self.cells.len()).min(RECORD_MAX_BYTES);
                    self.cells.resize(longer, 0);
                }
                ReadRecordResult::OutputFull => {
                    return Err(TableError::TooLong { line: line(&self.cells[..cells_len]) });
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() <= self.max_columns => {
                    let more = (2 * self.ends.len()).min(self.max_columns + 1);
                    self.ends.resize(more, 0);
                }
                ReadRecordResult::OutputEndsFull => {
                    let (line, max) = (line(&self.cells[..cells_len]), self.max_columns);
                    return Err(TableError::TooWide { line, max });
                }
                ReadRecordResult::Record => {
                    let line = line(&self.cells[..cells_len]);
                    if ends_len > self.max_columns {
                        return Err(TableError::TooWide { line, max: self.max_columns });
                    }
                    let (bytes, ends) = (&self.cells[..cells_len], &self.ends[..ends_len]);
                    return Ok(Some(RawRecord { line, bytes, ends }));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }
}

fn read_some(bytes: &mut impl Read, buffer: &mut [u8]) -> Result<usize, TableError> {
    loop {
        match bytes.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result.map_err(TableError::Io),
        }
    }
}

/// The begin of a file: enough to see what its columns are.
#[derive(Debug)]
pub struct Head {
    /// What separates the cells: `,`, `;` or a tab, whichever the header has most of.
    pub delimiter: u8,
    /// The line of the header, from 1.
    pub line: u64,
    /// The names of the columns, trimmed.
    pub header: Vec<String>,
    /// The first rows with their lines, without those that are not UTF-8.
    pub rows: Vec<(u64, Vec<String>)>,
}

impl Head {
    /// Reads the head, and gives all records from the header on.
    pub fn read(
        mut bytes: Box<dyn Read + Send>,
        rows: usize,
        max_columns: usize,
    ) -> Result<(Head, Records<Box<dyn Read + Send>>), TableError> {
        let mut start = Vec::new();
        loop {
            let wanted = (2 * start.len()).clamp(BUFFER_BYTES, RECORD_MAX_BYTES + BUFFER_BYTES) - start.len();
            let before = start.len();
            bytes.by_ref().take(wanted as u64).read_to_end(&mut start).map_err(TableError::Io)?;
            let whole = start.len() < before + wanted;
            let enough = whole || start.len() > RECORD_MAX_BYTES;
            if let Some(head) = Head::parse(&start, rows, max_columns, whole, enough)? {
                let delimiter = head.delimiter;
                let all: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(bytes));
                return Ok((head, Records::new(all, delimiter, max_columns)));
            }
        }
    }

    /// `whole`: nothing follows `start`. `enough`: there will not be more to look at. `None`: more is needed.
    fn parse(
        start: &[u8],
        rows_wanted: usize,
        max_columns: usize,
        whole: bool,
        enough: bool,
    ) -> Result<Option<Head>, TableError> {
        refuse_binary(start)?;
        let delimiter = sniff(start);
        let mut records = Records::new(start, delimiter, max_columns);
        let (mut header, mut rows, mut below) = (None, Vec::new(), 0);
        while rows.len() <= rows_wanted {
            let Some(RawRecord { line, bytes, ends }) = records.next_record()? else { break };
            below += usize::from(header.is_some());
            match (std::str::from_utf8(bytes), &header) {
                (Ok(text), None) if text.trim().is_empty() && ends.len() == 1 => {}
                (Ok(text), None) => {
                    let cells = Split { text, ends };
                    let names: Vec<String> =
                        (0..cells.len()).map(|at| cells.get(at).trim().to_owned()).collect();
                    header = Some((line, names));
                }
                (Err(_), None) => {
                    let help = "its header is not UTF-8 text; save it as UTF-8";
                    return Err(TableError::NotText { what: "something else", help });
                }
                (Ok(text), Some(_)) => {
                    let cells = Split { text, ends };
                    rows.push((line, (0..cells.len()).map(|at| cells.get(at).to_owned()).collect()));
                }
                (Err(_), Some(_)) => {}
            }
        }
        if !whole {
            // The last record may have been cut.
            if rows.pop().is_none() {
                header = None;
            }
            if rows.len() < rows_wanted && !enough {
                return Ok(None);
            }
        }
        match header {
            None if whole => Err(TableError::Empty),
            None => Err(TableError::TooLong { line: 1 }),
            Some(_) if whole && below == 0 => Err(TableError::HeaderOnly),
            Some((line, header)) => Ok(Some(Head { delimiter, line, header, rows })),
        }
    }
}

/// Names what people most often send instead of a CSV file.
fn refuse_binary(start: &[u8]) -> Result<(), TableError> {
    const KNOWN: [(&[u8], &str, &str); 6] = [
        (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
        (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
        (b"\x1f\x8b", "a gzip archive", "unpack it first"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
        (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or export it as CSV"),
        (b"PAR1", "a Parquet file", "export it as CSV"),
    ];
    for (magic, what, help) in KNOWN {
        if start.starts_with(magic) {
            return Err(TableError::NotText { what, help });
        }
    }
    if start.iter().take(BUFFER_BYTES).any(|byte| *byte == 0) {
        return Err(TableError::NotText { what: "binary data", help: "it has zero bytes" });
    }
    Ok(())
}

/// The separator that the first line with text has most of, outside quotes.
fn sniff(start: &[u8]) -> u8 {
    let (mut counts, mut quoted, mut text) = ([(b',', 0), (b';', 0), (b'\t', 0)], false, false);
    for byte in start {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted && text => break,
            _ if quoted => {}
            _ => counts
                .iter_mut()
                .filter(|(delimiter, _)| delimiter == byte)
                .for_each(|(_, count)| *count += 1),
        }
        text |= !byte.is_ascii_whitespace();
    }
    // The last of equals wins with `max_by_key`, and a comma should.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| delimiter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Result<Vec<(u64, Vec<String>)>, TableError> {
        let mut records = Records::new(text, sniff(text), 4);
        let mut rows = Vec::new();
        while let Some(RawRecord { line, bytes, ends }) = records.next_record()? {
            let cells = Split { text: std::str::from_utf8(bytes).unwrap(), ends };
            rows.push((line, (0..cells.len()).map(|at| cells.get(at).to_owned()).collect()));
        }
        Ok(rows)
    }

    #[test]
    fn cells_and_lines() {
        fn check(text: &str, expected: &[(u64, &[&str])]) {
            let rows = all(text.as_bytes()).unwrap();
            let rows: Vec<(u64, Vec<&str>)> =
                rows.iter().map(|(line, row)| (*line, row.iter().map(String::as_str).collect())).collect();
            let expected: Vec<(u64, Vec<&str>)> =
                expected.iter().map(|(line, row)| (*line, row.to_vec())).collect();
            assert_eq!(rows, expected, "{text:?}");
        }
        check("a,b\n1,2\n", &[(1, &["a", "b"]), (2, &["1", "2"])]);
        check("a,b\r\n1,2\r\n3,4", &[(1, &["a", "b"]), (2, &["1", "2"]), (3, &["3", "4"])]);
        check("\u{feff}a;b;c,d\n1;2,5;\n", &[(1, &["a", "b", "c,d"]), (2, &["1", "2,5", ""])]);
        check("a\tb\n1\t\n", &[(1, &["a", "b"]), (2, &["1", ""])]);
        check("\"a;;;\",b\n\"1\n2\",3\n4,5\n", &[(1, &["a;;;", "b"]), (2, &["1\n2", "3"]), (4, &["4", "5"])]);
        check("a\n\n\n1\n", &[(1, &["a"]), (4, &["1"])]);
        check("", &[]);
    }

    #[test]
    fn long_records_are_refused_before_they_are_read() {
        struct Endless(u64);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0 += buffer.len() as u64;
                assert!(self.0 < 4 << 20, "read on after the limit");
                buffer.fill(b'7');
                Ok(buffer.len())
            }
        }
        let long = b"a,b\n1,2\n".chain(Endless(0));
        let mut records = Records::new(long, b',', 4);
        assert!(records.next_record().is_ok() && records.next_record().is_ok());
        assert!(matches!(records.next_record(), Err(TableError::TooLong { line: 3 })));
        let head = Head::read(Box::new(Endless(0)), 100, 4).map(|_| ()).unwrap_err();
        assert!(matches!(head, TableError::TooLong { line: 1 }), "{head}");
        let open_quote = b"a,b\n1,2\n\"3,4\n5,6\n".chain(Endless(0));
        let mut records = Records::new(open_quote, b',', 4);
        assert!(records.next_record().is_ok() && records.next_record().is_ok());
        assert!(matches!(records.next_record(), Err(TableError::TooLong { line: 3 })));
    }

    #[test]
    fn wide_records_are_refused() {
        assert_eq!(all(b"1,2,3,4").unwrap().len(), 1);
        assert!(matches!(all(b"a\n1,2,3,4,5\n"), Err(TableError::TooWide { line: 2, max: 4 })));
        let wide = vec![b','; 100_000];
        assert!(matches!(all(&wide), Err(TableError::TooWide { line: 1, max: 4 })));
    }

    #[test]
    fn heads() {
        fn check(text: &[u8], expected: &str) {
            let error = Head::read(Box::new(Cursor::new(text.to_vec())), 3, 4).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        check(b"", "empty");
        check(b"\n \n", "empty");
        check(b"a,b\n", "after its header");
        check(b"a,b", "after its header");
        check(b"\x1f\x8b\x08", "gzip");
        check(b"PK\x03\x04", "spreadsheet");
        check(b"\xff\xfea\0", "UTF-16");
        check(b"a\0b", "binary");
        check(b"\xe9,b\n1,2", "not UTF-8");
        let text = b"t,v\n1,2\n3,\xe9\n5,6\n7,8\n9,10\n".to_vec();
        let (head, mut records) = Head::read(Box::new(Cursor::new(text)), 3, 4).unwrap();
        assert_eq!((head.line, head.header.len(), head.rows.len()), (1, 2, 4));
        assert_eq!(records.next_record().unwrap().unwrap().bytes, b"tv");
    }
}
