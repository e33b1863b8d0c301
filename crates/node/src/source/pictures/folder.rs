//! A source that takes the pictures of a folder: what a camera uploads by FTP, what a scanner drops there, what was recorded.
//!
//! The folder is looked into again and again; each file is looked at once, also over restarts. That it was looked at is remembered,
//! and what is to become of it (kept, removed, moved) is done, only when what came of it is in the journal so that a power cut does not
//! take it: so a kill or a cut in between has a picture looked at twice, never not at all. A node that is told to stop waits for
//! both, and looks at none twice. Nothing is dropped: files wait on their disk. What is no picture, or too large a one, is counted, told, left where
//! it is, and not tried again until it changes.

use std::collections::VecDeque;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use net::picture::Picture;
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::WallMs;

use super::seen::{Entry, FILES_MAX, Seen, Store};
use super::settings::{After, ImagesSettings, Limits};
use crate::source::bring::{Source, SourceError};
use crate::source::frame::{Frame, channels};
use crate::source::measure::Measure;
use crate::source::moment::moment;
use crate::source::queue::{Event, Inlet, SourceState, Stopped};
use crate::source::refusals::Refusals;
use crate::why::why;

/// The most pictures that were shown and are not remembered yet.
const UNDER_WAY: usize = 256;
/// How long to wait for them, at a time.
const SETTLING: Duration = Duration::from_millis(20);

/// Takes pictures of a folder.
pub struct Images {
    settings: ImagesSettings,
    store: Store,
    /// `None` until it is known what was looked at in an earlier life.
    seen: Option<Seen>,
    measure: Measure,
    /// Shown, by the number of its reading: which readings must be durable before it is done with.
    under_way: VecDeque<(u64, Entry)>,
    refusals: Refusals,
    misdated: bool,
    last_ms: WallMs,
}

/// A file that gives no picture.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is gone, or cannot be read.
    #[error("it cannot be read")]
    Io(#[from] std::io::Error),
    /// It has too many bytes.
    #[error("it has more than the {most} bytes of `max_bytes`")]
    Large {
        /// The most.
        most: u64,
    },
    /// It is none.
    #[error(transparent)]
    Picture(#[from] net::picture::PictureError),
}

/// The pictures of a folder, in no order: files named `.jpg`, `.jpeg` or `.png`, none whose name begins with a dot.
pub fn listed(folder: &Path) -> std::io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A name that is no text is nobody's picture.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
        if name.starts_with('.') || !matches!(end.as_deref(), Some("jpg" | "jpeg" | "png")) {
            continue;
        }
        // Gone since, or a link to nowhere.
        let Ok(data) = fs::metadata(entry.path()) else { continue };
        if !data.is_file() {
            continue;
        }
        let changed = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let changed_ms = changed.and_then(|since| WallMs::try_from(since.as_millis()).ok()).unwrap_or(0);
        entries.push(Entry { name, bytes: data.len(), changed_ms });
        if entries.len() > FILES_MAX {
            let message =
                format!("it has more than {FILES_MAX} pictures: have them removed or moved (`after`)");
            return Err(std::io::Error::other(message));
        }
    }
    Ok(entries)
}

/// Reads a picture and the digest of its file.
pub fn read(file: &Path, limits: Limits) -> Result<(Picture, Hash), ImageError> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(limits.bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limits.bytes {
        return Err(ImageError::Large { most: limits.bytes });
    }
    Ok((Picture::decode_within(&bytes, limits.pixels)?, Hash::of(&bytes)))
}

impl Images {
    /// A source that keeps in `data` what it has looked at.
    pub fn new(settings: ImagesSettings, data: &Path, name: &PartName) -> Images {
        Images {
            settings,
            store: Store::new(data, name),
            seen: None,
            measure: Measure::default(),
            under_way: VecDeque::new(),
            refusals: Refusals::default(),
            misdated: false,
            last_ms: WallMs::MIN,
        }
    }

    fn outside(&self, error: &std::io::Error) -> SourceError {
        SourceError::Outside(format!("the folder {} cannot be read: {error}", self.settings.folder.display()))
    }

