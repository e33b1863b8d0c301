//! Tokens of operators, and who has which: `svt_<10 id>_<40 secret>`, both in Crockford's base32.
//!
//! A token is found by its id and compared by its digest in constant time; the store never has its text. The directory in
//! memory is what the store says, read again every two seconds: so soon is out who was disabled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use wire::base32;
use wire::hash::Hash;
use wire::world::{Entropy, WallMs};

use crate::access::who::{Role, Who};

/// How soon the directory follows the store.
pub const REFRESH: Duration = Duration::from_secs(2);

const PREFIX: &str = "svt_";
const ID_LEN: usize = 10;
const SECRET_LEN: usize = 40;

/// The longest name of an operator or a token.
pub const NAME_MAX: usize = 64;

/// Names that the hub gives itself: where no token is asked for, and to whoever has the token in its file.
pub const RESERVED: [&str; 2] = ["everybody", "token-file"];

/// Whether an operator can be called so, or what to call it instead.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '@' | '-');
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if first && name.len() <= NAME_MAX && name.chars().all(good) && !RESERVED.contains(&name) {
        return Ok(());
    }
    Err("use up to 64 of a-z, 0-9, `.`, `_`, `@` and `-`, and neither `everybody` nor `token-file`")
}

/// A token that was just drawn: its text is shown once.
pub struct Drawn {
    /// By which it is found.
    pub id: String,
    /// What its owner keeps.
    pub text: String,
    /// What the store keeps.
    pub hash: Hash,
}

/// Draws a token of 200 random bits.
pub fn draw(entropy: &mut dyn Entropy) -> Drawn {
    let (id, secret) = (base32::draw(entropy, ID_LEN), base32::draw(entropy, SECRET_LEN));
    let text = format!("{PREFIX}{id}_{secret}");
    Drawn { id, hash: Hash::of(text.as_bytes()), text }
}

/// The id of what may be a token.
fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    (id.len() == ID_LEN && secret.len() == SECRET_LEN).then_some(id)
}

/// Compares without stopping at the first difference.
pub fn same(a: &Hash, b: &Hash) -> bool {
    a.as_bytes().iter().zip(b.as_bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The same of texts.
pub fn same_text(a: &str, b: &str) -> bool {
    same(&Hash::of(a.as_bytes()), &Hash::of(b.as_bytes()))
}

/// An operator, as the guard needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What it may do.
    pub role: Role,
    /// Whether it is out.
    pub disabled: bool,
}

/// A token, as the guard needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Whose it is.
    pub operator: Arc<str>,
    /// SHA-256 of its text.
    pub hash: Hash,
    /// At most what its operator may do.
    pub role: Role,
    /// Until when it counts.
    pub until_ms: Option<WallMs>,
}

/// Who there is, and what they show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// By name.
    pub operators: HashMap<Arc<str>, Account>,
    /// By id; revoked ones are not here.
    pub tokens: HashMap<String, Known>,
}

impl Directory {
    /// Whether there is anybody at all.
    pub fn is_empty(&self) -> bool {
        self.operators.is_empty()
    }

    /// Whoever has this token, if it counts now.
    pub fn by_token(&self, text: &str, now_ms: WallMs) -> Option<Who> {
        let token = self.tokens.get(id_of(text)?)?;
        let good = same(&token.hash, &Hash::of(text.as_bytes()));
        let alive = token.until_ms.is_none_or(|until| now_ms < until);
        if good && alive { self.operator(&token.operator, token.role) } else { None }
    }

    /// The operator of that name with at most that role, if it is not out.
    pub fn operator(&self, name: &str, role: Role) -> Option<Who> {
        let (name, account) = self.operators.get_key_value(name)?;
        let who = Who::Operator { name: name.clone(), role: account.role.meet(role) };
        (!account.disabled).then_some(who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::world::Simulated;

    #[test]
    fn a_token_counts_while_it_and_its_operator_do() {
        let mut world = Simulated::new(1);
        let (drawn, other) = (draw(&mut world), draw(&mut world));
        assert_eq!(drawn.text.len(), 4 + 10 + 1 + 40);
        let known = |role, until_ms| Known { operator: "ann".into(), hash: drawn.hash, role, until_ms };
        let directory = |role, disabled, token| Directory {
            operators: HashMap::from([("ann".into(), Account { role, disabled })]),
            tokens: HashMap::from([(drawn.id.clone(), token)]),
        };
        let role = |directory: Directory, text: &str| match directory.by_token(text, 100) {
            Some(Who::Operator { role, .. }) => Some(role),
            _ => None,
        };
        let (operator, admin) = (Role::Operator, Role::Admin);
        assert_eq!(role(directory(admin, false, known(operator, None)), &drawn.text), Some(operator));
        assert_eq!(
            role(directory(Role::Approver, false, known(operator, None)), &drawn.text),
            Some(Role::Viewer)
        );
        assert_eq!(role(directory(admin, true, known(operator, None)), &drawn.text), None);
        assert_eq!(role(directory(admin, false, known(operator, Some(100))), &drawn.text), None);
        assert_eq!(role(directory(admin, false, known(operator, Some(101))), &drawn.text), Some(operator));
        let forged = format!("{}{}", &drawn.text[..15], &other.text[15..]);
        for wrong in [&other.text, &forged, "svt_", "", "svt_é_ü", &drawn.text[..54]] {
            assert_eq!(role(directory(admin, false, known(operator, None)), wrong), None, "{wrong}");
        }
    }
}
