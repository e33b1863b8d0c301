//! A batch or a check-in from a hostile node: compressed or plain, it is judged without a panic and within bounds.
#![no_main]

use hub::ingest::{decode, is_settled, judge};
use libfuzzer_sys::fuzz_target;
use wire::batch::{Batch, Watermark};
use wire::hash::Hash;

fuzz_target!(|bytes: &[u8]| {
    let _ = hub::checkin::decode(bytes);
    let _ = decode(bytes);
    // No mutation survives compression, so what is judged behind it is compressed here.
    let packed = zstd::encode_all(bytes, 1).expect("memory is a place to write to");
    if let Ok(batch) = decode(&packed) {
        let (first, _) = batch.range().expect("decoding looked at it");
        for seq in [0, first - 1, first, u64::MAX >> 1] {
            let watermark = Watermark { stream: batch.stream.clone(), seq, hash: Hash::GENESIS };
            let stored = is_settled(&batch, &watermark).then_some(batch.head);
            judge(&batch, &watermark, stored).expect("decoding looked at it");
        }
    }
    if let Ok(batch) = serde_json::from_slice::<Batch>(bytes)
        && let Ok((first, last)) = batch.range()
    {
        assert!(first >= 1 && first <= last);
        let watermark = Watermark { stream: batch.stream.clone(), seq: first - 1, hash: Hash::GENESIS };
        let _ = batch.continue_chain(&watermark);
    }
});
