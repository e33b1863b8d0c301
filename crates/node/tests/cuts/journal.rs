//! A journal with the real one's promise: a record is durable or absent, in order, and said to be durable only when it is.

use std::path::{Path, PathBuf};

use package::disk::simulated::Simulated;
use package::disk::{FileError, beside, make_folders, read_whole, remove, sync_folder_of, write_whole};

const FOLDER: &str = "/data/journal";

/// A file for each record.
pub(crate) struct Journal {
    disk: Simulated,
    /// What is durable.
    pub(crate) records: Vec<String>,
}

fn path_of(number: usize) -> PathBuf {
    Path::new(FOLDER).join(number.to_string())
}

impl Journal {
    pub(crate) fn open(disk: &Simulated) -> Result<Journal, FileError> {
        make_folders(disk, Path::new(FOLDER))?;
        let mut journal = Journal { disk: disk.clone(), records: Vec::new() };
        while let Some(record) = read_whole(disk, &path_of(journal.records.len()), 1 << 20)? {
            journal.records.push(String::from_utf8_lossy(&record).into_owned());
        }
        let next = path_of(journal.records.len());
        sync_folder_of(disk, &next)?;
        remove(disk, &beside(&next))?;
        Ok(journal)
    }

    pub(crate) fn append(&mut self, record: &str) -> Result<(), FileError> {
        write_whole(&self.disk, &path_of(self.records.len()), record.as_bytes())?;
        self.records.push(record.to_owned());
        Ok(())
    }
}
