//! Keys in tokens: the Ed25519 half of a key for trust lies in a smart card or a hardware module, and never leaves it.
//!
//! Tokens speak PKCS#11: a shared library of their maker, the *module*, is loaded into this process and trusted with it. A token
//! is found by its label, opened with a PIN, and then signs with Ed25519 (CKM_EDDSA). What it signed is checked here, so that a
//! token with another key, or one that signs in another way, is found out before anything is published.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use package::trust::canonical::Value;
use package::trust::hex::to_hex;
use package::trust::key::PublicKey;
use package::trust::sign::Ed25519;

use self::uri::Uri;

pub mod uri;

/// Bytes of an Ed25519 public key.
pub const PUBLIC_BYTES: usize = 32;

/// Ed25519 as CKA_EC_PARAMS has it: as RFC 8410's object identifier 1.3.101.112, or as PKCS#11 3.0's name for the curve.
/// Tokens know one or both.
const CURVES: [&[u8]; 2] = [b"\x06\x03\x2b\x65\x70", b"\x13\x0cedwards25519"];

/// What tells that the token signs, before its key is used.
const PROOF: &[u8] = b"selvedge: does this token sign?";

/// What a token did not do.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No module, or none of PKCS#11.
    #[error("the PKCS#11 module {} cannot be loaded", path.display())]
    Module {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: Error,
    },
    /// Another token, or none, is plugged in.
    #[error("no token is {uri}: {there}")]
    NoToken {
        /// What was looked for.
        uri: String,
        /// What is there instead.
        there: String,
    },
    /// More than one token is meant.
    #[error("{uri} may be one of several tokens: add its serial")]
    Tokens {
        /// What was looked for.
        uri: String,
    },
    /// A token of yesterday.
    #[error("the token {token:?} has no Ed25519 (CKM_EDDSA): it cannot hold a key for trust")]
    NoEddsa {
        /// Which token.
        token: String,
    },
    /// The PIN is wrong.
    #[error("the token {token:?} refuses this PIN{tries}")]
    Pin {
        /// Which token.
        token: String,
        /// How many tries are left, in words, if the token tells.
        tries: &'static str,
    },
    /// It was wrong too often.
    #[error(
        "the token {token:?} is locked, after too many wrong PINs: whoever has its SO PIN can set a new one"
    )]
    Locked {
        /// Which token.
        token: String,
    },
    /// The key was removed, or never was there.
    #[error("the token {token:?} has no Ed25519 key {key}")]
    NoKey {
        /// Which token.
        token: String,
        /// What was looked for.
        key: String,
    },
    /// Several keys have this name.
    #[error("the token {token:?} has {count} Ed25519 keys {key}: name one by its id, too")]
    Keys {
        /// Which token.
        token: String,
        /// What was looked for.
        key: String,
        /// How many there are.
        count: usize,
    },
    /// A key cannot be made without a name.
    #[error("a key that is made in a token needs a name: object=NAME")]
    Nameless,
    /// A key has this name already.
    #[error(
        "the token {token:?} has a key {object:?} already, and a key is never overwritten: choose another object="
    )]
    Taken {
        /// Which token.
        token: String,
        /// Its label.
        object: String,
    },
    /// The signature does not verify.
    #[error(
        "what the token {token:?} signed does not verify: it holds another key than it did, or signs in a way of its own"
    )]
    Other {
        /// Which token.
        token: String,
    },
    /// Anything else that it refused.
    #[error("the token {token:?} did not {what}")]
    Refused {
        /// Which token.
        token: String,
        /// What it was asked for.
        what: &'static str,
        /// Why.
        source: Error,
    },
}

/// A token that was found.
pub struct Token {
    context: Pkcs11,
    slot: Slot,
    session: Session,
    name: String,
}

