//! The turn: one row that every transaction that writes takes first, so that one writes at a time, however many hubs share
//! the database. Numbers of records, of revisions and of the audit log have one order for this reason alone.

use sqlx::Row;

use crate::store::connection::Writer;

/// What whoever has the turn must know of those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Whether another hub has written since: then what is remembered of the store may be wrong.
    pub is_after_another: bool,
    /// How often the turn was taken.
    pub count: i64,
    /// The number of the newest record that there ever was.
    pub last_record: i64,
    /// The number of the newest entry of the audit log.
    pub last_audit: i64,
    /// The number of the newest change to what nodes shall do.
    pub desired: i64,
}

/// Takes the turn for the hub process called `me`, until the transaction ends. Waits while another has it.
pub async fn take(writer: &mut Writer, me: &str) -> Result<Turn, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE turn SET before = holder, holder = $1, count = count + 1 WHERE id = 1 \
         RETURNING before, count, last_record, last_audit, desired",
    );
    let row = row.bind(me).fetch_one(writer).await?;
    Ok(Turn {
        is_after_another: row.try_get::<String, _>("before")? != me,
        count: row.try_get("count")?,
        last_record: row.try_get("last_record")?,
        last_audit: row.try_get("last_audit")?,
        desired: row.try_get("desired")?,
    })
}

/// Waits until nobody has the turn, and lets nobody have it until the transaction ends. Takes it from nobody.
pub async fn wait(writer: &mut Writer) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE turn SET count = count WHERE id = 1").execute(writer).await?;
    Ok(())
}

/// Whether nobody has written since the hub process called `me` did. Takes nothing, and waits for nobody.
pub async fn is_last(writer: &mut Writer, me: &str) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("SELECT holder FROM turn WHERE id = 1");
    Ok(query.fetch_one(writer).await?.try_get::<String, _>(0)? == me)
}

/// Notes the number of the newest record, in the transaction that stores it.
pub async fn settle(writer: &mut Writer, last_record: i64) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE turn SET last_record = $1 WHERE id = 1");
    query.bind(last_record).execute(writer).await?;
    Ok(())
}

/// Draws the number of the next entry of the audit log; the first is 1.
pub async fn draw_audit(writer: &mut Writer) -> Result<i64, sqlx::Error> {
    let query = sqlx::query("UPDATE turn SET last_audit = last_audit + 1 WHERE id = 1 RETURNING last_audit");
    query.fetch_one(writer).await?.try_get(0)
}

/// Notes the number of the newest change to what some node shall do, in the transaction that makes it.
pub async fn desire(writer: &mut Writer, desired: i64) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE turn SET desired = $1 WHERE id = 1");
    query.bind(desired).execute(writer).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;
    use crate::store::connection::in_memory;
    use crate::store::schema::{self, Dialect};

    #[tokio::test]
    async fn who_follows_another_is_told() {
        let mut writer = in_memory().await;
        schema::migrate(&mut writer, Dialect::Sqlite).await.unwrap();
        let mut found = Vec::new();
        for me in ["a", "a", "b", "b", "a"] {
            let turn = take(&mut writer, me).await.unwrap();
            found.push((turn.is_after_another, turn.count));
        }
        assert_eq!(found, [(true, 1), (false, 2), (true, 3), (false, 4), (true, 5)]);
        assert_eq!(
            (is_last(&mut writer, "a").await.unwrap(), is_last(&mut writer, "b").await.unwrap()),
            (true, false)
        );
        settle(&mut writer, 7).await.unwrap();
        desire(&mut writer, 1).await.unwrap();
        assert_eq!(draw_audit(&mut writer).await.unwrap(), 1);
        // A transaction that fails gives its numbers back: the log has no holes.
        let mut transaction = writer.begin().await.unwrap();
        assert_eq!(draw_audit(&mut transaction).await.unwrap(), 2);
        transaction.rollback().await.unwrap();
        assert_eq!(draw_audit(&mut writer).await.unwrap(), 2);
        let turn = take(&mut writer, "a").await.unwrap();
        assert_eq!((turn.last_record, turn.desired), (7, 1));
    }
}
