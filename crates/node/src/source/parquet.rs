//! Reads a stranger's Parquet file as readings, a batch of rows at a time.
//!
//! Columns that stand at the top and hold numbers are channels; nested and repeated ones are left out. The time is a column of times,
//! or of numbers and texts as CSV has them. A null is a missing value. Of each column there are at most a page and a batch of rows in
//! memory, whatever the file's size; a file that declares more than this for one column of a row group is refused.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, Int96};
use parquet::errors::ParquetError;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::ColumnDescriptor;
use wire::world::WallMs;

use super::csv::{CsvOptions, MAX_COLUMNS, Row, is_true};
use super::tally::Tally;
use super::time::TimeReader;
use crate::config::problem::did_you_mean;

/// Rows that are read at a time.
const BATCH: usize = 1_024;
/// The most bytes that one column of a row group may say it has, unpacked.
const COLUMN_MAX_BYTES: i64 = 1 << 30;
/// The most bytes of a file's own description.
const FOOTER_MAX_BYTES: u64 = 64 << 20;
/// The longest text that is looked at: a time, or a word of truth.
const TEXT_MAX_BYTES: usize = 64;
/// The longest name of a channel, in bytes.
const NAME_MAX_BYTES: usize = 256;

/// Why a file gives no readings.
#[derive(Debug, thiserror::Error)]
pub enum ParquetTrouble {
    /// The file could not be opened or read.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is damaged, or packed in a way that this build does not unpack.
    #[error("{}: cannot be read as Parquet", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
    /// The crate that reads Parquet gives up on some damaged files with a panic.
    #[error("{}: the file is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It asks for more memory than is given.
    #[error("{}: {what} has {bytes} bytes, at most {most} are read: write it with smaller row groups", path.display())]
    Large {
        /// The file.
        path: PathBuf,
        /// What of it.
        what: String,
        /// How many it has.
        bytes: u64,
        /// How many there may be.
        most: u64,
    },
    /// Its columns do not fit what was asked.
    #[error("{}: {message} ({help})", path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
        /// What to do.
        help: String,
    },
    /// Every row was refused.
    #[error("{}: no usable row: {tally}", path.display())]
    NothingUsable {
        /// The file.
        path: PathBuf,
        /// What was wrong with them.
        tally: Box<Tally>,
    },
}

/// Reads one file from its begin to its end.
pub struct ParquetReader {
    path: PathBuf,
    file: SerializedFileReader<File>,
    columns: Columns,
    /// The row group that is read next.
    next_group: usize,
    /// Of the row group under way: a reader for each column, in the order of [`Columns::all`].
    readers: Vec<ColumnReader>,
    /// Of the batch under way: each column's cells.
    cells: Vec<Vec<Cell>>,
    /// The next row of the batch.
    at: usize,
    /// Rows begun.
    line: u64,
    time: TimeReader,
    newest_ms: Option<WallMs>,
    tally: Tally,
}

/// A column that is read: its place among the leaves of the schema, and how its values mean something.
#[derive(Debug, Clone)]
struct Column {
    leaf: usize,
    name: String,
    kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Numbers; each is multiplied by this.
    Number { scale: f64, is_unsigned: bool },
    /// Times, in so many parts of a millisecond.
    Time { per_ms: i64 },
    /// Days.
    Day,
    /// Texts.
    Text,
}

/// Which column is what. The time comes first, then the truth if there is one, then the channels.
struct Columns {
    all: Vec<Column>,
    has_truth: bool,
    names: Vec<String>,
}

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Missing,
    Whole(i64),
    Number(f64),
    Text(String),
}