impl Token {
    /// Loads the module and finds the one token that a URI means. `write`: to make keys in it.
    pub fn find(module: &Path, uri: &Uri, write: bool) -> Result<Token, TokenError> {
        let failed = |source| TokenError::Module { path: module.to_owned(), source };
        let context = Pkcs11::new(module).map_err(failed)?;
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // It is loaded once in a process, whatever keys come from it.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(source) => return Err(failed(source)),
        }
        let (mut found, mut others) = (Vec::new(), Vec::new());
        for slot in context.get_slots_with_token().map_err(failed)? {
            // A token that was pulled out meanwhile is none.
            let Ok(info) = context.get_token_info(slot) else { continue };
            let name = info.label().trim_end().to_owned();
            if is_meant(uri, &info) {
                found.push((slot, name));
            } else if info.token_initialized() {
                others.push(format!("{name:?}"));
            }
        }
        let (slot, name) = match (found.len(), found.pop()) {
            (1, Some(found)) => found,
            (0, _) if others.is_empty() => {
                let there = "there is none at all".to_owned();
                return Err(TokenError::NoToken { uri: uri.to_string(), there });
            }
            (0, _) => {
                let there = format!("there is {}", others.join(", "));
                return Err(TokenError::NoToken { uri: uri.to_string(), there });
            }
            _ => return Err(TokenError::Tokens { uri: uri.to_string() }),
        };
        let session = if write { context.open_rw_session(slot) } else { context.open_ro_session(slot) };
        let session = session.map_err(refused(&name, "open a session"))?;
        let token = Token { context, slot, session, name };
        let knows =
            token.context.get_mechanism_list(slot).map_err(refused(&token.name, "say what it can"))?;
        if !knows.contains(&MechanismType::EDDSA) {
            return Err(TokenError::NoEddsa { token: token.name });
        }
        Ok(token)
    }

    /// Its label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a PIN is to be handed to it: not if it asks on a keypad of its own, or if this process gave it before.
    pub fn wants_pin(&self) -> Result<bool, TokenError> {
        Ok(!self.is_open()? && !self.info()?.protected_authentication_path())
    }

    /// Opens it. `pin`: `None` if it wants none.
    pub fn log_in(&self, pin: Option<&str>) -> Result<(), TokenError> {
        if self.is_open()? {
            return Ok(());
        }
        let pin = pin.map(|pin| AuthPin::new(pin.into()));
        let token = self.name.clone();
        match self.session.login(UserType::User, pin.as_ref()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::Locked { token }),
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                let info = self.info()?;
                if info.user_pin_locked() {
                    return Err(TokenError::Locked { token });
                }
                let tries = match (info.user_pin_final_try(), info.user_pin_count_low()) {
                    (true, _) => ": one try is left, then it locks itself",
                    (_, true) => ": it was wrong before, and few tries are left",
                    _ => "",
                };
                Err(TokenError::Pin { token, tries })
            }
            Err(source) => Err(refused(&self.name, "open with this PIN")(source)),
        }
    }

    /// Makes a key that never leaves the token, with the label and the id of a URI.
    pub fn make(self, uri: &Uri) -> Result<TokenKey, TokenError> {
        let (Some(object), Some(id)) = (&uri.object, &uri.id) else { return Err(TokenError::Nameless) };
        let same =
            [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(object.clone().into_bytes())];
        let same = self.session.find_objects(&same).map_err(refused(&self.name, "look for keys"))?;
        if !same.is_empty() {
            return Err(TokenError::Taken { token: self.name, object: object.clone() });
        }
        let named = [
            Attribute::Token(true),
            Attribute::Label(object.clone().into_bytes()),
            Attribute::Id(id.clone()),
        ];
        let private = [
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        let private = [&named[..], &private].concat();
        let make = |curve: &[u8]| {
            let public =
                [Attribute::Private(false), Attribute::Verify(true), Attribute::EcParams(curve.to_vec())];
            let public = [&named[..], &public].concat();
            self.session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private)
        };
        let made = make(CURVES[0]).or_else(|_| make(CURVES[1]));
        let (public, private) = made.map_err(refused(&self.name, "make an Ed25519 key"))?;
        let point = self.session.get_attributes(public, &[AttributeType::EcPoint]);
        let point = point.map_err(refused(&self.name, "give its public key"))?;
        let public = point.iter().find_map(|attribute| match attribute {
            Attribute::EcPoint(point) => point_of(point),
            _ => None,
        });
        let public = public.ok_or_else(|| TokenError::Other { token: self.name.clone() })?;
        self.proven(private, public)
    }

    /// The key that a URI names, whose public half is known.
    pub fn key(self, uri: &Uri, public: [u8; PUBLIC_BYTES]) -> Result<TokenKey, TokenError> {
        let mut wanted =
            vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(KeyType::EC_EDWARDS)];
        wanted.extend(uri.object.as_ref().map(|object| Attribute::Label(object.clone().into_bytes())));
        wanted.extend(uri.id.clone().map(Attribute::Id));
        let found = self.session.find_objects(&wanted).map_err(refused(&self.name, "look for keys"))?;
        let named = || Uri { token: None, module_path: None, ..uri.clone() }.to_string();
        match found[..] {
            [private] => self.proven(private, public),
            [] => Err(TokenError::NoKey { key: named(), token: self.name }),
            _ => Err(TokenError::Keys { key: named(), token: self.name, count: found.len() }),
        }
    }

    /// A key that has shown that it signs.
    fn proven(self, private: ObjectHandle, public: [u8; PUBLIC_BYTES]) -> Result<TokenKey, TokenError> {
        let key = TokenKey { session: Mutex::new(self.session), private, public, token: self.name };
        key.signature(PROOF)?;
        Ok(key)
    }

    fn is_open(&self) -> Result<bool, TokenError> {
        let info = self.session.get_session_info().map_err(refused(&self.name, "tell of its session"))?;
        Ok(matches!(info.session_state(), SessionState::RoUser | SessionState::RwUser))
    }

    fn info(&self) -> Result<TokenInfo, TokenError> {
        self.context.get_token_info(self.slot).map_err(refused(&self.name, "tell of itself"))
    }
}

