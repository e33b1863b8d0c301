//! The API, listed for people, from the same description that `/api/v1/openapi.json` gives to programs.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use crate::api::description::description;
use crate::console::page::{Frame, PageRefusal, render};
use crate::state::HubState;

#[derive(Template)]
#[template(path = "api.html")]
struct ApiPage {
    frame: Frame,
    groups: Vec<Group>,
    address: String,
}

struct Group {
    name: String,
    description: String,
    endpoints: Vec<Endpoint>,
}

struct Endpoint {
    method: String,
    path: String,
    summary: String,
    details: String,
    parameters: Vec<Parameter>,
    link: bool,
}

struct Parameter {
    name: String,
    place: String,
    description: String,
}

/// The page of the API.
pub async fn show(State(state): State<Arc<HubState>>) -> Result<Response, PageRefusal> {
    let document = serde_json::to_value(description()).unwrap_or_default();
    Ok(render(&ApiPage {
        frame: Frame::of(&state, "API", "api").await?,
        groups: groups(&document),
        address: format!("http://{}", state.config.listen),
    }))
}

fn groups(document: &Value) -> Vec<Group> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut groups: Vec<Group> = list(&document["tags"])
        .iter()
        .map(|tag| Group {
            name: text(&tag["name"]),
            description: text(&tag["description"]),
            endpoints: Vec::new(),
        })
        .collect();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let Some(group) = groups.iter_mut().find(|group| operation["tags"][0] == group.name.as_str())
            else {
                continue;
            };
            let parameters = list(&operation["parameters"]);
            group.endpoints.push(Endpoint {
                method: method.to_uppercase(),
                path: path.clone(),
                summary: text(&operation["summary"]),
                details: text(&operation["description"]),
                link: method == "get" && !path.contains('{') && !path.contains("live"),
                parameters: parameters
                    .iter()
                    .map(|parameter| Parameter {
                        name: text(&parameter["name"]),
                        place: text(&parameter["in"]),
                        description: text(&parameter["description"]),
                    })
                    .collect(),
            });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_listed() {
        let document = serde_json::to_value(description()).unwrap();
        let methods = |path: &Value| path.as_object().unwrap().len();
        let described: usize = document["paths"].as_object().unwrap().values().map(methods).sum();
        let listed: usize = groups(&document).iter().map(|group| group.endpoints.len()).sum();
        assert_eq!(listed, described);
        assert!(listed >= 15);
    }
}
