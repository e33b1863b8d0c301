//! Which part of the flow the node is busy with, a source or a network, in a file: read by the next life if this one dies of it.
//!
//! One small write when it turns to another part, none while it stays with one, and nothing is brought to the disk: the
//! system keeps what a process wrote when the process dies, and if the machine dies no part was to blame.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The file in the data folder.
pub const FILE: &str = "at-work";

/// A name is written in so many bytes, with blanks behind it.
const BYTES: usize = 128;

/// The file, open. Clones are the same.
#[derive(Debug, Clone)]
pub struct Crumb(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    file: Option<File>,
    part: Option<String>,
}

impl Crumb {
    /// Begins anew; gives what an earlier life was busy with when it died.
    pub fn open(data: &Path) -> (Crumb, Option<String>) {
        let path = data.join(FILE);
        let before = read(&path);
        let file = File::options().create(true).write(true).truncate(true).open(&path);
        let file = file.inspect_err(|error| {
            tracing::warn!(%error, "if the node dies, its next life will not know of which part");
        });
        (Crumb::of(file.ok()), before)
    }

    /// Writes nothing: nobody starts the node again.
    pub fn off() -> Crumb {
        Crumb::of(None)
    }

    fn of(file: Option<File>) -> Crumb {
        Crumb(Arc::new(Mutex::new(Inner { file, part: None })))
    }

    /// It turns to this part, or to none.
    pub fn at(&self, part: Option<&str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).at(part);
    }
}

impl Inner {
    fn at(&mut self, part: Option<&str>) {
        if self.file.is_none() || self.part.as_deref() == part {
            return;
        }
        self.part = part.map(str::to_owned);
        let mut bytes = [b' '; BYTES];
        let name = part.unwrap_or_default().as_bytes();
        let length = name.len().min(BYTES);
        bytes[..length].copy_from_slice(&name[..length]);
        let Some(file) = &mut self.file else { return };
        if file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&bytes)).is_err() {
            // A full disk: better no word than a wrong one.
            self.file = None;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.at(None);
    }
}

/// What stands in the file; `None`: nothing, or nothing that can be read.
fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BYTES as u64).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() != ErrorKind::NotFound => return None,
        _ => {}
    }
    let name = std::str::from_utf8(&bytes).ok()?.trim();
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    (!name.is_empty() && is_name(name)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_life_knows_what_this_one_died_of() {
        let folder = tempfile::tempdir().unwrap();
        let (crumb, before) = Crumb::open(folder.path());
        assert_eq!(before, None);
        crumb.at(Some("source.pump"));
        crumb.at(Some("model.a_rather_long_name"));
        crumb.at(Some("source.x"));
        // It dies: nothing is dropped.
        Box::leak(Box::new(crumb));
        let (crumb, before) = Crumb::open(folder.path());
        assert_eq!(before.as_deref(), Some("source.x"));
        drop(crumb);
        let (crumb, before) = Crumb::open(folder.path());
        assert_eq!(before, None, "it ended well");
        crumb.at(Some("source.x"));
        crumb.at(None);
        Box::leak(Box::new(crumb));
        assert_eq!(Crumb::open(folder.path()).1, None, "it was not busy");
        std::fs::write(folder.path().join(FILE), [0xff; 200]).unwrap();
        assert_eq!(Crumb::open(folder.path()).1, None);
    }
}
