//! What the model writes, piece by piece, as content, thoughts and tool calls.
//!
//! The way back of `template.rs`: text goes in as it is decoded, deltas come out as soon as they are certain, so that a
//! client sees arguments grow. How a family marks things is data (`dialect.rs`). What always holds: any text is an
//! answer; what looks like a call but is none stays content; nothing the model wrote is lost but the marks and the white
//! space beside them; the deltas do not depend on how the text was cut, once joined.

mod calls;

use serde_json::Value;

use crate::chat::dialect::{Dialect, Form, PYTHON_TAG};
use crate::chat::members::Members;
use crate::chat::message::Tool;

/// Something the model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Thoughts.
    Reasoning(String),
    /// The answer.
    Content(String),
    /// A call begins. The caller gives it an id.
    Call {
        /// Which call of this answer, from 0.
        index: usize,
        /// Of the function.
        name: String,
    },
    /// More of a call's arguments, which together are JSON.
    Arguments {
        /// Which call.
        index: usize,
        /// The next part.
        text: String,
    },
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Thoughts; empty if there are none.
    pub reasoning: String,
    /// The answer.
    pub content: String,
    /// Name and arguments of each call.
    pub calls: Vec<(String, String)>,
}

impl Parsed {
    /// Adds what came.
    pub fn add(&mut self, delta: Delta) {
        match delta {
            Delta::Reasoning(text) => self.reasoning += &text,
            Delta::Content(text) => self.content += &text,
            Delta::Call { name, .. } => self.calls.push((name, String::new())),
            Delta::Arguments { index, text } => {
                if let Some((_, arguments)) = self.calls.get_mut(index) {
                    *arguments += &text;
                }
            }
        }
    }
}

#[derive(Debug)]
enum State {
    /// Nothing but white space so far.
    Start,
    Thoughts,
    Content,
    /// Among the calls of a section.
    Section,
    /// After a call that no section holds.
    Between,
    /// In a call; the buffer begins after its mark.
    Call(Box<Call>),
    /// After a call, before the mark that closes it.
    Close,
}

#[derive(Debug, Default)]
struct Call {
    scan: Members,
    name: Option<String>,
    key: String,
    /// Where the arguments begin in the buffer.
    begin: Option<usize>,
    /// How far they were passed on.
    passed: usize,
    /// One past their end.
    end: Option<usize>,
    /// Some models wrap name and arguments in `function`.
    function: Option<Value>,
    announced: bool,
    /// Where it begins in the buffer, after the calls before it in a list.
    start: usize,
    /// Arguments passed on, of a form that has them one by one.
    parameters: usize,
}

enum Next {
    Again(State),
    Wait(State),
}

/// The reader of one answer.
#[derive(Debug)]
pub struct Answer {
    dialect: Dialect,
    tools: Vec<Tool>,
    state: State,
    /// Text that is not yet anything.
    buffer: String,
    /// White space that may turn out to stand before a call.
    space: String,
    /// The white space and marks before the buffer, should they turn out to be content.
    before: String,
    /// A mark stands before the buffer, so that what follows is meant as a call.
    marked: bool,
    /// Thoughts have begun.
    thought: bool,
    /// Some of them were passed on.
    reasoned: bool,
    index: usize,
    out: Vec<Delta>,
}

impl Answer {
    /// At the beginning of an answer. Without tools nothing is a call. `thinking`: the prompt has already begun the
    /// thoughts ([`Prompt::thinking`](crate::chat::template::Prompt)).
    pub fn new(dialect: Dialect, tools: &[Tool], thinking: bool) -> Answer {
        Answer {
            dialect,
            tools: tools.to_vec(),
            state: if thinking { State::Thoughts } else { State::Start },
            buffer: String::new(),
            space: String::new(),
            before: String::new(),
            marked: false,
            thought: thinking,
            reasoned: false,
            index: 0,
            out: Vec::new(),
        }
    }

    /// Reads a whole answer.
    pub fn parse(dialect: Dialect, tools: &[Tool], thinking: bool, text: &str) -> Parsed {
        let mut answer = Answer::new(dialect, tools, thinking);
        let mut parsed = Parsed::default();
        answer.push(text).into_iter().chain(answer.finish()).for_each(|delta| parsed.add(delta));
        parsed
    }

    /// How many calls have begun.
    pub fn calls(&self) -> usize {
        self.index + usize::from(matches!(&self.state, State::Call(call) if call.announced))
    }

