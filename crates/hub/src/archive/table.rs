//! Records and losses as Parquet, and back: one row group, zstd, words that repeat in dictionaries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use crate::store::archives::LossRow;
use crate::store::records::RecordRow;

/// The columns of records, in this order.
const RECORDS: &str = "message record {
    required int64 id;
    required binary node (STRING);
    required binary journal (STRING);
    required binary stream (STRING);
    required int64 seq;
    required binary kind (STRING);
    required binary boot (STRING);
    required int64 mono_ns;
    required int64 wall_ms (TIMESTAMP(MILLIS,true));
    required binary clock (STRING);
    required fixed_len_byte_array(32) hash;
    required binary body (STRING);
}";

/// The columns of losses, in this order.
const GAPS: &str = "message gap {
    required int64 id;
    required binary node (STRING);
    required binary journal (STRING);
    required binary stream (STRING);
    required binary class (STRING);
    required int64 first;
    required int64 last;
    required binary reason (STRING);
    required fixed_len_byte_array(32) hash;
    required int64 noted_ms (TIMESTAMP(MILLIS,true));
}";

/// Columns whose values seldom repeat.
const UNIQUE: [&str; 6] = ["id", "seq", "mono_ns", "wall_ms", "hash", "body"];

/// How hard is compressed.
const LEVEL: i32 = 3;

/// The most rows that are read of a file.
const ROWS_MAX: i64 = 1 << 20;

