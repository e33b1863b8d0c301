//! Gives the names in rules their meaning, and brings rules into an order in which each is judged after those it speaks of.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::names::{Book, Gives, Known, PartAt, Scope, dangling};
use super::part::{Named, inside};
use super::rule::{Floor, FloorModel, GIVES, RuleConfig, RuleDraft};
use crate::board::{Kind, Slot};
use crate::config::part::Placed;
use crate::config::problem::{Problems, did_you_mean};
use crate::expression::Expression;
use crate::expression::names::Names as _;

/// What a rule can take.
const INPUTS: [&str; 3] = ["source", "model", "rule"];

/// The rules in the order of the file, and the order in which they are judged; `None` after a problem.
pub(super) fn check_rules(
    drafts: Vec<Named<RuleDraft>>,
    book: &mut Book,
    problems: &mut Problems,
) -> Option<(Vec<RuleConfig>, Vec<usize>)> {
    let places: BTreeMap<String, usize> =
        drafts.iter().enumerate().map(|(at, rule)| (format!("rule.{}", rule.name), at)).collect();
    // Known to stand there, until its turn comes.
    book.parts.extend(places.keys().map(|path| (path.clone(), None)));
    let waits_for: Vec<BTreeSet<usize>> = drafts
        .iter()
        .map(|rule| {
            let inputs = rule.part.inputs.iter().chain(&rule.part.inhibit_by);
            inputs.filter_map(|input| places.get(&input.value).copied()).collect()
        })
        .collect();
    let order = in_order(&waits_for);
    if order.len() < drafts.len() {
        tell_loop(&drafts, &waits_for, &order, problems);
        return None;
    }
    let mut drafts: Vec<_> = drafts.into_iter().map(Some).collect();
    let mut rules: Vec<Option<RuleConfig>> = drafts.iter().map(|_| None).collect();
    for at in &order {
        let Some(draft) = drafts[*at].take() else { continue };
        let path = format!("rule.{}", draft.name);
        let Some(rule) = check_rule(draft, &places, book, problems) else { continue };
        let known = Known {
            at: PartAt::Rule(*at),
            gives: Gives::These(GIVES.map(|(name, kind)| (name.to_owned(), kind)).to_vec()),
            steps: rule.sources.clone(),
            // A rule's decision is explained by its own record.
            reads: BTreeMap::new(),
        };
        book.parts.insert(path, Some(known));
        rules[*at] = Some(rule);
    }
    Some((rules.into_iter().collect::<Option<_>>()?, order))
}

/// Each after those it waits for, else as they stand; what waits for itself is left out.
fn in_order(waits_for: &[BTreeSet<usize>]) -> Vec<usize> {
    let (mut order, mut placed) = (Vec::new(), vec![false; waits_for.len()]);
    loop {
        let before = order.len();
        for at in 0..waits_for.len() {
            if !placed[at] && waits_for[at].iter().all(|other| placed[*other]) {
                placed[at] = true;
                order.push(at);
            }
        }
        if order.len() == before {
            return order;
        }
    }
}

/// Says which rules wait for one another: once for each circle.
fn tell_loop(
    drafts: &[Named<RuleDraft>],
    waits_for: &[BTreeSet<usize>],
    order: &[usize],
    problems: &mut Problems,
) {
    let left: BTreeSet<usize> = (0..drafts.len()).filter(|at| !order.contains(at)).collect();
    let mut seen = BTreeSet::new();
    for start in &left {
        // Each that is left waits for one that is left, so this walk runs into a circle.
        let (mut path, mut at) = (Vec::new(), *start);
        while seen.insert(at) {
            path.push(at);
            match waits_for[at].iter().find(|other| left.contains(other)) {
                Some(next) => at = *next,
                None => break,
            }
        }
        let Some(begin) = path.iter().position(|on| *on == at) else { continue };
        let mut names: Vec<String> = path[begin..].iter().map(|at| drafts[*at].name.to_string()).collect();
        names.push(names[0].clone());
        let rule = &drafts[at];
        let message = format!("`rule.{}` waits for itself: {}", rule.name, names.join(" ← "));
        problems.add_with_help(
            rule.span.clone(),
            message,
            "take one of them out of `inputs` or `inhibit_by`",
        );
    }
}

