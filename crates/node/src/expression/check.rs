//! Gives each part of a tree its type, and each name its slot; whatever does not fit is refused where it stands.

use std::cell::RefCell;
use std::ops::Range;

use super::names::{Half, Names};
use super::parse::{Bad, Sign, Tree, What};
use super::tree::{Compare, Comparison, Number, Operator, Read, Text, Truth, Typed};
use crate::board::{Kind, Slot};
use crate::config::problem::did_you_mean;
use crate::config::quantity::duration_ms;

/// What a condition can call.
const FUNCTIONS: [&str; 6] = ["abs", "age", "duration", "has", "max", "min"];
/// What CEL calls beside these, so that a refusal can say that it is known, and not here.
const CEL_ONLY: [&str; 22] = [
    "all",
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "getHours",
    "int",
    "map",
    "matches",
    "now",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
    "getMinutes",
];

/// The typed tree, and what it reads.
pub(super) fn check(tree: Tree, wanted: Kind, names: &dyn Names) -> Result<(Typed, Vec<Read>), Bad> {
    let checker = Checker { names, reads: RefCell::default() };
    let span = tree.span.clone();
    let (kind, typed) = checker.any(tree)?;
    if kind != wanted {
        let help = match wanted {
            Kind::Bool => "compare it with something: `pump.temperature > 80.0`".to_owned(),
            _ => format!("write what gives {}", wanted.as_str()),
        };
        return bad(span, format!("expected {}, found {}", wanted.as_str(), kind.as_str()), help);
    }
    Ok((typed, checker.reads.into_inner()))
}

fn bad<T>(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Result<T, Bad> {
    Err(Bad { span, message: message.into(), help: help.into() })
}

struct Checker<'a> {
    names: &'a dyn Names,
    reads: RefCell<Vec<Read>>,
}

