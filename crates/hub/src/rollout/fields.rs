//! Fields of plans, as all kinds of plans write and read them: strictly, so that a plan has one form.

use package::name::ModelName;
use package::trust::canonical::Value;
use package::trust::time::parse_utc;
use wire::hash::Hash;

use crate::rollout::plan::Target;

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