fn check_rule(
    rule: Named<RuleDraft>,
    places: &BTreeMap<String, usize>,
    book: &Book,
    problems: &mut Problems,
) -> Option<RuleConfig> {
    let Named { part: draft, name, .. } = rule;
    let mut sound = !draft.inputs.is_empty();
    let mut sources = BTreeSet::new();
    let mut bare = BTreeSet::new();
    for input in &draft.inputs {
        match book.parts.get(&input.value) {
            Some(known) => sources.extend(known.iter().flat_map(|known| known.steps.iter().copied())),
            None => {
                dangling(input, &INPUTS, book, problems);
                sound = false;
            }
        }
        let short = input.value.split_once('.').map_or("", |(_, name)| name);
        if !bare.insert(short) && sound {
            let message =
                format!("two inputs are called `{short}`: `{short}.x` in a condition would be either");
            problems.add_with_help(input.span.clone(), message, "take one out, or name it otherwise");
            sound = false;
        }
    }
    let mut inhibit_by = Vec::new();
    for other in &draft.inhibit_by {
        match places.get(&other.value) {
            Some(at) => inhibit_by.push(*at),
            None if book.parts.get(&other.value).is_some_and(Option::is_none) => sound = false,
            None => {
                let help = did_you_mean(&other.value, places.keys().map(String::as_str));
                let message = format!("there is no `{}` to be held back by", other.value);
                problems.add_with_help(other.span.clone(), message, help);
                sound = false;
            }
        }
    }
    if !sound {
        return None;
    }
    let scope = book.scope(draft.inputs.iter().map(|input| input.value.as_str()));
    let mut field_places = Vec::new();
    let mut conditions = [Some(&draft.when), draft.clear_when.as_ref(), draft.floor.as_ref()].map(|text| {
        let read = text.map(|text| condition(text, draft.stale_after_ms, &scope, problems));
        if let Some(Some((_, places))) = &read {
            field_places.extend(places.clone());
        }
        read
    });
    let [when, clear_when, floor] = conditions.each_mut().map(Option::take);
    let when = when.flatten().map(|(condition, _)| condition);
    let floor = floor.map(|floor| floor.map(|(condition, _)| condition));
    let clear_when = clear_when.map(|clear| clear.map(|(condition, _)| condition));
    let (when, clear_when, floor) = (when?, all(clear_when)?, all(floor)?);
    let floor = match floor {
        Some(floor) => Some(check_floor(&draft, &when, floor, &scope, book, problems)?),
        None => None,
    };
    let mut reads = BTreeMap::new();
    for known in book.parts.values().flatten().filter(|known| scope.used().contains(&known.at)) {
        for (source, readings) in &known.reads {
            let most = reads.entry(*source).or_insert(*readings);
            *most = (*most).max(*readings);
        }
    }
    Some(RuleConfig {
        name,
        when,
        clear_when,
        for_ms: draft.for_ms,
        clear_after_ms: draft.clear_after_ms,
        severity: draft.severity,
        inhibit_by,
        dedup_ms: draft.dedup_ms,
        floor,
        stale_after_ms: draft.stale_after_ms,
        labels: draft.labels,
        sources,
        reads,
        places: field_places,
    })
}

/// `Some(None)` stays: what was there and is bad is not the same as what was not there.
fn all<T>(found: Option<Option<T>>) -> Option<Option<T>> {
    match found {
        None => Some(None),
        Some(found) => found.map(Some),
    }
}

type Places = Vec<(Slot, Range<usize>)>;

/// Reads a condition, with the places in the file of the fields it speaks of; `None` after a problem.
fn condition(
    text: &Placed<String>,
    stale_after_ms: Option<i64>,
    scope: &Scope<'_>,
    problems: &mut Problems,
) -> Option<(Expression, Places)> {
    match Expression::parse(&text.value, Kind::Bool, scope) {
        Ok(condition) => {
            let places = condition.places().map(|(slot, at)| (slot, inside(problems, text, at))).collect();
            Some((condition.with_stale_after(stale_after_ms), places))
        }
        Err(bad) => {
            if !scope.broken() {
                problems.add_with_help(inside(problems, text, &bad.span), bad.message, bad.help);
            }
            None
        }
    }
}

/// A floor stands in for the models that the rule's condition speaks of, so there must be some.
fn check_floor(
    draft: &RuleDraft,
    when: &Expression,
    floor: Expression,
    scope: &Scope<'_>,
    book: &Book,
    problems: &mut Problems,
) -> Option<Floor> {
    let mut models: Vec<FloorModel> = Vec::new();
    for ((part, _), slot) in when.names().zip(when.slots()) {
        let path = format!("model.{part}");
        let is_model = draft.inputs.iter().any(|input| input.value == path) && book.parts.contains_key(&path);
        if !is_model {
            continue;
        }
        match models.iter_mut().find(|model| model.name == part) {
            Some(model) => model.values.push(*slot),
            None => {
                let values = vec![*slot];
                models.push(FloorModel { name: part.to_owned(), values, confidence: None });
            }
        }
    }
    let span = draft.floor.as_ref().map_or(0..0, |floor| floor.span.clone());
    if models.is_empty() {
        let message = "the floor answers in a model's place, and `when` speaks of none";
        problems.add_with_help(span, message, "take `floor` out, or write it into `when`");
        return None;
    }
    let below = draft.floor_below.as_ref();
    if let Some(below) = below {
        for model in &mut models {
            match scope.slot(&model.name, "confidence") {
                Ok((slot, Kind::Number)) => model.confidence = Some(slot),
                _ => {
                    let message = format!("`model.{}` gives no `confidence`", model.name);
                    let help =
                        "take `floor_below` out: the floor answers while the model's values are missing";
                    problems.add_with_help(below.span.clone(), message, help);
                    return None;
                }
            }
        }
    }
    Some(Floor { when: floor, below: below.map(|below| below.value), models })
}
