//! What a chat template may cost: every template comes from a file that a stranger made.
//!
//! Stands between a compiled template and its run (`jinja.rs`). The engine bounds instructions (fuel) and nested calls;
//! it does not bound memory: thirty `{% set s = s ~ s %}` make a gigabyte, and a list that holds itself twice, forty
//! times, prints for ever. So the instructions are rewritten before they run: whatever makes or walks a value is led
//! past a guard that counts. What always holds: bytes made, work done and depth of values stay under [`Limits`], in
//! whatever order a template asks for them; past a limit the render ends with an error that names the line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::machinery::{Instruction, Instructions, Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{DynObject, ObjectRepr, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::chat::python::text_of;

/// Names of the guards. No template can write them, so none can replace them.
const CHECK: &str = "<check>";
const ALLOW: &str = "<allow>";
const ASSIGN: &str = "<assign>";

/// The longest template: the longest known one is 20 kB.
const MAX_SOURCE_BYTES: usize = 512 * 1024;
/// The engine keeps line numbers in 16 bits.
const MAX_LINES: usize = 60_000;
/// Tokens of one tag. Operators nest to the left without a limit of the engine's own: 2,000 overflow a stack of 2 MB.
const MAX_TAG_TOKENS: usize = 800;
/// `elif` nests to the right in the same way.
const MAX_ELIFS: usize = 400;
/// Lists in lists, maps in maps. JSON from a request is at most 128 deep.
const MAX_DEPTH: usize = 160;
/// Numbers, strings and collections in one value.
const MAX_NODES: u64 = 1 << 20;
/// The largest number given to a filter or method: a width, a count, an index.
const MAX_ARGUMENT: i64 = 100_000;
/// Room that one element of a collection takes.
const ELEMENT_BYTES: u64 = 64;

/// How much one render may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Instructions.
    pub(super) fuel: u64,
    /// Bytes of all strings and collections made, including the output, whether or not they are still held.
    pub(super) bytes: u64,
    /// Values and bytes looked at by filters, comparisons and prints.
    pub(super) work: u64,
}

impl Limits {
    /// For an input of this many bytes (messages, tools and variables as JSON) and messages.
    pub(super) fn for_input(bytes: usize, messages: usize) -> Limits {
        // A template that gathers its output by `s = s + piece` makes the square of its pieces: 64 times the input is
        // a conversation of some hundred turns gathered that way. Measured on the twelve templates of the shared data:
        // at most 1,100 instructions a message after the guards.
        Limits {
            fuel: 2_000_000 + 50_000 * messages as u64,
            bytes: (64 << 20) + 64 * bytes as u64,
            work: (64 << 20) + 256 * bytes as u64,
        }
    }
}

/// What is left of the limits of one render.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: AtomicU64,
    work: AtomicU64,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Arc<Budget> {
        Arc::new(Budget { bytes: AtomicU64::new(limits.bytes), work: AtomicU64::new(limits.work) })
    }

    fn charge(account: &AtomicU64, cost: u64, what: &str) -> Result<(), Error> {
        let left = account.load(Ordering::Relaxed);
        if cost > left {
            return Err(Error::new(ErrorKind::OutOfFuel, format!("the template makes too much {what}")));
        }
        account.store(left - cost, Ordering::Relaxed);
        Ok(())
    }

    /// Counts bytes that are made.
    pub(super) fn make(&self, bytes: u64) -> Result<(), Error> {
        Budget::charge(&self.bytes, bytes, "text")
    }

    fn work(&self, cost: u64) -> Result<(), Error> {
        Budget::charge(&self.work, cost, "work")
    }
}

/// The size of a value that is walked to its leaves.
struct Size {
    nodes: u64,
    /// About as many as its text would have.
    bytes: u64,
}

