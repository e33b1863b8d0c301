//! All nodes in memory: who they are, what they say, and which of them an expression means.
//!
//! Facts are read from the store when they changed, and kept as they are read; how a node is (heard of, silent) is read
//! each time. So any replica sees what any other took, one statement later. Ten thousand nodes take some 15 MB.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::Mutex;
use wire::checkin::HubLabels;
use wire::facts::{Fact, FactName, Facts};
use wire::select::{NoGroup, Selector};
use wire::world::WallMs;

use crate::store::connection::Readers;
use crate::store::nodes::NodeRow;
use crate::store::{facts, groups, nodes};

/// Every node's facts, as far as they were read.
#[derive(Debug, Default)]
pub struct Fleet {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The newest change that was read.
    change: i64,
    facts: HashMap<i64, Said>,
}

/// What one node says, and what labels it was given here.
#[derive(Debug, Clone, Default)]
struct Said {
    facts: Arc<Facts>,
    labels: Option<Arc<HubLabels>>,
}

/// A node as a search sees it.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its row, without its last check-in.
    pub row: NodeRow,
    /// What it says it is; its name as the hub knows it.
    pub facts: Arc<Facts>,
    /// The labels that were set here, whether it has them already or not.
    pub set_here: Option<Arc<HubLabels>>,
}

impl Known {
    /// `up` or `silent`.
    pub fn state(&self) -> &'static str {
        if self.row.silent { "silent" } else { "up" }
    }

    /// Its labels: those that it says, and those set here that it does not say yet.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let said = self.facts.iter().filter_map(|(name, fact)| Some((name.label()?, fact)));
        let mut labels: BTreeMap<String, String> =
            said.map(|(label, fact)| (label.to_owned(), fact.to_string())).collect();
        for (label, value) in self.set_here.iter().flat_map(|here| &here.set) {
            labels.entry(label.clone()).or_insert_with(|| value.clone());
        }
        labels
    }

    /// The releases that it runs, by model.
    pub fn releases(&self) -> BTreeMap<String, u64> {
        let of_model = |(name, fact): (&FactName, &Fact)| {
            let model = name.as_str().strip_prefix("model.")?;
            let Fact::Number(release) = fact else { return None };
            Some((model.to_owned(), *release as u64))
        };
        self.facts.iter().filter_map(of_model).collect()
    }

    /// The releases that are on trial on it, by model.
    pub fn trials(&self) -> BTreeMap<String, u64> {
        let of_model = |(name, fact): (&FactName, &Fact)| {
            let Fact::Number(release) = fact else { return None };
            Some((name.trial()?.to_owned(), *release as u64))
        };
        self.facts.iter().filter_map(of_model).collect()
    }

    /// Its facts with those that only the hub knows, for an expression that asks for them.
    pub fn with_hubs(&self, now_ms: WallMs) -> Facts {
        let mut facts = (*self.facts).clone();
        let seen_s = now_ms.saturating_sub(self.row.last_seen_ms).max(0) as f64 / 1000.0;
        let (conflict, strange) = (self.row.conflict.is_some(), self.row.strange.is_some());
        for (name, fact) in [
            ("state", Fact::from(self.state())),
            ("seen", Fact::from(seen_s)),
            ("conflict", Fact::from(conflict)),
            ("strange", Fact::from(strange)),
        ] {
            // A node that fills all its room with facts is not found by these.
            let _ = FactName::new(name).and_then(|name| facts.set(name, fact));
        }
        facts
    }
}

/// An expression that is ready for any number of nodes: its groups are written out.
#[derive(Debug, Clone)]
pub struct Search {
    selector: Selector,
    asks_hub: bool,
}

impl Search {
    /// Writes out what groups the expression names.
    pub fn new(selector: &Selector, groups: &BTreeMap<String, Selector>) -> Result<Search, NoGroup> {
        let selector = selector.with_groups(groups)?;
        let asks_hub = selector.names().iter().any(FactName::is_hubs);
        Ok(Search { selector, asks_hub })
    }

    /// The expression without groups.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// The facts that it is judged by.
    pub fn facts<'a>(&self, node: &'a Known, now_ms: WallMs) -> Cow<'a, Facts> {
        match self.asks_hub {
            true => Cow::Owned(node.with_hubs(now_ms)),
            false => Cow::Borrowed(&node.facts),
        }
    }

    /// Whether it means this node.
    pub fn has(&self, node: &Known, now_ms: WallMs) -> bool {
        self.selector.has(&self.facts(node, now_ms))
    }
}

impl Fleet {
    /// All nodes, by name.
    pub async fn look(&self, readers: &Readers) -> Result<Vec<Known>, sqlx::Error> {
        let mut kept = self.kept.lock().await;
        kept.refresh(readers).await?;
        let rows = nodes::all(readers).await?;
        Ok(rows.into_iter().map(|row| kept.known(row)).collect())
    }

    /// One node, whose row was read.
    pub async fn one(&self, readers: &Readers, row: NodeRow) -> Result<Known, sqlx::Error> {
        let mut kept = self.kept.lock().await;
        kept.refresh(readers).await?;
        Ok(kept.known(row))
    }
}

impl Kept {
    /// Reads what changed.
    async fn refresh(&mut self, readers: &Readers) -> Result<(), sqlx::Error> {
        for changed in facts::changed(readers, self.change).await? {
            let facts = changed.facts.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let labels = changed.labels.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let said = Said { facts: Arc::new(facts.unwrap_or_default()), labels: labels.map(Arc::new) };
            self.facts.insert(changed.node, said);
            self.change = changed.change;
        }
        Ok(())
    }

    fn known(&mut self, row: NodeRow) -> Known {
        let said = self.facts.entry(row.id).or_default();
        // What the hub knows better, or as well: nobody goes by another's name.
        let name =
            FactName::new("name").ok().filter(|name| said.facts.get(name) != Some(&row.name.as_str().into()));
        if let Some(name) = name {
            let facts = Arc::make_mut(&mut said.facts);
            // Without room for it the node is not found by name.
            let _ = facts.set(name, row.name.as_str().into());
        }
        Known { facts: said.facts.clone(), set_here: said.labels.clone(), row }
    }
}

/// The saved groups, ready for use. One that no longer reads is left out.
pub async fn saved(readers: &Readers) -> Result<BTreeMap<String, Selector>, sqlx::Error> {
    let rows = groups::list(readers).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.name, Selector::parse(&row.expression).ok()?))).collect())
}
