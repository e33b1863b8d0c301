//! A list of chunks from a stranger: any bytes give a list whose chunks fill the blob, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use package::chunks::Chunks;

fuzz_target!(|bytes: &[u8]| {
    for bytes in [bytes, &[b"SVCHUNK1", bytes].concat()] {
        let Ok(chunks) = Chunks::parse(bytes) else { continue };
        assert_eq!(chunks.to_bytes(), bytes);
        let mut at = 0;
        for index in 0..chunks.len() {
            let range = chunks.range(index);
            assert!(range.start == at && range.end > at);
            at = range.end;
        }
        assert_eq!(at, chunks.blob_bytes());
        let _ = chunks.check(0, bytes);
        let _ = chunks.check_all(bytes, 2, |_| ());
    }
});