/// Measures a value; an error if it is too deep or has too many parts.
fn measure(value: &Value, budget: &Budget) -> Result<Size, Error> {
    fn walk(value: &Value, depth: usize, size: &mut Size) -> Result<(), Error> {
        size.nodes += 1;
        if size.nodes > MAX_NODES || depth > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::OutOfFuel,
                "the template makes a value that is too large or too deep",
            ));
        }
        size.bytes += 8;
        if let Some(text) = value.as_str() {
            size.bytes += text.len() as u64;
        } else if let Some(bytes) = value.as_bytes() {
            size.bytes += 4 * bytes.len() as u64;
        } else if let Some(object) = value.as_object() {
            match object.repr() {
                ObjectRepr::Map => {
                    for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                        walk(&key, depth + 1, size)?;
                        walk(&value, depth + 1, size)?;
                    }
                }
                ObjectRepr::Seq | ObjectRepr::Iterable => {
                    for value in object.try_iter().into_iter().flatten() {
                        walk(&value, depth + 1, size)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
    let mut size = Size { nodes: 0, bytes: 0 };
    let result = walk(value, 0, &mut size);
    budget.work(size.nodes + size.bytes / 16)?;
    result.map(|()| size)
}

fn elements(value: &Value) -> u64 {
    match value.as_object().map(DynObject::repr) {
        Some(ObjectRepr::Seq | ObjectRepr::Iterable | ObjectRepr::Map) => value.len().unwrap_or(0) as u64,
        _ => 0,
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some()
}

fn text_len(value: &Value) -> u64 {
    value.as_str().map_or(0, |text| text.len() as u64)
}

/// Teaches an environment the guards, and to count what is printed.
pub(super) fn guard(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    let counted = budget.clone();
    environment.set_formatter(move |out, _, value| {
        if let Some(text) = value.as_str() {
            counted.make(text.len() as u64)?;
            return out.write_str(text).map_err(Error::from);
        }
        let size = measure(value, &counted)?;
        counted.make(size.bytes)?;
        out.write_str(&text_of(value)).map_err(Error::from)
    });
    let counted = budget.clone();
    environment.add_function(CHECK, move |value: Value| check(value, &counted));
    let counted = budget.clone();
    environment.add_function(ALLOW, move |name: String, operands: Value| {
        allow(&name, &operands, &counted)?;
        if name == "<~>" {
            // The engine would write `true` where Python writes `True`.
            let operands = operands.try_iter()?.map(|operand| Value::from(text_of(&operand)));
            return Ok(operands.collect::<Value>());
        }
        Ok::<_, Error>(operands)
    });
    let counted = budget.clone();
    environment.add_function(ASSIGN, move |value: Value| assign(value, &counted));
}

/// A value that an instruction has just made: counted, and no lazy view of another value, since views of views of
/// views overflow the stack when they are walked.
fn check(value: Value, budget: &Budget) -> Result<Value, Error> {
    let Some(object) = value.as_object() else {
        budget.make(text_len(&value))?;
        return Ok(value);
    };
    let value = match (object.repr(), value.kind()) {
        // Ours, or the engine's own plain list: nothing hides in it.
        (ObjectRepr::Seq, _) if value.is_tuple() || object.is::<Vec<Value>>() => value,
        (ObjectRepr::Seq | ObjectRepr::Iterable, _) => {
            let mut items = Vec::new();
            for item in value.try_iter()?.checked() {
                budget.make(ELEMENT_BYTES)?;
                items.push(item?);
            }
            Value::from(items)
        }
        (ObjectRepr::Map, ValueKind::Map) => value,
        _ => return Ok(value),
    };
    budget.make(ELEMENT_BYTES * elements(&value))?;
    measure(&value, budget)?;
    Ok(value)
}

/// What is put into a namespace: not a namespace, which could come to hold itself.
fn assign(value: Value, budget: &Budget) -> Result<Value, Error> {
    fn holds_namespace(value: &Value) -> bool {
        let Some(object) = value.as_object() else { return false };
        match object.repr() {
            ObjectRepr::Map => {
                object.type_name().ends_with("::Namespace")
                    || object.try_iter_pairs().into_iter().flatten().any(|(_, value)| holds_namespace(&value))
            }
            ObjectRepr::Seq | ObjectRepr::Iterable => {
                object.try_iter().into_iter().flatten().any(|value| holds_namespace(&value))
            }
            _ => false,
        }
    }
    measure(&value, budget)?;
    if holds_namespace(&value) {
        return Err(Error::new(ErrorKind::InvalidOperation, "a namespace cannot be kept in a namespace"));
    }
    Ok(value)
}

/// Before an operator, filter, test or method runs: what it will make, at most, and what it will look at.
fn allow(name: &str, operands: &Value, budget: &Budget) -> Result<(), Error> {
    let operands: Vec<Value> = operands.try_iter()?.collect();
    let Some(subject) = operands.first() else { return Ok(()) };
    let argument = operands.get(1);
    budget.work(1 + (text_len(subject) + argument.map_or(0, text_len)) / 16 + elements(subject))?;
    let deep = || -> Result<u64, Error> {
        operands.iter().try_fold(0, |sum, operand| Ok(sum + measure(operand, budget)?.bytes))
    };
    // Every number after the subject, by position or by name, is a width, a count or an index.
    if !name.starts_with('<') {
        for number in operands.iter().skip(1).flat_map(numbers) {
            if number.unsigned_abs() > MAX_ARGUMENT as u64 {
                let message = format!("{number} is too large an argument for `{name}`");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
    }
    match (name, argument) {
        ("<~>", Some(right)) if is_text(subject) && is_text(right) => {
            budget.make(text_len(subject) + text_len(right))
        }
        ("<~>", _) => budget.make(deep()?),
        ("<+>", Some(right)) => budget.make(
            text_len(subject) + text_len(right) + ELEMENT_BYTES * (elements(subject) + elements(right)),
        ),
        ("<*>", Some(right)) => {
            let (thing, count) = if right.is_number() { (subject, right) } else { (right, subject) };
            let count = count.as_i64().unwrap_or(0).max(0).unsigned_abs();
            budget.make(count.saturating_mul(text_len(thing).saturating_add(ELEMENT_BYTES * elements(thing))))
        }
        ("<compare>", _) => deep().map(drop),
        ("replace", Some(old)) => {
            deep()?;
            let (old, new) = (text_len(old), operands.get(2).map_or(0, text_len));
            let times = text_len(subject).checked_div(old).unwrap_or(text_len(subject)) + 1;
            // What it makes is counted exactly by the check after it; here only the worst case must fit at all.
            let worst = times.saturating_mul(new.saturating_sub(old));
            if worst > budget.bytes.load(Ordering::Relaxed) {
                let found = old_count(subject, operands.get(1));
                budget.make(found.saturating_mul(new.saturating_sub(old)))?;
            }
            Ok(())
        }
        ("join", _) => {
            // As a filter the list is the subject, as a method the separator is.
            let separator = text_len(subject).max(argument.map_or(0, text_len));
            let count = elements(subject).max(argument.map_or(0, elements)).max(text_len(subject));
            budget.make(deep()?.saturating_add(separator.saturating_mul(count)))
        }
        ("indent", _) => {
            let lines = subject.as_str().map_or(0, |text| text.matches('\n').count() as u64 + 1);
            let width = operands.iter().skip(1).flat_map(numbers).map(i64::unsigned_abs).max().unwrap_or(4);
            budget.make(text_len(subject) + lines.saturating_mul(width))
        }
        ("tojson", _) => {
            let size = measure(subject, budget)?;
            let width = operands.iter().skip(1).flat_map(numbers).map(i64::unsigned_abs).max().unwrap_or(0);
            // Each part stands on a line of its own, at most as deep as values are; six bytes for an escaped one.
            let indent = size.nodes.saturating_mul(width).saturating_mul(if width > 0 { 16 } else { 0 });
            budget.make(size.bytes.saturating_mul(2).saturating_add(indent))
        }
        ("format", _) => {
            let widths = operands.iter().filter_map(Value::as_str).map(longest_digits).max().unwrap_or(0);
            let nested = operands
                .iter()
                .filter_map(Value::as_str)
                .any(|text| text.contains('*') || text.contains(":{"));
            if widths > 3 || nested {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "widths over 999 are not supported in formats",
                ));
            }
            let texts =
                operands.iter().filter_map(Value::as_str).map(|text| text.matches(['%', '{']).count() as u64);
            budget.make(deep()?.saturating_add(1000 * texts.sum::<u64>()))
        }
        (
            "split" | "list" | "lines" | "splitlines" | "sort" | "unique" | "reverse" | "batch" | "slice",
            _,
        ) => {
            let parts = match (name, argument.and_then(Value::as_str)) {
                ("split", Some(separator)) if !separator.is_empty() => {
                    subject.as_str().map_or(0, |text| text.matches(separator).count() as u64 + 1)
                }
                _ => text_len(subject),
            };
            let numbers: i64 = operands.iter().skip(1).flat_map(numbers).map(i64::abs).max().unwrap_or(0);
            budget.make(ELEMENT_BYTES * (parts + elements(subject) + numbers.unsigned_abs()))?;
            if matches!(name, "sort" | "unique") {
                // Comparing n elements about log n times.
                budget.work(deep()?.saturating_mul(16))?;
            }
            Ok(())
        }
        // Walk their subject to its leaves, or call another filter for each of its elements.
        (
            "string" | "pprint" | "map" | "select" | "reject" | "selectattr" | "rejectattr" | "groupby"
            | "dictsort" | "min" | "max" | "sum" | "count" | "index" | "eq" | "equalto" | "==" | "ne" | "!="
            | "lt" | "<" | "le" | "<=" | "gt" | ">" | "ge" | ">=" | "in" | "lessthan" | "greaterthan"
            | "sameas",
            _,
        ) => budget.make(deep()?),
        _ => Ok(()),
    }
}

fn old_count(subject: &Value, old: Option<&Value>) -> u64 {
    match (subject.as_str(), old.and_then(Value::as_str)) {
        (Some(text), Some(old)) => text.matches(old).count() as u64,
        _ => 0,
    }
}

/// The whole numbers of an argument; for arguments by name, of each of them.
fn numbers(argument: &Value) -> Vec<i64> {
    if argument.is_kwargs() {
        let pairs = argument.as_object().and_then(|object| object.try_iter_pairs());
        return pairs.into_iter().flatten().filter_map(|(_, value)| whole(&value)).collect();
    }
    whole(argument).into_iter().collect()
}

fn whole(value: &Value) -> Option<i64> {
    value.is_integer().then(|| value.as_i64().unwrap_or(i64::MAX))
}

fn longest_digits(text: &str) -> usize {
    text.split(|character: char| !character.is_ascii_digit()).map(str::len).max().unwrap_or(0)
}

/// Refuses a source that would overflow the engine's own recursion or numbers, before the engine sees it.
pub(super) fn check_source(source: &str, syntax: &SyntaxConfig) -> Result<(), (Option<usize>, String)> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err((None, format!("{} bytes; at most {MAX_SOURCE_BYTES} are read", source.len())));
    }
    if source.lines().count() > MAX_LINES {
        return Err((None, format!("{} lines; at most {MAX_LINES} are read", source.lines().count())));
    }
    let (mut in_tag, mut elifs, mut repeats, mut size) = (0, 0, false, 1u64);
    for token in tokenize(source, false, syntax.clone()) {
        // What the tokenizer refuses, the engine refuses with a better message.
        let Ok((token, span)) = token else { return Ok(()) };
        let line = Some(usize::from(span.start_line));
        in_tag += 1;
        match token {
            Token::BlockStart | Token::VariableStart | Token::TemplateData(_) => {
                (in_tag, repeats, size) = (0, false, 1)
            }
            Token::Ident("elif") => elifs += 1,
            // The engine computes constants while it compiles: `"x" * 99999999` must not be one.
            Token::Mul | Token::Pow => repeats = true,
            Token::Int(number) => size = size.saturating_mul(number.max(1)),
            Token::Int128(_) => size = u64::MAX,
            _ => {}
        }
        if in_tag > MAX_TAG_TOKENS {
            return Err((line, format!("a tag of more than {MAX_TAG_TOKENS} words and signs")));
        }
        if elifs > MAX_ELIFS {
            return Err((line, format!("more than {MAX_ELIFS} `elif`")));
        }
        if repeats && size > 1 << 20 {
            return Err((line, "constants whose product is over a million".to_string()));
        }
    }
    Ok(())
}

/// The same instructions with the guards between them.
pub(super) fn with_guards<'a>(old: &Instructions<'a>) -> Result<Instructions<'a>, (Option<usize>, String)> {
    let mut new = Instructions::new(old.name(), old.source());
    let (mut moved, mut place) = (Vec::new(), 0u32);
    for index in 0u32.. {
        moved.push(place);
        let Some(instruction) = old.get(index) else { break };
        let line = u16::try_from(old.get_line(index).unwrap_or(0)).unwrap_or(u16::MAX);
        for instruction in guarded(instruction).map_err(|what| (old.get_line(index), what))? {
            place = new.add_with_line(instruction, line) + 1;
        }
    }
    for index in 0u32.. {
        let Some(instruction) = new.get_mut(index) else { break };
        let (Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target)
        | Instruction::BuildMacro(_, target, _)) = instruction
        else {
            continue;
        };
        let Some(place) = moved.get(*target as usize) else {
            return Err((None, "a jump out of the template".to_string()));
        };
        *target = *place;
    }
    Ok(new)
}

