//! A package as one file, for a stick: the layout as a tar, and beside it what vouches for it and who may open it.
//!
//! Only what is written here is read here: plain files with the names that a package has, each once. Links, devices, paths
//! that lead elsewhere and extensions of tar are refused, not skipped, and nothing is ever unpacked: [`contents`] tells
//! where each file lies, and who wants its bytes reads them there. The same package gives the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use wire::hash::Hash;

use crate::digest::Digest;
use crate::disk::{Disk, DiskFile};
use crate::form::{BLOB_MAX_BYTES, DOCUMENT_MAX_BYTES};
use crate::layout::{self, FileReader, Layout, LayoutError};
use crate::seal::folder;
use crate::seal::wrap::GRANT_MAX_BYTES;
use crate::trust::key::KeyId;

/// The most files of an archive.
const MEMBERS_MAX: usize = 65_536;

/// The largest file of TUF metadata, and the largest assignment.
const TRUST_MAX_BYTES: u64 = 5 << 20;

/// What tar rounds up to.
const BLOCK: u64 = 512;

/// A file of an archive, by what it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// `oci-layout`.
    Layout,
    /// `index.json`.
    Index,
    /// `blobs/sha256/<hex>`.
    Blob(Digest),
    /// `trust/metadata/<file>`.
    Metadata(FileName),
    /// `trust/assignments/<file>`.
    Assignment(FileName),
    /// `grants/<hex>/<key>.json`: of a sealed blob, for a node's key.
    Grant(Digest, KeyId),
}

/// The name of a JSON file, without a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(Box<str>);