    /// Takes the next text; gives what is certain now.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        self.buffer.push_str(text);
        self.run(false);
        std::mem::take(&mut self.out)
    }

    /// The model has ended, or was stopped; gives the rest.
    pub fn finish(&mut self) -> Vec<Delta> {
        self.run(true);
        // Each turn gives up one mark.
        while matches!(&self.state, State::Call(call) if !call.announced && call.start == 0) {
            self.state = State::Content;
            self.not_a_call();
            self.run(true);
        }
        let rest = std::mem::take(&mut self.buffer);
        match self.state {
            State::Call(ref call) if call.announced => {}
            State::Call(ref call) => {
                let from = call.start;
                self.content(rest[from..].trim_start_matches([',', ' ', '\n']));
            }
            State::Thoughts => self.reasoning(rest.trim_end()),
            _ => self.content(&rest),
        }
        // White space after a call says nothing; after content it was written.
        let space = std::mem::take(&mut self.space);
        if self.calls() == 0 && !space.is_empty() {
            self.out.push(Delta::Content(space));
        }
        std::mem::take(&mut self.out)
    }

    fn run(&mut self, end: bool) {
        loop {
            let state = std::mem::replace(&mut self.state, State::Content);
            let next = match state {
                State::Start => self.start(end),
                State::Thoughts => self.thoughts(end),
                State::Content => self.in_content(end),
                State::Section => self.section(end),
                State::Between => self.between(end),
                State::Close => self.close(end),
                State::Call(call) => match self.dialect.calls.form {
                    Form::Object { arguments } | Form::List { arguments } => self.object(call, arguments),
                    Form::Named { between } => self.named(call, between),
                    Form::Parameters { .. } => self.parameters(call),
                    Form::Python => self.python(call, end),
                },
            };
            match next {
                Next::Again(state) => self.state = state,
                Next::Wait(state) => {
                    self.state = state;
                    return;
                }
            }
        }
    }

    fn content(&mut self, text: &str) {
        self.space.push_str(text);
        let kept = if self.tools.is_empty() { self.space.len() } else { self.space.trim_end().len() };
        if kept > 0 {
            let space = self.space.split_off(kept);
            self.out.push(Delta::Content(std::mem::replace(&mut self.space, space)));
        }
    }

    fn reasoning(&mut self, text: &str) {
        let text = if self.reasoned { text } else { text.trim_start() };
        if !text.is_empty() {
            self.reasoned = true;
            self.out.push(Delta::Reasoning(text.to_string()));
        }
    }

    /// What was taken for a call is content after all: its mark now, the rest as it is looked at again.
    fn not_a_call(&mut self) -> Next {
        let before = std::mem::take(&mut self.before);
        self.content(&before);
        Next::Again(State::Content)
    }

    /// Drops this many bytes of the buffer.
    fn drop_front(&mut self, count: usize) {
        self.buffer.drain(..count);
    }

    fn skip_space(&mut self) {
        let space = self.buffer.len() - self.buffer.trim_start().len();
        self.drop_front(space);
    }

    /// Whether the buffer begins with the mark, which is then dropped. `None`: it may still turn out to.
    fn take_mark(&mut self, mark: &'static str, end: bool) -> Option<bool> {
        if !mark.is_empty() && self.buffer.starts_with(mark) {
            self.drop_front(mark.len());
            return Some(true);
        }
        if mark.starts_with(&self.buffer) && !mark.is_empty() && !end { None } else { Some(false) }
    }

    /// What begins calls in the middle of an answer.
    fn opening(&self) -> &'static str {
        match self.dialect.calls.opening() {
            "" => PYTHON_TAG,
            opening => opening,
        }
    }

    fn opened(&mut self, mark: &'static str) -> State {
        self.before = std::mem::take(&mut self.space) + mark;
        self.marked = !mark.is_empty();
        if self.dialect.calls.section.0.is_empty() { State::Call(Box::default()) } else { State::Section }
    }

    fn start(&mut self, end: bool) -> Next {
        let trimmed = self.buffer.trim_start();
        if trimmed.is_empty() {
            return Next::Wait(State::Start);
        }
        if let (Some(thoughts), false) = (self.dialect.thoughts, self.thought) {
            if trimmed.starts_with(thoughts.open) {
                self.skip_space();
                self.drop_front(thoughts.open.len());
                self.thought = true;
                return Next::Again(State::Thoughts);
            }
            if thoughts.open.starts_with(trimmed) && !end {
                return Next::Wait(State::Start);
            }
        }
        if !self.tools.is_empty() && self.dialect.calls.opening().is_empty() {
            if PYTHON_TAG.starts_with(trimmed) && trimmed != PYTHON_TAG && !end {
                return Next::Wait(State::Start);
            }
            if trimmed.starts_with(['{', '[']) {
                self.skip_space();
                return Next::Again(self.opened(""));
            }
        }
        if self.thought {
            self.skip_space();
        }
        Next::Again(State::Content)
    }

    fn thoughts(&mut self, end: bool) -> Next {
        let Some(thoughts) = self.dialect.thoughts else { return Next::Again(State::Content) };
        if let Some(place) = self.buffer.find(thoughts.close) {
            let text: String = self.buffer.drain(..place).collect();
            self.drop_front(thoughts.close.len());
            self.reasoning(text.trim_end());
            self.thought = true;
            return Next::Again(State::Start);
        }
        if end {
            return Next::Wait(State::Thoughts);
        }
        // White space at either end is not theirs; the mark may have begun.
        let safe = self.buffer.len() - begun(&self.buffer, thoughts.close);
        let safe = self.buffer[..safe].trim_end().len();
        let text: String = self.buffer.drain(..safe).collect();
        self.reasoning(&text);
        Next::Wait(State::Thoughts)
    }

    fn in_content(&mut self, end: bool) -> Next {
        if self.tools.is_empty() {
            let text = std::mem::take(&mut self.buffer);
            if !text.is_empty() {
                self.content(&text);
            }
            return Next::Wait(State::Content);
        }
        let opening = self.opening();
        if let Some(place) = self.buffer.find(opening) {
            let text: String = self.buffer.drain(..place).collect();
            self.content(&text);
            self.drop_front(opening.len());
            return Next::Again(self.opened(opening));
        }
        let safe = if end { self.buffer.len() } else { self.buffer.len() - begun(&self.buffer, opening) };
        let text: String = self.buffer.drain(..safe).collect();
        self.content(&text);
        Next::Wait(State::Content)
    }

    fn section(&mut self, end: bool) -> Next {
        self.skip_space();
        let calls = self.dialect.calls;
        let begins = self.take_mark(calls.call.0, end);
        if begins == Some(true) {
            self.before += calls.call.0;
            self.marked = true;
            return Next::Again(State::Call(Box::default()));
        }
        let ends = self.take_mark(calls.section.1, end);
        if ends == Some(true) {
            return Next::Again(State::Between);
        }
        if begins.is_none() || ends.is_none() {
            return Next::Wait(State::Section);
        }
        self.not_a_call()
    }

    fn between(&mut self, end: bool) -> Next {
        self.skip_space();
        if self.buffer.is_empty() {
            return Next::Wait(State::Between);
        }
        if self.dialect.calls.opening().is_empty() {
            if self.buffer.starts_with([';', ',']) {
                self.drop_front(1);
                return Next::Again(State::Between);
            }
            if self.buffer.starts_with('{') {
                return Next::Again(self.opened(""));
            }
        }
        let opening = self.opening();
        match self.take_mark(opening, end) {
            Some(true) => Next::Again(self.opened(opening)),
            Some(false) => Next::Again(State::Content),
            None => Next::Wait(State::Between),
        }
    }

    fn close(&mut self, end: bool) -> Next {
        self.skip_space();
        // Granite and Mistral write none, and others forget theirs.
        if self.take_mark(self.dialect.calls.call.1, end).is_none() {
            return Next::Wait(State::Close);
        }
        let section = !self.dialect.calls.section.0.is_empty();
        Next::Again(if section { State::Section } else { State::Between })
    }
}