    /// What was looked at before, or nothing.
    fn remember(&mut self, entries: &[Entry]) -> Result<(), SourceError> {
        if self.seen.is_some() {
            return Ok(());
        }
        let outside =
            |error| SourceError::Outside(format!("what was looked at is not known: {}", why(&error)));
        let known = self.store.load().map_err(outside)?;
        let is_first = known.is_none();
        let mut seen = known.unwrap_or_default();
        if is_first && self.settings.from_now {
            seen.skip(entries);
        }
        self.store.write(&seen).map_err(outside)?;
        self.seen = Some(seen);
        Ok(())
    }

    /// Looks at one file.
    fn show(&mut self, entry: Entry, inlet: &mut Inlet) -> Result<(), SourceError> {
        let mark = entry.mark();
        match read(&self.settings.folder.join(&entry.name), self.settings.limits) {
            Ok((picture, digest)) => {
                let told_ms = self.settings.time_of_file.then_some(entry.changed_ms);
                let (t_ms, misdated) = moment(told_ms, inlet.clock().wall_ms());
                if misdated && !std::mem::replace(&mut self.misdated, true) {
                    tracing::warn!(
                        "the times of files cannot be believed: pictures get the time of their arrival"
                    );
                }
                // Whoever uploads late is not late: each picture stands for itself.
                self.last_ms = self.last_ms.max(t_ms);
                let frame = self.measure.frame(self.last_ms, picture, digest);
                inlet.show_in_turn(frame)?;
                if let Some(seen) = &mut self.seen {
                    seen.take(mark);
                }
                self.under_way.push_back((inlet.sent(), entry));
            }
            Err(ImageError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                self.refusals.refuse(&entry.name, &why(&error), SourceState::Running, inlet)?;
                self.done(&[mark])?;
            }
        }
        Ok(())
    }

    /// Brings to the disk what was looked at.
    fn done(&mut self, marks: &[u64]) -> Result<(), SourceError> {
        let Some(seen) = &mut self.seen else { return Ok(()) };
        marks.iter().for_each(|mark| seen.finish(*mark));
        let kept = self.store.add(seen, marks);
        kept.map_err(|error| {
            SourceError::Outside(format!("what was looked at cannot be kept: {}", why(&error)))
        })
    }

    /// Does what is to be done with pictures whose readings are durable.
    fn settle(&mut self, inlet: &mut Inlet) -> Result<(), SourceError> {
        let (mut marks, mut told) = (Vec::new(), Ok(()));
        while let Some((_, entry)) = self.under_way.pop_front_if(|(reading, _)| *reading <= inlet.durable()) {
            marks.push(entry.mark());
            if let Err(error) = self.put_away(&entry) {
                // It is remembered as looked at all the same: not to be rid of it is better than to look for ever.
                let why = format!("it was looked at, and cannot be put away: {error}");
                told = told.and(self.refusals.refuse(&entry.name, &why, SourceState::Running, inlet));
            }
        }
        if !marks.is_empty() {
            self.done(&marks)?;
        }
        Ok(told?)
    }

    fn put_away(&self, entry: &Entry) -> std::io::Result<()> {
        let file = self.settings.folder.join(&entry.name);
        // Somebody may have put another one in its place since.
        let same = |data: &fs::Metadata| data.len() == entry.bytes;
        match &self.settings.after {
            After::Keep => Ok(()),
            _ if !fs::metadata(&file).as_ref().is_ok_and(same) => Ok(()),
            After::Delete => fs::remove_file(file),
            After::Move(to) => {
                fs::create_dir_all(to)?;
                fs::rename(file, free(to, entry))
            }
        }
    }

    /// Waits until so many pictures at most are under way.
    fn wait(&mut self, most: usize, inlet: &mut Inlet) -> Result<(), SourceError> {
        self.settle(inlet)?;
        while self.under_way.len() > most {
            inlet.tell(Event::Secure)?;
            inlet.pause(SETTLING)?;
            self.settle(inlet)?;
        }
        Ok(())
    }
}

/// A name in a folder that nobody has.
fn free(folder: &Path, entry: &Entry) -> PathBuf {
    let plain = folder.join(&entry.name);
    match plain.exists() {
        true => folder.join(format!("{:016x}-{}", entry.mark(), entry.name)),
        false => plain,
    }
}