impl FileName {
    /// Checks a name: up to 80 letters, digits, `.`, `_`, `-`, `~` and `%`, no `.` first, `.json` last.
    pub fn new(name: &str) -> Option<FileName> {
        let known = |c: char| c.is_ascii_alphanumeric() || "._-~%".contains(c);
        let is_one = name.len() <= 80 && name.chars().all(known) && !name.starts_with('.');
        (is_one && name.len() > 5 && name.ends_with(".json")).then(|| FileName(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Name {
    fn parse(path: &[u8]) -> Option<Name> {
        let path = std::str::from_utf8(path).ok()?;
        if let Some(hex) = path.strip_prefix("blobs/sha256/") {
            return Hash::parse(hex).map(|hash| Name::Blob(hash.into()));
        }
        if let Some(file) = path.strip_prefix("trust/metadata/") {
            return FileName::new(file).map(Name::Metadata);
        }
        if let Some(file) = path.strip_prefix("trust/assignments/") {
            return FileName::new(file).map(Name::Assignment);
        }
        if let Some((hex, file)) = path.strip_prefix("grants/").and_then(|rest| rest.split_once('/')) {
            let (sealed, to) = (Hash::parse(hex)?, KeyId::parse(file.strip_suffix(".json")?)?);
            return Some(Name::Grant(sealed.into(), to));
        }
        match path {
            layout::MARK_FILE => Some(Name::Layout),
            layout::INDEX_FILE => Some(Name::Index),
            _ => None,
        }
    }

    fn max_bytes(&self) -> u64 {
        match self {
            Name::Layout => 1 << 10,
            Name::Index => DOCUMENT_MAX_BYTES as u64,
            Name::Blob(_) => BLOB_MAX_BYTES,
            Name::Metadata(_) | Name::Assignment(_) => TRUST_MAX_BYTES,
            Name::Grant(..) => GRANT_MAX_BYTES as u64,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Layout => f.write_str(layout::MARK_FILE),
            Name::Index => f.write_str(layout::INDEX_FILE),
            Name::Blob(digest) => write!(f, "blobs/sha256/{}", digest.hex()),
            Name::Metadata(file) => write!(f, "trust/metadata/{}", file.as_str()),
            Name::Assignment(file) => write!(f, "trust/assignments/{}", file.as_str()),
            Name::Grant(sealed, to) => f.write_str(&folder::place(sealed, to)),
        }
    }
}

/// Where a file's bytes lie in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The first byte.
    pub at: u64,
    /// How many there are.
    pub size: u64,
}

/// An archive that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It could not be read or written.
    #[error("the archive could not be read or written")]
    Io(#[from] io::Error),
    /// It could not be made.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Not a tar.
    #[error("byte {at} of this file begins no entry of a tar: it is something else, or damaged")]
    Header {
        /// Where.
        at: u64,
    },
    /// Cut off.
    #[error("the archive is cut off: it has {size_bytes} bytes, and should go on")]
    CutOff {
        /// How long it is.
        size_bytes: u64,
    },
    /// A link, a device, a folder, or an extension of tar.
    #[error("{path:?} in the archive is no plain file (type {kind:?}): packages have no others")]
    Kind {
        /// The beginning of its path.
        path: String,
        /// Its type in the words of tar.
        kind: char,
    },
    /// A file that no package has.
    #[error("the archive has a file {path:?}: packages have none of that name")]
    Foreign {
        /// The beginning of its path.
        path: String,
    },
    /// A file that is there already.
    #[error("{name} is in the archive twice")]
    Twice {
        /// Which.
        name: Name,
    },
    /// Longer than anything honest.
    #[error("{name} in the archive has {size_bytes} bytes, more than the {max_bytes} that are read")]
    TooLong {
        /// Which.
        name: Name,
        /// Its length.
        size_bytes: u64,
        /// The most that is read.
        max_bytes: u64,
    },
    /// More files than a package has.
    #[error("the archive has more than {MEMBERS_MAX} files")]
    TooMany,
}

/// Where each file of an archive lies. What the files hold is not looked at.
pub fn contents(reader: &mut (impl Read + Seek)) -> Result<BTreeMap<Name, Member>, ArchiveError> {
    let size_bytes = reader.seek(SeekFrom::End(0))?;
    let (mut at, mut found) = (0, BTreeMap::new());
    loop {
        if size_bytes - at < BLOCK {
            return Err(ArchiveError::CutOff { size_bytes });
        }
        let mut block = [0; BLOCK as usize];
        reader.seek(SeekFrom::Start(at))?;
        reader.read_exact(&mut block)?;
        if block == [0; BLOCK as usize] {
            return Ok(found);
        }
        let (name, size) = entry(&block, at)?;
        at += BLOCK;
        let padded = size.next_multiple_of(BLOCK);
        if padded > size_bytes - at {
            return Err(ArchiveError::CutOff { size_bytes });
        }
        if found.len() == MEMBERS_MAX {
            return Err(ArchiveError::TooMany);
        }
        if found.insert(name.clone(), Member { at, size }).is_some() {
            return Err(ArchiveError::Twice { name });
        }
        at += padded;
    }
}

/// Reads an entry's head, which stands at byte `at`: a plain file of ours, and its length.
fn entry(block: &[u8; BLOCK as usize], at: u64) -> Result<(Name, u64), ArchiveError> {
    let header = Header::from_byte_slice(block);
    // The checksum is reckoned with blanks in its own place.
    let counted = |(i, c): (usize, &u8)| u32::from(if (148..156).contains(&i) { b' ' } else { *c });
    let sum: u32 = block.iter().enumerate().map(counted).sum();
    if header.cksum().ok() != Some(sum) {
        return Err(ArchiveError::Header { at });
    }
    let path = header.path_bytes();
    let shown = || -> String { String::from_utf8_lossy(&path).chars().take(120).collect() };
    if header.entry_type() != EntryType::Regular {
        return Err(ArchiveError::Kind { path: shown(), kind: char::from(header.entry_type().as_byte()) });
    }
    let name = Name::parse(&path).ok_or_else(|| ArchiveError::Foreign { path: shown() })?;
    let size_bytes = header.entry_size().map_err(|_| ArchiveError::Header { at })?;
    let max_bytes = name.max_bytes();
    if size_bytes > max_bytes {
        return Err(ArchiveError::TooLong { name, size_bytes, max_bytes });
    }
    Ok((name, size_bytes))
}

/// Reads a small file of an archive whole; how long it may be, [`contents`] has checked.
pub fn read_member(reader: &mut (impl Read + Seek), member: Member) -> io::Result<Vec<u8>> {
    reader.seek(SeekFrom::Start(member.at))?;
    let mut bytes = Vec::new();
    reader.take(member.size).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == member.size {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes a layout, all that has a name in it with all that that needs, the grants for that, and files of trust. Each blob is
/// checked on the way; after an error the archive is worth nothing.
pub fn write<D: Disk>(
    layout: &Layout<D>,
    trust: &BTreeMap<Name, Vec<u8>>,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let mut archive = Builder::new(out);
    put(&mut archive, &Name::Layout, layout::MARK)?;
    put(&mut archive, &Name::Index, &layout.index_bytes()?)?;
    let reached = layout.reachable()?;
    for digest in &reached {
        let digest = *digest;
        let file = layout.blob(&digest)?;
        let size_bytes = file.size_bytes()?;
        let mut data =
            Checked { reader: FileReader::new(file).take(size_bytes), hasher: Sha256::new(), came: 0 };
        archive.append(&header(&Name::Blob(digest), size_bytes)?, &mut data)?;
        if data.came != size_bytes || Digest::from(Hash::from(data.hasher)) != digest {
            return Err(LayoutError::Damaged { digest }.into());
        }
    }
    for digest in &reached {
        for grant in layout.grants(digest)? {
            put(&mut archive, &Name::Grant(*digest, grant.to()), &grant.to_bytes())?;
        }
    }
    for (name, bytes) in trust {
        put(&mut archive, name, bytes)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn put(archive: &mut Builder<impl Write>, name: &Name, bytes: &[u8]) -> io::Result<()> {
    archive.append(&header(name, bytes.len() as u64)?, bytes)
}

/// The head of a plain file, of nobody and of no time.
fn header(name: &Name, size: u64) -> io::Result<Header> {
    // A grant's path is longer than the 100 bytes that GNU's head has for it; that of POSIX has 155 more, for folders.
    let mut header = if matches!(name, Name::Grant(..)) { Header::new_ustar() } else { Header::new_gnu() };
    header.set_path(name.to_string())?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

/// Hashes what is read.
struct Checked<R> {
    reader: R,
    hasher: Sha256,
    came: u64,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let came = self.reader.read(into)?;
        self.hasher.update(&into[..came]);
        self.came += came as u64;
        Ok(came)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::descriptor::Descriptor;
    use crate::disk::simulated::Simulated;
    use crate::manifest::Manifest;
    use crate::media;
    use crate::seal::content::ContentKey;
    use crate::seal::hybrid::NodeSecret;
    use crate::seal::wrap::wrap;

    fn layout() -> (Simulated, Layout<Simulated>) {
        let disk = Simulated::new();
        let layout = Layout::create(disk.clone(), Path::new("/p")).unwrap();
        layout.put_blob(b"{}").unwrap();
        let bytes = Manifest::new(media::MODEL_MANIFEST, Descriptor::empty()).to_bytes();
        layout.put_blob(&bytes).unwrap();
        layout.set_ref("a:1", &Descriptor::of(media::OCI_MANIFEST, &bytes)).unwrap();
        layout.put_blob(b"nobody's").unwrap();
        (disk, layout)
    }

    fn archive() -> Vec<u8> {
        let timestamp = Name::Metadata(FileName::new("timestamp.json").unwrap());
        let mut out = Vec::new();
        write(&layout().1, &BTreeMap::from([(timestamp, b"{}".to_vec())]), &mut out).unwrap();
        out
    }

    #[test]
    fn a_package_is_one_file() {
        let (archive, again) = (archive(), archive());
        assert!(archive == again, "equal packages are equal bytes");
        let mut reader = Cursor::new(&archive);
        let contents = contents(&mut reader).unwrap();
        let names: Vec<String> = contents.keys().map(ToString::to_string).collect();
        let manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::empty()).to_bytes();
        let mut blobs = [Digest::of(b"{}"), Digest::of(&manifest)];
        blobs.sort_unstable();
        let blob = |at: usize| format!("blobs/sha256/{}", blobs[at].hex());
        assert_eq!(names, ["oci-layout", "index.json", &blob(0), &blob(1), "trust/metadata/timestamp.json"]);
        for (name, member) in contents {
            let bytes = read_member(&mut reader, member).unwrap();
            match name {
                Name::Blob(digest) => assert_eq!(Digest::of(&bytes), digest),
                Name::Layout => assert_eq!(bytes, layout::MARK),
                _ => {}
            }
        }
    }

    #[test]
    fn grants_travel_with_what_they_open() {
        let (_, layout) = layout();
        let chance = &mut wire::world::Simulated::new(1);
        let (key, node) = (ContentKey::draw(chance), NodeSecret::generate(chance).unwrap());
        let grants = [&b"{}"[..], b"nobody's"].map(|of| {
            let grant = wrap(&key, Digest::of(of), node.public(), &mut *chance).unwrap();
            layout.put_grant(&grant).unwrap();
            grant
        });
        let here = &grants[0];
        let mut archive = Vec::new();
        write(&layout, &BTreeMap::new(), &mut archive).unwrap();
        let mut reader = Cursor::new(&archive);
        let contents = contents(&mut reader).unwrap();
        assert_eq!(contents.len(), 5, "no grant of what is not there");
        let member = contents[&Name::Grant(here.sealed(), here.to())];
        assert_eq!(read_member(&mut reader, member).unwrap(), here.to_bytes());
    }

    #[test]
    fn a_damaged_blob_is_not_written() {
        let (disk, layout) = layout();
        let path = Path::new("/p/blobs/sha256").join(Digest::of(b"{}").hex());
        crate::disk::write_whole(&disk, &path, b"[]").unwrap();
        let error = write(&layout, &BTreeMap::new(), io::sink()).unwrap_err();
        assert!(matches!(error, ArchiveError::Layout(LayoutError::Damaged { .. })), "{error}");
    }

    /// One entry as tar writes it, its path unchecked.
    fn one(path: &[u8], kind: u8, size: u64) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkflag = [kind];
        header.set_size(size);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(BLOCK as usize * 4, 0);
        bytes
    }

    #[test]
    fn what_no_package_has_is_refused() {
        fn check(path: &[u8], kind: u8, size: u64) -> ArchiveError {
            contents(&mut Cursor::new(one(path, kind, size))).unwrap_err()
        }
        assert!(contents(&mut Cursor::new(one(b"index.json", b'0', 5))).is_ok());
        for kind in *b"1234567xgLKSV" {
            assert!(
                matches!(check(b"index.json", kind, 0), ArchiveError::Kind { .. }),
                "{}",
                char::from(kind)
            );
        }
        for path in [
            &b"../index.json"[..],
            b"/index.json",
            b"./index.json",
            b"blobs/sha256/../../x",
            b"blobs/sha256/abc",
            b"blobs/sha512/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            b"blobs/sha256/44136FA355B3678A1146AD16F7E8649E94FB4FC21FE77E8310C060F61CAAFF8A",
            b"trust/metadata/.json",
            b"trust/metadata/../root.json",
            b"trust/metadata/a/root.json",
            b"trust/metadata/root.jso",
            b"trust/keys/root.json",
            b"grants/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a.json",
            b"grants/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a/../x.json",
            b"grants//44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a.json",
            b"\xff.json",
            b"",
        ] {
            assert!(matches!(check(path, b'0', 0), ArchiveError::Foreign { .. }), "{path:?}");
        }
        assert!(matches!(check(b"oci-layout", b'0', 2000), ArchiveError::TooLong { .. }));
        assert!(matches!(check(b"trust/metadata/1.root.json", b'0', 6 << 20), ArchiveError::TooLong { .. }));
        let blob = format!("blobs/sha256/{}", Digest::of(b"").hex());
        for size in [2000, 9 << 30, i64::MAX as u64] {
            assert!(matches!(check(blob.as_bytes(), b'0', size), ArchiveError::CutOff { .. }), "{size}");
        }
        assert!(matches!(check(blob.as_bytes(), b'0', u64::MAX), ArchiveError::TooLong { .. }));
        let mut wrong = one(b"index.json", b'0', 0);
        wrong[0] ^= 1;
        assert!(matches!(contents(&mut Cursor::new(wrong)), Err(ArchiveError::Header { at: 0 })));
        let head = one(b"index.json", b'0', 0)[..BLOCK as usize].to_vec();
        let twice = [&head[..], &head[..], &[0; 1024]].concat();
        assert!(matches!(contents(&mut Cursor::new(twice)), Err(ArchiveError::Twice { .. })));
        assert!(matches!(contents(&mut Cursor::new(b"")), Err(ArchiveError::CutOff { .. })));
        assert!(matches!(contents(&mut Cursor::new([1_u8; 512])), Err(ArchiveError::Header { .. })));
    }

    /// A layer of 9 GiB, where tar's octal sizes end; the file is all holes.
    #[test]
    fn sizes_beyond_octal() {
        let digest = Digest::of(b"");
        let head = header(&Name::Blob(digest), 9 << 30).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(head.as_bytes()).unwrap();
        file.set_len((9 << 30) + 3 * BLOCK).unwrap();
        let found = contents(&mut file).unwrap();
        assert_eq!(found[&Name::Blob(digest)], Member { at: BLOCK, size: 9 << 30 });
    }

    proptest! {
        #[test]
        fn cut_off_anywhere_is_seen_or_short(cut in any::<prop::sample::Index>()) {
            let whole = archive();
            let end = cut.index(whole.len() - 1024);
            prop_assert!(contents(&mut Cursor::new(&whole[..end])).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(
            at in any::<prop::sample::Index>(),
            value in any::<u8>(),
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let _ = contents(&mut Cursor::new(&bytes));
            let mut whole = archive();
            let at = at.index(whole.len());
            whole[at] = value;
            let _ = contents(&mut Cursor::new(&whole));
        }
    }
}
