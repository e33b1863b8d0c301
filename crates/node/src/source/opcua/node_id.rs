//! The id of a variable, as every tool for OPC UA writes it: `ns=2;s=Pump.Pressure`, `i=2258`, `ns=3;g=…`, `ns=1;b=…`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest text of an id that the standard allows.
const TEXT_MAX_BYTES: usize = 4_096;

/// A checked id; the text it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName(String);

impl NodeName {
    /// Reads one. The error says what is wrong with it.
    pub fn read(text: &str) -> Result<NodeName, String> {
        let bad = |why: String| format!("{text:?} is no id of a node: {why}");
        let rest = match text.strip_prefix("ns=") {
            None => text,
            Some(rest) => {
                let (space, rest) =
                    rest.split_once(';').ok_or_else(|| bad("after `ns=2` comes `;`".to_owned()))?;
                if !is_number(space) || space.parse::<u16>().is_err() {
                    return Err(bad(format!("the namespace {space:?} is no number up to 65535")));
                }
                rest
            }
        };
        if text.starts_with("nsu=") {
            return Err(bad(
                "write the number of its namespace (`ns=2`), which the server's NamespaceArray lists"
                    .to_owned(),
            ));
        }
        let forms = "it goes on with `s=text`, `i=number`, `g=guid` or `b=base64`";
        let (form, id) = rest.split_once('=').ok_or_else(|| bad(forms.to_owned()))?;
        if id.is_empty() || id.len() > TEXT_MAX_BYTES {
            return Err(bad(format!("its id has 1 to {TEXT_MAX_BYTES} bytes")));
        }
        let wrong = match form {
            "s" if id.chars().any(char::is_control) => Some("a text without control characters"),
            "i" if !is_number(id) || id.parse::<u32>().is_err() => Some("a number up to 4294967295"),
            "g" if !is_guid(id) => Some("a guid as 12345678-1234-1234-1234-123456789abc"),
            "b" if STANDARD.decode(id).is_err() => Some("base64"),
            "s" | "i" | "g" | "b" => None,
            _ => return Err(bad(forms.to_owned())),
        };
        match wrong {
            Some(wanted) => Err(bad(format!("after `{form}=` comes {wanted}"))),
            None => Ok(NodeName(text.to_owned())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digits only: `parse` would take a plus sign.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for good in [
            "ns=2;s=Pump.Pressure",
            "i=2258",
            "ns=0;i=2258",
            "ns=65535;i=4294967295",
            "ns=3;s=\"DB\".\"level\"[3]",
            "ns=2;s=a=b;c",
            "ns=1;g=09087e75-8e5e-499b-954f-f2a9603db28a",
            "ns=1;b=M/RbKBsRVkePCePcx24oRA==",
        ] {
            assert_eq!(NodeName::read(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn what_is_none() {
        fn check(text: &str, why: &str) {
            let found = NodeName::read(text).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
        check("", "it goes on with");
        check("Pump.Pressure", "it goes on with");
        check("ns=2", "comes `;`");
        check("ns=2;", "it goes on with");
        check("ns=70000;i=1", "no number up to 65535");
        check("ns=+1;i=1", "no number up to 65535");
        check("i=-1", "a number up to");
        check("i=4294967296", "a number up to");
        check("s=", "1 to 4096 bytes");
        check("s=a\nb", "control characters");
        check("g=1234", "a guid");
        check("b=!", "base64");
        check("x=1", "it goes on with");
        check("nsu=http://plant/;s=x", "the number of its namespace");
        check(&format!("s={}", "a".repeat(5_000)), "1 to 4096 bytes");
    }
}