/// How many bytes at the end of the text may be the beginning of the mark.
fn begun(text: &str, mark: &str) -> usize {
    (1..mark.len().min(text.len() + 1))
        .rev()
        .find(|length| mark.is_char_boundary(*length) && text.ends_with(&mark[..*length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<Tool> {
        let schema = json!({"type": "object", "properties": {
            "sensor_id": {"type": "string"}, "count": {"type": "integer"}, "deep": {"type": "object"}}});
        let tool = |name: &str| Tool {
            name: name.to_string(),
            description: None,
            parameters: Some(schema.clone()),
            strict: false,
        };
        vec![tool("read_sensor"), tool("f")]
    }

    fn dialect(name: &str) -> Dialect {
        let found = Dialect::every().find(|dialect| dialect.calls.name == name && dialect.thoughts.is_some());
        found.unwrap_or_else(|| panic!("no dialect {name}"))
    }

    /// As one line: `reasoning|content|name(arguments)…`, the same in one piece, in halves and byte by byte.
    fn check(name: &str, text: &str, expected: &str) {
        let dialect = dialect(name);
        let show = |parsed: &Parsed| {
            let calls: String =
                parsed.calls.iter().map(|(name, arguments)| format!("{name}({arguments})")).collect();
            format!("{}|{}|{calls}", parsed.reasoning, parsed.content)
        };
        let whole = Answer::parse(dialect, &tools(), false, text);
        assert_eq!(show(&whole), expected, "{name}: {text}");
        let cuts: Vec<usize> = (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)).collect();
        let in_pieces = |pieces: Vec<&str>| {
            let mut answer = Answer::new(dialect, &tools(), false);
            let mut parsed = Parsed::default();
            for piece in pieces {
                answer.push(piece).into_iter().for_each(|delta| parsed.add(delta));
            }
            answer.finish().into_iter().for_each(|delta| parsed.add(delta));
            parsed
        };
        assert_eq!(
            in_pieces(cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()),
            whole,
            "{name}: {text}"
        );
        for cut in cuts {
            assert_eq!(in_pieces(vec![&text[..cut], &text[cut..]]), whole, "{name}: {text} cut at {cut}");
        }
    }

    #[test]
    fn hermes_calls() {
        let one = r#"{"name": "read_sensor", "arguments": {"sensor_id": "s1"}}"#;
        let call = r#"read_sensor({"sensor_id": "s1"})"#;
        check("hermes", "plain text", "|plain text|");
        check("hermes", &format!("<tool_call>\n{one}\n</tool_call>"), &format!("||{call}"));
        check(
            "hermes",
            &format!("Let me see.\n<tool_call>{one}</tool_call>\n<tool_call>\n{one}</tool_call>\n"),
            &format!("|Let me see.|{call}{call}"),
        );
        check(
            "hermes",
            &format!("<think>\nhm, <tool_call>?\n</think>\n\n<tool_call>\n{one}\n</tool_call>"),
            &format!("hm, <tool_call>?||{call}"),
        );
        check("hermes", "<think>\n\n</think>\n\nYes. ", "|Yes. |");
        check("hermes", "a <think> b", "|a <think> b|");
        check("hermes", "<thing>", "|<thing>|");
        check("hermes", "  lead", "|  lead|");
        check("hermes", "<think>cut off", "cut off||");
        check("hermes", "<tool_call>no json</tool_call>", "|<tool_call>no json</tool_call>|");
        check("hermes", r#"<tool_call>{"name": 3}</tool_call>"#, r#"|<tool_call>{"name": 3}</tool_call>|"#);
        check(
            "hermes",
            r#"<tool_call>{"arguments": {"a": "}"}, "name": "f"}</tool_call> and"#,
            r#"|and|f({"a": "}"})"#,
        );
        check(
            "hermes",
            r#"<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>"#,
            r#"||f({"a": 1})"#,
        );
        check("hermes", r#"<tool_call>{"name": "f"}</tool_call>"#, "||f({})");
        check("hermes", r#"<tool_call>{"name": "f", "arguments": {"a": [1, 2"#, r#"||f({"a": [1, 2)"#);
        check(
            "hermes",
            r#"<tool_call>{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}</tool_call>"#,
            r#"||f({"a":1})"#,
        );
        check("hermes", "x <tool_", "|x <tool_|");
        check("hermes", r#"<tool_call>{"name": "f", "arguments": {}s and on"#, "|s and on|f({})");
        check("hermes", r#"<tool_call>{"name": "f", "arguments": {}, "arguments": {"a": 1}}"#, "||f({})");
    }

    #[test]
    fn calls_of_other_families() {
        let call = r#"read_sensor({"sensor_id": "s1"})"#;
        check(
            "llama3",
            r#"{"name": "read_sensor", "parameters": {"sensor_id": "s1"}}"#,
            &format!("||{call}"),
        );
        check(
            "llama3",
            r#"<|python_tag|>{"name": "read_sensor", "parameters": {"sensor_id": "s1"}}"#,
            &format!("||{call}"),
        );
        check(
            "llama3",
            r#"{"name": "f", "parameters": {}}; {"name": "f", "parameters": {"a": 1}}"#,
            r#"||f({})f({"a": 1})"#,
        );
        check(
            "llama3",
            r#"[{"name": "f", "parameters": {}}, {"name": "f", "parameters": {"a": 1}}]"#,
            r#"||f({})f({"a": 1})"#,
        );
        check(
            "llama3",
            r#"{"name": "unknown", "parameters": {}}"#,
            r#"|{"name": "unknown", "parameters": {}}|"#,
        );
        check("llama3", r#"{"answer": 42}"#, r#"|{"answer": 42}|"#);
        check("llama3", "{ not json", "|{ not json|");
        check(
            "mistral",
            r#"[TOOL_CALLS][{"name": "f", "arguments": {"a": "]"}, "id": "123456789"}, {"name": "f", "arguments": {}}]"#,
            r#"||f({"a": "]"})f({})"#,
        );
        check("mistral", r#"[TOOL_CALLS] {"name": "f", "arguments": {}}"#, "||f({})");
        check(
            "mistral-args",
            r#"I look.[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]f[CALL_ID]x[ARGS]{}"#,
            r#"|I look.|f({"a": 1})f({})"#,
        );
        check("phi4-mini", r#"<|tool_call|>[{"name": "f", "arguments": {}}]<|/tool_call|>"#, "||f({})");
        check("granite", r#"<|tool_call|>[{"name": "f", "arguments": {}}]"#, "||f({})");
        check(
            "lfm2",
            r#"Now.<|tool_call_start|>[read_sensor(sensor_id="s1"), f()]<|tool_call_end|>Done"#,
            r#"|Now.Done|read_sensor({"sensor_id":"s1"})f({})"#,
        );
        check(
            "lfm2",
            r#"<|tool_call_start|>[{"name": "f", "arguments": {"a": 1}}]<|tool_call_end|>"#,
            r#"||f({"a":1})"#,
        );
        check(
            "lfm2",
            "<|tool_call_start|>import os<|tool_call_end|>",
            "|<|tool_call_start|>import os<|tool_call_end|>|",
        );
        check("functions", r#"<function=f>{"a": 1}</function>"#, r#"||f({"a": 1})"#);
        check(
            "deepseek-r1",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            r#"||f({"a": 1})f({})"#,
        );
        check(
            "deepseek-v3.1",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            r#"||f({"a": 1})"#,
        );
        check(
            "qwen3-coder",
            "<tool_call>\n<function=f>\n<parameter=sensor_id>\n12\n</parameter>\n<parameter=count>\n3\n</parameter>\n</function>\n</tool_call>",
            r#"||f({"sensor_id": "12", "count": 3})"#,
        );
        check(
            "minicpm",
            r#"<function name="f"><param name="sensor_id"><![CDATA[a<b]]></param><param name="deep">{"x": 1}</param></function><function name="f"></function>"#,
            r#"||f({"sensor_id": "a<b", "deep": {"x":1}})f({})"#,
        );
    }

    #[test]
    fn arguments_are_passed_on_while_they_grow() {
        let mut answer = Answer::new(dialect("hermes"), &tools(), false);
        assert_eq!(answer.push("Hi <tool"), [Delta::Content("Hi".to_string())]);
        assert_eq!(answer.push(r#"_call>{"name": "f", "argu"#), []);
        let begins = [
            Delta::Call { index: 0, name: "f".to_string() },
            Delta::Arguments { index: 0, text: r#"{"a": [1"#.to_string() },
        ];
        assert_eq!(answer.push(r#"ments": {"a": [1"#), begins);
        assert_eq!(answer.push(", 2]}"), [Delta::Arguments { index: 0, text: ", 2]}".to_string() }]);
        assert_eq!(answer.push("}</tool_call>"), []);
        assert_eq!(answer.calls(), 1);
        assert_eq!(answer.finish(), []);
        // Thoughts that the prompt began.
        let mut answer = Answer::new(dialect("hermes"), &[], true);
        assert_eq!(answer.push("so</thi"), [Delta::Reasoning("so".to_string())]);
        assert_eq!(answer.push("nk>\n\nA<tool_call>"), [Delta::Content("A<tool_call>".to_string())]);
    }
}