/// A key in a token that is open; as long as it lives, the token stays so.
pub struct TokenKey {
    session: Mutex<Session>,
    private: ObjectHandle,
    public: [u8; PUBLIC_BYTES],
    token: String,
}

impl TokenKey {
    /// A signature over `message` that verifies, 64 bytes.
    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let eddsa = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
        let signature = session.sign(&eddsa, self.private, message);
        let signature = signature.map_err(refused(&self.token, "sign"))?;
        let object = Value::object([("sig", to_hex(&signature).into())]);
        match PublicKey::Ed25519(self.public).verifies(message, &object) {
            true => Ok(signature),
            false => Err(TokenError::Other { token: self.token.clone() }),
        }
    }
}

impl Ed25519 for TokenKey {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.signature(message).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    }
}

fn refused(token: &str, what: &'static str) -> impl FnOnce(Error) -> TokenError {
    let token = token.to_owned();
    move |source| TokenError::Refused { token, what, source }
}

/// Whether a token is the one that a URI means; one that was never initialised is none.
fn is_meant(uri: &Uri, info: &TokenInfo) -> bool {
    let same =
        |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is.trim_end());
    info.token_initialized()
        && same(&uri.token, info.label())
        && same(&uri.manufacturer, info.manufacturer_id())
        && same(&uri.model, info.model())
        && same(&uri.serial, info.serial_number())
}

/// The public key in CKA_EC_POINT: as it is (PKCS#11 3.0), or in an octet string or a bit string of DER, as older tokens have it.
fn point_of(point: &[u8]) -> Option<[u8; PUBLIC_BYTES]> {
    let wraps: [&[u8]; 2] = [&[0x04, 0x20], &[0x03, 0x21, 0x00]];
    let inner =
        wraps.into_iter().find_map(|wrap| point.strip_prefix(wrap).filter(|it| it.len() == PUBLIC_BYTES));
    inner.unwrap_or(point).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_comes_in_three_forms() {
        let key = [4; 32];
        for wrap in [&[][..], &[0x04, 0x20], &[0x03, 0x21, 0x00]] {
            assert_eq!(point_of(&[wrap, &key].concat()), Some(key), "{wrap:?}");
        }
        assert_eq!(point_of(&key[1..]), None);
        assert_eq!(point_of(&[0x04, 0x20]), None);
    }

    #[test]
    fn what_is_no_module_is_not_loaded() {
        let refused = Token::find(Path::new("/dev/null"), &Uri::default(), false).err();
        assert!(matches!(refused, Some(TokenError::Module { .. })), "{refused:?}");
    }
}