impl ParquetReader {
    /// Opens a file and reads its description: which columns are channels.
    pub fn open(path: &Path, options: &CsvOptions) -> Result<ParquetReader, ParquetTrouble> {
        let io = |source| ParquetTrouble::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let bytes = footer_bytes(&mut file).map_err(io)?;
        if bytes > FOOTER_MAX_BYTES {
            let (path, what) = (path.to_owned(), "its description".to_owned());
            return Err(ParquetTrouble::Large { path, what, bytes, most: FOOTER_MAX_BYTES });
        }
        let file = guarded(path, || SerializedFileReader::new(file))?;
        let columns = Columns::choose(&file, options).map_err(|(message, help)| ParquetTrouble::Columns {
            path: path.to_owned(),
            message,
            help,
        })?;
        Ok(ParquetReader {
            path: path.to_owned(),
            file,
            columns,
            next_group: 0,
            readers: Vec::new(),
            cells: Vec::new(),
            at: 0,
            line: 0,
            time: TimeReader::default(),
            newest_ms: None,
            tally: Tally::default(),
        })
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
    pub fn read_row(&mut self, row: &mut Row) -> Result<bool, ParquetTrouble> {
        loop {
            while self.at >= self.cells.first().map_or(0, Vec::len) {
                if !self.next_batch()? {
                    if self.tally.rows == 0 {
                        let (path, tally) = (self.path.clone(), Box::new(self.tally.clone()));
                        return Err(ParquetTrouble::NothingUsable { path, tally });
                    }
                    return Ok(false);
                }
            }
            let at = self.at;
            self.at += 1;
            self.line += 1;
            let line = self.line;
            let Some(t_ms) = self.columns.all[0].kind.time(&self.cells[0][at], &mut self.time) else {
                self.tally.bad_time.count(line);
                continue;
            };
            if !self.tally.takes(t_ms, &mut self.newest_ms, line) {
                continue;
            }
            let first = 1 + usize::from(self.columns.has_truth);
            (row.line, row.t_ms) = (line, t_ms);
            row.truth = self.columns.has_truth.then(|| truth(&self.cells[1][at]));
            row.values.clear();
            for (column, cells) in self.columns.all.iter().zip(&self.cells).skip(first) {
                let value = column.kind.number(&cells[at]);
                self.tally.missing += u64::from(value.is_nan());
                row.values.push(value);
            }
            return Ok(true);
        }
    }

    /// Reads the cells of the next rows; `false` at the end of the file.
    fn next_batch(&mut self) -> Result<bool, ParquetTrouble> {
        loop {
            if !self.readers.is_empty() {
                let ParquetReader { path, columns, readers, cells, .. } = self;
                let batch = guarded(path, || {
                    let kinds = columns.all.iter().map(|column| column.kind);
                    readers
                        .iter_mut()
                        .zip(kinds)
                        .map(|(reader, kind)| read(reader, kind))
                        .collect::<Result<_, _>>()
                })?;
                *cells = batch;
                self.at = 0;
                let rows = self.cells[0].len();
                if self.cells.iter().any(|cells| cells.len() != rows) {
                    return Err(ParquetTrouble::Damaged { path: self.path.clone() });
                }
                if rows > 0 {
                    return Ok(true);
                }
                self.readers.clear();
            }
            if self.next_group >= self.file.num_row_groups() {
                return Ok(false);
            }
            self.open_group()?;
        }
    }

    fn open_group(&mut self) -> Result<(), ParquetTrouble> {
        let (path, at) = (self.path.clone(), self.next_group);
        self.next_group += 1;
        let group = guarded(&path, || self.file.get_row_group(at))?;
        for Column { leaf, name, .. } in &self.columns.all {
            let bytes = group.metadata().column(*leaf).uncompressed_size();
            if !(0..=COLUMN_MAX_BYTES).contains(&bytes) {
                let (bytes, most) = (bytes.unsigned_abs(), COLUMN_MAX_BYTES.unsigned_abs());
                return Err(ParquetTrouble::Large {
                    path,
                    what: format!("a row group of column `{name}`"),
                    bytes,
                    most,
                });
            }
        }
        self.readers = guarded(&path, || {
            self.columns
                .all
                .iter()
                .map(|column| group.get_column_reader(column.leaf))
                .collect::<Result<_, _>>()
        })?;
        Ok(())
    }
}

/// How long a file says that its description is: the four bytes before its last four.
fn footer_bytes(file: &mut File) -> std::io::Result<u64> {
    let mut end = [0; 8];
    if file.metadata()?.len() < 12 {
        return Ok(0);
    }
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut end)?;
    file.rewind()?;
    Ok(u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]])))
}

/// Does something with the crate that reads Parquet, which may give up by a panic.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetTrouble> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(source)) => Err(ParquetTrouble::Read { path: path.to_owned(), source }),
        Err(_) => Err(ParquetTrouble::Damaged { path: path.to_owned() }),
    }
}