impl Source for Images {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        inlet.tell(Event::Opened { channels: channels() })?;
        loop {
            let entries = listed(&self.settings.folder).map_err(|error| self.outside(&error))?;
            self.remember(&entries)?;
            let due = self.seen.as_mut().map(|seen| seen.look(entries)).unwrap_or_default();
            for entry in due {
                if inlet.stopping() {
                    return Err(Stopped.into());
                }
                self.show(entry, inlet)?;
                self.wait(UNDER_WAY, inlet)?;
            }
            self.wait(0, inlet)?;
            inlet.pause(self.settings.every)?;
        }
    }

    fn leave(&mut self, inlet: &mut Inlet) {
        inlet.leave();
        match self.settle(inlet) {
            Ok(()) | Err(SourceError::Stopped(Stopped)) => {}
            Err(error) => {
                tracing::warn!(error = why(&error), "some pictures will be looked at again");
            }
        }
    }
}

/// The pictures of a folder one by one, the oldest first, by the times of their files: for whoever plays them.
pub struct Recorded {
    settings: ImagesSettings,
    entries: VecDeque<Entry>,
    measure: Measure,
}

impl Recorded {
    /// Those that are there now.
    pub fn open(settings: &ImagesSettings) -> std::io::Result<Recorded> {
        let mut entries = listed(&settings.folder)?;
        entries.sort_by(|a, b| (a.changed_ms, &a.name).cmp(&(b.changed_ms, &b.name)));
        Ok(Recorded { settings: settings.clone(), entries: entries.into(), measure: Measure::default() })
    }
}

impl Iterator for Recorded {
    type Item = Frame;

    /// The next one; a file that is no picture is told and passed over.
    fn next(&mut self) -> Option<Frame> {
        loop {
            let entry = self.entries.pop_front()?;
            match read(&self.settings.folder.join(&entry.name), self.settings.limits) {
                Ok((picture, digest)) => return Some(self.measure.frame(entry.changed_ms, picture, digest)),
                Err(error) => tracing::warn!(file = entry.name, error = why(&error), "no picture"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::world::System;

    use super::*;
    use crate::source::queue::Outlet;

    #[test]
    fn a_picture_is_remembered_once_no_power_cut_takes_what_came_of_it() {
        let dir = tempfile::tempdir().unwrap();
        for (name, brightness) in [("a.png", 10), ("b.png", 20)] {
            let picture = Picture::new(2, 2, vec![brightness; 12]).unwrap();
            fs::write(dir.path().join(name), picture.png().unwrap()).unwrap();
        }
        let settings = ImagesSettings {
            folder: dir.path().to_owned(),
            every: Duration::from_millis(1),
            after: After::Delete,
            from_now: false,
            time_of_file: false,
            limits: Limits { bytes: 1 << 20, pixels: 1 << 20 },
        };
        let data = tempfile::tempdir().unwrap();
        let mut images = Images::new(settings, data.path(), &PartName::new("eye").unwrap());
        let outlet = Outlet::new(1);
        let mut inlet = outlet.inlet(0, Box::new(System::new()));
        let thread = std::thread::spawn(move || {
            let ended = images.run(&mut inlet);
            images.leave(&mut inlet);
            ended
        });
        let next = |wanted: &Event| while outlet.next(Duration::from_secs(10)).unwrap().event != *wanted {};
        let remembered = || {
            let text = fs::read_to_string(data.path().join("sources/eye.seen")).unwrap_or_default();
            text.lines().count()
        };
        for _ in 0..2 {
            next(&Event::Look);
            outlet.frame(0).unwrap();
        }
        outlet.settle(0, 2, false);
        (0..3).for_each(|_| next(&Event::Secure));
        assert_eq!((remembered(), dir.path().join("a.png").exists()), (0, true));
        outlet.settle(0, 1, true);
        while remembered() == 0 {
            next(&Event::Secure);
        }
        assert_eq!((remembered(), dir.path().join("a.png").exists()), (1, false));
        outlet.stopper().stop();
        outlet.settle(0, 2, true);
        assert!(matches!(thread.join().unwrap(), Err(SourceError::Stopped(Stopped))));
        assert_eq!((remembered(), dir.path().join("b.png").exists()), (2, false));
    }
}
