//! From the bytes of a stranger to records that continue a stream: what a batch says, and what becomes of it.
//!
//! Stands between the wire and the writer. Pure: [`decode`] is bounded in memory and never panics, [`judge`] decides
//! from the batch and the watermark alone. Always: what lies up to the watermark is not stored again, what does not
//! continue the chain is not stored at all.

use std::io::Read as _;

use wire::batch::{BATCH_MAX_BYTES, BadBatch, Batch, Watermark};
use wire::hash::Hash;
use wire::record::{BODY_MAX_BYTES, Gap, Record};

/// The most a batch may be before it is decompressed.
pub const COMPRESSED_MAX_BYTES: usize = 1024 * 1024;

/// The largest zstd window a batch may ask for, as a power of two: 8 MiB, what zstd's level 19 uses.
const WINDOW_LOG_MAX: u32 = 23;

/// A batch that cannot be taken, whatever the hub holds.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not zstd, or cut short.
    #[error("the body is not zstd: {0}")]
    NotZstd(std::io::Error),
    /// More than [`BATCH_MAX_BYTES`] once decompressed.
    #[error("the batch is larger than {BATCH_MAX_BYTES} bytes once decompressed")]
    TooLarge,
    /// Not the JSON of a batch.
    #[error("the batch is not valid: {0}")]
    NotABatch(serde_json::Error),
    /// See [`BadBatch`].
    #[error(transparent)]
    Bad(#[from] BadBatch),
    /// A body beyond [`BODY_MAX_BYTES`].
    #[error("record {seq} has a body of {bytes} bytes, the limit is {BODY_MAX_BYTES}")]
    BodyTooLarge {
        /// Which record.
        seq: u64,
        /// How large it is.
        bytes: usize,
    },
    /// A number that no counter reaches and no database holds.
    #[error("{what} is {value}, the limit is 2^63")]
    NumberTooLarge {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
}

/// Decompresses and reads a batch.
pub fn decode(body: &[u8]) -> Result<Batch, DecodeError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(DecodeError::NotZstd)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(DecodeError::NotZstd)?;
    let mut json = Vec::new();
    let limit = BATCH_MAX_BYTES as u64 + 1;
    decoder.take(limit).read_to_end(&mut json).map_err(DecodeError::NotZstd)?;
    if json.len() > BATCH_MAX_BYTES {
        return Err(DecodeError::TooLarge);
    }
    let batch: Batch = serde_json::from_slice(&json).map_err(DecodeError::NotABatch)?;
    let (_, last) = batch.range()?;
    let small = |what, value: u64| {
        if value < 1 << 63 { Ok(()) } else { Err(DecodeError::NumberTooLarge { what, value }) }
    };
    small("a sequence number", last)?;
    for record in &batch.records {
        let bytes = record.body.get().len();
        if bytes > BODY_MAX_BYTES {
            return Err(DecodeError::BodyTooLarge { seq: record.seq, bytes });
        }
        small("mono_ns", record.mono_ns)?;
    }
    Ok(batch)
}

/// What becomes of a batch.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// All of it was settled before.
    Known,
    /// It begins beyond the watermark.
    Ahead,
    /// It does not continue the chain.
    Forked,
    /// Some of it is new.
    Fresh {
        /// What was lost, beyond the watermark.
        gap: Option<Gap>,
        /// What is new.
        records: Vec<(&'a Record, Hash)>,
        /// Where the stream stands once both are stored.
        watermark: Watermark,
    },
}

/// True if the batch ends at or before the watermark, so that [`judge`] needs the stored hash at its end.
pub fn is_settled(batch: &Batch, watermark: &Watermark) -> bool {
    batch.range().is_ok_and(|(_, last)| last <= watermark.seq)
}

