//! The audit log: who did what to whom, and why. An entry is written in the transaction that does it, so that neither is
//! without the other; entries are numbered without holes and never changed.
//!
//! `leaf` is what stands for an entry in a Merkle tree (RFC 6962): entry `id` is the tree's leaf `id - 1`.

use package::trust::canonical::{Value, parse, to_json};
use sqlx::Row;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::store::connection::{Readers, StoredRow, Writer};
use crate::store::turn;

/// The most bytes of an entry: its length is written with two bytes where the log is published.
pub const ENTRY_MAX_BYTES: usize = 65_535;

/// The most bytes that `before` and `after` may have together; larger ones are named by their digests.
const VALUES_MAX_BYTES: usize = 48 << 10;

/// The most characters of `why`.
const WHY_MAX: usize = 2000;

/// The most characters of every other text.
const NAME_MAX: usize = 200;

/// An act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at_ms: WallMs,
    /// Who: `hub` by itself, `operator:<name>`, `node:<name>`.
    pub who: String,
    /// What: `rollout.start`, `wave.open`, `enrol`.
    pub act: String,
    /// About what: a rollout's id, a node's name, an operator's.
    pub about: String,
    /// Why, in words; empty where nobody said.
    pub why: String,
    /// How it was, where that says something.
    pub before: Option<Value>,
    /// How it is now, or the evidence for it.
    pub after: Option<Value>,
}

impl Entry {
    /// Somebody did something; nobody said why, and there is nothing to compare.
    pub fn new(at_ms: WallMs, who: String, act: &str, about: String) -> Entry {
        Entry { at_ms, who, act: act.to_owned(), about, why: String::new(), before: None, after: None }
    }

    /// The entry's bytes: JSON with its names sorted, integers only, at most [`ENTRY_MAX_BYTES`].
    pub fn text(&self) -> String {
        let length = |value: &Option<Value>| value.as_ref().map_or(0, |value| to_json(value).len());
        let is_large = length(&self.before) + length(&self.after) > VALUES_MAX_BYTES;
        let told = |value: &Value| match is_large {
            true => named(value),
            false => value.clone(),
        };
        let mut entry = Value::object([
            ("v", 1_u64.into()),
            ("at_ms", Value::Integer(self.at_ms)),
            ("who", clipped(&self.who, NAME_MAX).into()),
            ("act", clipped(&self.act, NAME_MAX).into()),
            ("on", clipped(&self.about, NAME_MAX).into()),
            ("why", clipped(&self.why, WHY_MAX).into()),
        ]);
        if let Some(fields) = entry.as_object_mut() {
            fields.extend(self.before.as_ref().map(|value| ("before".to_owned(), told(value))));
            fields.extend(self.after.as_ref().map(|value| ("after".to_owned(), told(value))));
        }
        String::from_utf8_lossy(&to_json(&entry)).into_owned()
    }
}

/// What is too large to stand in an entry, by its digest.
fn named(value: &Value) -> Value {
    let bytes = to_json(value);
    Value::object([("bytes", (bytes.len() as u64).into()), ("sha256", Hash::of(&bytes).to_string().into())])
}

/// JSON text cannot hold NUL in every database.
fn clipped(text: &str, chars: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(chars).collect()
}

