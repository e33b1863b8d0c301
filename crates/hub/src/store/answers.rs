//! What was answered to writes that name themselves, for a day: who asks again is told the same, and nothing is done again.
//!
//! A row is there before the write begins. One whose write never told how it ended is not begun again: nobody knows.

use sqlx::Row;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::store::connection::Writer;

/// How long an answer is kept.
const KEEP_MS: i64 = 24 * 3_600_000;

/// A write that names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The digest of its name and of who gave it.
    pub key: String,
    /// Who: `operator:<name>`.
    pub who: String,
    /// Method and path.
    pub route: String,
    /// The digest of all that is asked.
    pub asked: Hash,
}

/// What there is of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing; from now on it is under way.
    New,
    /// Something else was asked under this name.
    Other,
    /// It began then, and has not ended here.
    UnderWay {
        /// When.
        since_ms: WallMs,
    },
    /// It is done, and this was answered.
    Done {
        /// The status.
        status: i64,
        /// The body, as it was kept.
        body: String,
    },
}

/// Takes a write up, or says what became of it.
pub async fn begin(writer: &mut Writer, named: &Named, now_ms: WallMs) -> Result<Found, sqlx::Error> {
    sqlx::query("DELETE FROM answers WHERE until_ms <= $1").bind(now_ms).execute(&mut *writer).await?;
    let query = sqlx::query("SELECT hash, status, body, until_ms FROM answers WHERE key = $1");
    if let Some(row) = query.bind(&named.key).fetch_optional(&mut *writer).await? {
        let asked: Vec<u8> = row.try_get("hash")?;
        return Ok(match row.try_get("status")? {
            _ if asked != named.asked.as_bytes() => Found::Other,
            0 => Found::UnderWay { since_ms: row.try_get::<i64, _>("until_ms")? - KEEP_MS },
            status => Found::Done { status, body: row.try_get("body")? },
        });
    }
    let query = sqlx::query(
        "INSERT INTO answers (key, operator, route, hash, status, body, until_ms) VALUES ($1, $2, $3, $4, 0, '', $5)",
    );
    let query =
        query.bind(&named.key).bind(&named.who).bind(&named.route).bind(named.asked.as_bytes().as_slice());
    query.bind(now_ms + KEEP_MS).execute(writer).await?;
    Ok(Found::New)
}

/// Keeps what was answered.
pub async fn keep(writer: &mut Writer, key: &str, status: i64, body: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE answers SET status = $2, body = $3 WHERE key = $1");
    query.bind(key).bind(status).bind(body).execute(writer).await?;
    Ok(())
}

/// Forgets a write that changed nothing, so that it may be tried again under its name.
pub async fn forget(writer: &mut Writer, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM answers WHERE key = $1").bind(key).execute(writer).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    #[tokio::test]
    async fn a_write_is_taken_up_once_and_forgotten_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store::open(folder.path(), None).await.unwrap();
        let writer = &mut store.writer;
        let text = |text: &str| text.to_owned();
        let named = Named {
            key: text("k"),
            who: text("operator:ann"),
            route: text("POST /a"),
            asked: Hash::of(b"a"),
        };
        let other = Named { asked: Hash::of(b"b"), ..named.clone() };
        assert_eq!(begin(writer, &named, 5).await.unwrap(), Found::New);
        assert_eq!(begin(writer, &named, 6).await.unwrap(), Found::UnderWay { since_ms: 5 });
        keep(writer, "k", 201, "body").await.unwrap();
        assert_eq!(begin(writer, &named, 7).await.unwrap(), Found::Done { status: 201, body: text("body") });
        assert_eq!(begin(writer, &other, 8).await.unwrap(), Found::Other);
        assert_eq!(begin(writer, &other, 5 + KEEP_MS).await.unwrap(), Found::New);
        forget(writer, "k").await.unwrap();
        assert_eq!(begin(writer, &named, 6 + KEEP_MS).await.unwrap(), Found::New);
    }
}
