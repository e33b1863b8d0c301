//! Plans of all kinds as bytes: their fields, written and read strictly, so that a plan has one form; their salt; and why bytes are
//! no plan.

use package::name::ModelName;
use package::trust::canonical::{StrictError, Value, parse, to_json};
use package::trust::hex::to_hex;
use package::trust::time::parse_utc;
use wire::hash::Hash;

use crate::rollout::plan::Target;

/// The most bytes of a plan.
pub const BYTES_MAX: usize = 256 << 10;

/// Bytes that are no plan. `E`: why a plan of that kind cannot be.
#[derive(Debug, thiserror::Error)]
pub enum NoPlan<E: std::error::Error + 'static> {
    /// Too long.
    #[error("the plan has {bytes} bytes, at most {BYTES_MAX} are read")]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// Not the JSON of signed documents.
    #[error("the plan is not strict JSON")]
    Json(#[source] StrictError),
    /// A field that is missing, too much, or wrong.
    #[error(transparent)]
    Field(BadField),
    /// A plan that cannot be.
    #[error("the plan cannot be followed")]
    Plan(#[source] E),
    /// The salt of another plan.
    #[error("the salt does not follow from the plan: it must be {salt}")]
    Salt {
        /// What it must be.
        salt: String,
    },
}

/// Reads and checks a plan. White space and order of names do not matter; what is unknown does. `salts`: the salt that a plan has, and
/// the one that follows from it.
pub fn read_plan<P, E: std::error::Error + 'static>(
    bytes: &[u8],
    of_value: impl FnOnce(&Value) -> Result<P, BadField>,
    check: impl FnOnce(&P) -> Result<(), E>,
    salts: impl FnOnce(&P) -> [[u8; 8]; 2],
) -> Result<P, NoPlan<E>> {
    if bytes.len() > BYTES_MAX {
        return Err(NoPlan::TooLong { bytes: bytes.len() });
    }
    let plan = of_value(&parse(bytes).map_err(NoPlan::Json)?).map_err(NoPlan::Field)?;
    check(&plan).map_err(NoPlan::Plan)?;
    match salts(&plan) {
        [has, follows] if has != follows => Err(NoPlan::Salt { salt: to_hex(&follows) }),
        _ => Ok(plan),
    }
}

/// A salt: the first 8 bytes of SHA-256 over a plan without it, and without what is chosen by the lots that it draws.
pub fn salt_of(mut plan: Value, without: &[&str]) -> [u8; 8] {
    if let Some(fields) = plan.as_object_mut() {
        fields.retain(|name, _| name != "salt" && !without.contains(&name.as_str()));
    }
    let mut salt = [0; 8];
    salt.copy_from_slice(&Hash::of(&to_json(&plan)).as_bytes()[..8]);
    salt
}

/// A field that is missing, too much, or wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {expected} was expected")]
pub struct BadField {
    /// Which.
    pub field: String,
    /// What should stand there.
    pub expected: &'static str,
}

/// A number.
pub fn number(value: impl Into<u64>) -> Value {
    Value::from(value.into())
}

/// A list.
pub fn list<T>(items: &[T], one: impl Fn(&T) -> Value) -> Value {
    Value::List(items.iter().map(one).collect())
}

/// A word of a closed set.
pub fn word(is: impl serde::Serialize) -> Value {
    // Words of closed sets; serde gives a plain string for each.
    let text = serde_json::to_value(is).ok();
    text.as_ref().and_then(serde_json::Value::as_str).map_or(Value::Null, Value::from)
}

/// A release of a model.
pub fn target_value(target: &Target) -> Value {
    Value::object([
        ("index", format!("sha256:{}", target.index).into()),
        ("model", target.model.as_str().into()),
        ("release", number(target.release)),
        ("size", number(target.size)),
        ("variant", target.variant.as_deref().map_or(Value::Null, Value::from)),
    ])
}

/// Reads fields of one object, and knows which were asked for: a field that nobody asked for is refused.
pub struct Fields<'a> {
    /// The object.
    pub value: &'a Value,
    /// Where it stands.
    pub path: String,
}

impl<'a> Fields<'a> {
    /// The fields of an object; another than `names` is refused.
    pub fn of(value: &'a Value, path: String, names: &[&str]) -> Result<Fields<'a>, BadField> {
        let fields = Fields { value, path };
        let object = value.as_object().ok_or_else(|| fields.wrong("", "an object"))?;
        match object.keys().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(fields.wrong(name, "no such field")),
            None => Ok(fields),
        }
    }

    /// A field that is not as `expected`.
    pub fn wrong(&self, name: &str, expected: &'static str) -> BadField {
        let dot = if self.path.is_empty() || name.is_empty() { "" } else { "." };
        BadField { field: format!("{}{dot}{name}", self.path), expected }
    }

    /// A field that must be there.
    pub fn get(&self, name: &str) -> Result<&'a Value, BadField> {
        self.value.get(name).ok_or_else(|| self.wrong(name, "there"))
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<&'a str, BadField> {
        self.get(name)?.as_text().ok_or_else(|| self.wrong(name, "a string"))
    }

    /// True or false.
    pub fn truth(&self, name: &str) -> Result<bool, BadField> {
        self.get(name)?.as_bool().ok_or_else(|| self.wrong(name, "true or false"))
    }

    /// A number.
    pub fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<T, BadField> {
        let number = self.get(name)?.as_u64().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.wrong(name, "a number from 0 up that is not too large"))
    }

    /// A time, in milliseconds.
    pub fn time(&self, name: &str) -> Result<i64, BadField> {
        parse_utc(self.text(name)?).ok_or_else(|| self.wrong(name, "a time as 2026-11-22T01:00:00Z"))
    }

    /// A word `of` a closed set.
    pub fn word<T: serde::de::DeserializeOwned>(&self, name: &str, of: &'static str) -> Result<T, BadField> {
        let word = serde_json::Value::from(self.text(name)?);
        serde_json::from_value(word).map_err(|_| self.wrong(name, of))
    }

    /// A list of at most so many.
    pub fn list<T>(
        &self,
        name: &str,
        most: usize,
        one: impl Fn(&'a Value, String) -> Result<T, BadField>,
    ) -> Result<Vec<T>, BadField> {
        let items = self.get(name)?.as_list().filter(|items| items.len() <= most);
        let items = items.ok_or_else(|| self.wrong(name, "a list that is not too long"))?;
        let path =
            |at: usize| format!("{}{}{name}[{at}]", self.path, if self.path.is_empty() { "" } else { "." });
        items.iter().enumerate().map(|(at, item)| one(item, path(at))).collect()
    }
}

/// Reads a release of a model.
pub fn read_target(value: &Value, path: String) -> Result<Target, BadField> {
    let target = Fields::of(value, path, &["index", "model", "release", "size", "variant"])?;
    let index = target.text("index")?.strip_prefix("sha256:").and_then(Hash::parse);
    let variant = match target.get("variant")? {
        Value::Null => None,
        _ => Some(target.text("variant")?),
    };
    if variant.is_some_and(|variant| variant.is_empty() || variant.len() > 128) {
        return Err(target.wrong("variant", "null, or a variant's name"));
    }
    let model = ModelName::new(target.text("model")?);
    Ok(Target {
        model: model.map_err(|_| target.wrong("model", "a model's name"))?,
        release: target.number("release")?,
        index: index.ok_or_else(|| target.wrong("index", "sha256: and 64 hexadecimal digits"))?,
        size: target.number("size")?,
        variant: variant.map(str::to_owned),
    })
}
