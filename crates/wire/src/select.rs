//! Which nodes are meant, as an expression: `site == "oslo" && ram >= 2GiB`.
//!
//! The same words choose nodes on the hub's pages, in saved groups and in what an operator signs; a node judges by the
//! same code whether it is meant. Pure, and bounded: what a stranger wrote gives a tree or an error with its place.
//!
//! In reading order: [`tree`] what can be said, [`lex`] words, [`parse`] words to a tree, [`eval`] a tree and facts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::facts::{Fact, FactName, Facts};

pub mod eval;
pub mod lex;
pub mod parse;
pub mod tree;

pub use lex::BadSelector;
use tree::{Expr, Term};

/// An expression over facts: its text as written, and its tree. Two are equal if they were read as the same tree.
#[derive(Debug, Clone)]
pub struct Selector {
    text: String,
    tree: Expr,
}

/// One term of an expression and one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// The term: `ram >= 2GiB`.
    pub term: String,
    /// Whether it is true of the node; of the term alone, whatever stands around it.
    pub holds: bool,
    /// What the node says, if it says it.
    pub found: Option<Fact>,
}

/// A saved group that is named in an expression, and is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no group {0:?}; save it first, or write its expression out")]
pub struct NoGroup(pub String);

impl Selector {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        Ok(Self { tree: parse::parse(text)?, text: text.to_owned() })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it was read.
    pub fn tree(&self) -> &Expr {
        &self.tree
    }

    /// Whether a node with these facts is meant.
    pub fn has(&self, facts: &Facts) -> bool {
        eval::holds(&self.tree, facts)
    }

    /// Each term, in the order of the text, with what it finds.
    pub fn why(&self, facts: &Facts) -> Vec<Judged> {
        let mut judged = Vec::new();
        each_term(&self.tree, &mut |term| {
            judged.push(Judged {
                term: term.to_string(),
                holds: eval::term_holds(term, facts),
                found: term.name().and_then(|name| facts.find(name)).cloned(),
            });
        });
        judged
    }

    /// The facts it asks for. Those that [only the hub knows](FactName::is_hubs) have no place in what is signed.
    pub fn names(&self) -> BTreeSet<FactName> {
        let mut names = BTreeSet::new();
        each_term(&self.tree, &mut |term| names.extend(term.name().cloned()));
        names
    }

    /// The same with each bare `group.<name>` replaced by that group's expression, so that it changes with no group.
    /// A group that is compared, rather than named, stays and is false.
    pub fn with_groups(&self, groups: &BTreeMap<String, Selector>) -> Result<Self, NoGroup> {
        if self.names().iter().all(|name| name.group().is_none()) {
            return Ok(self.clone());
        }
        let tree = expand(&self.tree, groups)?;
        Ok(Self { text: tree.to_string(), tree })
    }
}

fn each_term(tree: &Expr, see: &mut impl FnMut(&Term)) {
    match tree {
        Expr::Or(parts) | Expr::And(parts) => parts.iter().for_each(|part| each_term(part, see)),
        Expr::Not(inner) => each_term(inner, see),
        Expr::Term(term) => see(term),
    }
}

fn expand(tree: &Expr, groups: &BTreeMap<String, Selector>) -> Result<Expr, NoGroup> {
    let all = |parts: &[Expr]| parts.iter().map(|part| expand(part, groups)).collect::<Result<Vec<_>, _>>();
    Ok(match tree {
        Expr::Or(parts) => Expr::Or(all(parts)?),
        Expr::And(parts) => Expr::And(all(parts)?),
        Expr::Not(inner) => Expr::Not(Box::new(expand(inner, groups)?)),
        Expr::Term(Term::Is(name)) if name.group().is_some() => {
            let group = name.group().unwrap_or_default();
            groups.get(group).ok_or_else(|| NoGroup(group.to_owned()))?.tree.clone()
        }
        Expr::Term(term) => Expr::Term(term.clone()),
    })
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.tree == other.tree
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.text)
    }
}

impl std::str::FromStr for Selector {
    type Err = BadSelector;
    fn from_str(text: &str) -> Result<Self, BadSelector> {
        Self::parse(text)
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
