//! What the names in a flow's conditions mean: `part.field`, by the parts among whose inputs it stands. Gives each field
//! that is spoken of a slot of the board, once, however many speak of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::board::{Kind, Slot};
use crate::config::part::Placed;
use crate::config::problem::{Problems, did_you_mean};
use crate::expression::names::{Half, Names, Unknown};

/// A part, by its kind and its place among its kind in the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartAt {
    /// A source.
    Source(usize),
    /// A model.
    Model(usize),
    /// A rule.
    Rule(usize),
}

/// A field that somebody speaks of, and so has a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Whose.
    pub part: PartAt,
    /// Its name.
    pub name: String,
    /// What kind of value it is.
    pub kind: Kind,
}

/// What a part gives.
#[derive(Debug, Clone)]
pub(super) enum Gives {
    /// These.
    These(Vec<(String, Kind)>),
    /// Numbers, whose names are known when it opens.
    Later,
}

/// A part as conditions see it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) at: PartAt,
    /// What it gives.
    pub(super) gives: Gives,
    /// The sources at whose readings it changes.
    pub(super) steps: BTreeSet<usize>,
    /// By how many readings, and of which sources, its values come about.
    pub(super) reads: BTreeMap<usize, usize>,
}

/// The parts of a flow, by their path (`source.pump`), and the slots given out. `None`: the part stands there, but could
/// not be read, so what speaks of it is not wrong for that.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) parts: BTreeMap<String, Option<Known>>,
    fields: RefCell<Vec<Field>>,
}

impl Book {
    /// The fields that have slots, by slot.
    pub(super) fn into_fields(self) -> Vec<Field> {
        self.fields.into_inner()
    }

    /// The names as a part sees them that has these inputs, as paths.
    pub(super) fn scope<'a>(&'a self, inputs: impl IntoIterator<Item = &'a str>) -> Scope<'a> {
        let inputs = inputs.into_iter().collect();
        Scope { book: self, inputs, used: RefCell::default(), broken: RefCell::new(false) }
    }

    fn slot(&self, part: PartAt, name: &str, kind: Kind) -> Slot {
        let mut fields = self.fields.borrow_mut();
        let at = fields.iter().position(|field| field.part == part && field.name == name);
        let at = at.unwrap_or_else(|| {
            fields.push(Field { part, name: name.to_owned(), kind });
            fields.len() - 1
        });
        Slot(u32::try_from(at).expect("conditions speak of fewer fields than that"))
    }
}

/// Says that there is no such input.
pub(super) fn dangling(input: &Placed<String>, kinds: &[&str], book: &Book, problems: &mut Problems) {
    let Placed { value, span } = input;
    let bare = kinds.iter().map(|kind| format!("{kind}.{value}")).find(|path| book.parts.contains_key(path));
    let help = match bare {
        Some(path) => format!("write \"{path}\""),
        None => {
            let of_kind =
                |path: &&String| path.split_once('.').is_some_and(|(kind, _)| kinds.contains(&kind));
            did_you_mean(value, book.parts.keys().filter(of_kind).map(String::as_str))
        }
    };
    problems.add_with_help(span.clone(), format!("there is no `{value}` to take as input"), help);
}

/// What may be spoken of in one place.
pub(super) struct Scope<'a> {
    book: &'a Book,
    inputs: Vec<&'a str>,
    used: RefCell<BTreeSet<PartAt>>,
    broken: RefCell<bool>,
}

impl Scope<'_> {
    /// The parts that were spoken of.
    pub(super) fn used(&self) -> BTreeSet<PartAt> {
        self.used.borrow().clone()
    }

    /// Whether it spoke of a part that could not be read: what was said of that is no problem of its own.
    pub(super) fn broken(&self) -> bool {
        *self.broken.borrow()
    }
}

impl Names for Scope<'_> {
    fn slot(&self, part: &str, field: &str) -> Result<(Slot, Kind), Unknown> {
        let bare = |path: &str| path.split_once('.').map_or_else(String::new, |(_, name)| name.to_owned());
        let unknown = |what, message, help| Err(Unknown { what, message, help });
        let Some(path) = self.inputs.iter().find(|path| bare(path) == part) else {
            let message = format!("the condition speaks of `{part}`, which is not among the inputs");
            let elsewhere = self.book.parts.keys().find(|path| bare(path) == part);
            let help = match elsewhere {
                Some(path) => format!("add \"{path}\" to `inputs`"),
                None => {
                    did_you_mean(part, self.inputs.iter().filter_map(|path| Some(path.split_once('.')?.1)))
                }
            };
            return unknown(Half::Part, message, help);
        };
        let Some(Some(known)) = self.book.parts.get(*path) else {
            *self.broken.borrow_mut() = true;
            return unknown(Half::Part, format!("`{path}` could not be read"), String::new());
        };
        let kind = match &known.gives {
            Gives::Later => Kind::Number,
            Gives::These(fields) => match fields.iter().find(|(name, _)| name == field) {
                Some((_, kind)) => *kind,
                None => {
                    let names = || fields.iter().map(|(name, _)| name.as_str());
                    let (message, help) = match known.at {
                        PartAt::Source(_) => {
                            (format!("`{path}` has no channel `{field}`"), did_you_mean(field, names()))
                        }
                        _ => {
                            let all: Vec<String> = names().map(|name| format!("`{part}.{name}`")).collect();
                            let (last, before) = all.split_last().map_or(("", &[][..]), |(l, b)| (l, b));
                            let and = if before.is_empty() { "" } else { " and " };
                            let kind = path.split_once('.').map_or("part", |(kind, _)| kind);
                            let help = format!("a {kind} gives {}{and}{last}", before.join(", "));
                            (format!("`{path}` gives no `{field}`"), help)
                        }
                    };
                    return unknown(Half::Field, message, help);
                }
            },
        };
        self.used.borrow_mut().insert(known.at);
        Ok((self.book.slot(known.at, field, kind), kind))
    }
}
