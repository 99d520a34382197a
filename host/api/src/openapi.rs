//! The document of the API, made from the code, and the page to try it.
//!
//! Handlers say what they give and which refusals are their own; what every call can be refused
//! for is added here, in one place.

use axum::Router;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, Request};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::routes;
use crate::shared::Api;

/// What no call can say of itself.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate Client API",
        description = "What outside applications ask and do with a tenant's clients, uids, groups \
                       and sessions. Any gateway answers for the whole cluster. `missing` names \
                       gateways that gave nothing in time; empty means that the answer is whole.\n\n\
                       Every call needs a token, which decides the tenant. Whoever runs the \
                       gateway makes one (`openssl rand -hex 32 > token`) and names it in the \
                       gateway's configuration (`[[api-token]]` with `token-file = \"token\"`). \
                       To try calls here, press `Authorize` and give what is in the file.",
    ),
    components(schemas(
        tidegate_client::Problem,
        tidegate_client::Message,
        tidegate_client::Happening,
        tidegate_client::Kind,
        tidegate_client::DeployProgress,
    )),
    tags(
        (name = "actions", description = "Doing: one commit each, once under an idempotency key"),
        (name = "clients", description = "Lists, counts, one client"),
        (name = "sessions", description = "Reading, and compare-and-set"),
        (name = "uids", description = "Lists, counts, who is online"),
        (name = "groups", description = "Lists, counts, members"),
        (name = "code", description = "Custom commands, and requests to the handler"),
        (name = "tasks", description = "What runs beside clients: tasks and schedules"),
        (name = "feed", description = "What happens, as it happens"),
        (name = "deployment", description = "The tenant's handler: deploys over the cluster"),
        (name = "cluster", description = "Gateways and status"),
    )
)]
struct Head;

/// Refusals that every call knows, with and without a body.
const ALWAYS: [(u16, &str); 8] = [
    (400, "invalid-argument: the detail says what would be right"),
    (401, "not-permitted: no token, or not the right one"),
    (404, "invalid-argument: there is no such path"),
    (405, "invalid-argument: this path has other methods"),
    (429, "quota-exceeded: try again a little later"),
    (500, "other: it is the server's fault"),
    (503, "other: this gateway is ending"),
    (504, "timeout: who could answer did not in time"),
];
const WITH_BODY: [(u16, &str); 3] = [
    (408, "timeout: the body did not come in time"),
    (413, "invalid-argument: the body is too long"),
    (415, "invalid-argument: the body is not said to be JSON"),
];

/// Whose message may be absent: an empty text then.
const MAY_SAY_NOTHING: [&str; 3] = ["Command", "CommandRun", "Request"];

/// Calls with an idempotency key besides the actions.
const WITH_KEY: [&str; 2] = ["run_command", "request"];

/// The page to try the API: our frame around what `utoipa-swagger-ui` serves beside it.
const PAGE: &str = include_str!("openapi/page.html");

/// The whole document, as JSON.
#[must_use]
pub fn document() -> Value {
    calls().1
}

/// All calls, and their document.
pub(crate) fn calls() -> (Router<Api>, Value) {
    let (calls, document) = routes::all(Head::openapi()).split_for_parts();
    (calls, complete(document))
}

/// Adds what all calls have in common.
fn complete(document: utoipa::openapi::OpenApi) -> Value {
    // Types that serialize into JSON cannot fail to.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    spread_messages(&mut document);
    if let Some(selector) = document.pointer_mut("/components/schemas/Selector") {
        put(selector, "minProperties", json!(1));
    }
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for operations in paths.into_iter().flat_map(Map::values_mut) {
        let operations = operations.as_object_mut();
        for operation in operations.into_iter().flat_map(Map::values_mut) {
            if let Some(operation) = operation.as_object_mut() {
                refusals(operation);
                path_parts(operation);
                headers(operation);
            }
        }
    }
    let schemes = json!({ "token": { "type": "http", "scheme": "bearer" } });
    if let Some(components) = document.get_mut("components") {
        put(components, "securitySchemes", schemes);
    }
    put(&mut document, "security", json!([{ "token": [] }]));
    document
}

fn refusals(operation: &mut Map<String, Value>) {
    let with_body = operation.contains_key("requestBody");
    let acts = is_action(operation);
    let Some(responses) = member(operation, "responses") else {
        return;
    };
    let problem = json!({ "application/problem+json": {
        "schema": { "$ref": "#/components/schemas/Problem" } } });
    for (status, response) in responses.iter_mut() {
        if !status.starts_with('2') {
            put(response, "content", problem.clone());
        }
    }
    let conflict = (
        409,
        "conflict: the idempotency key was used for another call",
    );
    let common = ALWAYS
        .into_iter()
        .chain(WITH_BODY.into_iter().filter(|_| with_body))
        .chain(Some(conflict).filter(|_| acts));
    for (status, description) in common {
        responses
            .entry(status.to_string())
            .or_insert_with(|| json!({ "description": description, "content": problem }));
    }
}

