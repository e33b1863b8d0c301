//! A batch or a check-in from a hostile node: compressed or plain, it is judged without a panic and within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::batch::{Batch, Watermark};
use wire::hash::Hash;

fuzz_target!(|bytes: &[u8]| {
    let _ = hub::checkin::decode(bytes);
    let _ = hub::ingest::decode(bytes);
    if let Ok(batch) = serde_json::from_slice::<Batch>(bytes)
        && let Ok((first, last)) = batch.range()
    {
        assert!(first >= 1 && first <= last);
        let watermark = Watermark { stream: batch.stream.clone(), seq: first - 1, hash: Hash::GENESIS };
        let _ = batch.continue_chain(&watermark);
    }
});
