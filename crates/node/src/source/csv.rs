//! Reads a stranger's CSV file as readings, row by row, in bounded memory.
//!
//! Used by the replay source and by whoever wants to look at a file. What always holds: a record longer than 1 MiB or
//! wider than 1 024 columns ends the reading with an error that names the line; anything smaller that is wrong (a bad
//! time, a row out of order, a cell that is no number) costs that row or cell, is counted in a [`Tally`], and the
//! first of its kind is kept for the report. Times must not go back: the tolerance is zero.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use wire::world::WallMs;

use super::table::{Head, Records, Split, TableError};
use super::tally::Tally;
use super::time::TimeReader;
use crate::config::problem::did_you_mean;

/// The most columns a file may have.
pub const MAX_COLUMNS: usize = 1_024;
/// Rows looked at to decide which columns hold numbers.
const HEAD_ROWS: usize = 100;
/// The longest name of a channel, in bytes.
const NAME_MAX_BYTES: usize = 256;

/// How to read a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsvOptions {
    /// The column that holds the time; absent: found by its name or its cells.
    pub time: Option<String>,
    /// The columns that are channels, in this order; absent: all that hold numbers.
    pub channels: Option<Vec<String>>,
    /// The column that says whether the row is an anomaly; it is no channel then.
    pub truth: Option<String>,
    /// Columns that are not channels either.
    pub exclude: Vec<String>,
}

/// Why a file gives no readings.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// The file could not be opened or read.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no table, or not one of this size.
    #[error("{}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TableError,
    },
    /// The header does not fit what was asked.
    #[error("{}:{line}: {message} ({help})", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The line the message speaks of, from 1.
        line: u64,
        /// What is wrong.
        message: String,
        /// What to do.
        help: String,
    },
    /// Every row was refused.
    #[error("{}: no usable row: {tally} ({})", path.display(), mend_of(tally))]
    NothingUsable {
        /// The file.
        path: PathBuf,
        /// What was wrong with them.
        tally: Box<Tally>,
    },
}

/// Whether `path` is a pipe or a device, which gives its bytes once: whoever looks into it first takes them from the
/// reader after it.
pub fn is_read_once(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir())
}

/// One row of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The line it begins on, from 1.
    pub line: u64,
    /// Its time.
    pub t_ms: WallMs,
    /// Shape: `[channels]`; NaN where there is no value.
    pub values: Vec<f64>,
    /// Whether the truth column calls it an anomaly; `None` without such a column.
    pub truth: Option<bool>,
}

/// Reads one file from its begin to its end.
pub struct CsvReader {
    path: PathBuf,
    records: Records<Box<dyn Read + Send>>,
    columns: Columns,
    time: TimeReader,
    newest_ms: Option<WallMs>,
    tally: Tally,
}

/// Which column is what.
#[derive(Debug)]
struct Columns {
    count: usize,
    time: usize,
    truth: Option<usize>,
    /// Column index of each channel.
    channels: Vec<usize>,
    names: Vec<String>,
    decimal_comma: bool,
}

impl CsvReader {
    /// Opens a file and reads its head: separator, header, which columns are channels.
    pub fn open(path: &Path, options: &CsvOptions) -> Result<CsvReader, CsvError> {
        let file = File::open(path).map_err(|source| CsvError::Io { path: path.to_path_buf(), source })?;
        CsvReader::new(path, Box::new(file), options)
    }

    /// The same for bytes from elsewhere; `path` is only named in messages.
    pub fn new(
        path: &Path,
        bytes: Box<dyn Read + Send>,
        options: &CsvOptions,
    ) -> Result<CsvReader, CsvError> {
        let table = |source| match source {
            TableError::Io(source) => CsvError::Io { path: path.to_path_buf(), source },
            source => CsvError::Table { path: path.to_path_buf(), source },
        };
        let (head, mut records) = Head::read(bytes, HEAD_ROWS, MAX_COLUMNS).map_err(table)?;
        let columns = Columns::choose(&head, options).map_err(|(line, message, help)| CsvError::Header {
            path: path.to_path_buf(),
            line,
            message,
            help,
        })?;
        // Up to and with the header.
        while records.next_record().map_err(table)?.is_some_and(|record| record.line < head.line) {}
        let (time, tally) = (TimeReader::default(), Tally::default());
        Ok(CsvReader { path: path.to_path_buf(), records, columns, time, newest_ms: None, tally })
    }

    /// The channels, in the order of [`Row::values`].
    pub fn channels(&self) -> &[String] {
        &self.columns.names
    }