/// A file that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Parquet says so.
    #[error("the table cannot be written or read as Parquet")]
    Parquet(#[from] ParquetError),
    /// Other columns, or a value that cannot stand there.
    #[error("column {0} of the table is not as an archive of records has it")]
    Column(&'static str),
    /// The crate that reads Parquet gives up on some damaged files with a panic.
    #[error("the table is damaged")]
    Damaged,
    /// More rows than we write.
    #[error("the table has {0} rows, at most {ROWS_MAX} are read")]
    Long(i64),
}

/// Records of one class, as a file.
pub fn from_records(rows: &[RecordRow]) -> Result<Vec<u8>, TableError> {
    write(RECORDS, |table| {
        table.numbers(rows.iter().map(|row| row.id))?;
        table.texts(rows.iter().map(|row| &row.node))?;
        table.texts(rows.iter().map(|row| &row.journal))?;
        table.texts(rows.iter().map(|row| &row.stream))?;
        table.numbers(rows.iter().map(|row| row.seq))?;
        table.texts(rows.iter().map(|row| &row.kind))?;
        table.texts(rows.iter().map(|row| &row.boot))?;
        table.numbers(rows.iter().map(|row| row.mono_ns))?;
        table.numbers(rows.iter().map(|row| row.wall_ms))?;
        table.texts(rows.iter().map(|row| &row.clock))?;
        table.hashes(rows.iter().map(|row| &row.hash))?;
        table.texts(rows.iter().map(|row| &row.body))
    })
}

/// The records of a file; their class stands in its name.
pub fn to_records(file: Bytes, class: &str) -> Result<Vec<RecordRow>, TableError> {
    let mut all = Vec::new();
    read(file, |table, count| {
        let (id, node) = (table.numbers("id")?, table.texts("node")?);
        let (journal, stream, seq) = (table.texts("journal")?, table.texts("stream")?, table.numbers("seq")?);
        let (kind, boot, mono_ns) = (table.texts("kind")?, table.texts("boot")?, table.numbers("mono_ns")?);
        let (wall_ms, clock) = (table.numbers("wall_ms")?, table.texts("clock")?);
        let (hash, body) = (table.hashes("hash")?, table.texts("body")?);
        let mut words = [node, journal, stream, kind, boot, clock, body].map(Vec::into_iter);
        let mut numbers = [id, seq, mono_ns, wall_ms].map(Vec::into_iter);
        let mut hash = hash.into_iter();
        for _ in 0..count {
            let mut word = |at: usize| words[at].next().unwrap_or_default();
            let mut number = |at: usize| numbers[at].next().unwrap_or_default();
            all.push(RecordRow {
                id: number(0),
                node: word(0),
                journal: word(1),
                stream: word(2),
                class: class.to_owned(),
                seq: number(1),
                kind: word(3),
                boot: word(4),
                mono_ns: number(2),
                wall_ms: number(3),
                clock: word(5),
                hash: hash.next().unwrap_or_default(),
                body: word(6),
            });
        }
        Ok(())
    })?;
    Ok(all)
}

/// Losses, as a file.
pub fn from_gaps(rows: &[LossRow]) -> Result<Vec<u8>, TableError> {
    write(GAPS, |table| {
        table.numbers(rows.iter().map(|row| row.id))?;
        table.texts(rows.iter().map(|row| &row.node))?;
        table.texts(rows.iter().map(|row| &row.journal))?;
        table.texts(rows.iter().map(|row| &row.stream))?;
        table.texts(rows.iter().map(|row| &row.class))?;
        table.numbers(rows.iter().map(|row| row.first))?;
        table.numbers(rows.iter().map(|row| row.last))?;
        table.texts(rows.iter().map(|row| &row.reason))?;
        table.hashes(rows.iter().map(|row| &row.hash))?;
        table.numbers(rows.iter().map(|row| row.noted_ms))
    })
}

/// The losses of a file.
pub fn to_gaps(file: Bytes) -> Result<Vec<LossRow>, TableError> {
    let mut all = Vec::new();
    read(file, |table, count| {
        let (id, node, journal) = (table.numbers("id")?, table.texts("node")?, table.texts("journal")?);
        let (stream, class) = (table.texts("stream")?, table.texts("class")?);
        let (first, last, reason) = (table.numbers("first")?, table.numbers("last")?, table.texts("reason")?);
        let (hash, noted_ms) = (table.hashes("hash")?, table.numbers("noted_ms")?);
        let mut words = [node, journal, stream, class, reason].map(Vec::into_iter);
        let mut numbers = [id, first, last, noted_ms].map(Vec::into_iter);
        let mut hash = hash.into_iter();
        for _ in 0..count {
            let mut word = |at: usize| words[at].next().unwrap_or_default();
            let mut number = |at: usize| numbers[at].next().unwrap_or_default();
            all.push(LossRow {
                id: number(0),
                node: word(0),
                journal: word(1),
                stream: word(2),
                class: word(3),
                first: number(1),
                last: number(2),
                reason: word(4),
                hash: hash.next().unwrap_or_default(),
                noted_ms: number(3),
            });
        }
        Ok(())
    })?;
    Ok(all)
}

/// A table on its way into a file, column by column.
struct Columns<'a, 'b>(&'a mut SerializedRowGroupWriter<'b, Vec<u8>>);

impl Columns<'_, '_> {
    fn numbers(&mut self, values: impl Iterator<Item = i64>) -> Result<(), TableError> {
        let mut column = self.0.next_column()?.ok_or(TableError::Column("of a number"))?;
        column.typed::<Int64Type>().write_batch(&values.collect::<Vec<_>>(), None, None)?;
        Ok(column.close()?)
    }

    fn texts<'s>(&mut self, values: impl Iterator<Item = &'s String>) -> Result<(), TableError> {
        let mut column = self.0.next_column()?.ok_or(TableError::Column("of a text"))?;
        let values: Vec<ByteArray> = values.map(|text| text.as_bytes().to_vec().into()).collect();
        column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
        Ok(column.close()?)
    }

    fn hashes<'s>(&mut self, values: impl Iterator<Item = &'s Vec<u8>>) -> Result<(), TableError> {
        let mut column = self.0.next_column()?.ok_or(TableError::Column("of a hash"))?;
        let values: Vec<FixedLenByteArray> = values.map(|hash| hash.clone().into()).collect();
        if values.iter().any(|hash| hash.data().len() != 32) {
            return Err(TableError::Column("hash"));
        }
        column.typed::<FixedLenByteArrayType>().write_batch(&values, None, None)?;
        Ok(column.close()?)
    }
}

fn write(
    schema: &str,
    fill: impl FnOnce(&mut Columns<'_, '_>) -> Result<(), TableError>,
) -> Result<Vec<u8>, TableError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
        .set_created_by("selvedge".to_owned());
    for name in UNIQUE {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    let schema = Arc::new(parse_message_type(schema)?);
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
    let mut group = file.next_row_group()?;
    fill(&mut Columns(&mut group))?;
    group.close()?;
    Ok(file.into_inner()?)
}

/// A table on its way out of a file, column by column.
struct Read<'a> {
    group: Box<dyn RowGroupReader + 'a>,
    count: usize,
}