/// One instruction as those that run in its place.
fn guarded<'a>(instruction: &Instruction<'a>) -> Result<Vec<Instruction<'a>>, String> {
    let call = |name| Instruction::CallFunction(name, Some(1));
    // The operands as a tuple, past the guard, and back onto the stack as they were.
    let allowed = |name: &str, count: u16| {
        vec![
            Instruction::BuildTuple(Some(usize::from(count))),
            Instruction::LoadConst(Value::from(name)),
            Instruction::Swap,
            Instruction::CallFunction(ALLOW, Some(2)),
            Instruction::UnpackLists(1),
            Instruction::DiscardTop,
        ]
    };
    let then = |mut before: Vec<Instruction<'a>>, checked: bool| {
        before.push(instruction.clone());
        if checked {
            before.push(call(CHECK));
        }
        before
    };
    Ok(match instruction {
        Instruction::EmitRaw(text) => vec![Instruction::LoadConst(Value::from(*text)), Instruction::Emit],
        Instruction::StringConcat => then(allowed("<~>", 2), false),
        Instruction::Add => then(allowed("<+>", 2), true),
        Instruction::Mul => then(allowed("<*>", 2), true),
        Instruction::Eq
        | Instruction::Ne
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::In
        | Instruction::CompareAndPreserve(_) => then(allowed("<compare>", 2), false),
        Instruction::ApplyFilter(name, Some(count), _) => then(allowed(name, *count), true),
        Instruction::PerformTest(name, Some(count), _) => then(allowed(name, *count), false),
        Instruction::CallMethod(name, Some(count)) => then(allowed(name, *count), true),
        Instruction::ApplyFilter(name, None, _)
        | Instruction::PerformTest(name, None, _)
        | Instruction::CallMethod(name, None) => {
            return Err(format!("arguments by `*` for `{name}`"));
        }
        Instruction::CallFunction(..)
        | Instruction::CallObject(_)
        | Instruction::Slice
        | Instruction::BuildList(_)
        | Instruction::BuildTuple(_)
        | Instruction::BuildMap(_) => then(Vec::new(), true),
        Instruction::SetAttr(_) => then(vec![Instruction::Swap, call(ASSIGN), Instruction::Swap], false),
        Instruction::LoadBlocks | Instruction::Include(_) => {
            return Err("another template (`extends`, `include` or `import`)".to_string());
        }
        other => vec![other.clone()],
    })
}

/// Filters that take what they cannot bound, or that no chat template has a use for.
pub(super) const REFUSED_FILTERS: [&str; 3] = ["chain", "zip", "pprint"];

/// `dict(a=1)` and `range` are the engine's; `debug` would print the engine's state.
pub(super) const REFUSED_FUNCTIONS: [&str; 1] = ["debug"];

/// A filter or function that is not there, as the engine says it.
pub(super) fn refused(
    name: &'static str,
) -> impl Fn(Rest<Value>) -> Result<Value, Error> + Send + Sync + 'static {
    move |_: Rest<Value>| Err(Error::new(ErrorKind::UnknownFilter, format!("`{name}` is not known here")))
}