    /// What was refused so far, and what was read.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Reads the next usable row into `row`; `false` at the end. An end without any usable row is an error.
    pub fn read_row(&mut self, row: &mut Row) -> Result<bool, CsvError> {
        loop {
            let record = match self.records.next_record() {
                Ok(Some(record)) => record,
                Ok(None) if self.tally.rows == 0 => {
                    let (path, tally) = (self.path.clone(), Box::new(self.tally.clone()));
                    return Err(CsvError::NothingUsable { path, tally });
                }
                Ok(None) => return Ok(false),
                Err(TableError::Io(source)) => return Err(CsvError::Io { path: self.path.clone(), source }),
                Err(source) => return Err(CsvError::Table { path: self.path.clone(), source }),
            };
            let line = record.line;
            let Ok(text) = std::str::from_utf8(record.bytes) else {
                self.tally.not_utf8.count(line);
                continue;
            };
            let cells = Split { text, ends: record.ends };
            if cells.len() == 1 && text.trim().is_empty() {
                continue;
            }
            if cells.len() > self.columns.count {
                self.tally.too_wide.count(line);
                continue;
            }
            if cells.len() < self.columns.count {
                self.tally.ragged.count(line);
            }
            let Some(t_ms) = self.time.read(cells.get(self.columns.time).trim()) else {
                self.tally.bad_time.count(line);
                continue;
            };
            if !self.tally.takes(t_ms, &mut self.newest_ms, line) {
                continue;
            }
            row.line = line;
            row.t_ms = t_ms;
            row.truth = self.columns.truth.map(|column| is_true(cells.get(column)));
            row.values.clear();
            for column in &self.columns.channels {
                let value = match cell(cells.get(*column), self.columns.decimal_comma) {
                    Cell::Number(value) => value,
                    Cell::Missing => {
                        self.tally.missing += 1;
                        f64::NAN
                    }
                    Cell::Text => {
                        self.tally.text.count(line);
                        f64::NAN
                    }
                };
                row.values.push(value);
            }
            return Ok(true);
        }
    }
}

/// What stands in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    Number(f64),
    Missing,
    Text,
}

/// Reads a cell of a number column. `decimal_comma`: whether `1,5` is one and a half.
fn cell(text: &str, decimal_comma: bool) -> Cell {
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Cell::Number(value),
        Ok(_) => Cell::Missing,
        Err(_) => {
            const MISSING: [&str; 9] = ["", "null", "none", "na", "n/a", "-", "nil", "missing", "undefined"];
            if MISSING.iter().any(|word| text.eq_ignore_ascii_case(word)) {
                return Cell::Missing;
            }
            let comma = decimal_comma && text.matches(',').count() == 1 && !text.contains('.');
            match text.replacen(',', ".", 1).parse::<f64>() {
                Ok(value) if comma && value.is_finite() => Cell::Number(value),
                _ => Cell::Text,
            }
        }
    }
}

/// What a truth column says: nothing, zero, `false`, `no`, `none` and `normal` mean "no anomaly", all else is one.
pub(super) fn is_true(text: &str) -> bool {
    const NO: [&str; 6] = ["", "false", "no", "none", "normal", "nan"];
    let text = text.trim();
    !(NO.iter().any(|word| text.eq_ignore_ascii_case(word)) || text.parse::<f64>() == Ok(0.0))
}

/// What to do about a file whose every row was refused.
fn mend_of(tally: &Tally) -> &'static str {
    if tally.bad_time.count > 0 {
        "times are RFC 3339, `2026-01-31 10:00:00` or unix: is it the right column?"
    } else if tally.too_wide.count > 0 {
        "is the header's number of columns that of the rows?"
    } else {
        "save it as UTF-8"
    }
}

type HeaderProblem = (u64, String, String);

impl Columns {
    fn choose(head: &Head, options: &CsvOptions) -> Result<Columns, HeaderProblem> {
        let decimal_comma = head.delimiter != b',';
        let line = head.line;
        let names = &head.header;
        let mend =
            |word: &str| did_you_mean(word, names.iter().map(String::as_str).filter(|name| !name.is_empty()));
        let mut time = TimeReader::default();
        let looks_like_data = |name: &String| {
            matches!(cell(name, decimal_comma), Cell::Number(_)) || TimeReader::default().read(name).is_some()
        };
        if names.iter().all(looks_like_data) {
            let help = "put the names of the columns on the first line".to_owned();
            return Err((
                line,
                "the first line is no header: all of it is numbers or times".to_owned(),
                help,
            ));
        }
        if let Some(long) = names.iter().find(|name| name.len() > NAME_MAX_BYTES) {
            let shown: String = long.chars().take(30).collect();
            let message = format!("the column name that begins with {shown:?} has {} bytes", long.len());
            return Err((line, message, format!("a name may have {NAME_MAX_BYTES}")));
        }
        if let Some(odd) = names.iter().find(|name| name.chars().any(char::is_control)) {
            let message = format!("the column name {odd:?} has control characters");
            return Err((line, message, "give the column a plain name, on one line".to_owned()));
        }
        let find = |wanted: &str, what: &str| -> Result<usize, HeaderProblem> {
            let mut places = names.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(at, _)| at);
            match (places.next(), places.next()) {
                (Some(at), None) => Ok(at),
                (Some(_), Some(_)) => {
                    let message = format!("the header has `{wanted}` more than once");
                    Err((line, message, "give each column a name of its own".to_owned()))
                }
                (None, _) => Err((
                    line,
                    format!("the header has no column `{wanted}`, wanted as {what}"),
                    mend(wanted),
                )),
            }
        };