fn is_action(operation: &Map<String, Value>) -> bool {
    operation.get("tags") == Some(&json!(["actions"]))
        || operation
            .get("operationId")
            .and_then(Value::as_str)
            .is_some_and(|id| WITH_KEY.contains(&id))
}

/// What may stand in the path.
fn path_parts(operation: &mut Map<String, Value>) {
    let parameters = operation.get_mut("parameters");
    let parameters = parameters.and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        if parameter.get("in") != Some(&json!("path")) {
            continue;
        }
        let schema = match parameter.get("name").and_then(Value::as_str) {
            Some("client") => json!({ "type": "string", "pattern": "^[0-9a-f]{20}$" }),
            Some("uid" | "group") => json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
            Some("connection") => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            _ => continue,
        };
        put(parameter, "schema", schema);
    }
}

/// Security stands at each call too, for readers that look nowhere else.
fn headers(operation: &mut Map<String, Value>) {
    operation.insert("security".to_owned(), json!([{ "token": [] }]));
    if !is_action(operation) {
        return;
    }
    let parameters = operation
        .entry("parameters")
        .or_insert_with(|| json!([]))
        .as_array_mut();
    if let Some(parameters) = parameters {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Again with the same key and call: nothing happens, and the status is \
                            `repeated` (of a request: the reply is the first one's). Remembered \
                            for ten minutes.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255,
                "pattern": "^[ -~]*$" },
        }));
    }
}

/// Sets a member of what is an object.
fn put(of: &mut Value, name: &str, value: Value) {
    if let Some(members) = of.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

fn member<'a>(of: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    of.get_mut(name).and_then(Value::as_object_mut)
}

/// A message that is spread among other members: `text` or `binary`, and nothing unknown. As
/// written by the derive it would be an `allOf` whose parts forbid each other's members.
fn spread_messages(document: &mut Value) {
    let schemas = document.pointer_mut("/components/schemas");
    let schemas = schemas.and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        let Some(parts) = schema.get_mut("allOf").and_then(Value::as_array_mut) else {
            continue;
        };
        let message = json!("#/components/schemas/Message");
        if !parts.iter().any(|part| part.get("$ref") == Some(&message)) {
            continue;
        }
        let rest = parts.iter_mut().find(|part| part.get("type").is_some());
        let Some(mut rest) = rest.map(Value::take) else {
            continue;
        };
        if let Some(properties) = rest.get_mut("properties") {
            put(properties, "text", json!({ "type": "string" }));
            let binary = json!({ "type": "string", "format": "byte" });
            put(properties, "binary", binary);
        }
        match MAY_SAY_NOTHING.contains(&name.as_str()) {
            true => put(&mut rest, "not", json!({ "required": ["text", "binary"] })),
            false => {
                let either = json!([{ "required": ["text"] }, { "required": ["binary"] }]);
                put(&mut rest, "oneOf", either);
            }
        }
        put(&mut rest, "additionalProperties", json!(false));
        if let Some(description) = schema.get("description") {
            put(&mut rest, "description", description.clone());
        }
        *schema = rest;
    }
}

/// `/v1/openapi.json` and `/docs`, where `/` leads: for everybody, and all from this process.
pub(crate) fn pages(document: &Value) -> Router {
    let text = Bytes::from(document.to_string());
    let json = get(move || {
        let text = text.clone();
        async move { ([(CONTENT_TYPE, "application/json")], text) }
    });
    // Without the layout's bar, which has another product's logo and asks for other documents.
    let config = Config::from("/v1/openapi.json").use_base_layout();
    let docs = Router::from(SwaggerUi::new("/docs").config(config));
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/docs/") }))
        .route("/v1/openapi.json", json)
        .merge(docs.layer(middleware::from_fn(our_page)))
}

/// The page is ours, and loads nothing from elsewhere, whatever is in it.
async fn our_page(request: Request<axum::body::Body>, next: Next) -> Response {
    const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
                          img-src 'self' data:; frame-ancestors 'none'";
    let mut response = match request.uri().path() {
        "/docs/" | "/docs/index.html" => Html(PAGE).into_response(),
        _ => next.run(request).await,
    };
    response.headers_mut().insert(
        HeaderName::from_static("content-security-policy"),
        HeaderValue::from_static(POLICY),
    );
    response
}