/// The cells of the next rows of a column; none at the end of its row group.
fn read(reader: &mut ColumnReader, kind: Kind) -> Result<Vec<Cell>, ParquetError> {
    let is_unsigned = matches!(kind, Kind::Number { is_unsigned: true, .. });
    let text = |bytes: ByteArray| match std::str::from_utf8(bytes.data()) {
        Ok(text) if text.len() <= TEXT_MAX_BYTES => Cell::Text(text.to_owned()),
        _ => Cell::Missing,
    };
    match reader {
        ColumnReader::BoolColumnReader(reader) => cells(reader, |value| Cell::Whole(value.into())),
        ColumnReader::Int32ColumnReader(reader) => cells(reader, |value| {
            Cell::Whole(if is_unsigned { i64::from(value as u32) } else { i64::from(value) })
        }),
        ColumnReader::Int64ColumnReader(reader) => {
            cells(
                reader,
                |value| {
                    if is_unsigned { Cell::Number(value as u64 as f64) } else { Cell::Whole(value) }
                },
            )
        }
        ColumnReader::Int96ColumnReader(reader) => {
            cells(reader, |value: Int96| Cell::Whole(value.to_millis()))
        }
        ColumnReader::FloatColumnReader(reader) => cells(reader, |value| Cell::Number(value.into())),
        ColumnReader::DoubleColumnReader(reader) => cells(reader, Cell::Number),
        ColumnReader::ByteArrayColumnReader(reader) => cells(reader, text),
        // No column of this kind is chosen.
        ColumnReader::FixedLenByteArrayColumnReader(reader) => cells(reader, |_| Cell::Missing),
    }
}

fn cells<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    cell: impl Fn(T::T) -> Cell,
) -> Result<Vec<Cell>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let mut rows = 0;
    while rows < BATCH {
        let (read, _, _) = reader.read_records(BATCH - rows, Some(&mut levels), None, &mut values)?;
        if read == 0 {
            break;
        }
        rows += read;
    }
    let mut values = values.into_iter().map(cell);
    if levels.is_empty() {
        // Without nulls there are no levels.
        return Ok(values.collect());
    }
    Ok(levels
        .iter()
        .map(|level| if *level > 0 { values.next().unwrap_or(Cell::Missing) } else { Cell::Missing })
        .collect())
}

/// What a cell of a truth column says; as CSV has it.
fn truth(cell: &Cell) -> bool {
    match cell {
        Cell::Missing => false,
        Cell::Whole(value) => *value != 0,
        Cell::Number(value) => *value != 0.0 && !value.is_nan(),
        Cell::Text(text) => is_true(text),
    }
}

impl Kind {
    /// What a leaf of the schema holds; `None` for what is neither a number nor a time nor a text, and for what is nested.
    fn of(leaf: &ColumnDescriptor) -> Option<Kind> {
        if leaf.path().parts().len() != 1 || leaf.max_rep_level() > 0 || leaf.max_def_level() > 1 {
            return None;
        }
        let number = |scale, is_unsigned| Some(Kind::Number { scale, is_unsigned });
        let per_ms = |unit: &TimeUnit| match unit {
            TimeUnit::MILLIS => 1,
            TimeUnit::MICROS => 1_000,
            TimeUnit::NANOS => 1_000_000,
        };
        match (leaf.physical_type(), leaf.logical_type_ref(), leaf.converted_type()) {
            (Type::INT64, Some(LogicalType::Timestamp(time)), _) => {
                Some(Kind::Time { per_ms: per_ms(&time.unit) })
            }
            (Type::INT64, None, ConvertedType::TIMESTAMP_MILLIS) | (Type::INT96, _, _) => {
                Some(Kind::Time { per_ms: 1 })
            }
            (Type::INT64, None, ConvertedType::TIMESTAMP_MICROS) => Some(Kind::Time { per_ms: 1_000 }),
            (Type::INT32, Some(LogicalType::Date), _) | (Type::INT32, None, ConvertedType::DATE) => {
                Some(Kind::Day)
            }
            (Type::INT32 | Type::INT64, Some(LogicalType::Decimal(decimal)), _)
                if (0..=18).contains(&decimal.scale) =>
            {
                number(10f64.powi(-decimal.scale), false)
            }
            (Type::INT32 | Type::INT64, Some(LogicalType::Integer(whole)), _) => {
                number(1.0, !whole.is_signed)
            }
            (
                Type::INT32 | Type::INT64,
                None,
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64,
            ) => number(1.0, true),
            (
                Type::INT32 | Type::INT64,
                None,
                ConvertedType::NONE
                | ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64,
            )
            | (Type::BOOLEAN | Type::FLOAT | Type::DOUBLE, _, _) => number(1.0, false),
            (Type::BYTE_ARRAY, Some(LogicalType::String), _)
            | (Type::BYTE_ARRAY, None, ConvertedType::UTF8) => Some(Kind::Text),
            _ => None,
        }
    }

