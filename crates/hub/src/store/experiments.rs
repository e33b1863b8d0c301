//! What each node told of its arm of an experiment. Plans, states, members and documents lie where those of rollouts do.

use sqlx::Row;

use crate::experiment::sheet::Sheet;
use crate::store::connection::{StoredRow, Writer};

/// Keeps a node's sheet, in the place of what was there.
pub async fn put_sheet(
    writer: &mut Writer,
    experiment: &str,
    node: i64,
    sheet: &Sheet,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO sheets (experiment, node, body) VALUES ($1, $2, $3) \
         ON CONFLICT (experiment, node) DO UPDATE SET body = excluded.body",
    );
    let body = serde_json::to_string(sheet).map_err(|error| sqlx::Error::Encode(error.into()))?;
    query.bind(experiment).bind(node).bind(body).execute(writer).await?;
    Ok(())
}

/// All sheets of an experiment, each with its node's number.
pub async fn sheets(writer: &mut Writer, experiment: &str) -> Result<Vec<(i64, Sheet)>, sqlx::Error> {
    let query = sqlx::query("SELECT node, body FROM sheets WHERE experiment = $1").bind(experiment);
    let read = |row: &StoredRow| {
        let body: String = row.try_get("body")?;
        let sheet = serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok((row.try_get("node")?, sheet))
    };
    query.fetch_all(writer).await?.iter().map(read).collect()
}
