//! A conversation made ready for a model: its template rendered, its tokens counted, its tools and formats compiled.
//!
//! What chat and responses share. The outside is checked before the model is there; the rest keeps a core busy and is
//! done where it holds up nobody.

use lm::chat::answer::Answer as Reader;
use lm::chat::dialect::Dialect;
use lm::chat::message::{Message, MessageError, Tool, ToolChoice};
use lm::chat::template::Options;
use lm::chat::tools::grammar;
use lm::constraint::{Constraint, Grammar, Reasoning};
use lm::speech;
use serde_json::{Map, Value};

use super::constrain::{self, bounded};
use super::limits::{MESSAGES, TOOLS, at_most};
use super::load::Loaded;
use super::problem::Problem;

/// What a model is asked.
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: ToolChoice,
    /// Whether it may call several tools in one answer.
    pub(super) parallel: bool,
    /// What the answer must follow, and the field that said so.
    pub(super) format: Option<Grammar>,
    pub(super) format_param: &'static str,
    /// More for the template.
    pub(super) variables: Map<String, Value>,
    /// Seconds since 1970.
    pub(super) now_s: i64,
}

/// A conversation that can be asked.
pub(super) struct Ready {
    pub(super) prompt: Vec<u32>,
    dialect: Dialect,
    tools: Vec<Tool>,
    thinking: bool,
    pub(super) constraint: Option<Constraint>,
    /// Control tokens that are part of the answer all the same: marks of calls and thoughts.
    pub(super) shown: Vec<u32>,
}

/// What is wrong with a message or a tool, with its place.
pub(super) fn problem(error: &MessageError) -> Problem {
    let message = error.to_string();
    match error {
        MessageError::Wrong { path, .. } | MessageError::UnknownTool { path, .. } => {
            Problem::invalid(path.clone(), message)
        }
        MessageError::Unsupported { path, .. } => Problem::unsupported(path.clone(), message),
    }
}

/// Reads a request's messages.
pub(super) fn messages(messages: Option<&Value>) -> Result<Vec<Message>, Problem> {
    let messages = messages.unwrap_or(&Value::Null);
    at_most("messages", messages.as_array().map_or(0, Vec::len), MESSAGES)?;
    Message::list_from_json(messages).map_err(|error| problem(&error))
}

/// Reads a request's tools and the choice between them.
pub(super) fn tools(
    tools: Option<&Value>,
    choice: Option<&Value>,
) -> Result<(Vec<Tool>, ToolChoice), Problem> {
    let tools = match tools {
        None | Some(Value::Null) => Vec::new(),
        Some(tools) => {
            let list = tools.as_array().map(Vec::as_slice).unwrap_or_default();
            at_most("tools", list.len(), TOOLS)?;
            list.iter().try_for_each(|tool| bounded(tool, "tools"))?;
            Tool::list_from_json(tools).map_err(|error| problem(&error))?
        }
    };
    let choice =
        ToolChoice::from_json(choice.unwrap_or(&Value::Null), &tools).map_err(|error| problem(&error))?;
    Ok((tools, choice))
}

impl Ready {
    /// Reads one answer to it.
    pub(super) fn reader(&self) -> Reader {
        Reader::new(self.dialect, &self.tools, self.thinking)
    }
}

impl Conversation {
    /// Makes it ready for a model.
    pub(super) fn ready(self, loaded: &Loaded) -> Result<Ready, Problem> {
        let template =
            loaded.template.as_ref().map_err(|reason| Problem::invalid("model", reason.clone()))?;
        // Tools that may not be called are not even shown.
        let tools = if self.choice == ToolChoice::None { Vec::new() } else { self.tools };
        let options = Options { add_generation_prompt: true, now: self.now_s, variables: self.variables };
        let tokenizer = &loaded.model.tokenizer;
        let prompt = speech::prompt(template, tokenizer, &self.messages, &tools, &options);
        let prompt = prompt.map_err(|error| {
            Problem::invalid("messages", format!("the model's chat template refuses the messages: {error}"))
        })?;
        let dialect = template.dialect(!tools.is_empty());
        let constraint = match (self.format, tools.is_empty()) {
            (Some(_), false) if self.choice == ToolChoice::Auto => {
                let message = format!(
                    "`{}` cannot be kept while the model may call tools: set `tool_choice` to none or required",
                    self.format_param
                );
                return Err(Problem::unsupported(self.format_param, message));
            }
            (Some(format), true) => {
                let thoughts = dialect.thoughts.map(|thoughts| Reasoning {
                    open: (!prompt.thinking).then(|| thoughts.open.to_owned()),
                    close: thoughts.close.to_owned(),
                });
                Some(constrain::compile(&format.after(thoughts), loaded, self.format_param)?)
            }
            (_, true) => None,
            (_, false) => {
                let vocabulary = loaded.vocabulary().map_err(|reason| Problem::unsupported("tools", reason));
                match vocabulary {
                    Ok(vocabulary) => {
                        let grammar = grammar(
                            &dialect,
                            &tools,
                            &self.choice,
                            self.parallel,
                            prompt.thinking,
                            &vocabulary,
                        );
                        let grammar = grammar.map_err(|error| constrain::problem(&error, "tools"))?;
                        grammar.map(|grammar| constrain::compile(&grammar, loaded, "tools")).transpose()?
                    }
                    // The model may still call as it was trained to.
                    Err(_) if self.choice == ToolChoice::Auto => None,
                    Err(problem) => return Err(problem),
                }
            }
        };
        let shown = dialect.marks().into_iter().filter_map(|mark| tokenizer.id_of(mark));
        let shown = shown.filter(|token| tokenizer.is_special(*token)).collect();
        Ok(Ready { prompt: prompt.tokens, dialect, tools, thinking: prompt.thinking, constraint, shown })
    }
}
