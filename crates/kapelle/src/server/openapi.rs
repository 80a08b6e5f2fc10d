//! `/openapi.json`: the API as OpenAPI 3.1 tells it, made of the routes' own signatures.
//!
//! **Invariant:** what a route takes and gives is read off the types of its handler, so that no description
//! can differ from what it describes; errors are those that [`Route::refuses`] names, and those of all routes.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use kapelle_api as api;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::App;
use super::body::{Body, Path, Query, Raw};
use super::examples;
use super::looks::Shown;
use super::once::{KEY_MAX, Once};
use super::problem::{self, Problem};
use super::routes::{Route, routes};
use super::streams::Streamed;
use super::websocket::Upgrade;
use super::work::Work;

/// What is told of a route while its handler is looked at.
pub(super) struct Operation {
    schemas: SchemaGenerator,
    parameters: Vec<Value>,
    request: Option<Value>,
    answers: BTreeMap<u16, Value>,
    codes: BTreeSet<&'static str>,
    /// A ticket opens it as well.
    by_ticket: bool,
}

/// A part of a request that a handler takes.
pub(super) trait Taken {
    fn tell(_operation: &mut Operation) {}
}

/// What a handler answers with.
pub(super) trait Given {
    fn tell(operation: &mut Operation);
}

/// A handler, which knows what it takes and gives.
pub(super) trait Told<Arguments> {
    fn tell(operation: &mut Operation);
}

macro_rules! told {
    ($($taken:ident),*) => {
        impl<F, Fut, Answer, $($taken),*> Told<($($taken,)*)> for F
        where
            F: Fn($($taken),*) -> Fut,
            Fut: Future<Output = Answer>,
            Answer: Given,
            $($taken: Taken),*
        {
            fn tell(operation: &mut Operation) {
                $($taken::tell(operation);)*
                Answer::tell(operation);
            }
        }
    };
}

told!();
told!(A);
told!(A, B);
told!(A, B, C);
told!(A, B, C, D);
told!(A, B, C, D, E);

impl Taken for App {}
impl Taken for HeaderMap {}
// Its names stand in the path itself.
impl<T> Taken for Path<T> {
    fn tell(operation: &mut Operation) {
        operation.codes.insert("bad_path");
    }
}

impl<T: JsonSchema> Taken for Query<T> {
    fn tell(operation: &mut Operation) {
        let schema = T::json_schema(&mut operation.schemas).to_value();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, of) in schema["properties"].as_object().into_iter().flatten() {
            let mut of = of.clone();
            let description = of.as_object_mut().and_then(|of| of.remove("description"));
            operation.parameters.push(json!({
                "name": name, "in": "query", "required": required.contains(&json!(name)),
                "description": description.unwrap_or_default(), "schema": without_null(of),
            }));
        }
        operation.codes.insert("bad_query");
    }
}

impl<T: JsonSchema> Taken for Body<T> {
    fn tell(operation: &mut Operation) {
        let schema = operation.schemas.subschema_for::<T>();
        operation.request = Some(json!({ "application/json": { "schema": schema } }));
        operation.codes.extend(["bad_body", "body_too_large", "body_too_slow"]);
    }
}

impl Taken for Raw {
    fn tell(operation: &mut Operation) {
        operation.request = Some(json!({ "application/octet-stream": {} }));
        operation.codes.extend(["bad_body", "body_too_large", "body_too_slow"]);
    }
}

impl Taken for Upgrade {
    fn tell(operation: &mut Operation) {
        operation.codes.insert("bad_upgrade");
    }
}

impl<T: JsonSchema> Given for Json<T> {
    fn tell(operation: &mut Operation) {
        let schema = operation.schemas.subschema_for::<T>();
        let content = json!({ "application/json": { "schema": schema } });
        operation.answers.insert(200, content);
    }
}

impl<T: JsonSchema> Given for Shown<T> {
    fn tell(operation: &mut Operation) {
        Json::<T>::tell(operation);
    }
}

/// Made now, or there before.
impl<T: JsonSchema> Given for (StatusCode, Json<T>) {
    fn tell(operation: &mut Operation) {
        Json::<T>::tell(operation);
        let content = operation.answers[&200].clone();
        operation.answers.insert(201, content);
    }
}

impl Given for StatusCode {
    fn tell(operation: &mut Operation) {
        operation.answers.insert(204, Value::Null);
    }
}

impl Given for Response {
    fn tell(operation: &mut Operation) {
        operation.answers.insert(200, json!({ "application/octet-stream": {} }));
    }
}

impl Given for Work {
    fn tell(operation: &mut Operation) {
        Json::<api::Assignment>::tell(operation);
        StatusCode::tell(operation);
    }
}

/// However it is asked for, it may be opened with a ticket.
impl Given for Streamed {
    fn tell(operation: &mut Operation) {
        let schema = |schema: schemars::Schema| json!({ "schema": schema });
        let frame = schema(operation.schemas.subschema_for::<api::Frame>());
        let event = schema(operation.schemas.subschema_for::<api::Event>());
        let page = schema(operation.schemas.subschema_for::<api::Page<api::Event>>());
        let sent = schema(schemars::json_schema!({
            "type": "object",
            "description": "Each event of the stream; `error` and `lagged` have a problem in `data`.",
            "required": ["data"],
            "properties": {
                "id": { "type": "string", "description": "Go on from here: `Last-Event-ID`." },
                "event": { "type": "string" },
                "data": {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": event["schema"],
                },
            },
        }));
        let content = json!({ "text/event-stream": sent, "application/json": page });
        operation.answers.insert(200, content);
        operation.answers.insert(101, json!({ "application/json": frame }));
        operation.by_ticket = true;
    }
}

