//! The address of a database server. Its password is never shown.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// `postgres://user:password@host:port/name`; the password may also stand in PGPASSWORD or in the file PGPASSFILE names.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DatabaseUrl(String);

/// Not the address of a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database is not given as postgres://user@host:port/name; without one the hub keeps its own file in --data"
)]
pub struct BadDatabase;

impl DatabaseUrl {
    /// The address with everything that is in it: for connecting, not for showing.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = BadDatabase;

    fn from_str(text: &str) -> Result<DatabaseUrl, BadDatabase> {
        let text = text.trim();
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        match rest {
            Some(rest) if !rest.is_empty() && !text.contains(char::is_whitespace) => {
                Ok(DatabaseUrl(text.to_owned()))
            }
            _ => Err(BadDatabase),
        }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = BadDatabase;

    fn try_from(text: String) -> Result<DatabaseUrl, BadDatabase> {
        text.parse()
    }
}

/// Without password and settings.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.0.split(['?', '#']).next().unwrap_or_default();
        let Some((scheme, rest)) = address.split_once("://") else { return Ok(()) };
        match rest.rsplit_once('@') {
            Some((who, place)) => {
                let user = who.split(':').next().unwrap_or_default();
                write!(f, "{scheme}://{user}@{place}")
            }
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let shown = |text: &str| text.parse::<DatabaseUrl>().map(|url| format!("{url} {url:?}"));
        let plain = "postgres://hub@db:5432/selvedge";
        for text in [
            plain,
            "postgres://hub:secret@db:5432/selvedge",
            "postgres://hub:s@cr:et@db:5432/selvedge?password=secret",
            " postgres://hub:secret@db:5432/selvedge#secret\n",
        ] {
            assert_eq!(shown(text).unwrap(), format!("{plain} {plain}"), "{text}");
        }
        assert_eq!(
            shown("postgresql:///selvedge?host=/run").unwrap(),
            "postgresql:///selvedge postgresql:///selvedge"
        );
        for text in ["", "postgres://", "mysql://hub@db/x", "hub@db", "postgres://hub@db/a b"] {
            assert_eq!(shown(text), Err(BadDatabase), "{text}");
        }
    }
}
