//! Sinks that write lines of JSON: a file that is rotated by its size, and the standard output.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::feed::Feed;
use super::pass::Sink;
use super::trouble::SinkError;

/// A file of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The file.
    pub path: PathBuf,
    /// A file of this size is moved to `.1`, that to `.2` ….
    pub max_bytes: u64,
    /// So many moved ones are kept.
    pub keep: u32,
}

/// Writes a file.
pub struct FileSink {
    settings: FileSettings,
}

/// Writes to the standard output.
pub struct Stdout;

impl FileSink {
    /// A sink.
    pub fn new(settings: FileSettings) -> FileSink {
        FileSink { settings }
    }

    fn open(&self) -> Result<File, SinkError> {
        let path = &self.settings.path;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|source| SinkError::File { path: path.clone(), source })?;
        }
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|source| SinkError::File { path: path.clone(), source })
    }

    /// Moves the files on by one, if the present one is full.
    fn rotate(&self, file: File) -> Result<File, SinkError> {
        let FileSettings { path, max_bytes, keep } = &self.settings;
        let refuse = |source| SinkError::File { path: path.clone(), source };
        if file.metadata().map_err(refuse)?.len() < *max_bytes {
            return Ok(file);
        }
        drop(file);
        for number in (0..*keep).rev() {
            let from = if number == 0 { path.clone() } else { numbered(path, number) };
            match fs::rename(&from, numbered(path, number + 1)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refuse(error)),
                _ => {}
            }
        }
        if *keep == 0 {
            fs::remove_file(path).map_err(refuse)?;
        }
        self.open()
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// A group as lines.
fn lines(group: &super::feed::Group) -> Vec<u8> {
    let mut lines = Vec::new();
    for item in &group.items {
        lines.extend(item.json());
        lines.push(b'\n');
    }
    lines
}

impl Sink for FileSink {
    fn run(&mut self, feed: &mut Feed) -> Result<(), SinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(SinkError::Runtime)?;
        runtime.block_on(async {
            let mut file = self.open()?;
            // A line that a crash cut off gets its end, so that the next one stands alone.
            mend(&mut file, &self.settings.path)?;
            while let Some(group) = feed.next().await? {
                file = self.rotate(file)?;
                let written = file.write_all(&lines(&group)).and_then(|()| file.sync_data());
                written.map_err(|source| SinkError::File { path: self.settings.path.clone(), source })?;
                feed.tell("running", format!("it writes {}", self.settings.path.display()));
                feed.done(group)?;
            }
            Ok(())
        })
    }
}

fn mend(file: &mut File, path: &Path) -> Result<(), SinkError> {
    use std::io::{Read, Seek, SeekFrom};
    let refuse = |source| SinkError::File { path: path.to_owned(), source };
    let mut last = [b'\n'];
    let mut again = File::open(path).map_err(refuse)?;
    if again.metadata().map_err(refuse)?.len() > 0 {
        again.seek(SeekFrom::End(-1)).and_then(|_| again.read_exact(&mut last)).map_err(refuse)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n").map_err(refuse)?;
    }
    Ok(())
}

impl Sink for Stdout {
    fn run(&mut self, feed: &mut Feed) -> Result<(), SinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(SinkError::Runtime)?;
        runtime.block_on(async {
            while let Some(group) = feed.next().await? {
                let mut out = std::io::stdout().lock();
                let written = out.write_all(&lines(&group)).and_then(|()| out.flush());
                written.map_err(|source| SinkError::File {
                    path: PathBuf::from("the standard output"),
                    source,
                })?;
                drop(out);
                feed.tell("running", "it writes to the standard output".to_owned());
                feed.done(group)?;
            }
            Ok(())
        })
    }
}