impl<T: Given> Given for Result<T, Problem> {
    fn tell(operation: &mut Operation) {
        T::tell(operation);
    }
}

/// The API of this node.
///
/// `GET /openapi.json`
pub(super) async fn document() -> Json<Value> {
    Json(openapi())
}

/// The same as a value.
pub(crate) fn openapi() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<api::Problem>();
    let mut paths: BTreeMap<&str, serde_json::Map<String, Value>> = BTreeMap::new();
    for route in routes() {
        let told = operation(&route, &mut schemas, &problem.clone().to_value());
        paths.entry(route.path).or_default().insert(route.method.as_str().to_lowercase(), told);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kapelle",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The routes of a node. An answer means that it is on disk.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "examples": examples::components(),
            "securitySchemes": {
                "key": {
                    "type": "http", "scheme": "bearer",
                    "description": "A key that `kapelle keys create` or `POST /keys` has made.",
                },
                "ticket": {
                    "type": "apiKey", "in": "query", "name": "ticket",
                    "description": "Of `POST /stream-tickets`: opens one stream once, within 30 s.",
                },
            },
        },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut operation = Operation {
        schemas: std::mem::take(schemas),
        parameters: path_parameters(route.path),
        request: None,
        answers: BTreeMap::new(),
        codes: route.codes().chain(problem::EVERYWHERE).collect(),
        by_ticket: false,
    };
    (route.tell)(&mut operation);
    let Operation { schemas: back, mut parameters, request, answers, mut codes, by_ticket } =
        operation;
    *schemas = back;
    if route.once != Once::Unheeded {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same request under the same key is done once and answered alike.",
            "schema": { "type": "string", "minLength": 1, "maxLength": KEY_MAX },
        }));
        codes.extend(["bad_key", "key_reused"]);
    }
    if route.needs.is_none() {
        codes.retain(|code| !["unauthenticated", "not_permitted"].contains(code));
    }
    let id = examples::operation_id(route);
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    for (status, of) in answers {
        let of = route.gives.map_or(of, |media| json!({ media: {} }));
        responses.insert(status.to_string(), answer(&format!("{id}_{status}"), status, of));
    }
    for (status, codes) in problem::by_status(codes) {
        responses.insert(status.to_string(), refusal(status, &codes, problem));
    }
    let mut told = json!({
        "operationId": id,
        "summary": route.summary,
        "tags": [route.path.split('/').nth(1).unwrap_or_default()],
        "parameters": parameters,
        "responses": responses,
    });
    match route.needs {
        Some(needs) => told["x-permission"] = needs.name().into(),
        None => told["security"] = json!([]),
    }
    if by_ticket {
        told["security"] = json!([{ "key": [] }, { "ticket": [] }]);
    }
    if let Some(content) = request {
        let content = with_examples(&format!("{id}_request"), content);
        told["requestBody"] = json!({ "content": content });
    }
    told
}

/// An answer of that name that is no problem.
fn answer(name: &str, status: u16, content: Value) -> Value {
    let reads = name.starts_with("get_");
    let said = match (status, &content) {
        (101, _) => "A WebSocket; each of its messages is this.",
        (_, Value::Null) if reads => "There was nothing.",
        (_, Value::Null) => "It is done.",
        _ if reads => "What was asked for.",
        _ => "It is on disk.",
    };
    if content.is_null() {
        return json!({ "description": said });
    }
    json!({ "description": said, "content": with_examples(name, content) })
}

/// What is answered with these codes.
fn refusal(status: u16, codes: &[&str], problem: &Value) -> Value {
    let content = json!({ "schema": problem, "examples": examples::of_codes(codes) });
    let mut told = json!({
        "description": format!("A problem: {}.", codes.join(", ")),
        "content": { "application/problem+json": content },
    });
    if [429, 503].contains(&status) {
        told["headers"] = json!({ "Retry-After": { "schema": { "type": "integer" } } });
    }
    told
}

/// With the examples of that name, by their media types.
fn with_examples(name: &str, content: Value) -> Value {
    let Value::Object(all) = content else { return content };
    let one = |(media, content): (String, Value)| {
        let stream = if media == "text/event-stream" { "_stream" } else { "" };
        (media, examples::with(content, &format!("{name}{stream}")))
    };
    all.into_iter().map(one).collect()
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let one = |name: &str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    names.map(one).collect()
}

/// A parameter is there or not: `null` is no value of it.
fn without_null(mut schema: Value) -> Value {
    if let Some(types) = schema["type"].as_array_mut() {
        types.retain(|name| name != "null");
        if let [one] = &types[..] {
            schema["type"] = one.clone();
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_as_it_is_checked_in() {
        insta::assert_json_snapshot!(openapi()["paths"]);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let openapi = openapi();
        let text = openapi.to_string();
        let mut found = 0;
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let (pointer, _) = reference.split_once('"').unwrap();
            assert!(openapi.pointer(pointer).is_some(), "{pointer}");
            found += 1;
        }
        assert!(found > 100, "{found}");
    }

    #[test]
    fn every_code_has_a_status_and_is_explained() {
        let told =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md"));
        let told = told.unwrap();
        for code in routes().iter().flat_map(Route::codes).chain(problem::EVERYWHERE) {
            assert!(problem::is_known(code), "{code} has no status");
            assert!(told.contains(&format!("### {code}\n")), "{code} is not in docs/errors.md");
        }
    }
}
