//! Says by its first bytes what a file is, so that a web page is not kept as a model.
//!
//! Cheap on purpose: the whole header is the business of `lm::gguf`. Pure.

/// How many bytes of a file's beginning are worth looking at.
pub const HEAD_BYTES: usize = 512;

/// The fewest bytes of a GGUF file: magic, version, and its two counts.
const GGUF_MIN_BYTES: usize = 24;

/// Metadata entries or tensors beyond which a header is damage; the largest models have some thousands.
const COUNT_MAX: u64 = 1 << 20;

/// A file that is no model for us. `Display` says what it is and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAModel {
    /// Nothing at all, or less than a header.
    #[error("it is too short to be a model")]
    TooShort,
    /// A web page.
    #[error("this is an HTML page, not a GGUF file; give the address of the file itself")]
    Html,
    /// The note that stands for a file in a Git repository.
    #[error("this is a Git LFS pointer, not the file it stands for; download the file itself (git lfs pull)")]
    LfsPointer,
    /// An answer for programs, or a configuration.
    #[error("this is JSON, not a GGUF file")]
    Json,
    /// PyTorch's format, or another archive.
    #[error("this is a ZIP archive (perhaps a PyTorch model), not a GGUF file")]
    Zip,
    /// Compressed.
    #[error("this file is compressed (gzip, zstd, xz or bzip2); decompress it first")]
    Compressed,
    /// Hugging Face's format for weights.
    #[error("this is a safetensors file; import its whole folder, or look for the model as GGUF")]
    Safetensors,
    /// What stood before GGUF.
    #[error("this is a GGML file of 2023, which nothing reads any more; look for the model as GGUF")]
    Ggml,
    /// GGUF in a version that we do not read.
    #[error("this is GGUF version {version}; versions 2 and 3 are read. Look for a newer file of the model")]
    GgufVersion {
        /// The version it says.
        version: u32,
    },
    /// GGUF of a big-endian machine.
    #[error("this is a big-endian GGUF file, which is not read; look for the usual little-endian one")]
    BigEndian,
    /// GGUF with counts that no file has.
    #[error("its GGUF header is damaged")]
    DamagedGguf,
    /// Nothing that we know.
    #[error("it does not begin like a GGUF file")]
    Unknown,
}

/// Looks at the beginning of a file: its first [`HEAD_BYTES`], or all of it if it is shorter.
pub fn look(head: &[u8]) -> Result<(), NotAModel> {
    let number = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let count = |at: usize| head.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    if head.starts_with(b"GGUF") {
        return match number(4) {
            Some(2 | 3) if head.len() < GGUF_MIN_BYTES => Err(NotAModel::TooShort),
            Some(2 | 3) if [8, 16].into_iter().all(|at| count(at).is_some_and(|n| n <= COUNT_MAX)) => Ok(()),
            Some(2 | 3) => Err(NotAModel::DamagedGguf),
            Some(version) if version != 0 && version & 0xffff == 0 => Err(NotAModel::BigEndian),
            Some(version) => Err(NotAModel::GgufVersion { version }),
            None => Err(NotAModel::TooShort),
        };
    }
    let compressed: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"];
    let ggml: [&[u8]; 4] = [b"lmgg", b"fmgg", b"tjgg", b"algg"];
    let begins = |words: &[&[u8]]| words.iter().any(|word| head.starts_with(word));
    // A text may begin with a byte order mark and blanks.
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let is_tag = |tag: &str| text.get(..tag.len()).is_some_and(|b| b.eq_ignore_ascii_case(tag.as_bytes()));
    Err(if begins(&[b"version https://git-lfs"]) {
        NotAModel::LfsPointer
    } else if begins(&[b"PK\x03\x04"]) {
        NotAModel::Zip
    } else if begins(&compressed) {
        NotAModel::Compressed
    } else if begins(&ggml) {
        NotAModel::Ggml
    } else if head.get(8..10) == Some(b"{\"") && count(0).is_some_and(|len| len < 1 << 30) {
        NotAModel::Safetensors
    } else if ["<!doctype", "<html", "<head", "<?xml", "<!--"].into_iter().any(is_tag) {
        NotAModel::Html
    } else if text.starts_with(b"{") || text.starts_with(b"[") {
        NotAModel::Json
    } else if head.len() < GGUF_MIN_BYTES {
        NotAModel::TooShort
    } else {
        NotAModel::Unknown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gguf(version: u32, tensors: u64, entries: u64) -> Vec<u8> {
        [&b"GGUF"[..], &version.to_le_bytes(), &tensors.to_le_bytes(), &entries.to_le_bytes()].concat()
    }

    #[test]
    fn what_files_begin_with() {
        fn check(head: &[u8], expected: Result<(), NotAModel>) {
            assert_eq!(look(head), expected, "{}", head.escape_ascii());
        }
        check(&gguf(3, 48, 20), Ok(()));
        check(&gguf(2, 0, 1), Ok(()));
        check(&gguf(1, 48, 20), Err(NotAModel::GgufVersion { version: 1 }));
        check(&gguf(3u32.swap_bytes(), 48, 20), Err(NotAModel::BigEndian));
        check(&gguf(3, u64::MAX, 20), Err(NotAModel::DamagedGguf));
        check(&gguf(3, 1, 1)[..20], Err(NotAModel::TooShort));
        check(b"GGUF", Err(NotAModel::TooShort));
        check(b"", Err(NotAModel::TooShort));
        check(b"\n <!DOCTYPE html><html>", Err(NotAModel::Html));
        check(b"\xef\xbb\xbf<html>", Err(NotAModel::Html));
        check(b"{\"error\": 1}", Err(NotAModel::Json));
        check(b"version https://git-lfs.github.com/spec/v1\n", Err(NotAModel::LfsPointer));
        check(b"PK\x03\x04....", Err(NotAModel::Zip));
        check(b"\x28\xb5\x2f\xfd....", Err(NotAModel::Compressed));
        check(b"\x10\x02\0\0\0\0\0\0{\"__metadata__\"", Err(NotAModel::Safetensors));
        check(b"tjgg\x03\0\0\0", Err(NotAModel::Ggml));
        check(&[7; 100], Err(NotAModel::Unknown));
    }
}