/// Judges a batch that [`decode`] gave. `stored` is the chain's hash at the batch's end, if [`is_settled`] and the
/// store has it: inside a gap there is none.
pub fn judge<'a>(
    batch: &'a Batch,
    watermark: &Watermark,
    stored: Option<Hash>,
) -> Result<Verdict<'a>, BadBatch> {
    let (first, last) = batch.range()?;
    if first > watermark.seq + 1 {
        return Ok(Verdict::Ahead);
    }
    if last <= watermark.seq {
        let same = stored.is_none_or(|stored| stored == batch.head);
        return Ok(if same { Verdict::Known } else { Verdict::Forked });
    }
    let Some(records) = batch.continue_chain(watermark) else {
        return Ok(Verdict::Forked);
    };
    let gap = batch.gap.as_ref().filter(|gap| gap.last > watermark.seq);
    let gap = gap.map(|gap| Gap { first: gap.first.max(watermark.seq + 1), ..gap.clone() });
    let watermark = Watermark { stream: batch.stream.clone(), seq: last, hash: batch.head };
    Ok(Verdict::Fresh { gap, records, watermark })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use wire::chain::{Link, link};
    use wire::class::Class;
    use wire::id::{BootId, JournalId, NodeId, PartName, StreamName};
    use wire::record::GapReason;
    use wire::world::{ClockQuality, Simulated};

    /// A batch of an honest node: `gap`, then `records`, after `before`.
    fn batch(before: Hash, gap: Option<(u64, u64)>, records: impl IntoIterator<Item = u64>) -> Batch {
        let mut world = Simulated::new(3);
        let stream = StreamName::new("metrics").unwrap();
        let kind = PartName::new("summary").unwrap();
        let (journal, boot) = (JournalId::random(&mut world), BootId::random(&mut world));
        let gap =
            gap.map(|(first, last)| Gap { first, last, reason: GapReason::ByteCap, hash: Hash::of(b"g") });
        let mut head = gap.as_ref().map_or(before, |gap| gap.hash);
        let mut list = Vec::new();
        for seq in records {
            let body = RawValue::from_string(format!("{{\"n\":{seq}}}")).unwrap();
            let record = Record {
                seq,
                kind: kind.clone(),
                boot,
                mono_ns: seq,
                wall_ms: 5,
                clock: ClockQuality::Checked,
                body,
            };
            let (class, stamp) = (Class::Metric, record.stamp());
            head =
                link(head, Link { stream: &stream, class, seq, kind: "summary", stamp }, record.body.get());
            list.push(record);
        }
        let node = NodeId::new("n").unwrap();
        Batch { v: 1, node, journal, stream, class: Class::Metric, gap, records: list, head }
    }

    fn mark(seq: u64, hash: Hash) -> Watermark {
        Watermark { stream: StreamName::new("metrics").unwrap(), seq, hash }
    }

    fn packed(json: &[u8]) -> Vec<u8> {
        zstd::encode_all(json, 3).unwrap()
    }

    #[test]
    fn verdicts() {
        #[track_caller]
        fn check(batch: &Batch, watermark: &Watermark, stored: Option<Hash>, expected: &str) {
            let found = match judge(batch, watermark, stored).unwrap() {
                Verdict::Known => "known".to_owned(),
                Verdict::Ahead => "ahead".to_owned(),
                Verdict::Forked => "forked".to_owned(),
                Verdict::Fresh { gap, records, watermark } => {
                    let gap = gap.map_or(String::new(), |gap| format!("gap {}-{} ", gap.first, gap.last));
                    format!("{gap}+{} to {}", records.len(), watermark.seq)
                }
            };
            assert_eq!(found, expected);
        }
        let start = mark(0, Hash::GENESIS);
        let one = batch(Hash::GENESIS, None, 1..=3);
        check(&one, &start, None, "+3 to 3");
        check(&one, &mark(3, one.head), Some(one.head), "known");
        check(&one, &mark(9, Hash::of(b"nine")), Some(one.head), "known");
        check(&one, &mark(9, Hash::of(b"nine")), Some(Hash::of(b"other")), "forked");
        check(&one, &mark(9, Hash::of(b"nine")), None, "known");
        check(&batch(one.head, None, 5..=6), &mark(3, one.head), None, "ahead");
        check(&batch(one.head, None, 4..=6), &mark(3, one.head), None, "+3 to 6");
        check(&batch(Hash::of(b"else"), None, 4..=6), &mark(3, one.head), None, "forked");
        let overlap = batch(Hash::GENESIS, None, 1..=5);
        check(&overlap, &mark(3, one.head), None, "+2 to 5");
        let gap = batch(Hash::GENESIS, Some((2, 9)), 10..=11);
        check(&gap, &start, None, "ahead");
        check(&gap, &mark(1, Hash::of(b"one")), None, "gap 2-9 +2 to 11");
        check(&gap, &mark(4, Hash::of(b"four")), None, "gap 5-9 +2 to 11");
        check(&gap, &mark(9, gap.gap.as_ref().unwrap().hash), None, "+2 to 11");
        check(&gap, &mark(9, Hash::of(b"nine")), None, "forked");
        let only_gap = batch(Hash::GENESIS, Some((1, 4)), []);
        check(&only_gap, &start, None, "gap 1-4 +0 to 4");
        check(&only_gap, &mark(4, only_gap.head), Some(only_gap.head), "known");
    }

    #[test]
    fn what_decodes() {
        let good = batch(Hash::GENESIS, None, 1..=2);
        let back = decode(&packed(&serde_json::to_vec(&good).unwrap())).unwrap();
        assert_eq!(back.records[1].body.get(), "{\"n\":2}");
    }

    #[test]
    fn what_does_not_decode() {
        #[track_caller]
        fn check(body: &[u8], expected: &str) {
            let error = decode(body).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check(b"", "not zstd");
        check(b"{}", "not zstd");
        check(&packed(b"{}"), "missing field");
        check(&packed(b"{}")[..8], "not zstd");
        check(&packed(&[b'['; 500_000]), "not valid");
        check(&packed(&vec![b' '; BATCH_MAX_BYTES + 1]), "once decompressed");
        // 256 MiB of zeros in a few kB.
        let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        for _ in 0..64 {
            std::io::Write::write_all(&mut bomb, &vec![0; 4 << 20]).unwrap();
        }
        check(&bomb.finish().unwrap(), "once decompressed");
        let edit = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = serde_json::to_value(batch(Hash::GENESIS, None, 1..=2)).unwrap();
            change(&mut value);
            packed(value.to_string().as_bytes())
        };
        check(&edit(&|value| value["records"][1]["seq"] = 7.into()), "record 7 stands where 2 should be");
        check(
            &edit(&|value| value["records"][0]["mono_ns"] = u64::MAX.into()),
            "mono_ns is 18446744073709551615",
        );
        check(&edit(&|value| value["node"] = "<b>".into()), "found '<'");
        check(
            &edit(&|value| value["records"][0]["body"] = "x".repeat(BODY_MAX_BYTES).into()),
            "body of 262146",
        );
        let far = batch(Hash::GENESIS, Some((1, 1 << 63)), []);
        check(
            &packed(serde_json::to_string(&far).unwrap().as_bytes()),
            "a sequence number is 9223372036854775808",
        );
    }

    #[test]
    fn a_deep_body_is_only_text() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = serde_json::to_string(&batch(Hash::GENESIS, None, 1..=1)).unwrap();
        let text = text.replace("{\"n\":1}", &deep);
        let back = decode(&packed(text.as_bytes())).unwrap();
        assert_eq!(back.records[0].body.get().len(), 200_000);
    }
}
