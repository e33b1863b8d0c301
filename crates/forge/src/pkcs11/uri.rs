//! The name of a key in a token: a PKCS#11 URI (RFC 7512), such as `pkcs11:token=trust;object=root-1`.
//!
//! What narrows down the token and the key is read; what is not known is refused, since a key that is found by half of its
//! name may be another. A PIN in a URI is refused, too: it would stand in command lines and histories.

use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::str::FromStr;

/// The longest URI, as in key files.
const BYTES_MAX: usize = 1 << 10;
const SCHEME: &str = "pkcs11:";

/// Which key in which token; what is `None` may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uri {
    /// The token's label.
    pub token: Option<String>,
    /// Who made the token.
    pub manufacturer: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The key's label.
    pub object: Option<String>,
    /// The key's id, chosen by who made it.
    pub id: Option<Vec<u8>>,
    /// The shared library that speaks with the token.
    pub module_path: Option<PathBuf>,
}

/// A text that names no key in a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no PKCS#11 URI such as pkcs11:token=trust;object=root-1: {why}")]
pub struct UriError {
    /// What is wrong.
    pub why: String,
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        let wrong = |why: &str| UriError { why: why.to_owned() };
        if text.len() > BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let rest = text.strip_prefix(SCHEME).ok_or(wrong("it does not begin with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Uri::default();
        for pair in path.split(';').chain(query.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(wrong("each part of it reads NAME=VALUE"))?;
            let bytes = decoded(value)
                .ok_or(wrong("its %-signs have two digits after them, and no other signs stand there"))?;
            uri.take(name, bytes)?;
        }
        Ok(uri)
    }
}

impl Uri {
    fn take(&mut self, name: &str, value: Vec<u8>) -> Result<(), UriError> {
        let wrong = |why: String| UriError { why };
        let place = match name {
            "token" => &mut self.token,
            "manufacturer" => &mut self.manufacturer,
            "model" => &mut self.model,
            "serial" => &mut self.serial,
            "object" => &mut self.object,
            "id" if self.id.is_none() => {
                self.id = Some(value);
                return Ok(());
            }
            "module-path" if self.module_path.is_none() => {
                self.module_path = Some(PathBuf::from(std::ffi::OsString::from_vec(value)));
                return Ok(());
            }
            "type" if value == b"private" => return Ok(()),
            "type" => return Err(wrong("type is private, if it is there".to_owned())),
            "id" | "module-path" => return Err(wrong(format!("{name} stands there twice"))),
            "pin-value" | "pin-source" => {
                let how = "it is asked for, or stands in the file that SELVEDGE_PIN_FILE names";
                return Err(wrong(format!("a PIN has no place in it: {how}")));
            }
            _ => return Err(wrong(format!("{:?} is not known", name.chars().take(32).collect::<String>()))),
        };
        let text = String::from_utf8(value).map_err(|_| wrong(format!("{name} is not UTF-8")))?;
        match place.replace(text) {
            Some(_) => Err(wrong(format!("{name} stands there twice"))),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Uri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts = [
            ("token", &self.token),
            ("manufacturer", &self.manufacturer),
            ("model", &self.model),
            ("serial", &self.serial),
            ("object", &self.object),
        ];
        let texts =
            texts.into_iter().filter_map(|(name, text)| Some((name, encoded(text.as_ref()?.as_bytes()))));
        let id = self.id.iter().map(|id| ("id", id.iter().map(|byte| format!("%{byte:02X}")).collect()));
        let parts: Vec<String> =
            texts.chain(id).map(|(name, value): (_, String)| format!("{name}={value}")).collect();
        write!(f, "{SCHEME}{}", parts.join(";"))?;
        match &self.module_path {
            Some(path) => write!(f, "?module-path={}", encoded(path.as_os_str().as_bytes())),
            None => Ok(()),
        }
    }
}

/// What may stand as it is: unreserved signs of RFC 3986, and the slash, which only paths have.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte)
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ =
            if is_plain(*byte) { write!(text, "{}", char::from(*byte)) } else { write!(text, "%{byte:02X}") };
    }
    text
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => bytes.push(digit(rest.next()?)? << 4 | digit(rest.next()?)?),
            _ if byte.is_ascii_graphic() => bytes.push(byte),
            _ => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let uri = Uri {
            token: Some("Ours, für alle".into()),
            object: Some("root-1".into()),
            id: Some(vec![0, 0x0a, 0xff]),
            module_path: Some("/usr/lib/a b.so".into()),
            ..Uri::default()
        };
        let text =
            "pkcs11:token=Ours%2C%20f%C3%BCr%20alle;object=root-1;id=%00%0A%FF?module-path=/usr/lib/a%20b.so";
        assert_eq!(uri.to_string(), text);
        assert_eq!(text.parse(), Ok(uri));
    }

    #[test]
    fn as_other_programs_write_it() {
        let text = "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=0a1b;token=trust;id=%01;object=r;type=private";
        let uri: Uri = text.parse().unwrap();
        assert_eq!((uri.serial.as_deref(), uri.model.as_deref()), (Some("0a1b"), Some("SoftHSM v2")));
    }

    #[test]
    fn what_is_refused() {
        let check = |text: &str, expected: &str| {
            let why = text.parse::<Uri>().unwrap_err().why;
            assert!(why.contains(expected), "{text}: {why}");
        };
        check("root-1.age", "does not begin");
        check("pkcs11:token", "NAME=VALUE");
        check("pkcs11:token=a;token=b", "twice");
        check("pkcs11:id=a;id=b", "twice");
        check("pkcs11:token=%f", "two digits");
        check("pkcs11:token=a b", "no other signs");
        check("pkcs11:token=%ff", "not UTF-8");
        check("pkcs11:token=a?pin-value=1234", "a PIN has no place");
        check("pkcs11:colour=red", "\"colour\" is not known");
        check("pkcs11:type=public", "type is private");
        check(&format!("pkcs11:token={}", "a".repeat(1 << 10)), "too long");
    }
}
