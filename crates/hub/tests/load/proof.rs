//! Reads everything back: each stream whole and single, each hash the one that follows from the bytes.

use std::collections::HashMap;
use std::path::Path;

use futures_util::TryStreamExt as _;
use hub::store;
use sqlx::{Connection as _, Row as _};
use wire::chain::{Link, link};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{BootId, StreamName};
use wire::record::Stamp;
use wire::world::ClockQuality;

use crate::node::Node;

struct Stream {
    name: StreamName,
    class: Class,
    seq: u64,
    head: Hash,
    kept: (u64, Hash),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    pub records: u64,
    pub streams: usize,
    /// Nodes in the rollout, by where they stand.
    pub members: Vec<(String, i64)>,
}

/// Panics where anything is missing, doubled, out of order or other than what was written.
pub async fn read_back(folder: &Path, nodes: &[Node]) -> Found {
    let store = store::open(folder, None).await.unwrap();
    let hash = |bytes: Vec<u8>| Hash::from_slice(&bytes).unwrap();
    let rows = "SELECT s.id, n.name, j.name, s.name, s.class, s.seq, s.hash FROM streams s \
        JOIN journals j ON j.id = s.journal JOIN nodes n ON n.id = s.node";
    let mut streams: HashMap<i64, Stream> = HashMap::new();
    let mut by_name: HashMap<(String, String, String), i64> = HashMap::new();
    for row in sqlx::query(rows).fetch_all(&store.readers).await.unwrap() {
        let (id, name): (i64, String) = (row.get(0), row.get(3));
        by_name.insert((row.get(1), row.get(2), name.clone()), id);
        let class = Class::parse(row.get(4)).unwrap();
        let kept = (row.get::<i64, _>(5) as u64, hash(row.get(6)));
        let name = StreamName::new(&name).unwrap();
        streams.insert(id, Stream { name, class, seq: 0, head: Hash::GENESIS, kept });
    }
    let mut found = Found { streams: streams.len(), ..Found::default() };
    let rows =
        "SELECT id, stream, seq, kind, boot, mono_ns, wall_ms, clock, hash, body FROM records ORDER BY id";
    let mut rows = sqlx::query(rows).fetch(&store.readers);
    while let Some(row) = rows.try_next().await.unwrap() {
        found.records += 1;
        assert_eq!(row.get::<i64, _>(0) as u64, found.records, "records are numbered without a hole");
        let stream = streams.get_mut(&row.get(1)).unwrap();
        stream.seq += 1;
        assert_eq!(row.get::<i64, _>(2) as u64, stream.seq, "{}", stream.name);
        let stamp = Stamp {
            boot: BootId::parse(row.get(4)).unwrap(),
            mono_ns: row.get::<i64, _>(5) as u64,
            wall_ms: row.get(6),
            clock: ClockQuality::parse(row.get(7)).unwrap(),
        };
        let said =
            Link { stream: &stream.name, class: stream.class, seq: stream.seq, kind: row.get(3), stamp };
        stream.head = link(stream.head, said, row.get(9));
        assert_eq!(hash(row.get(8)), stream.head, "{} {}", stream.name, stream.seq);
    }
    drop(rows);
    let mut told = 0;
    for node in nodes {
        for (name, own) in &node.fake.streams {
            let key = (node.fake.name.to_string(), node.fake.journal.to_string(), name.clone());
            let stream = &streams[&by_name[&key]];
            assert!(own.unsent.is_empty(), "{key:?}");
            assert_eq!(
                (stream.seq, stream.head),
                (own.seq, own.head),
                "{key:?}: what was acknowledged is there"
            );
            assert_eq!((stream.seq, stream.head), stream.kept, "{key:?}");
            told += own.seq;
        }
    }
    assert_eq!(told, found.records, "nothing is there that nobody wrote");
    let rows = "SELECT standing, COUNT(*) FROM members GROUP BY standing ORDER BY standing";
    let rows = sqlx::query(rows).fetch_all(&store.readers).await.unwrap();
    found.members = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    store.writer.close().await.unwrap();
    store.readers.close().await;
    found
}
