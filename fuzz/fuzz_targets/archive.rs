//! A package on a stranger's stick: any bytes give a list of files that lie within the archive, or an error.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use package::archive;

fuzz_target!(|bytes: &[u8]| {
    // No mutation survives a checksum, so that of the first head is mended.
    let mut mended = bytes.to_vec();
    if mended.len() >= 512 {
        let head = &mut mended[..512];
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|c| u32::from(*c)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    for bytes in [bytes, &mended] {
        let mut reader = Cursor::new(bytes);
        for member in archive::contents(&mut reader).into_iter().flat_map(|found| found.into_values()) {
            assert!(member.at + member.size <= bytes.len() as u64);
            let _ = archive::read_member(&mut reader, member).expect("it lies within");
        }
    }
});
