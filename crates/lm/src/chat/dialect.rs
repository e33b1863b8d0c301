//! How models write tool calls and thoughts, as data: a row for each family.
//!
//! Chosen by the words that stand in the model's template (`template.rs`); read by `answer.rs`, written by `tools.rs`.
//! A new family is a new row of `CALLS` or `THOUGHTS`, and a case in the tests of those two.

/// How a model writes what is not plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Tool calls.
    pub calls: Calls,
    /// Thoughts before the answer, if the model has any.
    pub thoughts: Option<Thoughts>,
}

/// How a model writes tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Of the family that writes so.
    pub name: &'static str,
    /// Words that stand in a template of this family: all of them.
    signs: &'static [&'static str],
    /// Round all calls; empty if there is nothing.
    pub section: (&'static str, &'static str),
    /// The section stands round each call rather than round all.
    pub section_each: bool,
    /// Round each call. An empty beginning: a call is an answer that begins with a brace.
    pub call: (&'static str, &'static str),
    /// Between the marks and the call itself, where the model was trained to put it.
    pub pad: &'static str,
    /// What stands between.
    pub form: Form,
}

/// What a call looks like between its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"name": …, "arguments": {…}}`, under this key.
    Object {
        /// The key of the arguments.
        arguments: &'static str,
    },
    /// A list of such objects.
    List {
        /// The key of the arguments.
        arguments: &'static str,
    },
    /// The name, this, and the arguments as JSON.
    Named {
        /// Between name and arguments.
        between: &'static str,
    },
    /// The name, this, and each argument between marks of its own.
    Parameters {
        /// After the function's name.
        after_name: &'static str,
        /// Before the argument's name.
        open: &'static str,
        /// After the argument's name.
        after_key: &'static str,
        /// After its value.
        close: &'static str,
        /// Round its value.
        pad: &'static str,
    },
    /// A list of calls as Python writes them: `[f(a="x", b=1)]`.
    Python,
}

/// The marks of thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thoughts {
    /// What begins them.
    pub open: &'static str,
    /// What ends them.
    pub close: &'static str,
}

