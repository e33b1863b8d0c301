//! A recording as a file, whichever form it has: CSV, or Parquet where this build reads it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::csv::{CsvError, CsvOptions, CsvReader, Row, is_read_once};
#[cfg(feature = "parquet")]
use super::parquet::{ParquetReader, ParquetTrouble};
use super::tally::Tally;

/// With this every file of Parquet begins, and ends.
const PARQUET: &[u8; 4] = b"PAR1";

/// Why a recording gives no readings.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file of CSV.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// A file of Parquet.
    #[cfg(feature = "parquet")]
    #[error(transparent)]
    Parquet(#[from] ParquetTrouble),
    /// Parquet, and nothing here reads it.
    #[error("{} is Parquet, which this build does not read: save it as CSV, or build with the feature `parquet`", path.display())]
    NoParquet {
        /// The file.
        path: PathBuf,
    },
}

/// Reads one file from its begin to its end.
pub enum RecordingReader {
    /// Of CSV.
    Csv(Box<CsvReader>),
    /// Of Parquet.
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetReader>),
}

impl RecordingReader {
    /// Opens a file and finds out which columns are channels.
    pub fn open(path: &Path, options: &CsvOptions) -> Result<RecordingReader, RecordingError> {
        if !is_parquet(path) {
            return Ok(RecordingReader::Csv(Box::new(CsvReader::open(path, options)?)));
        }
        #[cfg(feature = "parquet")]
        let opened = Ok(RecordingReader::Parquet(Box::new(ParquetReader::open(path, options)?)));
        #[cfg(not(feature = "parquet"))]
        let opened = Err(RecordingError::NoParquet { path: path.to_owned() });
        opened
    }

    /// The channels, in the order of [`Row::values`].
    pub fn channels(&self) -> &[String] {
        match self {
            RecordingReader::Csv(reader) => reader.channels(),
            #[cfg(feature = "parquet")]
            RecordingReader::Parquet(reader) => reader.channels(),
        }
    }

    /// What was refused so far, and what was read.
    pub fn tally(&self) -> &Tally {
        match self {
            RecordingReader::Csv(reader) => reader.tally(),
            #[cfg(feature = "parquet")]
            RecordingReader::Parquet(reader) => reader.tally(),
        }
    }

    /// Reads the next usable row into `row`; `false` at the end. An end without any usable row is an error.
    pub fn read_row(&mut self, row: &mut Row) -> Result<bool, RecordingError> {
        Ok(match self {
            RecordingReader::Csv(reader) => reader.read_row(row)?,
            #[cfg(feature = "parquet")]
            RecordingReader::Parquet(reader) => reader.read_row(row)?,
        })
    }
}

/// Whether a file says that it is Parquet. A pipe does not, since whoever looks takes its bytes.
fn is_parquet(path: &Path) -> bool {
    let mut begin = [0; 4];
    !is_read_once(path)
        && File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok()
        && begin == *PARQUET
}