impl Read<'_> {
    /// The column of a name, wherever it stands.
    fn column(&self, name: &'static str) -> Result<ColumnReader, TableError> {
        let columns = self.group.metadata().columns();
        let at = columns.iter().position(|column| column.column_path().string() == name);
        let at = at.ok_or(TableError::Column(name))?;
        let is_plain = columns[at].column_descr().max_def_level() == 0
            && columns[at].column_descr().max_rep_level() == 0;
        if is_plain { Ok(self.group.get_column_reader(at)?) } else { Err(TableError::Column(name)) }
    }

    fn numbers(&self, name: &'static str) -> Result<Vec<i64>, TableError> {
        let ColumnReader::Int64ColumnReader(mut column) = self.column(name)? else {
            return Err(TableError::Column(name));
        };
        let mut values = Vec::new();
        column.read_records(self.count, None, None, &mut values)?;
        self.whole(name, values)
    }

    fn texts(&self, name: &'static str) -> Result<Vec<String>, TableError> {
        let ColumnReader::ByteArrayColumnReader(mut column) = self.column(name)? else {
            return Err(TableError::Column(name));
        };
        let mut values: Vec<ByteArray> = Vec::new();
        column.read_records(self.count, None, None, &mut values)?;
        let texts: Option<Vec<String>> =
            values.iter().map(|value| String::from_utf8(value.data().to_vec()).ok()).collect();
        self.whole(name, texts.ok_or(TableError::Column(name))?)
    }

    fn hashes(&self, name: &'static str) -> Result<Vec<Vec<u8>>, TableError> {
        let ColumnReader::FixedLenByteArrayColumnReader(mut column) = self.column(name)? else {
            return Err(TableError::Column(name));
        };
        let mut values: Vec<FixedLenByteArray> = Vec::new();
        column.read_records(self.count, None, None, &mut values)?;
        self.whole(name, values.iter().map(|value| value.data().to_vec()).collect())
    }

    fn whole<T>(&self, name: &'static str, values: Vec<T>) -> Result<Vec<T>, TableError> {
        if values.len() == self.count { Ok(values) } else { Err(TableError::Column(name)) }
    }
}

fn read(file: Bytes, take: impl FnMut(&Read<'_>, usize) -> Result<(), TableError>) -> Result<(), TableError> {
    // What was taken until then is thrown away with the error.
    let read = catch_unwind(AssertUnwindSafe(|| read_groups(file, take)));
    read.unwrap_or(Err(TableError::Damaged))
}

fn read_groups(
    file: Bytes,
    mut take: impl FnMut(&Read<'_>, usize) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let file = SerializedFileReader::new(file)?;
    let rows = file.metadata().file_metadata().num_rows();
    if !(0..=ROWS_MAX).contains(&rows) {
        return Err(TableError::Long(rows));
    }
    let mut left = rows;
    for at in 0..file.num_row_groups() {
        let group = file.get_row_group(at)?;
        let count = group.metadata().num_rows();
        left -= count.max(0);
        if count < 0 || left < 0 {
            return Err(TableError::Long(count));
        }
        let count = count as usize;
        take(&Read { group, count }, count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: i64) -> RecordRow {
        RecordRow {
            id: n,
            node: "pump-1".into(),
            journal: "a0".into(),
            stream: "metrics".into(),
            class: "metric".into(),
            seq: n,
            kind: "note".into(),
            boot: "b0".into(),
            mono_ns: i64::MAX - n,
            wall_ms: -n,
            clock: "checked".into(),
            hash: vec![n as u8; 32],
            body: format!("{{\"ä\":{n}}}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let rows: Vec<RecordRow> = (1..3000).map(record).collect();
        let file = from_records(&rows).unwrap();
        assert!(file.len() < 90_000, "{}", file.len());
        assert_eq!(from_records(&rows).unwrap(), file, "always the same bytes");
        assert_eq!(to_records(file.into(), "metric").unwrap(), rows);
        let gap = LossRow {
            id: 1,
            node: "n".into(),
            journal: "j".into(),
            stream: "s".into(),
            class: "raw".into(),
            first: 2,
            last: 9,
            reason: "byte-cap".into(),
            hash: vec![7; 32],
            noted_ms: 5,
        };
        let file = from_gaps(std::slice::from_ref(&gap)).unwrap();
        assert_eq!(to_gaps(file.into()).unwrap(), [gap]);
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let mut file = from_records(&[record(1), record(2)]).unwrap();
        assert!(matches!(to_gaps(file.clone().into()), Err(TableError::Column("class"))));
        assert!(to_records(Bytes::from_static(b"PAR1"), "metric").is_err());
        for at in 0..file.len() {
            file[at] ^= 0x11;
            // It may be refused, or read as something else; it never ends the program.
            drop(to_records(file.clone().into(), "metric"));
            file[at] ^= 0x11;
        }
        assert!(from_records(&[RecordRow { hash: vec![1], ..record(1) }]).is_err());
    }
}