impl Checker<'_> {
    fn read(
        &self,
        (part, part_at): (String, Range<usize>),
        (field, field_at): (String, Range<usize>),
    ) -> Result<(Slot, Kind), Bad> {
        let (slot, kind) = self.names.slot(&part, &field).map_err(|unknown| Bad {
            span: match unknown.what {
                Half::Part => part_at,
                Half::Field => field_at.clone(),
            },
            message: unknown.message,
            help: unknown.help,
        })?;
        let mut reads = self.reads.borrow_mut();
        if reads.iter().all(|read| read.slot != slot) {
            reads.push(Read { slot, part: part.into(), field: field.into(), kind, field_at });
        }
        Ok((slot, kind))
    }

    fn any(&self, tree: Tree) -> Result<(Kind, Typed), Bad> {
        let Tree { span, what } = tree;
        Ok(match what {
            What::Number(number) => (Kind::Number, Typed::Number(Number::Literal(number))),
            What::Text(text) => (Kind::Text, Typed::Text(Text::Literal(text.into()))),
            What::Truth(truth) => (Kind::Bool, Typed::Truth(Truth::Literal(truth))),
            What::Field { part, part_at, field, field_at } => {
                let (slot, kind) = self.read((part, part_at), (field, field_at))?;
                let typed = match kind {
                    Kind::Number | Kind::Duration => Typed::Number(Number::Slot(slot)),
                    Kind::Bool => Typed::Truth(Truth::Slot(slot)),
                    Kind::Text => Typed::Text(Text::Slot(slot)),
                };
                (kind, typed)
            }
            What::Name(name) => {
                let help = format!("write `{name}.` and one of its fields; a text stands in quotes");
                return bad(span, format!("`{name}` alone has no value"), help);
            }
            What::List(_) => {
                return bad(span, "a list can only stand after `in`", "write `net.label in [\"a\", \"b\"]`");
            }
            What::Call { name, name_at, arguments } => self.call(&name, name_at, arguments, span)?,
            What::Not(inner) => (Kind::Bool, Typed::Truth(Truth::Not(Box::new(self.truth(*inner)?)))),
            What::Negate(inner) => {
                let (kind, inner) = self.number(*inner)?;
                (kind, Typed::Number(Number::Negate(Box::new(inner))))
            }
            What::Choose(three) => self.choose(*three)?,
            What::Two(sign @ (Sign::And | Sign::Or), two) => {
                let parts = self.row(sign, *two)?;
                let truth = if sign == Sign::And { Truth::All(parts) } else { Truth::Any(parts) };
                (Kind::Bool, Typed::Truth(truth))
            }
            What::Two(Sign::In, two) => (Kind::Bool, Typed::Truth(self.is_in(*two)?)),
            What::Two(Sign::Compare(_), _) => (Kind::Bool, Typed::Truth(self.compare(what)?)),
            What::Two(Sign::Plus, two) => self.arithmetic(Operator::Plus, *two, &span)?,
            What::Two(Sign::Minus, two) => self.arithmetic(Operator::Minus, *two, &span)?,
            What::Two(Sign::Times, two) => self.arithmetic(Operator::Times, *two, &span)?,
            What::Two(Sign::By, two) => self.arithmetic(Operator::By, *two, &span)?,
        })
    }

    fn truth(&self, tree: Tree) -> Result<Truth, Bad> {
        let span = tree.span.clone();
        match self.any(tree)? {
            (_, Typed::Truth(truth)) => Ok(truth),
            (kind, _) => {
                let help = "compare it with something: `pump.temperature > 80.0`";
                bad(span, format!("expected true or false, found {}", kind.as_str()), help)
            }
        }
    }

    /// A number or a duration.
    fn number(&self, tree: Tree) -> Result<(Kind, Number), Bad> {
        let span = tree.span.clone();
        match self.any(tree)? {
            (kind, Typed::Number(number)) => Ok((kind, number)),
            (kind, _) => {
                let help = "texts and truths are compared with `==` and `!=` alone";
                bad(span, format!("expected a number, found {}", kind.as_str()), help)
            }
        }
    }

    /// `a && b && c`, which is a list; its tree leans to the left.
    fn row(&self, sign: Sign, two: [Tree; 2]) -> Result<Vec<Truth>, Bad> {
        let [mut left, right] = two;
        let mut trees = vec![right];
        loop {
            match left.what {
                What::Two(inner, two) if inner == sign => {
                    let [further, right] = *two;
                    trees.push(right);
                    left = further;
                }
                what => {
                    trees.push(Tree { what, ..left });
                    break;
                }
            }
        }
        trees.into_iter().rev().map(|tree| self.truth(tree)).collect()
    }

    fn choose(&self, three: [Tree; 3]) -> Result<(Kind, Typed), Bad> {
        let [condition, yes, no] = three;
        let span = yes.span.start..no.span.end;
        let condition = self.truth(condition)?;
        let (kind, yes) = self.any(yes)?;
        let (other, no) = self.any(no)?;
        if kind != other {
            let message =
                format!("`? :` gives {} or {}: which cannot be known", kind.as_str(), other.as_str());
            return bad(span, message, "both sides must be of one kind");
        }
        Ok((
            kind,
            match (yes, no) {
                (Typed::Truth(yes), Typed::Truth(no)) => {
                    Typed::Truth(Truth::Choose(Box::new((condition, yes, no))))
                }
                (Typed::Text(yes), Typed::Text(no)) => {
                    Typed::Text(Text::Choose(Box::new((condition, yes, no))))
                }
                (Typed::Number(yes), Typed::Number(no)) => {
                    Typed::Number(Number::Choose(Box::new((condition, yes, no))))
                }
                _ => return bad(span, "both sides of `? :` must be of one kind", "write two rules"),
            },
        ))
    }

    fn compare(&self, what: What) -> Result<Truth, Bad> {
        let What::Two(Sign::Compare(compare), two) = what else {
            unreachable!("only called with a comparison")
        };
        let [left, right] = *two;
        let (left_at, right_at) = (left.span.clone(), right.span.clone());
        let span = left_at.start..right_at.end;
        let (left_kind, left) = self.any(left)?;
        let (right_kind, right) = self.any(right)?;
        if left_kind != right_kind {
            let message = format!("{} cannot be compared with {}", left_kind.as_str(), right_kind.as_str());
            let help = match (left_kind, right_kind) {
                (Kind::Duration, Kind::Number) | (Kind::Number, Kind::Duration) => {
                    "a duration is written `duration(\"30s\")`"
                }
                (Kind::Bool, _) | (_, Kind::Bool) => "`&&` joins comparisons: `a > 1 && b > 2`",
                _ => "a text stands in quotes, a number without",
            };
            return bad(span, message, help);
        }
        let equal = match compare {
            Compare::Equal => Some(true),
            Compare::Unequal => Some(false),
            _ => None,
        };
        Ok(match (left, right, equal) {
            (Typed::Number(left), Typed::Number(right), _) => {
                let durations = left_kind == Kind::Duration;
                // `80 < pump.t` is told as `pump.t` above 80.
                match left {
                    Number::Literal(_) => Truth::Compare(Box::new(Comparison {
                        compare: compare.turned(),
                        left: right,
                        right: left,
                        left_at: right_at,
                        right_at: left_at,
                        durations,
                    })),
                    left => Truth::Compare(Box::new(Comparison {
                        compare,
                        left,
                        right,
                        left_at,
                        right_at,
                        durations,
                    })),
                }
            }
            (Typed::Truth(left), Typed::Truth(right), Some(equal)) => {
                Truth::SameAs { equal, two: Box::new([left, right]) }
            }
            (Typed::Text(left), Typed::Text(right), Some(equal)) => {
                Truth::SameText { equal, two: Box::new([left, right]), left: left_at }
            }
            _ => {
                let message = format!("{} has no order", left_kind.as_str());
                return bad(span, message, "compare with `==`, `!=` or `in`");
            }
        })
    }

    fn is_in(&self, two: [Tree; 2]) -> Result<Truth, Bad> {
        let [value, list] = two;
        let left = value.span.clone();
        let (kind, value) = self.any(value)?;
        let What::List(items) = list.what else {
            return bad(list.span, "expected a list after `in`", "write `net.label in [\"a\", \"b\"]`");
        };
        let (mut numbers, mut texts) = (Vec::new(), Vec::new());
        for item in items {
            match (item.what, kind) {
                (What::Number(number), Kind::Number) => numbers.push(number),
                (What::Text(text), Kind::Text) => texts.push(text.into_boxed_str()),
                (_, Kind::Number | Kind::Text) => {
                    let message = format!("expected {} as it is written", kind.as_str());
                    return bad(item.span, message, "a list after `in` has only numbers, or only texts");
                }
                _ => return bad(left, format!("{} cannot be in a list", kind.as_str()), "use `==`"),
            }
        }
        match value {
            Typed::Number(value) => Ok(Truth::NumberIn { value: Box::new(value), of: numbers, left }),
            Typed::Text(value) => Ok(Truth::TextIn { value: Box::new(value), of: texts, left }),
            Typed::Truth(_) => bad(left, "true or false cannot be in a list", "use `==`"),
        }
    }

    fn arithmetic(
        &self,
        operator: Operator,
        two: [Tree; 2],
        span: &Range<usize>,
    ) -> Result<(Kind, Typed), Bad> {
        let [left, right] = two;
        let (left_kind, left) = self.number(left)?;
        let (right_kind, right) = self.number(right)?;
        let durations = [left_kind, right_kind].map(|kind| kind == Kind::Duration);
        let kind = match (operator, durations) {
            (_, [false, false]) => Kind::Number,
            (Operator::Plus | Operator::Minus, [true, true]) => Kind::Duration,
            _ => {
                let message = "durations can be added to durations, and taken from them";
                return bad(span.clone(), message, "a duration is written `duration(\"30s\")`");
            }
        };
        Ok((kind, Typed::Number(Number::Two(operator, Box::new([left, right])))))
    }

    fn call(
        &self,
        name: &str,
        name_at: Range<usize>,
        mut arguments: Vec<Tree>,
        span: Range<usize>,
    ) -> Result<(Kind, Typed), Bad> {
        let one = |arguments: &mut Vec<Tree>, example: &str| match arguments.len() {
            1 => Ok(arguments.remove(0)),
            count => bad(span.clone(), format!("`{name}` takes one value, not {count}"), example.to_owned()),
        };
        match name {
            "has" | "age" => {
                let example = format!("write `{name}(pump.temperature)`");
                let argument = one(&mut arguments, &example)?;
                let What::Field { part, part_at, field, field_at } = argument.what else {
                    return bad(argument.span, format!("`{name}` takes a field of a part"), example);
                };
                let (slot, _) = self.read((part, part_at), (field, field_at))?;
                Ok(match name {
                    "has" => (Kind::Bool, Typed::Truth(Truth::Has(slot))),
                    _ => (Kind::Duration, Typed::Number(Number::Age(slot))),
                })
            }
            "duration" => {
                let argument = one(&mut arguments, "write `duration(\"30s\")`")?;
                let What::Text(text) = &argument.what else {
                    let help = "write `duration(\"30s\")`";
                    return bad(argument.span, "`duration` takes a text in quotes", help);
                };
                match duration_ms(text) {
                    Ok(ms) => Ok((Kind::Duration, Typed::Number(Number::Literal(ms as f64)))),
                    Err(message) => bad(argument.span, message, "write `duration(\"30s\")`"),
                }
            }
            "abs" => {
                let (kind, number) = self.number(one(&mut arguments, "write `abs(pump.x - pump.y)`")?)?;
                Ok((kind, Typed::Number(Number::Absolute(Box::new(number)))))
            }
            "min" | "max" => {
                if arguments.len() < 2 {
                    let message = format!("`{name}` takes two values or more, not {}", arguments.len());
                    return bad(span, message, format!("write `{name}(pump.x, pump.y)`"));
                }
                let numbers: Vec<_> =
                    arguments.into_iter().map(|tree| self.number(tree)).collect::<Result<_, _>>()?;
                let kind = numbers[0].0;
                if numbers.iter().any(|(other, _)| *other != kind) {
                    return bad(
                        span,
                        format!("`{name}` takes values of one kind"),
                        "all numbers, or all durations",
                    );
                }
                let numbers = numbers.into_iter().map(|(_, number)| number).collect();
                let number = if name == "min" { Number::Least(numbers) } else { Number::Most(numbers) };
                Ok((kind, Typed::Number(number)))
            }
            _ if CEL_ONLY.contains(&name) => {
                let message = format!("a condition has no `{name}()`, though CEL has");
                bad(
                    name_at,
                    message,
                    format!("known: {}", FUNCTIONS.map(|name| format!("`{name}`")).join(", ")),
                )
            }
            _ => bad(name_at, format!("a condition has no `{name}()`"), did_you_mean(name, FUNCTIONS)),
        }
    }
}
