//! The search for a target: from the top-level targets down through delegations, pre-order, depth first.
//!
//! Pure: it says which role it wants to look into, and is told what stands there. Since a role is only entered over
//! delegations that match the path, whatever it says of the path was delegated to it link by link.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::hash::Hash;
use wire::world::WallMs;

use crate::trust::envelope::{Signed, VerifyError, verify};
use crate::trust::key::{KeyId, KindSet, PublicKey};
use crate::trust::metadata::{Delegated, Paths, RoleKeys, RoleName, TargetFile, Targets};
use crate::trust::trusted::{Trusted, expired};

/// The most roles that one search looks into.
pub const ROLES_MAX: usize = 32;

/// A role that is to be looked into, and the keys that its delegator gave it.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The role.
    pub role: RoleName,
    keys: BTreeMap<KeyId, PublicKey>,
    holders: RoleKeys,
}

impl Edge {
    fn of(role: &Delegated, keys: &BTreeMap<KeyId, PublicKey>) -> Edge {
        Edge { role: role.name.clone(), keys: keys_of(keys, &role.keys), holders: role.keys.clone() }
    }

    /// Whether the same role is delegated to the same holders.
    fn is(&self, other: &Edge) -> bool {
        self.role == other.role && self.holders == other.holders && self.keys == other.keys
    }

    /// Checks that the role's metadata is signed as this delegator asks.
    pub fn verify(&self, bytes: &[u8], kinds: &KindSet) -> Result<Signed<Targets>, VerifyError> {
        verify(bytes, &self.keys, &self.holders, kinds)
    }
}

/// A search under way.
#[derive(Debug, Clone)]
pub struct Search {
    path: String,
    visited: BTreeSet<RoleName>,
    /// What is still to be looked into; the last is the next.
    waiting: Vec<Edge>,
}

/// Where a search stands.
#[derive(Debug, Clone)]
pub enum Place {
    /// The target, and the role that names it.
    Found(TargetFile),
    /// The next role to look into.
    Next(Edge),
    /// No role names it.
    Nowhere,
}

impl Search {
    /// Begins at the top-level targets.
    pub fn begin(path: &str, top: &Targets) -> (Search, Place) {
        let visited = [RoleName::targets()].into();
        let search = Search { path: path.to_owned(), visited, waiting: Vec::new() };
        search.look_into(top)
    }

    /// The path that is searched.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Goes on with what stands in the role that was asked for last.
    pub fn look_into(mut self, targets: &Targets) -> (Search, Place) {
        if let Some(found) = targets.targets.get(&self.path) {
            let found = found.clone();
            return (self, Place::Found(found));
        }
        let matching: Vec<&Delegated> =
            targets.delegations.roles.iter().filter(|role| trusts(&role.paths, &self.path)).collect();
        let last = matching.iter().position(|role| role.terminating);
        if last.is_some() {
            self.waiting.clear();
        }
        let matching = matching.into_iter().take(last.map_or(usize::MAX, |last| last + 1));
        let edges: Vec<Edge> = matching.map(|role| Edge::of(role, &targets.delegations.keys)).collect();
        self.waiting.extend(edges.into_iter().rev());
        while let Some(edge) = self.waiting.pop() {
            if self.visited.len() > ROLES_MAX {
                return (self, Place::Nowhere);
            }
            if self.visited.insert(edge.role.clone()) {
                return (self, Place::Next(edge));
            }
        }
        (self, Place::Nowhere)
    }
}

/// Looks a target up in what is trusted already, fetching nothing: `None` if it is not listed, or a role that would have
/// to be asked is not at hand, not newest, expired for longer than `max_stale_ms`, or not signed as its delegator asks.
pub fn find(
    trusted: &Trusted,
    path: &str,
    kinds: &KindSet,
    now_ms: WallMs,
    max_stale_ms: i64,
) -> Option<TargetFile> {
    let (mut search, mut place) = Search::begin(path, &trusted.targets.as_ref()?.body);
    loop {
        match place {
            Place::Found(file) => return Some(file),
            Place::Nowhere => return None,
            Place::Next(edge) => {
                let role = at_hand(trusted, &edge, kinds)?;
                if expired(role.body.head.expires_ms, now_ms, max_stale_ms).is_some() {
                    return None;
                }
                (search, place) = search.look_into(&role.body);
            }
        }
    }
}

/// A target that is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its path.
    pub path: String,
    /// What it is.
    pub file: TargetFile,
    /// The role that names it.
    pub role: RoleName,
    /// Who has signed that role; absent of the top-level targets, whose keys are root's to say.
    pub holders: Option<RoleKeys>,
}

/// All targets that [`find`] finds, by path, of those that are `wanted`. Each role's signatures are looked at once.
pub fn listed(
    trusted: &Trusted,
    kinds: &KindSet,
    now_ms: WallMs,
    max_stale_ms: i64,
    wanted: impl Fn(&str) -> bool,
) -> Vec<Listed> {
    let Some(top) = &trusted.targets else { return Vec::new() };
    let mut entered = Entered { trusted, kinds, now_ms, max_stale_ms, roles: Vec::new() };
    let (mut paths, mut at) = (BTreeSet::new(), 0);
    let mut names =
        |targets: &Targets| paths.extend(targets.targets.keys().filter(|path| wanted(path)).cloned());
    names(&top.body);
    let mut waiting = edges(&top.body);
    while let Some(edge) = waiting.get(at).cloned().filter(|_| at < ROLES_MAX) {
        if let Some(role) = entered.role(&edge) {
            names(&role.body);
            let known = |edge: &Edge| waiting.iter().any(|one| one.is(edge));
            let new: Vec<Edge> = edges(&role.body).into_iter().filter(|edge| !known(edge)).collect();
            waiting.extend(new);
        }
        at += 1;
    }
    let mut found = Vec::new();
    for path in paths {
        let (mut search, mut place) = Search::begin(&path, &top.body);
        let mut last: Option<Edge> = None;
        loop {
            match place {
                Place::Found(file) => {
                    let role = last.as_ref().map_or_else(RoleName::targets, |edge| edge.role.clone());
                    found.push(Listed { path, file, role, holders: last.map(|edge| edge.holders) });
                    break;
                }
                Place::Nowhere => break,
                Place::Next(edge) => {
                    let Some(role) = entered.role(&edge) else { break };
                    last = Some(edge);
                    (search, place) = search.look_into(&role.body);
                }
            }
        }
    }
    found
}

