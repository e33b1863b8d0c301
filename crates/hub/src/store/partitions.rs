//! PostgreSQL's table for each bucket of records: made before it is needed, dropped as a whole. A file has none of it.
//!
//! What finds no table lies in that for all others, and is cut row by row, as in a file.

use sqlx::{AssertSqlSafe, Row, raw_sql};
use wire::class::Class;
use wire::world::WallMs;

use crate::store::buckets::{bucket, day_of, period_days};
use crate::store::connection::Writer;
use crate::store::time::is_shared;

/// Makes the tables of the buckets for today and for the period after, within a transaction.
pub async fn make(writer: &mut Writer, now_ms: WallMs) -> Result<(), sqlx::Error> {
    if !is_shared(writer) {
        return Ok(());
    }
    let today = day_of(now_ms);
    for class in Class::ALL {
        for day in [today, today + period_days(class)] {
            let bucket = bucket(class, day);
            if has(writer, bucket).await? {
                continue;
            }
            let stray = sqlx::query("SELECT id FROM records WHERE bucket = $1 LIMIT 1").bind(bucket);
            if stray.fetch_optional(&mut *writer).await?.is_none() {
                let sql =
                    format!("CREATE TABLE records_b{bucket} PARTITION OF records FOR VALUES IN ({bucket})");
                raw_sql(AssertSqlSafe(sql)).execute(&mut *writer).await?;
            }
        }
    }
    Ok(())
}

/// Whether a bucket has a table of its own.
pub async fn has(writer: &mut Writer, bucket: i64) -> Result<bool, sqlx::Error> {
    if !is_shared(writer) {
        return Ok(false);
    }
    let query = sqlx::query("SELECT to_regclass($1) IS NOT NULL").bind(format!("records_b{bucket}"));
    query.fetch_one(writer).await?.try_get(0)
}

/// Drops the table of a bucket, within a transaction. How many records went with it.
pub async fn drop_table(writer: &mut Writer, bucket: i64) -> Result<i64, sqlx::Error> {
    let query = sqlx::query("SELECT COUNT(*) FROM records WHERE bucket = $1").bind(bucket);
    let count = query.fetch_one(&mut *writer).await?.try_get(0)?;
    raw_sql(AssertSqlSafe(format!("DROP TABLE records_b{bucket}"))).execute(writer).await?;
    Ok(count)
}