        let time_column = match &options.time {
            Some(wanted) => find(wanted, "the time")?,
            None => {
                const KNOWN: [&str; 6] = ["timestamp", "time", "datetime", "date", "ts", "t"];
                let by_name = KNOWN
                    .iter()
                    .find_map(|known| names.iter().position(|name| name.eq_ignore_ascii_case(known)));
                let by_cells = || (0..names.len()).find(|column| head.column(*column).is_time(&mut time));
                by_name.or_else(by_cells).ok_or_else(|| {
                    let message = "no column holds the time".to_owned();
                    (
                        line,
                        message,
                        "name it with `time = \"…\"` (`--time`); times are RFC 3339, `2026-01-31 10:00:00` or unix"
                            .to_owned(),
                    )
                })?
            }
        };
        let truth = options.truth.as_ref().map(|wanted| find(wanted, "the truth")).transpose()?;
        for wanted in &options.exclude {
            find(wanted, "a column to leave out")?;
        }

        let channels = match &options.channels {
            Some(wanted) => {
                let mut channels = Vec::with_capacity(wanted.len());
                for name in wanted {
                    let column = find(name, "a channel")?;
                    let cells = head.column(column);
                    if cells.numbers(decimal_comma) == 0
                        && let Some((line, text)) = cells.first_text(decimal_comma)
                    {
                        let message =
                            format!("column {} (`{name}`) holds text, such as {text:?}", column + 1);
                        return Err((
                            line,
                            message,
                            "a channel holds numbers; take it out of `channels`".to_owned(),
                        ));
                    }
                    channels.push(column);
                }
                channels
            }
            None => {
                let free = |column: &usize| {
                    *column != time_column
                        && Some(*column) != truth
                        && !names[*column].is_empty()
                        && !options.exclude.contains(&names[*column])
                };
                let numeric = |column: &usize| {
                    let cells = head.column(*column);
                    cells.numbers(decimal_comma) > 0 || cells.first_text(decimal_comma).is_none()
                };
                (0..names.len()).filter(free).filter(numeric).collect()
            }
        };
        if channels.is_empty() {
            let message = "no column holds numbers".to_owned();
            return Err((
                line,
                message,
                "a channel is a column whose first 100 cells are not all text".to_owned(),
            ));
        }
        let chosen: Vec<String> = channels.iter().map(|column| names[*column].clone()).collect();
        for name in &chosen {
            find(name, "a channel")?;
        }
        Ok(Columns { count: names.len(), time: time_column, truth, channels, names: chosen, decimal_comma })
    }
}

/// The cells of one column in the head.
struct HeadColumn<'a> {
    cells: Vec<(u64, &'a str)>,
}

impl Head {
    fn column(&self, column: usize) -> HeadColumn<'_> {
        let cells = self.rows.iter().filter_map(|(line, row)| Some((*line, row.get(column)?.as_str())));
        HeadColumn { cells: cells.collect() }
    }
}

impl HeadColumn<'_> {
    fn numbers(&self, decimal_comma: bool) -> usize {
        self.cells.iter().filter(|(_, text)| matches!(cell(text, decimal_comma), Cell::Number(_))).count()
    }

    fn first_text(&self, decimal_comma: bool) -> Option<(u64, &str)> {
        self.cells.iter().copied().find(|(_, text)| cell(text, decimal_comma) == Cell::Text)
    }

    /// Whether every cell is a time, and not only a small number.
    fn is_time(&self, time: &mut TimeReader) -> bool {
        let certain = |text: &str| match text.trim().parse::<f64>() {
            // Unix seconds since September 2001: anything smaller is more likely a measurement.
            Ok(number) => number >= 1e9 && number.fract() == 0.0,
            Err(_) => true,
        };
        !self.cells.is_empty()
            && self.cells.iter().all(|(_, text)| certain(text) && time.read(text.trim()).is_some())
    }
}
