//! The two kinds of connections to the store, and how many rows go in at once. Which database it is (SQLite in a file,
//! or PostgreSQL) is known to [`crate::store::database`] and [`crate::store::schema`] alone; all other statements are
//! read by both.
//!
//! What may be bound: whole numbers as `i64`, floats as `f64`, text as `&str` or `String`, bytes as slices or vectors.
//! A shared string (`Arc<str>`) or a `u32` has no way through.

use std::fmt::Write as _;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe};

/// The one connection that writes.
pub type Writer = AnyConnection;

/// The connections that read. Each sees the state at the beginning of its statement and never waits for the writer.
pub type Readers = AnyPool;

/// A row as it comes back.
pub type StoredRow = AnyRow;

/// How many rows go into one INSERT. Larger saves little: at 64 the cost per row is that of the row itself.
pub const ROWS_AT_ONCE: usize = 64;

/// An INSERT of so many rows of so many columns. There is one text for each number of rows, and the connection keeps
/// each prepared.
pub fn insert_rows(into: &'static str, columns: usize, rows: usize) -> AssertSqlSafe<String> {
    let mut sql = format!("INSERT INTO {into} VALUES ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            let comma = if column == 1 { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(sql, "{comma}${}", row * columns + column);
        }
        sql.push(')');
    }
    AssertSqlSafe(sql)
}

/// An empty database in memory.
#[cfg(test)]
pub async fn in_memory() -> Writer {
    sqlx::any::install_default_drivers();
    <Writer as sqlx::Connection>::connect("sqlite::memory:").await.unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns() {
        assert_eq!(insert_rows("t (a, b)", 2, 2).0, "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)");
    }
}