/// The first row whose signs all stand in the template; more particular rows come first.
const CALLS: [Calls; 12] = [
    Calls {
        name: "deepseek-r1",
        signs: &["<｜tool▁calls▁begin｜>", "```json"],
        section: ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        section_each: false,
        call: ("<｜tool▁call▁begin｜>function<｜tool▁sep｜>", "```<｜tool▁call▁end｜>"),
        pad: "",
        form: Form::Named { between: "\n```json\n" },
    },
    Calls {
        name: "deepseek-v3.1",
        signs: &["<｜tool▁calls▁begin｜>"],
        section: ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        section_each: false,
        call: ("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
        pad: "",
        form: Form::Named { between: "<｜tool▁sep｜>" },
    },
    Calls {
        name: "mistral-args",
        signs: &["[TOOL_CALLS]", "[ARGS]"],
        section: ("", ""),
        section_each: false,
        call: ("[TOOL_CALLS]", ""),
        pad: "",
        form: Form::Named { between: "[ARGS]" },
    },
    Calls {
        name: "mistral",
        signs: &["[TOOL_CALLS]"],
        section: ("", ""),
        section_each: false,
        call: ("[TOOL_CALLS]", ""),
        pad: "",
        form: Form::List { arguments: "arguments" },
    },
    Calls {
        name: "qwen3-coder",
        signs: &["<function=", "<parameter="],
        section: ("<tool_call>", "</tool_call>"),
        section_each: true,
        call: ("<function=", "</function>"),
        pad: "\n",
        form: Form::Parameters {
            after_name: ">",
            open: "<parameter=",
            after_key: ">",
            close: "</parameter>",
            pad: "\n",
        },
    },
    Calls {
        name: "minicpm",
        signs: &["<function name=\"", "<param name=\""],
        section: ("", ""),
        section_each: false,
        call: ("<function name=\"", "</function>"),
        pad: "",
        form: Form::Parameters {
            after_name: "\">",
            open: "<param name=\"",
            after_key: "\">",
            close: "</param>",
            pad: "",
        },
    },
    HERMES,
    Calls {
        name: "phi4-mini",
        signs: &["<|tool_call|>", "<|/tool_call|>"],
        section: ("", ""),
        section_each: false,
        call: ("<|tool_call|>", "<|/tool_call|>"),
        pad: "",
        form: Form::List { arguments: "arguments" },
    },
    Calls {
        name: "granite",
        signs: &["<|tool_call|>"],
        section: ("", ""),
        section_each: false,
        call: ("<|tool_call|>", ""),
        pad: "",
        form: Form::List { arguments: "arguments" },
    },
    Calls {
        name: "lfm2",
        signs: &["<|tool_list_start|>"],
        section: ("", ""),
        section_each: false,
        call: ("<|tool_call_start|>", "<|tool_call_end|>"),
        pad: "",
        form: Form::Python,
    },
    Calls {
        name: "functions",
        signs: &["<function="],
        section: ("", ""),
        section_each: false,
        call: ("<function=", "</function>"),
        pad: "",
        form: Form::Named { between: ">" },
    },
    Calls {
        name: "llama3",
        signs: &["\"parameters\":"],
        section: ("", ""),
        section_each: false,
        call: ("", ""),
        pad: "",
        form: Form::Object { arguments: "parameters" },
    },
];

/// Hermes, Qwen 2.5 and 3, SmolLM3; also what a model is told to write whose template knows no tools.
pub(super) const HERMES: Calls = Calls {
    name: "hermes",
    signs: &["<tool_call>"],
    section: ("", ""),
    section_each: false,
    call: ("<tool_call>", "</tool_call>"),
    pad: "\n",
    form: Form::Object { arguments: "arguments" },
};

/// What may stand before a bare call of Llama 3.
pub(super) const PYTHON_TAG: &str = "<|python_tag|>";

const THOUGHTS: [Thoughts; 3] = [
    Thoughts { open: "<think>", close: "</think>" },
    Thoughts { open: "[THINK]", close: "[/THINK]" },
    Thoughts { open: "<|START_THINKING|>", close: "<|END_THINKING|>" },
];

impl Calls {
    /// What begins the first call, or the section of calls.
    pub(super) fn opening(&self) -> &'static str {
        if self.section.0.is_empty() { self.call.0 } else { self.section.0 }
    }
}

impl Dialect {
    /// Of the model with this template. `knows_tools`: the template shows tools to the model.
    pub(super) fn of(template: &str, knows_tools: bool) -> Dialect {
        let calls = CALLS.iter().find(|calls| calls.signs.iter().all(|sign| template.contains(sign)));
        let calls = if knows_tools { calls.copied() } else { None };
        let thoughts = THOUGHTS.into_iter().find(|thoughts| template.contains(thoughts.close));
        Dialect { calls: calls.unwrap_or(HERMES), thoughts }
    }

    /// Every way to write calls, with and without thoughts.
    pub fn every() -> impl Iterator<Item = Dialect> {
        let thoughts = [None, Some(THOUGHTS[0])];
        CALLS.into_iter().flat_map(move |calls| thoughts.map(|thoughts| Dialect { calls, thoughts }))
    }

    /// The texts that must reach [`Answer`](crate::chat::answer::Answer) even where they are control tokens, which
    /// decoding otherwise leaves out.
    pub fn marks(&self) -> Vec<&'static str> {
        let (section, call) = (self.calls.section, self.calls.call);
        let mut marks = vec![section.0, section.1, call.0, call.1, PYTHON_TAG];
        match self.calls.form {
            Form::Named { between } => marks.push(between),
            Form::Parameters { open, close, .. } => marks.extend([open, close]),
            Form::Object { .. } | Form::List { .. } | Form::Python => {}
        }
        marks.extend(self.thoughts.iter().flat_map(|thoughts| [thoughts.open, thoughts.close]));
        marks.retain(|mark| !mark.trim().is_empty());
        marks
    }
}
