//! How each model behaved on each node, a row for each day and manifest: what a rollout's figures are compared with.

use std::ops::Range;

use sqlx::Row;
use wire::hash::Hash;

use crate::rollout::figures::{Day, Hour};
use crate::store::connection::{Readers, StoredRow, Writer};

/// A node's day with one manifest of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRow {
    /// The node's number.
    pub node: i64,
    /// Days since 1970.
    pub day: i64,
    /// The manifest that answered.
    pub manifest: Hash,
    /// What was told of it.
    pub told: Day,
}

/// What was told of a model's manifest on a node's day so far; nothing, if nobody told anything.
pub async fn find(
    writer: &mut Writer,
    model: &str,
    node: i64,
    day: i64,
    manifest: &Hash,
) -> Result<Day, sqlx::Error> {
    let query =
        sqlx::query("SELECT body FROM samples WHERE model = $1 AND node = $2 AND day = $3 AND manifest = $4");
    let query = query.bind(model).bind(node).bind(day).bind(manifest.to_string());
    let row = query.fetch_optional(writer).await?;
    row.as_ref().map_or_else(|| Ok(Day::default()), day_of)
}

/// Keeps it, in the place of what was there.
pub async fn put(writer: &mut Writer, model: &str, row: &SampleRow) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO samples (model, node, day, manifest, body) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (model, node, day, manifest) DO UPDATE SET body = excluded.body",
    );
    let body = serde_json::to_string(&row.told).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let query = query.bind(model).bind(row.node).bind(row.day).bind(row.manifest.to_string());
    query.bind(body).execute(writer).await?;
    Ok(())
}

/// The days of a model from `from_day` on, by node, day and manifest: the first `limit` behind `after`.
pub async fn page(
    writer: &mut Writer,
    model: &str,
    from_day: i64,
    after: Option<&SampleRow>,
    limit: i64,
) -> Result<Vec<SampleRow>, sqlx::Error> {
    let (node, day, manifest) =
        after.map_or((0, 0, String::new()), |row| (row.node, row.day, row.manifest.to_string()));
    let query = sqlx::query(
        "SELECT node, day, manifest, body FROM samples WHERE model = $1 AND day >= $2 \
         AND (node, day, manifest) > ($3, $4, $5) ORDER BY node, day, manifest LIMIT $6",
    );
    let query = query.bind(model).bind(from_day).bind(node).bind(day).bind(manifest).bind(limit);
    query.fetch_all(writer).await?.iter().map(sample_row).collect()
}

/// Where [`fold`] has come to: the day, the model, the node, the manifest.
pub type Place = (i64, String, i64, String);

/// Makes one figure of the hours of each sample of these days behind `after`, at most `most` of them: where it has come to, `None`
/// if that was all.
pub async fn fold(
    writer: &mut Writer,
    days: Range<i64>,
    after: Option<&Place>,
    most: i64,
) -> Result<Option<Place>, sqlx::Error> {
    let (day, model, node, manifest) =
        after.cloned().unwrap_or_else(|| (days.start - 1, String::new(), 0, String::new()));
    let query = sqlx::query(
        "SELECT day, model, node, manifest, body FROM samples WHERE day < $1 \
         AND (day, model, node, manifest) > ($2, $3, $4, $5) ORDER BY day, model, node, manifest LIMIT $6",
    );
    let query = query.bind(days.end).bind(day).bind(model).bind(node).bind(manifest).bind(most);
    let rows = query.fetch_all(&mut *writer).await?;
    for row in &rows {
        let model: String = row.try_get("model")?;
        let mut row = sample_row(row)?;
        if row.told.fold() {
            put(writer, &model, &row).await?;
        }
    }
    let place = |row: &StoredRow| {
        Ok((row.try_get("day")?, row.try_get("model")?, row.try_get("node")?, row.try_get("manifest")?))
    };
    rows.last().filter(|_| rows.len() as i64 == most).map(place).transpose()
}

/// What a node told of a model on the last of the days from `from` up to `before` on which it told anything, whatever ran.
pub async fn last_day(
    writer: &mut Writer,
    model: &str,
    node: i64,
    from: i64,
    before: i64,
) -> Result<Option<Hour>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT day, body FROM samples WHERE model = $1 AND node = $2 AND day >= $3 AND day < $4 \
         ORDER BY day DESC, manifest LIMIT 16",
    );
    let rows = query.bind(model).bind(node).bind(from).bind(before).fetch_all(writer).await?;
    let (mut last, mut told) = (None, Hour::default());
    for row in &rows {
        let day: i64 = row.try_get("day")?;
        if *last.get_or_insert(day) == day {
            told.add(&day_of(row)?.whole());
        }
    }
    Ok(last.map(|_| told))
}

/// What a node told of a model from `from_day` on, the newest days first, at most `limit` of them.
pub async fn of_node(
    readers: &Readers,
    model: &str,
    node: i64,
    from_day: i64,
    limit: i64,
) -> Result<Vec<SampleRow>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT node, day, manifest, body FROM samples WHERE model = $1 AND node = $2 AND day >= $3 \
         ORDER BY day DESC, manifest LIMIT $4",
    );
    let query = query.bind(model).bind(node).bind(from_day).bind(limit);
    query.fetch_all(readers).await?.iter().map(sample_row).collect()
}

fn sample_row(row: &StoredRow) -> Result<SampleRow, sqlx::Error> {
    let manifest: String = row.try_get("manifest")?;
    let unreadable = || sqlx::Error::Decode(format!("the store holds a sample of {manifest:?}").into());
    Ok(SampleRow {
        node: row.try_get("node")?,
        day: row.try_get("day")?,
        manifest: Hash::parse(&manifest).ok_or_else(unreadable)?,
        told: day_of(row)?,
    })
}

fn day_of(row: &StoredRow) -> Result<Day, sqlx::Error> {
    let body: String = row.try_get("body")?;
    serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(error.into()))
}
