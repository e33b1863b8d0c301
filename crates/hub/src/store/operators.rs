//! Operators and their tokens: who may do what, as an admin decided. Of a token the store has the digest only.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Row;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::access::tokens::{Account, Directory, Known};
use crate::access::who::Role;
use crate::store::connection::{Readers, StoredRow, Writer};

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRow {
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it is out.
    pub disabled: bool,
    /// Since when it is known.
    pub made_ms: WallMs,
}

/// A token, without what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// By which it is found.
    pub id: String,
    /// Whose it is.
    pub operator: String,
    /// At most what its operator may do.
    pub role: Role,
    /// What it is for, in its owner's words.
    pub name: String,
    /// When it was made.
    pub made_ms: WallMs,
    /// Until when it counts.
    pub until_ms: Option<WallMs>,
}

/// A role that this version does not know is worth the least.
fn role(row: &StoredRow, column: &str) -> Result<Role, sqlx::Error> {
    Ok(Role::parse(&row.try_get::<String, _>(column)?).unwrap_or(Role::Viewer))
}

/// Makes an operator, or changes its role and whether it is out.
pub async fn put(
    writer: &mut Writer,
    name: &str,
    role: Role,
    disabled: bool,
    now_ms: WallMs,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO operators (name, role, disabled, made_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (name) DO UPDATE SET role = $2, disabled = $3",
    );
    let query = query.bind(name).bind(role.as_str()).bind(i64::from(disabled)).bind(now_ms);
    query.execute(writer).await?;
    Ok(())
}

/// One operator.
pub async fn find(writer: &mut Writer, name: &str) -> Result<Option<OperatorRow>, sqlx::Error> {
    let query = sqlx::query("SELECT name, role, disabled, made_ms FROM operators WHERE name = $1");
    query.bind(name).fetch_optional(writer).await?.as_ref().map(operator).transpose()
}

/// What becomes of somebody whom a provider knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedIn {
    /// This operator.
    As(String),
    /// An admin put them out.
    Disabled,
    /// Somebody else is called so.
    NameTaken,
}

/// Keeps whom a provider knows as `subject` with this role. An operator who was made here, or whom the provider calls otherwise,
/// is somebody else.
pub async fn sign_in(
    writer: &mut Writer,
    subject: &str,
    name: &str,
    role: Role,
    now_ms: WallMs,
) -> Result<SignedIn, sqlx::Error> {
    let query = sqlx::query("SELECT name, role, disabled, made_ms FROM operators WHERE subject = $1");
    let known = query.bind(subject).fetch_optional(&mut *writer).await?.as_ref().map(operator).transpose()?;
    match known {
        Some(known) if known.disabled => return Ok(SignedIn::Disabled),
        Some(known) => {
            let query = sqlx::query("UPDATE operators SET role = $2 WHERE subject = $1");
            query.bind(subject).bind(role.as_str()).execute(writer).await?;
            return Ok(SignedIn::As(known.name));
        }
        None => {}
    }
    if find(writer, name).await?.is_some() {
        return Ok(SignedIn::NameTaken);
    }
    let query = sqlx::query("INSERT INTO operators (name, role, subject, made_ms) VALUES ($1, $2, $3, $4)");
    query.bind(name).bind(role.as_str()).bind(subject).bind(now_ms).execute(writer).await?;
    Ok(SignedIn::As(name.to_owned()))
}

/// How many admins are not out, that one apart.
pub async fn other_admins(writer: &mut Writer, name: &str) -> Result<i64, sqlx::Error> {
    let sql = "SELECT COUNT(*) FROM operators WHERE role = 'admin' AND disabled = 0 AND name <> $1";
    sqlx::query(sql).bind(name).fetch_one(writer).await?.try_get(0)
}

/// How many operators there are.
pub async fn count(writer: &mut Writer) -> Result<i64, sqlx::Error> {
    sqlx::query("SELECT COUNT(*) FROM operators").fetch_one(writer).await?.try_get(0)
}

/// All operators, by name.
pub async fn list(readers: &Readers) -> Result<Vec<OperatorRow>, sqlx::Error> {
    let query = sqlx::query("SELECT name, role, disabled, made_ms FROM operators ORDER BY name");
    query.fetch_all(readers).await?.iter().map(operator).collect()
}

fn operator(row: &StoredRow) -> Result<OperatorRow, sqlx::Error> {
    Ok(OperatorRow {
        name: row.try_get("name")?,
        role: role(row, "role")?,
        disabled: row.try_get::<i64, _>("disabled")? != 0,
        made_ms: row.try_get("made_ms")?,
    })
}

