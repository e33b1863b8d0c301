//! The protocol around the answers: lists the tools, takes calls one after another, and gives refusals back as errors of the tool, so
//! that the model reads them.

use std::sync::Arc;

use anyhow::Context as _;
use node::policy::Policy;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::stdio;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use serde_json::Value;
use tokio::sync::Mutex;

use super::near::Near;
use super::question::Question;
use super::tools::{instructions, tools};
use crate::state::LocalApi;

/// The longest line of a client: no question comes near it.
const LINE_MAX_BYTES: usize = 256 << 10;

/// The server of one client.
pub(super) struct Server {
    near: Arc<Near>,
    /// Absent if the state is not told; the error says why it cannot be.
    api: Option<Result<LocalApi, String>>,
    /// What of the state is told; absent: all of it.
    outside: Option<Policy>,
    tools: Vec<Tool>,
    instructions: String,
    /// One question at a time: the node's doors are for others, too.
    turn: Mutex<()>,
}

impl Server {
    /// A server for the node of this name.
    pub(super) fn new(
        node: &str,
        near: Near,
        api: Option<Result<LocalApi, String>>,
        outside: Option<Policy>,
    ) -> Server {
        Server {
            tools: tools(api.is_some(), near.may_act()),
            instructions: instructions(node, near.may_act()),
            near: Arc::new(near),
            api,
            outside,
            turn: Mutex::new(()),
        }
    }

    /// Answers on standard input and output until the client is gone.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (input, output) = stdio();
        let lines = AsyncRwTransport::new_server(input, output).with_max_line_length(LINE_MAX_BYTES);
        let running = Box::pin(self.serve(lines))
            .await
            .context("nobody speaks the Model Context Protocol on standard input")?;
        running.waiting().await.context("the server ended by a fault")?;
        Ok(())
    }

    /// Answers a call; the error is for the model to read.
    async fn answer(&self, tool: &str, arguments: Value) -> Result<Value, String> {
        let question = Question::read(tool, arguments)?;
        let _turn = self.turn.lock().await;
        if let (Question::State, Some(api)) = (&question, &self.api) {
            let api = api.as_ref().map_err(Clone::clone)?;
            let mut state = api.state().await.map_err(|error| format!("{error:#}"))?;
            if let Some(policy) = &self.outside {
                policy.outside(&mut state);
            }
            return Ok(state);
        }
        let near = Arc::clone(&self.near);
        let answered = tokio::task::spawn_blocking(move || near.answer(&question)).await;
        answered.map_err(|error| format!("this server failed over the question: {error}"))?
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let own = Implementation::new("selvedge", env!("CARGO_PKG_VERSION")).with_title("Selvedge node");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(own)
            .with_instructions(self.instructions.clone())
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.clone()))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !self.tools.iter().any(|tool| tool.name == call.name) {
            let names: Vec<&str> = self.tools.iter().map(|tool| tool.name.as_ref()).collect();
            let wrong = format!("there is no such tool here: there are {}", names.join(", "));
            return Err(ErrorData::invalid_params(wrong, None));
        }
        let arguments = Value::Object(call.arguments.unwrap_or_default());
        let result = match self.answer(&call.name, arguments).await {
            Ok(told) => CallToolResult::structured(told),
            Err(why) => CallToolResult::error(vec![ContentBlock::text(why)]),
        };
        Ok(result.into())
    }
}
