//! The first admin: a hub that tells people apart and knows nobody makes one, and leaves its token in a file.

use std::path::{Path, PathBuf};

use package::trust::canonical::Value;
use sqlx::Connection as _;
use wire::world::{Entropy, WallMs};

use crate::access::tokens::{Drawn, draw};
use crate::access::who::Role;
use crate::identity::ca::{self, CaError};
use crate::store::audit::{self, Entry};
use crate::store::connection::Writer;
use crate::store::operators::{self, TokenRow};

/// What the file is called, in the folder of the hub's data.
pub const FILE: &str = "first-admin.token";

/// What the operator is called.
const NAME: &str = "first-admin";

/// Why there is no first admin.
#[derive(Debug, thiserror::Error)]
pub enum FirstError {
    /// The file.
    #[error("the first admin's token could not be kept")]
    File(#[from] CaError),
    /// The store.
    #[error("the first admin could not be stored")]
    Store(#[from] sqlx::Error),
}

/// Makes an admin if there is no operator. Its token is in a file that only the hub's user reads, before the store has it.
pub async fn admin(
    writer: &mut Writer,
    data: &Path,
    entropy: &mut dyn Entropy,
    now_ms: WallMs,
) -> Result<Option<PathBuf>, FirstError> {
    if operators::count(writer).await? > 0 {
        return Ok(None);
    }
    let path = data.join(FILE);
    let drawn = draw(entropy);
    ca::write(&path, &format!("{}\n", drawn.text))?;
    give(writer, NAME, Role::Admin, "first", &drawn, now_ms).await?;
    tracing::warn!(file = %path.display(), "nobody may administer this hub yet: this file has a token of an admin");
    Ok(Some(path))
}

/// Gives a token to an operator, who is made with this role if there is none of that name. What the token may do: never more
/// than its operator.
pub async fn give(
    writer: &mut Writer,
    name: &str,
    role: Role,
    what_for: &str,
    drawn: &Drawn,
    now_ms: WallMs,
) -> Result<Role, sqlx::Error> {
    let mut transaction = writer.begin().await?;
    let role = match operators::find(&mut transaction, name).await? {
        Some(operator) => operator.role.meet(role),
        None => {
            operators::put(&mut transaction, name, role, false, now_ms).await?;
            role
        }
    };
    let token = TokenRow {
        id: drawn.id.clone(),
        operator: name.to_owned(),
        role,
        name: what_for.to_owned(),
        made_ms: now_ms,
        until_ms: None,
    };
    operators::add_token(&mut transaction, &token, &drawn.hash).await?;
    let entry = Entry {
        at_ms: now_ms,
        who: "hub".into(),
        act: "token.make".into(),
        about: name.to_owned(),
        why: what_for.to_owned(),
        before: None,
        after: Some(Value::object([("id", token.id.into()), ("role", role.as_str().into())])),
    };
    audit::append(&mut transaction, &entry).await?;
    transaction.commit().await?;
    Ok(role)
}