/// Keeps a token of an operator that is there.
pub async fn add_token(writer: &mut Writer, token: &TokenRow, hash: &Hash) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO tokens (id, operator, hash, role, name, made_ms, until_ms) \
         VALUES ($1, (SELECT id FROM operators WHERE name = $2), $3, $4, $5, $6, $7)",
    );
    let query = query.bind(&token.id).bind(&token.operator).bind(hash.as_bytes().as_slice());
    let query = query.bind(token.role.as_str()).bind(&token.name).bind(token.made_ms).bind(token.until_ms);
    query.execute(writer).await?;
    Ok(())
}

/// Takes a token back. False if there is none that counts.
pub async fn revoke(writer: &mut Writer, id: &str) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("UPDATE tokens SET revoked = 1 WHERE id = $1 AND revoked = 0").bind(id);
    Ok(query.execute(writer).await?.rows_affected() > 0)
}

/// All tokens that were not taken back, newest first.
pub async fn tokens(readers: &Readers) -> Result<Vec<TokenRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT t.id, o.name AS operator, t.role, t.name, t.made_ms, t.until_ms FROM tokens t \
         JOIN operators o ON o.id = t.operator WHERE t.revoked = 0 ORDER BY t.made_ms DESC, t.id",
    );
    let read = |row: &StoredRow| {
        Ok(TokenRow {
            id: row.try_get("id")?,
            operator: row.try_get("operator")?,
            role: role(row, "role")?,
            name: row.try_get("name")?,
            made_ms: row.try_get("made_ms")?,
            until_ms: row.try_get("until_ms")?,
        })
    };
    rows.fetch_all(readers).await?.iter().map(read).collect()
}

/// What the guard needs of both.
pub async fn directory(readers: &Readers) -> Result<Directory, sqlx::Error> {
    let rows = list(readers).await?;
    let account =
        |row: OperatorRow| (Arc::from(row.name), Account { role: row.role, disabled: row.disabled });
    let operators: HashMap<Arc<str>, Account> = rows.into_iter().map(account).collect();
    if operators.is_empty() {
        return Ok(Directory::default());
    }
    let rows = sqlx::query(
        "SELECT t.id, o.name AS operator, t.hash, t.role, t.until_ms FROM tokens t \
         JOIN operators o ON o.id = t.operator WHERE t.revoked = 0",
    );
    let mut tokens = HashMap::new();
    for row in rows.fetch_all(readers).await? {
        let Some(hash) = Hash::from_slice(&row.try_get::<Vec<u8>, _>("hash")?) else { continue };
        let operator = Arc::from(row.try_get::<String, _>("operator")?);
        let until_ms = row.try_get("until_ms")?;
        tokens.insert(row.try_get("id")?, Known { operator, hash, role: role(&row, "role")?, until_ms });
    }
    Ok(Directory { operators, tokens })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tokens::draw;
    use crate::access::who::Who;
    use crate::store;
    use wire::world::Simulated;

    #[tokio::test]
    async fn what_is_written_is_what_the_guard_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store::open(folder.path(), None).await.unwrap();
        assert!(directory(&store.readers).await.unwrap().is_empty());
        let writer = &mut store.writer;
        put(writer, "ann", Role::Viewer, false, 1).await.unwrap();
        put(writer, "ann", Role::Admin, false, 2).await.unwrap();
        put(writer, "bob", Role::Operator, true, 3).await.unwrap();
        assert_eq!((count(writer).await.unwrap(), other_admins(writer, "ann").await.unwrap()), (2, 0));
        let found = find(writer, "ann").await.unwrap().unwrap();
        assert_eq!((found.role, found.disabled, found.made_ms), (Role::Admin, false, 1));
        let drawn = draw(&mut Simulated::new(1));
        let token = TokenRow {
            id: drawn.id.clone(),
            operator: "ann".into(),
            role: Role::Operator,
            name: "ci".into(),
            made_ms: 4,
            until_ms: Some(100),
        };
        add_token(writer, &token, &drawn.hash).await.unwrap();
        assert!(
            add_token(
                writer,
                &TokenRow { operator: "eve".into(), id: "x".into(), ..token.clone() },
                &drawn.hash
            )
            .await
            .is_err()
        );
        assert_eq!(tokens(&store.readers).await.unwrap(), [token]);
        let known = directory(&store.readers).await.unwrap();
        let who = Who::Operator { name: "ann".into(), role: Role::Operator };
        assert_eq!(known.by_token(&drawn.text, 99), Some(who));
        assert!(known.operators["bob"].disabled);
        assert!(revoke(&mut store.writer, &drawn.id).await.unwrap());
        assert!(!revoke(&mut store.writer, &drawn.id).await.unwrap());
        assert_eq!(directory(&store.readers).await.unwrap().by_token(&drawn.text, 99), None);
    }
}
