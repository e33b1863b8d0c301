//! Where in a JSON document a value stands: `data.list[0].p`, or as a pointer (RFC 6901) `/data/list/0/p`.

use std::fmt;

use serde_json::Value;

/// The longest place, in bytes, and the most steps it has.
const MAX_BYTES: usize = 256;
const MAX_STEPS: usize = 16;

/// A way into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    steps: Vec<Step>,
    written: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    /// As in a pointer: a key of an object or an index of a list, as it comes.
    Either(String, usize),
}

impl Place {
    /// Reads a place; the error says what is wrong with it.
    pub fn read(text: &str) -> Result<Place, String> {
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(format!("a place has 1 to {MAX_BYTES} bytes"));
        }
        let steps = if let Some(pointer) = text.strip_prefix('/') { pointed(pointer) } else { dotted(text)? };
        if steps.len() > MAX_STEPS {
            return Err(format!("a place has at most {MAX_STEPS} steps"));
        }
        Ok(Place { steps, written: text.to_owned() })
    }

    /// What stands there.
    pub fn find<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(document, |value, step| match (step, value) {
            (Step::Key(key) | Step::Either(key, _), Value::Object(fields)) => fields.get(key),
            (Step::Index(index) | Step::Either(_, index), Value::Array(items)) => items.get(*index),
            _ => None,
        })
    }
}

fn pointed(pointer: &str) -> Vec<Step> {
    let step = |token: &str| {
        let key = token.replace("~1", "/").replace("~0", "~");
        match key.parse() {
            Ok(index) => Step::Either(key, index),
            Err(_) => Step::Key(key),
        }
    };
    pointer.split('/').map(step).collect()
}

fn dotted(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for part in text.split('.') {
        let (key, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if !key.is_empty() {
            steps.push(Step::Key(key.to_owned()));
        } else if rest.is_empty() {
            return Err(format!("{text:?} has a step without a name"));
        }
        while let Some(inside) = rest.strip_prefix('[') {
            let (index, after) =
                inside.split_once(']').ok_or_else(|| format!("a bracket of {text:?} is not closed"))?;
            let index = index.parse().map_err(|_| format!("{index:?} in {text:?} is no index"))?;
            steps.push(Step::Index(index));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(format!("after the bracket of {text:?} stands {rest:?}"));
        }
    }
    Ok(steps)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places() {
        let document = json!({"a": {"b": [1, {"c": 2}], "x.y": 3, "7": 4}, "l": [[5]], "s/t": 6});
        let check = |place: &str, expected: Option<i64>| {
            let found = Place::read(place).unwrap();
            assert_eq!(found.find(&document).and_then(Value::as_i64), expected, "{place}");
        };
        check("a.b[0]", Some(1));
        check("a.b[1].c", Some(2));
        check("/a/b/1/c", Some(2));
        check("/a/x.y", Some(3));
        check("/a/7", Some(4));
        check("l[0][0]", Some(5));
        check("/s~1t", Some(6));
        check("a.b[2]", None);
        check("a.b.c", None);
        check("l.0", None);
        for bad in ["", "a..b", "a[", "a[x]", "a[0]b", "a.", &"a.".repeat(200)] {
            assert!(Place::read(bad).is_err(), "{bad}");
        }
    }
}
