//! A disk in memory that loses power: what was synced is there afterwards, of everything else any part may be.
//!
//! Every call that changes something is a numbered *point*. A test counts them in one quiet run, then lets the disk die at
//! each ([`Simulated::dies_at`]), takes its power ([`Simulated::cut`]) and looks at what is left. The disk is as bad as POSIX
//! allows, which is worse than any file system we know:
//!
//! - a file's unsynced pages are new, old, zero, or torn between two sectors, each by its own; its length is anything between
//!   the old one and the new;
//! - a file's name is lost although its bytes were synced, and a move is undone, until the folder is synced; what happened
//!   first is never lost before what happened later, in the whole disk ([`Cut::Ordered`]) or in each folder ([`Cut::Hostile`]);
//! - after a sync that failed, the next one succeeds and still has not brought what the first was asked to.
//!
//! Beside that it can be full ([`Simulated::full_at`]), fail once ([`Simulated::fails_at`]), and see its process end while the
//! power stays ([`Simulated::end_process`]). One seed plays the same cut again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::world;

use crate::disk::simulated::inode::{Inode, below};
use crate::disk::{Create, Disk, DiskFile, Entry};

mod inode;

/// In which order changes to folders reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As they were made, in one order for the whole disk: ext4, xfs.
    Ordered,
    /// As they were made in each folder; folders know nothing of one another.
    Hostile,
}

/// The disk. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Simulated {
    state: Arc<Mutex<State>>,
}

/// An open file of it; of no use after the process that opened it.
#[derive(Debug)]
pub struct OpenFile {
    state: Arc<Mutex<State>>,
    inode: usize,
    writes: bool,
    life: u64,
}

/// A lock on it. Taking it makes no file, a test may: one that a power cut left. Dropping it removes that.
#[derive(Debug)]
pub struct HeldLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    life: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Every file that ever was, by its number.
    inodes: Vec<Inode>,
    /// The names as a process sees them.
    live: Names,
    /// The names that are certain.
    durable: Names,
    /// Changes of names that are not certain yet, as they were made.
    unsynced: Vec<Change>,
    locks: BTreeSet<PathBuf>,
    points: u64,
    dies_at: Option<u64>,
    fails_at: Option<u64>,
    full_at: Option<u64>,
    dead: bool,
    /// Counts processes.
    life: u64,
    story: Vec<String>,
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Debug, Clone)]
enum Change {
    Add(PathBuf, Node),
    Move(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Simulated {
    /// An empty disk.
    pub fn new() -> Simulated {
        Simulated::default()
    }

    /// A disk of its own on which the same stands, certain and uncertain; its story begins anew. For many ends of one beginning.
    pub fn fork(&self) -> Simulated {
        let state = self.lock_state();
        let changed = state.unsynced.iter().filter_map(|change| match change {
            Change::Add(_, node) => Some(node),
            Change::Move(..) | Change::Remove(_) => None,
        });
        let named: BTreeSet<usize> = state
            .live
            .values()
            .chain(state.durable.values())
            .chain(changed)
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                Node::Folder => None,
            })
            .collect();
        let inode = |number: usize| match named.contains(&number) {
            true => state.inodes[number].clone(),
            false => Inode::default(), // nobody finds it any more
        };
        let forked = State {
            inodes: (0..state.inodes.len()).map(inode).collect(),
            live: state.live.clone(),
            durable: state.durable.clone(),
            unsynced: state.unsynced.clone(),
            full_at: state.full_at,
            ..State::default()
        };
        Simulated { state: Arc::new(Mutex::new(forked)) }
    }

    /// How many calls changed something, or tried to, since the process began.
    pub fn points(&self) -> u64 {
        self.lock_state().points
    }

    /// The process dies at a point: that call and all calls after it fail, and do nothing.
    pub fn dies_at(&self, point: u64) {
        self.lock_state().dies_at = Some(point);
    }

    /// One call fails and does nothing, or not all that it should; the process lives.
    pub fn fails_at(&self, point: u64) {
        self.lock_state().fails_at = Some(point);
    }

    /// The disk has this many bytes for files, and no more.
    pub fn full_at(&self, bytes: u64) {
        self.lock_state().full_at = Some(bytes);
    }

    /// Whether the process died.
    pub fn is_dead(&self) -> bool {
        self.lock_state().dead
    }

    /// One line per call that changed something, since the disk was made.
    pub fn story(&self) -> Vec<String> {
        self.lock_state().story.clone()
    }

    /// The process ends, the power stays: everything that was written can be read by the next one.
    pub fn end_process(&self) {
        let mut state = self.lock_state();
        state.story.push("the process ends".into());
        state.begin_life();
    }