/// Everybody to whom a role delegates.
fn edges(targets: &Targets) -> Vec<Edge> {
    let keys = &targets.delegations.keys;
    targets.delegations.roles.iter().map(|role| Edge::of(role, keys)).collect()
}

/// Delegated roles that were looked into, each as one delegator sees it.
struct Entered<'a> {
    trusted: &'a Trusted,
    kinds: &'a KindSet,
    now_ms: WallMs,
    max_stale_ms: i64,
    roles: Vec<(Edge, Option<Arc<Signed<Targets>>>)>,
}

impl Entered<'_> {
    fn role(&mut self, edge: &Edge) -> Option<Arc<Signed<Targets>>> {
        if let Some((_, role)) = self.roles.iter().find(|(one, _)| one.is(edge)) {
            return role.clone();
        }
        let role = at_hand(self.trusted, edge, self.kinds)
            .filter(|role| expired(role.body.head.expires_ms, self.now_ms, self.max_stale_ms).is_none());
        let role = role.map(Arc::new);
        self.roles.push((edge.clone(), role.clone()));
        role
    }
}

/// The delegated role, if the trusted bytes are those that the snapshot lists and are signed as this delegator asks.
pub fn at_hand(trusted: &Trusted, edge: &Edge, kinds: &KindSet) -> Option<Signed<Targets>> {
    let listed = trusted.snapshot.as_ref()?.body.of(&edge.role)?;
    let bytes = trusted.delegated.get(&edge.role)?;
    listed.check(bytes).ok()?;
    edge.verify(bytes, kinds).ok().filter(|role| role.body.head.version == listed.version)
}

/// The keys of one role only, so that an edge does not carry all keys of its delegator.
fn keys_of(keys: &BTreeMap<KeyId, PublicKey>, role: &RoleKeys) -> BTreeMap<KeyId, PublicKey> {
    role.ids.iter().filter_map(|id| Some((*id, keys.get(id)?.clone()))).collect()
}

/// Whether a delegation covers `path`.
pub fn trusts(paths: &Paths, path: &str) -> bool {
    match paths {
        Paths::Patterns(patterns) => patterns.iter().any(|pattern| matches(pattern, path)),
        Paths::HashPrefixes(prefixes) => {
            let hash = Hash::of(path.as_bytes()).to_string();
            prefixes.iter().any(|prefix| hash.starts_with(prefix.as_str()))
        }
    }
}

/// Whether a path matches a pattern segment by segment, so that no wildcard reaches over a `/`.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if segment_matches(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// `*`, `?`, `[abc]`, `[a-z]` and `[!a]`, as in Python's fnmatch; a `[` without end stands for itself.
fn segment_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and how much text it has taken: going back there is enough, so time stays quadratic.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => match set(&pattern[p + 1..], text[t]) {
                Some((length, true)) => Some(p + 1 + length),
                Some((_, false)) => None,
                None => (text[t] == '[').then_some(p + 1),
            },
            Some(c) => (*c == text[t]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// What follows a `[`: how many characters the set has, up to and with its `]`, and whether `c` is in it. A `]` that
/// stands first is a member.
fn set(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let negated = pattern.first() == Some(&'!');
    let first = usize::from(negated);
    let end = (first + 1..pattern.len()).find(|place| pattern[*place] == ']')?;
    let members = &pattern[first..end];
    let mut found = false;
    let mut at = 0;
    while at < members.len() {
        if let (Some('-'), Some(last)) = (members.get(at + 1), members.get(at + 2)) {
            found |= (members[at]..=*last).contains(&c);
            at += 3;
        } else {
            found |= members[at] == c;
            at += 1;
        }
    }
    Some((end + 1, found != negated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_do_not_reach_over_a_slash() {
        fn check(pattern: &str, path: &str, expected: bool) {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        check("*", "a", true);
        check("*", "", true);
        check("*", "a/b", false);
        check("models/a/*", "models/a/7", true);
        check("models/a/*", "models/a/7/8", false);
        check("models/a/*", "models/ab/7", false);
        check("foo-?.tgz", "foo-1.tgz", true);
        check("foo-?.tgz", "foo-10.tgz", false);
        check("a*b*c", "aXbXbXc", true);
        check("a*b*c", "aXbXbX", false);
        check("[a-c]x", "bx", true);
        check("[!a-c]x", "bx", false);
        check("[]]", "]", true);
        check("[!]]", "]", false);
        check("[a", "[a", true);
        check("[-a]", "-", true);
        check("README.md", "README.MD", false);
        check("*é?", "aéü", true);
        check(&"*a".repeat(200), &"a".repeat(199), false);
    }
}
