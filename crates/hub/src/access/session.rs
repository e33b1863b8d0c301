//! Sessions of people: a cookie that says who somebody is and until when, sealed with a key that all replicas have.
//!
//! Nothing of a session is kept here, so it survives a restart and any replica takes it. What it is worth, the directory of
//! operators says at each request.

use std::path::Path;

use package::trust::eckey::{unwrap, wrap};
use wire::hash::Hash;
use wire::world::Entropy;
use zeroize::Zeroizing;

use crate::access::tokens::same;
use crate::access::who::Role;
use crate::identity::ca::{self, CaError};

/// How long a person stays signed in, in seconds.
pub const SESSION_S: i64 = 12 * 3600;

/// What the cookie is called.
pub const COOKIE: &str = "selvedge_session";

/// The cookie of a browser that is away to sign in elsewhere.
pub const AWAY_COOKIE: &str = "selvedge_away";

/// The file of the key, in the folder of keys.
const FILE: &str = "session.key";
const LABEL: &str = "SELVEDGE SESSION KEY";

/// The key that seals sessions.
pub struct Sealer {
    key: Zeroizing<[u8; 32]>,
    is_secure: bool,
}

impl Sealer {
    /// `is_secure`: people come over TLS, so that the cookie goes nowhere else.
    pub fn new(key: Zeroizing<[u8; 32]>, is_secure: bool) -> Sealer {
        Sealer { key, is_secure }
    }

    /// With the key in the folder of keys, which is drawn if there is none.
    pub fn open_or_make(
        folder: &Path,
        entropy: &mut dyn Entropy,
        is_secure: bool,
    ) -> Result<Sealer, CaError> {
        ca::make_folder(folder)?;
        let path = folder.join(FILE);
        let mut key = Zeroizing::new([0; 32]);
        let text = match ca::read(&path)? {
            Some(text) => text,
            None => {
                entropy.fill(&mut *key);
                ca::place(&path, &Zeroizing::new(wrap(LABEL, &*key)))?
            }
        };
        let bytes = unwrap(LABEL, &text).map(Zeroizing::new);
        *key = bytes.and_then(|bytes| bytes.as_slice().try_into().ok()).ok_or(CaError::Damaged { path })?;
        Ok(Sealer::new(key, is_secure))
    }

    /// The cookie of an operator who has just signed in.
    pub fn cookie(&self, name: &str, role: Role, now_s: i64) -> String {
        let words = format!("{}.{}.{name}", now_s + SESSION_S, role.as_str());
        let secure = if self.is_secure { "; Secure" } else { "" };
        let seal = self.seal(&words);
        format!("{COOKIE}={seal}.{words}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SESSION_S}{secure}")
    }

    /// The cookie of a browser that is sent to the provider. It comes back from another site, so it is not `Strict`.
    pub fn away_cookie(&self, words: &str, life_s: i64) -> String {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let seal = self.seal(&away(words));
        format!("{AWAY_COOKIE}={seal}.{words}; Path=/login; HttpOnly; SameSite=Lax; Max-Age={life_s}{secure}")
    }

    /// What a browser was sent to the provider with; `None` if it is none of ours.
    pub fn read_away<'a>(&self, value: &'a str) -> Option<&'a str> {
        let (seal, words) = value.split_once('.')?;
        same(&Hash::parse(seal)?, &self.seal(&away(words))).then_some(words)
    }

    /// Whose session this is: `<seal>.<until>.<role>.<name>`; `None` if it has run out, or is none of ours.
    pub fn read<'a>(&self, value: &'a str, now_s: i64) -> Option<(&'a str, Role)> {
        let (seal, words) = value.split_once('.')?;
        let mut parts = words.splitn(3, '.');
        let until_s = parts.next()?.parse::<i64>().ok()?;
        let (role, name) = (Role::parse(parts.next()?)?, parts.next()?);
        let is_ours = same(&Hash::parse(seal)?, &self.seal(words));
        // One that begins in the future was not made under this clock.
        (is_ours && now_s < until_s && until_s <= now_s + SESSION_S + 60).then_some((name, role))
    }

    /// HMAC in the small: two nested hashes, so that the outer one hides the state of the inner one.
    fn seal(&self, words: &str) -> Hash {
        let keyed = |pad: u8, text: &[u8]| {
            let mut bytes = Zeroizing::new(vec![pad; 32]);
            bytes.iter_mut().zip(*self.key).for_each(|(byte, key)| *byte ^= key);
            bytes.extend_from_slice(text);
            Hash::of(&bytes)
        };
        keyed(0x5c, keyed(0x36, words.as_bytes()).as_bytes())
    }
}

/// No session begins so: it begins with a number.
fn away(words: &str) -> String {
    format!("away:{words}")
}

/// The cookie that ends a browser's being away.
pub fn back() -> String {
    format!("{AWAY_COOKIE}=; Path=/login; HttpOnly; SameSite=Lax; Max-Age=0")
}

/// The cookie that ends a session.
pub fn ended() -> String {
    format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::world::Simulated;

    #[test]
    fn a_session_is_taken_wherever_the_key_is_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let open = |seed| Sealer::open_or_make(&keys, &mut Simulated::new(seed), true).unwrap();
        let first = open(1);
        let cookie = first.cookie("ann.b", Role::Operator, 1000);
        assert!(cookie.ends_with("; Secure") && cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
        let value = cookie.strip_prefix("selvedge_session=").unwrap().split(';').next().unwrap();
        // Another replica, or the same one started again.
        let again = open(2);
        let whose = Some(("ann.b", Role::Operator));
        assert_eq!((first.read(value, 1000), again.read(value, 1000 + SESSION_S - 1)), (whose, whose));
        assert_eq!(again.read(value, 1000 + SESSION_S), None, "it runs out");
        assert_eq!(again.read(value, 800), None, "not before it began");
        let other = Sealer::new(Zeroizing::new([7; 32]), false);
        assert_eq!(other.read(value, 1000), None);
        assert!(!other.cookie("a", Role::Viewer, 1).contains("Secure"));
        for changed in [value.replace("operator", "admin"), value.replace("ann", "bob"), String::new()] {
            assert_eq!(again.read(&changed, 1000), None, "{changed}");
        }
        // What is sealed for one thing is not good for another.
        let words = value.split_once('.').unwrap().1;
        let sent = first.away_cookie(words, 60);
        let sent = sent.strip_prefix("selvedge_away=").unwrap().split(';').next().unwrap();
        assert_eq!((again.read_away(sent), again.read(sent, 1000)), (Some(words), None));
        assert_eq!((again.read_away(value), other.read_away(sent)), (None, None));
        std::fs::write(keys.join(FILE), "nothing").unwrap();
        let damaged = Sealer::open_or_make(&keys, &mut Simulated::new(3), true);
        assert!(matches!(damaged, Err(CaError::Damaged { .. })));
    }
}