    /// The power goes and comes back. What was not certain is decided by `seed`, and certain from then on.
    pub fn cut(&self, how: Cut, seed: u64) {
        let mut state = self.lock_state();
        let state = &mut *state;
        state.story.push(format!("the power goes ({how:?}, seed {seed})"));
        let mut chance = world::Simulated::new(seed);
        let changes = std::mem::take(&mut state.unsynced);
        let kept: Vec<Change> = match how {
            Cut::Ordered => {
                let keep = below(&mut chance, changes.len() + 1);
                changes.into_iter().take(keep).collect()
            }
            Cut::Hostile => {
                let mut of_folders: BTreeMap<PathBuf, Vec<Change>> = BTreeMap::new();
                for change in changes {
                    of_folders.entry(change.folder().to_owned()).or_default().push(change);
                }
                let mut kept = Vec::new();
                for (_, of_folder) in of_folders {
                    let keep = below(&mut chance, of_folder.len() + 1);
                    kept.extend(of_folder.into_iter().take(keep));
                }
                kept
            }
        };
        for change in kept {
            change.apply(&mut state.durable);
        }
        // A name without its folder is none.
        let names = std::mem::take(&mut state.durable);
        for (path, node) in names {
            let above = folder_of(&path);
            if is_root(above) || state.durable.get(above) == Some(&Node::Folder) {
                state.durable.insert(path, node);
            }
        }
        state.live = state.durable.clone();
        for inode in &mut state.inodes {
            inode.lose(&mut chance);
        }
        state.begin_life();
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The folders that are there from the beginning: `/`, and where relative paths begin.
fn is_root(path: &Path) -> bool {
    path == Path::new("/") || path == Path::new("") || path == Path::new(".")
}

impl Change {
    fn folder(&self) -> &Path {
        match self {
            Change::Add(path, _) | Change::Move(_, path) | Change::Remove(path) => folder_of(path),
        }
    }

    fn apply(self, names: &mut Names) {
        match self {
            Change::Add(path, node) => drop(names.insert(path, node)),
            Change::Remove(path) => drop(names.remove(&path)),
            Change::Move(from, to) => {
                if let Some(node) = names.remove(&from) {
                    names.insert(to, node);
                }
            }
        }
    }
}

impl State {
    fn begin_life(&mut self) {
        self.locks.clear();
        self.points = 0;
        self.dies_at = None;
        self.fails_at = None;
        self.dead = false;
        self.life += 1;
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    /// Whether a file or lock of an earlier process is used.
    fn same_life(&self, life: u64) -> io::Result<()> {
        self.alive()?;
        if self.life == life { Ok(()) } else { Err(io::Error::other("opened by a process that is gone")) }
    }

    /// One more call that changes something: `Err` if the process dies here, `Ok(true)` if the call fails.
    fn point(&mut self, what: impl FnOnce() -> String) -> io::Result<bool> {
        self.alive()?;
        let point = self.points;
        self.points += 1;
        if self.dies_at.is_some_and(|at| at <= point) {
            self.dead = true;
            self.story.push(format!("{point:4} dies: {}", what()));
            return self.alive().map(|()| false);
        }
        let fails = self.fails_at == Some(point);
        self.story.push(format!("{point:4} {}{}", if fails { "fails: " } else { "" }, what()));
        Ok(fails)
    }

    /// As [`State::point`], for calls that do nothing when they fail.
    fn whole_point(&mut self, what: impl FnOnce() -> String) -> io::Result<()> {
        if self.point(what)? { Err(broken()) } else { Ok(()) }
    }

    fn change(&mut self, change: Change) {
        self.unsynced.push(change.clone());
        change.apply(&mut self.live);
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.live.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        match self.live.get(path) {
            _ if is_root(path) => Ok(()),
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The bytes of all files that have a name.
    fn used_bytes(&self) -> u64 {
        let inodes: BTreeSet<usize> = self
            .live
            .values()
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                Node::Folder => None,
            })
            .collect();
        inodes.into_iter().map(|inode| self.inodes[inode].live.len() as u64).sum()
    }

    /// How long a file may become.
    fn room_for(&self, inode: usize) -> u64 {
        let others = self.used_bytes().saturating_sub(self.inodes[inode].live.len() as u64);
        self.full_at.map_or(u64::MAX, |full| full.saturating_sub(others))
    }
}

fn broken() -> io::Error {
    io::Error::other("the disk failed")
}

impl Disk for Simulated {
    type File = OpenFile;
    type Lock = HeldLock;

    fn open(&self, path: &Path) -> io::Result<OpenFile> {
        let state = self.lock_state();
        state.alive()?;
        let inode = state.file(path)?;
        Ok(OpenFile { state: self.state.clone(), inode, writes: false, life: state.life })
    }

    fn create(&self, path: &Path, how: Create) -> io::Result<OpenFile> {
        let mut state = self.lock_state();
        state.whole_point(|| format!("create {} ({how:?})", path.display()))?;
        state.folder(folder_of(path))?;
        let inode = match state.file(path) {
            Ok(_) if matches!(how, Create::New | Create::Private) => {
                return Err(ErrorKind::AlreadyExists.into());
            }
            Ok(inode) if state.inodes[inode].frozen => return Err(ErrorKind::PermissionDenied.into()),
            Ok(inode) => inode,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let inode = state.inodes.len();
                state.inodes.push(Inode::default());
                state.change(Change::Add(path.to_owned(), Node::File(inode)));
                inode
            }
            Err(error) => return Err(error),
        };
        if how == Create::Truncate {
            state.inodes[inode].set_size(0);
        }
        Ok(OpenFile { state: self.state.clone(), inode, writes: true, life: state.life })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "a file is only moved within its folder");
        let mut state = self.lock_state();
        state.whole_point(|| format!("rename {} to {}", from.display(), to.display()))?;
        state.file(from)?;
        if state.live.get(to) == Some(&Node::Folder) {
            return Err(ErrorKind::IsADirectory.into());
        }
        state.change(Change::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.whole_point(|| format!("remove {}", path.display()))?;
        state.file(path)?;
        state.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.alive()?;
        match state.folder(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            there => return there,
        }
        state.whole_point(|| format!("make {}", path.display()))?;
        state.folder(folder_of(path))?;
        state.change(Change::Add(path.to_owned(), Node::Folder));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.whole_point(|| format!("sync the folder {}", path.display()))?;
        state.folder(path)?;
        let state = &mut *state;
        let same = |change: &Change| change.folder() == path || is_root(change.folder()) && is_root(path);
        let (certain, rest): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut state.unsynced).into_iter().partition(same);
        state.unsynced = rest;
        for change in certain {
            change.apply(&mut state.durable);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.lock_state();
        state.alive()?;
        state.folder(path)?;
        let mut entries = Vec::new();
        for (there, node) in &state.live {
            let Some(name) = there.file_name().filter(|_| folder_of(there) == path) else { continue };
            let (is_file, size_bytes) = match node {
                Node::File(inode) => (true, state.inodes[*inode].live.len() as u64),
                Node::Folder => (false, 0),
            };
            entries.push(Entry { name: name.to_string_lossy().into_owned(), is_file, size_bytes });
        }
        Ok(entries)
    }

    fn free_bytes(&self, _path: &Path) -> Option<u64> {
        let state = self.lock_state();
        state.full_at.map(|full| full.saturating_sub(state.used_bytes()))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<HeldLock>> {
        let mut state = self.lock_state();
        state.alive()?;
        state.folder(folder_of(path))?;
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(HeldLock { state: self.state.clone(), path: path.to_owned(), life: state.life }))
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = locked(&self.state);
        if state.life == self.life && !state.dead {
            state.locks.remove(&self.path);
            if state.file(&self.path).is_ok() {
                state.change(Change::Remove(self.path.clone()));
            }
        }
    }
}

impl OpenFile {
    /// The disk, for reading from this file.
    fn reading(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = locked(&self.state);
        state.same_life(self.life)?;
        Ok(state)
    }

    /// The disk, for changing this file; a point. Also says whether the call fails.
    fn changing(&self, what: impl FnOnce() -> String) -> io::Result<(MutexGuard<'_, State>, bool)> {
        let mut state = self.reading()?;
        let fails = state.point(|| format!("file {}: {}", self.inode, what()))?;
        if !self.writes {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok((state, fails))
    }
}

impl DiskFile for OpenFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.reading()?.inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = self.reading()?;
        let live = &state.inodes[self.inode].live;
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(live.len());
        let bytes = into.len().min(live.len() - from);
        into[..bytes].copy_from_slice(&live[from..from + bytes]);
        Ok(bytes)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, fails) = self.changing(|| format!("write {} bytes at {at}", bytes.len()))?;
        let room = state.room_for(self.inode).saturating_sub(at);
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let comes = if fails { fits / 2 } else { fits };
        let at = usize::try_from(at).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        state.inodes[self.inode].write(at, &bytes[..comes]);
        match () {
            () if fails => Err(broken()),
            () if fits < bytes.len() => Err(ErrorKind::StorageFull.into()),
            () => Ok(()),
        }
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        let (mut state, fails) = self.changing(|| format!("set the size to {bytes}"))?;
        if fails {
            return Err(broken());
        }
        if bytes > state.room_for(self.inode) {
            return Err(ErrorKind::StorageFull.into());
        }
        let bytes = usize::try_from(bytes).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        state.inodes[self.inode].set_size(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, fails) = self.changing(|| "sync".into())?;
        if fails {
            state.inodes[self.inode].sync_in_vain();
            return Err(broken());
        }
        state.inodes[self.inode].sync();
        Ok(())
    }

    fn freeze(&self) -> io::Result<()> {
        let (mut state, fails) = self.changing(|| "freeze".into())?;
        if fails {
            return Err(broken());
        }
        state.inodes[self.inode].frozen = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
