//! Keys and values that outlive a server: what a model has read, written down when it is unloaded, known when it is back.
//!
//! A file for each model, as large as what is kept of it at most. It is bound to the model's file, or to the manifest of its
//! slot, the numbers' format and this version; every page carries a checksum. What is torn, changed or of another model is
//! not read: it only costs that prompts are read again. The pages tell what was asked to whoever can read the file, so nobody
//! else can.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use kernels::page::{PAGE, Page, PageShape};
use lm::batch::Batch;
use lm::durable::{FileError, Readers, replace};
use lm::prefix::Saved;
use sha2::{Digest as _, Sha256};

use super::offer::{Offer, Weights};
use crate::durable;

/// What a file begins with.
const MAGIC: &[u8; 16] = b"selvedge pages 1";
/// Stands for nothing before it.
const NONE: u32 = u32::MAX;

/// Where the pages of one model are written down.
pub(super) struct Spill {
    path: PathBuf,
    /// Of what the pages are bound to.
    key: [u8; 32],
    pages: PageShape,
}

impl Spill {
    /// In `folder`, for the model of `offer` whose sequences are kept in `pages`.
    pub(super) fn new(folder: &Path, offer: &Offer, pages: PageShape) -> io::Result<Spill> {
        let bytes = match &offer.weights {
            Weights::File(path) => {
                let file = fs::metadata(path)?;
                let changed = file.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                format!("{} {:?} {} {}", path.display(), offer.digest, file.len(), changed.as_nanos())
            }
            // What it names is checked whenever it is loaded.
            Weights::Slot { slot, .. } => slot.manifest.to_string(),
        };
        let bound = format!("{} {bytes} {pages:?}", env!("CARGO_PKG_VERSION"));
        let name: String =
            Sha256::digest(&offer.name)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("{name}.pages"));
        Ok(Spill { path, key: Sha256::digest(bound).into(), pages })
    }

    /// Writes down what `batch` keeps, in place of what was there.
    pub(super) fn write(&self, batch: &Batch) -> Result<(), FileError> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(FileError::at(folder))?;
        }
        let beside = durable::beside(&self.path);
        replace(&self.path, &beside, Readers::Owner, |out| {
            self.write_to(out, batch).map_err(FileError::at(&beside))
        })
    }

    fn write_to(&self, out: &mut impl Write, batch: &Batch) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&self.key)?;
        let mut record = Vec::new();
        for (index, saved) in (0u64..).zip(batch.prefixes().saved()) {
            record.clear();
            let after = saved.after.and_then(|after| u32::try_from(after).ok()).unwrap_or(NONE);
            record.extend(after.to_le_bytes());
            record.extend((saved.reach as u64).to_le_bytes());
            record.push(saved.tokens.len() as u8);
            // As long as any other, whatever ended in it.
            let tokens = saved.tokens.iter().copied().chain(std::iter::repeat(0)).take(PAGE);
            tokens.for_each(|token| record.extend(token.to_le_bytes()));
            saved.page.save(&mut record);
            out.write_all(&record)?;
            out.write_all(&self.sum(index, &record))?;
        }
        Ok(())
    }

    /// Gives `batch` what was written down; how many pages that were. None if nothing was, or of another model.
    pub(super) fn read(&self, batch: &mut Batch) -> io::Result<usize> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            file => file?,
        };
        let mut from = BufReader::new(file);
        let mut head = [0; MAGIC.len() + 32];
        if from.read_exact(&mut head).is_err()
            || head[..MAGIC.len()] != MAGIC[..]
            || head[MAGIC.len()..] != self.key
        {
            return Ok(0);
        }
        let mut index = 0;
        Ok(batch.restore(std::iter::from_fn(|| {
            let saved = self.page(index, &mut from)?;
            index += 1;
            Some(saved)
        })))
    }

    /// The next page; `None` at the end, and where it was torn.
    fn page(&self, index: u64, from: &mut impl Read) -> Option<Saved<Page>> {
        const TOKENS: usize = 4 + 8 + 1;
        const NUMBERS: usize = TOKENS + 4 * PAGE;
        let mut record = vec![0; NUMBERS + self.pages.bytes()];
        let mut sum = [0; 32];
        from.read_exact(&mut record).and_then(|()| from.read_exact(&mut sum)).ok()?;
        if sum != self.sum(index, &record) {
            return None;
        }
        let after = u32::from_le_bytes(*record[..4].as_array()?);
        let reach = u64::from_le_bytes(*record[4..12].as_array()?);
        let tokens = record[TOKENS..NUMBERS].as_chunks().0.iter().take(usize::from(record[12]));
        Some(Saved {
            after: (after != NONE).then_some(after as usize),
            reach: usize::try_from(reach).ok()?,
            tokens: tokens.map(|token| u32::from_le_bytes(*token)).collect(),
            page: Page::restore(self.pages, &record[NUMBERS..])?,
        })
    }

    /// Of a record in its place.
    fn sum(&self, index: u64, record: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(index.to_le_bytes());
        hash.update(record);
        hash.finalize().into()
    }
}
