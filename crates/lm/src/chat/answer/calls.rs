//! The calls inside an answer, in the form of each family.
//!
//! Half of [`Answer`], which hands over at a call's mark and takes back at its end: objects, lists, names followed by
//! JSON, arguments one by one, Python. Arguments are passed on as they come; what breaks before a call is announced was
//! no call.

use serde_json::Value;

use crate::chat::answer::{Answer, Call, Delta, Next, State};
use crate::chat::dialect::Form;
use crate::chat::literal::python_calls;
use crate::chat::members::{Event, Members};

/// No function has a longer name ([`Tool::from_json`](crate::chat::message::Tool::from_json)); what goes on longer is no
/// name.
const MAX_NAME_BYTES: usize = 256;

impl Answer {
    fn announce(&mut self, call: &mut Call, name: &str) {
        if !call.announced {
            call.announced = true;
            self.before.clear();
            self.out.push(Delta::Call { index: self.index, name: name.to_string() });
        }
    }

    fn arguments(&mut self, text: &str) {
        match self.out.last_mut() {
            Some(Delta::Arguments { index, text: last }) if *index == self.index => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.out.push(Delta::Arguments { index: self.index, text: text.to_string() }),
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    /// Passes on what of the arguments has come, if they are an object.
    fn pass_on(&mut self, call: &mut Call) {
        let (Some(name), Some(begin)) = (call.name.clone(), call.begin) else { return };
        if !self.buffer[begin..].starts_with('{') {
            return;
        }
        self.announce(call, &name);
        let end = call.end.unwrap_or(call.scan.place());
        let from = call.passed.max(begin);
        if from < end {
            let text = self.buffer[from..end].to_string();
            self.arguments(&text);
            call.passed = end;
        }
    }

    pub(super) fn object(&mut self, mut call: Box<Call>, arguments: &str) -> Next {
        while let Some(event) = call.scan.next(&self.buffer) {
            match event {
                Event::Key(range) => call.key = serde_json::from_str(&self.buffer[range]).unwrap_or_default(),
                // The first of several is the one that may have been passed on.
                Event::ValueBegins(place) if is_arguments(&call.key, arguments) => {
                    call.begin = call.begin.or(Some(place));
                }
                Event::ValueBegins(_) => {}
                Event::Value(range) => match call.key.as_str() {
                    "name" => call.name = serde_json::from_str(&self.buffer[range]).ok(),
                    "function" => {
                        let value: Option<Value> = serde_json::from_str(&self.buffer[range]).ok();
                        match value {
                            Some(Value::String(name)) => call.name = Some(name),
                            other => call.function = other,
                        }
                    }
                    key if is_arguments(key, arguments) => call.end = call.end.or(Some(range.end)),
                    _ => {}
                },
                Event::ObjectEnds(place) => {
                    if !self.object_ends(&mut call) {
                        return self.not_a_call();
                    }
                    if !call.scan.in_list() {
                        self.drop_front(place);
                        return Next::Again(State::Close);
                    }
                    let scan = call.scan.clone();
                    *call = Call { scan, start: place, ..Call::default() };
                }
                Event::ListEnds(place) => {
                    self.drop_front(place);
                    return Next::Again(State::Close);
                }
                Event::Broken(_) if call.announced || call.start > 0 => {
                    // What was passed on cannot be taken back; the rest is content.
                    self.index += usize::from(call.announced);
                    self.drop_front(call.passed.max(call.start));
                    return Next::Again(State::Content);
                }
                Event::Broken(_) => return self.not_a_call(),
            }
            // As soon as it is certain, so that what breaks later finds the same, however the text was cut. Without a mark
            // only a known name makes a call of an object.
            if call.name.as_deref().is_some_and(|name| self.marked || self.knows(name)) {
                self.pass_on(&mut call);
            }
        }
        if call.announced {
            self.pass_on(&mut call);
        }
        Next::Wait(State::Call(call))
    }

    /// At an object's end: whether it was a call. Passes on the rest of it.
    fn object_ends(&mut self, call: &mut Call) -> bool {
        if call.name.is_none()
            && let Some(function) = call.function.take()
        {
            let Some(name) = function.get("name").and_then(Value::as_str) else { return false };
            if !self.marked && !self.knows(name) {
                return false;
            }
            self.announce(call, name);
            let arguments = function.get("arguments").or_else(|| function.get("parameters"));
            self.arguments(&as_arguments(arguments));
            self.index += 1;
            return true;
        }
        let Some(name) = call.name.clone() else { return false };
        if !self.marked && !self.knows(&name) {
            return false;
        }
        self.pass_on(call);
        self.announce(call, &name);
        if call.passed == 0 {
            let text = call.begin.zip(call.end).map(|(begin, end)| &self.buffer[begin..end]);
            let value: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
            self.arguments(&as_arguments(value.as_ref()));
        }
        self.index += 1;
        true
    }

    /// The name, up to what comes after it; `Err` is what to do instead.
    fn name_until(&mut self, call: &mut Call, after: &str) -> Result<usize, bool> {
        match self.buffer.find(after) {
            Some(place) if place <= MAX_NAME_BYTES => {
                // Newer Mistral models put an id of their own after the name.
                let name = self.buffer[..place].split("[CALL_ID]").next().unwrap_or_default().trim();
                if name.is_empty() || name.contains(['\n', '<', '{']) {
                    return Err(true);
                }
                call.name = Some(name.to_string());
                Ok(place + after.len())
            }
            Some(_) => Err(true),
            None => Err(self.buffer.len() > MAX_NAME_BYTES),
        }
    }

    pub(super) fn named(&mut self, mut call: Box<Call>, between: &str) -> Next {
        if call.name.is_none() {
            match self.name_until(&mut call, between) {
                Ok(place) => call.scan = Members::value(place),
                Err(true) => {
                    return self.not_a_call();
                }
                Err(false) => return Next::Wait(State::Call(call)),
            }
        }
        while let Some(event) = call.scan.next(&self.buffer) {
            match event {
                Event::ValueBegins(place) => call.begin = Some(place),
                Event::Value(range) => {
                    call.end = Some(range.end);
                    self.pass_on(&mut call);
                    if !call.announced {
                        return self.not_a_call();
                    }
                    self.index += 1;
                    self.drop_front(range.end);
                    return Next::Again(State::Close);
                }
                _ => {
                    return self.not_a_call();
                }
            }
        }
        self.pass_on(&mut call);
        Next::Wait(State::Call(call))
    }

    pub(super) fn parameters(&mut self, mut call: Box<Call>) -> Next {
        let Form::Parameters { after_name, open, after_key, close, pad } = self.dialect.calls.form else {
            return Next::Again(State::Content);
        };
        if call.name.is_none() {
            match self.name_until(&mut call, after_name) {
                Ok(place) => self.drop_front(place),
                Err(true) => {
                    return self.not_a_call();
                }
                Err(false) => return Next::Wait(State::Call(call)),
            }
            let name = call.name.clone().unwrap_or_default();
            self.announce(&mut call, &name);
        }
        loop {
            self.skip_space();
            let ends = self.dialect.calls.call.1;
            if self.buffer.starts_with(ends) {
                let rest = if call.parameters == 0 { "{}" } else { "}" };
                self.arguments(rest);
                self.index += 1;
                return Next::Again(State::Close);
            }
            if !self.buffer.starts_with(open) {
                if open.starts_with(&self.buffer) || ends.starts_with(&self.buffer) {
                    return Next::Wait(State::Call(call));
                }
                // Something else stands among the arguments: it is passed over.
                let next = self.buffer.find(open).into_iter().chain(self.buffer.find(ends)).min();
                match next {
                    Some(place) => self.drop_front(place),
                    None => return Next::Wait(State::Call(call)),
                }
                continue;
            }
            let Some((key, begin)) = self.buffer.find(after_key).map(|place| {
                (self.buffer[open.len()..place.max(open.len())].to_string(), place + after_key.len())
            }) else {
                return Next::Wait(State::Call(call));
            };
            let Some(length) = self.buffer.get(begin..).and_then(|rest| rest.find(close)) else {
                return Next::Wait(State::Call(call));
            };
            let text = &self.buffer[begin..begin + length];
            let text = text.strip_prefix(pad).unwrap_or(text);
            let text = text.strip_suffix(pad).unwrap_or(text);
            let text =
                text.strip_prefix("<![CDATA[").and_then(|text| text.strip_suffix("]]>")).unwrap_or(text);
            let value = self.typed(call.name.as_deref().unwrap_or_default(), &key, text);
            let before = if call.parameters == 0 { "{" } else { ", " };
            self.arguments(&format!("{before}{}: {value}", Value::from(key)));
            call.parameters += 1;
            self.drop_front(begin + length + close.len());
        }
    }

    /// An argument that was written as plain text, by the type its schema gives it.
    fn typed(&self, name: &str, key: &str, text: &str) -> Value {
        let schema =
            self.tools.iter().find(|tool| tool.name == name).and_then(|tool| tool.parameters.as_ref());
        let kind = schema.and_then(|schema| schema.get("properties")?.get(key)?.get("type")?.as_str());
        match kind {
            Some("string") => Value::from(text),
            _ => serde_json::from_str(text.trim()).unwrap_or_else(|_| Value::from(text)),
        }
    }

    pub(super) fn python(&mut self, call: Box<Call>, end: bool) -> Next {
        let close = self.dialect.calls.call.1;
        let (text, after) = match self.buffer.find(close) {
            Some(place) => (self.buffer[..place].to_string(), place + close.len()),
            None if end => (self.buffer.clone(), self.buffer.len()),
            None => return Next::Wait(State::Call(call)),
        };
        let Some(calls) = python_calls(&text) else {
            // Some are told to write JSON instead.
            let objects: Option<Vec<Value>> = serde_json::from_str(&text).ok();
            let named = |object: &Value| object.get("name").and_then(Value::as_str).map(str::to_string);
            let names = objects.iter().flatten().map(named).collect::<Option<Vec<String>>>();
            let (Some(objects), Some(names)) = (objects, names.filter(|names| !names.is_empty())) else {
                return self.not_a_call();
            };
            for (object, name) in objects.iter().zip(names) {
                self.announce(&mut Call::default(), &name);
                self.arguments(&as_arguments(object.get("arguments").or_else(|| object.get("parameters"))));
                self.index += 1;
            }
            self.drop_front(after);
            return Next::Again(State::Between);
        };
        for (name, arguments) in calls {
            self.announce(&mut Call::default(), &name);
            self.arguments(&arguments.to_string());
            self.index += 1;
        }
        self.drop_front(after);
        Next::Again(State::Between)
    }
}

fn is_arguments(key: &str, wanted: &str) -> bool {
    key == wanted || key == "arguments" || key == "parameters"
}

/// Arguments that were not written as an object: JSON in a string, or none.
fn as_arguments(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "{}".to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
