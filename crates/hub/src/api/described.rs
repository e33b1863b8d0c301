//! What every operation of the description says beside its own words: who may, by the table of rules, and how it refuses.
//!
//! A refusal is listed where it can occur and nowhere else. All have one body.

use utoipa::Modify;
use utoipa::openapi::path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, ObjectBuilder, OpenApi, PathItem, Ref, RefOr, Required, Response,
    ResponseBuilder, Type,
};

use crate::access::rules::{Found, Needs, find};
use crate::api::answers::IDEMPOTENCY_KEY;

/// Completes the description.
pub struct Rules;

/// How the API refuses, whatever is asked for: the status, and when.
const REFUSALS: [(&str, &str); 11] = [
    ("400", "What was asked for makes no sense"),
    ("401", "Nobody knows who asks: a token is missing, or counts no more"),
    ("403", "Whoever asks may not do this"),
    ("404", "It is not there"),
    ("408", "It took too long; nothing is known of what became of it"),
    ("409", "Not as things stand"),
    ("413", "The body is too large"),
    ("415", "The body is not of the content type that is taken"),
    ("421", "The hub is not known under the name in `Host`"),
    ("422", "Something else was asked for with this Idempotency-Key"),
    ("503", "Not now: ask again after the time in Retry-After"),
];

const TOKEN: &str = "token";

impl Modify for Rules {
    fn modify(&self, openapi: &mut OpenApi) {
        for (path, item) in &mut openapi.paths.paths {
            for (method, operation) in operations(item) {
                let Found::Rule(needs) = find(word(&method), path) else { continue };
                operation.operation_id = Some(operation_id(word(&method), path));
                complete(operation, needs, method != HttpMethod::Get);
            }
        }
        let components = openapi.components.get_or_insert_default();
        let refusals = REFUSALS.iter().map(|(status, why)| (name(status), RefOr::T(refusal(status, why))));
        components.responses.extend(refusals);
        let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        components.security_schemes.insert(TOKEN.to_owned(), RefOr::T(bearer));
    }
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, item.get.as_mut()),
        (HttpMethod::Put, item.put.as_mut()),
        (HttpMethod::Post, item.post.as_mut()),
        (HttpMethod::Delete, item.delete.as_mut()),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation?)))
}

fn word(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Put => "PUT",
        HttpMethod::Post => "POST",
        HttpMethod::Delete => "DELETE",
        _ => "GET",
    }
}

fn complete(operation: &mut Operation, needs: Needs, writes: bool) {
    let extensions = operation.extensions.get_or_insert_default();
    extensions.insert("x-role".to_owned(), needs.words().into());
    if needs != Needs::Nothing {
        operation.security = Some(vec![SecurityRequirement::new(TOKEN, Vec::<String>::new())]);
    }
    let is_named = writes && needs.is_of_people();
    if is_named {
        operation.parameters.get_or_insert_default().push(RefOr::T(idempotency_key()));
    }
    let parameters = operation.parameters.iter().flatten();
    let has_path = parameters
        .into_iter()
        .any(|parameter| matches!(parameter, RefOr::T(Parameter { parameter_in: ParameterIn::Path, .. })));
    let (has_parameters, has_body) = (operation.parameters.is_some(), operation.request_body.is_some());
    for (status, _) in REFUSALS {
        let occurs = match status {
            "400" => has_parameters || has_body,
            "401" => needs != Needs::Nothing,
            "403" => needs != Needs::Nothing || writes,
            "404" => has_path,
            "409" | "422" => is_named,
            "413" | "415" => has_body,
            _ => true,
        };
        let said = operation.responses.responses.get(status);
        let says_nothing = said.is_some_and(|it| matches!(it, RefOr::T(it) if it.description.is_empty()));
        if says_nothing || said.is_none() && occurs {
            let common = RefOr::Ref(Ref::from_response_name(name(status)));
            operation.responses.responses.insert(status.to_owned(), common);
        }
    }
}

/// A name for those who make programs of the description: `get_nodes_node_why`.
fn operation_id(method: &str, path: &str) -> String {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let parts = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.fold(method.to_ascii_lowercase(), |name, part| name + "_" + part)
}

fn name(status: &str) -> String {
    format!("Refusal{status}")
}

/// The body is the same for all.
fn refusal(status: &str, why: &str) -> Response {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    let response = ResponseBuilder::new().description(why).content("application/json", body);
    if status != "503" {
        return response.build();
    }
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
    response.header("Retry-After", HeaderBuilder::new().schema(Some(seconds)).build()).build()
}

fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{16,64}$"));
    ParameterBuilder::new()
        .name(IDEMPOTENCY_KEY.as_str())
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Names this write: asked for again with the same name, it is not done again and answered the same"))
        .schema(Some(schema.build()))
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::api::description::description;

    #[test]
    fn every_operation_says_who_may_and_has_a_name_of_its_own() {
        let document = serde_json::to_value(description()).unwrap();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let at = format!("{method} {path}");
                assert!(operation["x-role"].is_string(), "{at}");
                assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}");
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    let is_said = answer["$ref"].is_string() || answer["description"].is_string();
                    assert!(is_said || status.starts_with('2'), "{at} {status}");
                }
            }
        }
        let of = |path: &str, method: &str| document["paths"][path][method]["responses"].as_object().unwrap();
        assert!(!of("/api/v1/nodes", "get").contains_key("404") && !of("/health", "get").contains_key("401"));
        assert!(of("/api/v1/tokens", "post").contains_key("422"));
    }
}