/// Appends an entry, within the transaction that does what it tells. Its number.
pub async fn append(writer: &mut Writer, entry: &Entry) -> Result<i64, sqlx::Error> {
    let id = turn::draw_audit(writer).await?;
    let text = entry.text();
    let leaf = Hash::of(&[&[0], text.as_bytes()].concat());
    sqlx::query(
        "INSERT INTO audit (id, at_ms, who, act, about, body, leaf) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(entry.at_ms)
    .bind(clipped(&entry.who, NAME_MAX))
    .bind(clipped(&entry.act, NAME_MAX))
    .bind(clipped(&entry.about, NAME_MAX))
    .bind(text)
    .bind(leaf.as_bytes().as_slice())
    .execute(writer)
    .await?;
    Ok(id)
}

/// Brings back entries that were published and that a restored database lacks: `bodies`, behind the first `stored`. How many; 0 if
/// the database has moved on since they were read. They are what the log's own root vouches for: that is for the caller.
pub async fn bring_back(writer: &mut Writer, stored: u64, bodies: &[String]) -> Result<u64, sqlx::Error> {
    let taken = sqlx::query("UPDATE turn SET last_audit = $2 WHERE id = 1 AND last_audit = $1");
    let taken = taken.bind(stored as i64).bind(stored as i64 + bodies.len() as i64);
    if taken.execute(&mut *writer).await?.rows_affected() == 0 {
        return Ok(0);
    }
    for (body, id) in bodies.iter().zip(stored as i64 + 1..) {
        let value = parse(body.as_bytes()).unwrap_or(Value::Null);
        let text = |name: &str| value.get(name).and_then(Value::as_text).unwrap_or_default().to_owned();
        let at_ms = value.get("at_ms").and_then(Value::as_u64).unwrap_or(0) as i64;
        let leaf = Hash::of(&[&[0], body.as_bytes()].concat());
        let query = sqlx::query(
            "INSERT INTO audit (id, at_ms, who, act, about, body, leaf) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        );
        let query = query.bind(id).bind(at_ms).bind(text("who")).bind(text("act")).bind(text("on"));
        query.bind(body).bind(leaf.as_bytes().as_slice()).execute(&mut *writer).await?;
    }
    Ok(bodies.len() as u64)
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By this one.
    pub who: Option<String>,
    /// That did this.
    pub act: Option<String>,
    /// About this.
    pub about: Option<String>,
    /// With a smaller number than this.
    pub before: Option<i64>,
}

/// An entry as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number.
    pub id: i64,
    /// See [`Entry::at_ms`].
    pub at_ms: WallMs,
    /// See [`Entry::who`].
    pub who: String,
    /// See [`Entry::act`].
    pub act: String,
    /// See [`Entry::about`].
    pub about: String,
    /// See [`Entry::text`].
    pub body: String,
}

/// The newest entries that pass the filter, newest first.
pub async fn list(readers: &Readers, filter: &AuditFilter, limit: i64) -> Result<Vec<AuditRow>, sqlx::Error> {
    // Written out, so that the index of what entries are about can serve it.
    let about = if filter.about.is_some() { " AND about = $5" } else { "" };
    let sql = format!(
        "SELECT id, at_ms, who, act, about, body FROM audit WHERE id < $1 \
         AND ($2 = '' OR who = $2) AND ($3 = '' OR act = $3){about} ORDER BY id DESC LIMIT $4"
    );
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(filter.who.as_deref().unwrap_or_default())
        .bind(filter.act.as_deref().unwrap_or_default())
        .bind(limit);
    if let Some(about) = &filter.about {
        query = query.bind(about);
    }
    query.fetch_all(readers).await?.iter().map(audit_row).collect()
}

fn audit_row(row: &StoredRow) -> Result<AuditRow, sqlx::Error> {
    Ok(AuditRow {
        id: row.try_get("id")?,
        at_ms: row.try_get("at_ms")?,
        who: row.try_get("who")?,
        act: row.try_get("act")?,
        about: row.try_get("about")?,
        body: row.try_get("body")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite;

    fn entry(who: &str, act: &str, about: &str) -> Entry {
        let (who, act, about) = (who.to_owned(), act.to_owned(), about.to_owned());
        Entry { at_ms: 5, who, act, about, why: String::new(), before: None, after: Some(7_u64.into()) }
    }

    #[test]
    fn the_text_of_an_entry() {
        let start = entry("operator:ann", "rollout.start", "9f3c");
        let expected =
            r#"{"act":"rollout.start","after":7,"at_ms":5,"on":"9f3c","v":1,"who":"operator:ann","why":""}"#;
        assert_eq!(start.text(), expected);
        let large = Value::List(vec![Value::Text("x".repeat(60_000)); 3]);
        let large =
            Entry { why: "é".repeat(9000), before: Some(large.clone()), after: Some(large), ..start };
        let text = large.text();
        assert!(text.len() <= ENTRY_MAX_BYTES && text.contains("\"bytes\":180010"), "{text:.300}");
    }

    #[tokio::test]
    async fn entries_are_numbered_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = sqlite::open(folder.path()).await.unwrap();
        let acts =
            [("hub", "wave.open", "r1"), ("operator:ann", "rollout.pause", "r1"), ("hub", "enrol", "a")];
        for (place, (who, act, about)) in acts.into_iter().enumerate() {
            let id = append(&mut store.writer, &entry(who, act, about)).await.unwrap();
            assert_eq!(id, place as i64 + 1);
        }
        async fn check(readers: &Readers, filter: AuditFilter, expected: &[i64]) {
            let found = list(readers, &filter, 2).await.unwrap();
            assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{filter:?}");
        }
        let some = |text: &str| Some(text.to_owned());
        check(&store.readers, AuditFilter::default(), &[3, 2]).await;
        check(&store.readers, AuditFilter { before: Some(2), ..AuditFilter::default() }, &[1]).await;
        check(&store.readers, AuditFilter { who: some("hub"), ..AuditFilter::default() }, &[3, 1]).await;
        check(&store.readers, AuditFilter { about: some("r1"), ..AuditFilter::default() }, &[2, 1]).await;
        let both = AuditFilter { about: some("r1"), act: some("wave.open"), ..AuditFilter::default() };
        check(&store.readers, both, &[1]).await;
        let row =
            sqlx::query("SELECT body, leaf FROM audit WHERE id = 1").fetch_one(&store.readers).await.unwrap();
        let leaf = Hash::of(&[b"\0", row.get::<String, _>("body").as_bytes()].concat());
        assert_eq!(row.get::<Vec<u8>, _>("leaf"), leaf.as_bytes());
    }
}