    fn time(self, cell: &Cell, reader: &mut TimeReader) -> Option<WallMs> {
        match (self, cell) {
            (Kind::Time { per_ms }, Cell::Whole(time)) => Some(time.div_euclid(per_ms)),
            (Kind::Day, Cell::Whole(days)) => days.checked_mul(86_400_000),
            (_, Cell::Whole(number)) => reader.read(&number.to_string()),
            (_, Cell::Number(number)) => reader.read(&number.to_string()),
            (_, Cell::Text(text)) => reader.read(text.trim()),
            (_, Cell::Missing) => None,
        }
    }

    fn number(self, cell: &Cell) -> f64 {
        let Kind::Number { scale, .. } = self else { return f64::NAN };
        let value = match cell {
            Cell::Whole(value) => *value as f64 * scale,
            Cell::Number(value) => *value,
            Cell::Missing | Cell::Text(_) => f64::NAN,
        };
        if value.is_finite() { value } else { f64::NAN }
    }
}

impl Columns {
    fn choose(file: &SerializedFileReader<File>, options: &CsvOptions) -> Result<Columns, (String, String)> {
        let schema = file.metadata().file_metadata().schema_descr();
        if schema.num_columns() > MAX_COLUMNS {
            let message = format!("it has {} columns", schema.num_columns());
            return Err((message, format!("a recording has at most {MAX_COLUMNS}")));
        }
        let mut known: Vec<Column> = Vec::new();
        for (leaf, descriptor) in schema.columns().iter().enumerate() {
            let Some(kind) = Kind::of(descriptor) else { continue };
            let name = descriptor.name().to_owned();
            let is_name =
                !name.is_empty() && name.len() <= NAME_MAX_BYTES && !name.contains(char::is_control);
            if !is_name || known.iter().any(|other| other.name == name) {
                let shown: String = name.chars().take(30).collect();
                let message = format!("the name of column {}, {shown:?}, cannot be used", leaf + 1);
                return Err((message, "give each column a plain name of its own".to_owned()));
            }
            known.push(Column { leaf, name, kind });
        }
        let find = |wanted: &String, what: &str| {
            known.iter().find(|column| column.name == *wanted).cloned().ok_or_else(|| {
                let names = known.iter().map(|column| column.name.as_str());
                (format!("it has no column `{wanted}`, wanted as {what}"), did_you_mean(wanted, names))
            })
        };
        let time = match &options.time {
            Some(wanted) => find(wanted, "the time")?,
            None => {
                const KNOWN: [&str; 6] = ["timestamp", "time", "datetime", "date", "ts", "t"];
                let by_name = KNOWN
                    .iter()
                    .find_map(|name| known.iter().find(|column| column.name.eq_ignore_ascii_case(name)));
                let by_kind = || known.iter().find(|column| matches!(column.kind, Kind::Time { .. }));
                by_name.or_else(by_kind).cloned().ok_or_else(|| {
                    let help = "name it with `time = \"…\"` (`--time`)";
                    ("no column holds the time".to_owned(), help.to_owned())
                })?
            }
        };
        let truth = options.truth.as_ref().map(|wanted| find(wanted, "the truth")).transpose()?;
        for wanted in &options.exclude {
            find(wanted, "a column to leave out")?;
        }
        let is_number = |column: &Column| matches!(column.kind, Kind::Number { .. });
        let channels: Vec<Column> = match &options.channels {
            Some(wanted) => wanted.iter().map(|name| find(name, "a channel")).collect::<Result<_, _>>()?,
            None => {
                let is_free = |column: &&Column| {
                    column.leaf != time.leaf
                        && truth.as_ref().is_none_or(|truth| truth.leaf != column.leaf)
                        && !options.exclude.contains(&column.name)
                        && is_number(column)
                };
                known.iter().filter(is_free).cloned().collect()
            }
        };
        if let Some(other) = channels.iter().find(|column| !is_number(column)) {
            let message = format!("column `{}` does not hold numbers", other.name);
            return Err((message, "a channel holds numbers; take it out of `channels`".to_owned()));
        }
        if channels.is_empty() {
            let help = "a channel is a column of numbers at the top of the schema";
            return Err(("no column holds numbers".to_owned(), help.to_owned()));
        }
        let names = channels.iter().map(|column| column.name.clone()).collect();
        let has_truth = truth.is_some();
        let all = std::iter::once(time).chain(truth).chain(channels).collect();
        Ok(Columns { all, has_truth, names })
    }
}
