//! What a call may carry, as the document says: nothing is ignored silently. A parameter that the
//! call does not have is refused with the nearest one that it has, and so is a member of its body; a
//! body or an idempotency key that would have no effect is refused too.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::caller::{self, KEY_HEADER};
use crate::problem::ApiRefusal;
use crate::shared::Api;

/// Names further away than this share of their length are no typing mistakes.
const LIKENESS_MIN: f64 = 0.6;
/// Schemas of a document that are looked into for one member.
const STEPS_MAX: usize = 32;

/// What calls may carry, by path and method.
#[derive(Debug)]
pub(crate) struct Rules {
    calls: HashMap<(String, Method), Call>,
    schemas: Map<String, Value>,
}

#[derive(Debug, Default)]
struct Call {
    parameters: Vec<String>,
    takes_key: bool,
    body: Option<Value>,
}

/// The rules of one call, for whoever reads its body.
#[derive(Clone, Debug)]
pub(crate) struct CallRules {
    rules: Arc<Rules>,
    call: (String, Method),
}

impl Rules {
    /// As the document says.
    pub(crate) fn of(document: &Value) -> Self {
        let schemas = document.pointer("/components/schemas");
        let schemas = schemas.and_then(Value::as_object);
        let mut calls = HashMap::new();
        let paths = document.get("paths").and_then(Value::as_object);
        for (path, operations) in paths.into_iter().flatten() {
            for (method, operation) in operations.as_object().into_iter().flatten() {
                if let Ok(method) = method.to_uppercase().parse() {
                    calls.insert((path.clone(), method), Call::of(operation));
                }
            }
        }
        Self {
            calls,
            schemas: schemas.cloned().unwrap_or_default(),
        }
    }

    /// The members that an object may have at this path of a call's body.
    fn members<'a>(&'a self, call: &'a Call, path: &[&str]) -> Vec<&'a str> {
        let mut open: Vec<(&Value, &[&str])> = call.body.iter().map(|it| (it, path)).collect();
        let mut found = Vec::new();
        for _ in 0..STEPS_MAX {
            let Some((schema, path)) = open.pop() else {
                break;
            };
            if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
                let name = name.rsplit('/').next().unwrap_or_default();
                open.extend(self.schemas.get(name).map(|schema| (schema, path)));
            }
            for key in ["oneOf", "anyOf", "allOf"] {
                let parts = schema.get(key).and_then(Value::as_array);
                open.extend(parts.into_iter().flatten().map(|part| (part, path)));
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            match path {
                [] => found.extend(properties.into_iter().flat_map(Map::keys)),
                [first, rest @ ..] if first.parse::<usize>().is_ok() => {
                    open.extend(schema.get("items").map(|items| (items, rest)));
                }
                [first, rest @ ..] => {
                    let property = properties.and_then(|all| all.get(*first));
                    open.extend(property.map(|property| (property, rest)));
                }
            }
        }
        found.into_iter().map(String::as_str).collect()
    }
}

impl CallRules {
    /// The member that was probably meant where this one is unknown. `path` leads to the object, or
    /// to the member itself.
    pub(crate) fn meant(&self, path: &[String], unknown: &str) -> Option<String> {
        let call = self.rules.calls.get(&self.call)?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let path = match path.as_slice() {
            [object @ .., last] if *last == unknown => object,
            path => path,
        };
        let members = self.rules.members(call, path);
        nearest(unknown, members).map(str::to_owned)
    }
}

impl Call {
    fn of(operation: &Value) -> Self {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        let named = |place: &'static str| {
            let all = parameters.into_iter().flatten();
            let of_place = all.filter(move |it| it.get("in") == Some(&place.into()));
            of_place.filter_map(|it| it.get("name")?.as_str())
        };
        let content = operation.pointer("/requestBody/content");
        let content = content.and_then(Value::as_object);
        let body = content.and_then(|types| types.values().next()?.get("schema").cloned());
        let mut headers = named("header");
        Self {
            parameters: named("query").map(str::to_owned).collect(),
            takes_key: headers.any(|it| it.eq_ignore_ascii_case(KEY_HEADER)),
            body: body.or_else(|| content.map(|_| Value::Null)),
        }
    }

    fn check(&self, method: &Method, query: &str, headers: &HeaderMap) -> Result<(), ApiRefusal> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
            let name = percent_encoding::percent_decode_str(&name).decode_utf8_lossy();
            if !self.parameters.iter().any(|known| *known == name) {
                return Err(self.unknown_parameter(&name));
            }
        }
        // What changes nothing may be repeated anyway.
        if !self.takes_key && *method != Method::GET && headers.contains_key(KEY_HEADER) {
            return Err(ApiRefusal::invalid(format!(
                "this call takes no `{KEY_HEADER}`: it would not be done once because of it"
            )));
        }
        Ok(())
    }

    fn unknown_parameter(&self, name: &str) -> ApiRefusal {
        let name: String = name.chars().take(80).collect();
        let known = self.parameters.iter().map(String::as_str);
        let meant = nearest(&name, known);
        ApiRefusal::invalid(match (meant, self.parameters.as_slice()) {
            (Some(meant), _) => {
                format!("the query: unknown parameter `{name}`, did you mean `{meant}`?")
            }
            (None, []) => format!("the query: unknown parameter `{name}`: this call has none"),
            (None, known) => format!(
                "the query: unknown parameter `{name}`, expected one of `{}`",
                known.join("`, `")
            ),
        })
    }
}

/// The candidate that was probably meant.
fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |candidate: &str| strsim::normalized_damerau_levenshtein(given, candidate);
    candidates
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// Refuses what a call does not take, before its handler sees it.
/// Whoever has no token learns that first.
pub(crate) async fn keep(
    State((rules, api)): State<(Arc<Rules>, Api)>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    // HEAD is answered by what answers GET.
    let method = match request.method() {
        &Method::HEAD => Method::GET,
        method => method.clone(),
    };
    let key = (path.as_str().to_owned(), method);
    if let Some(call) = rules.calls.get(&key)
        && caller::grant(request.headers(), &api).is_ok()
    {
        let query = request.uri().query().unwrap_or_default();
        let mut checked = call.check(&key.1, query, request.headers());
        if call.body.is_none() && !request.body().is_end_stream() {
            checked = checked.and(Err(ApiRefusal::invalid("this call takes no body")));
        }
        if let Err(refusal) = checked {
            return refusal.into_response();
        }
    }
    let call = CallRules { rules, call: key };
    request.extensions_mut().insert(call);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(call: &str, path: &[&str], unknown: &str) -> Option<String> {
        let (method, path_of_call) = call.split_once(' ').unwrap();
        let rules = CallRules {
            rules: Arc::new(Rules::of(&crate::openapi::document())),
            call: (path_of_call.to_owned(), method.parse().unwrap()),
        };
        let path: Vec<String> = path.iter().map(|it| (*it).to_owned()).collect();
        rules.meant(&path, unknown)
    }

    #[test]
    fn the_member_that_was_meant_is_found_at_any_depth() {
        for (call, path, unknown, known) in [
            ("POST /v1/messages", &[][..], "excpet", Some("except")),
            ("POST /v1/messages", &[], "txt", Some("text")),
            ("POST /v1/messages", &["to"], "group", Some("groups")),
            (
                "POST /v1/messages",
                &["to", "1", "uid"],
                "uid",
                Some("uids"),
            ),
            (
                "POST /v1/batch",
                &["actions", "0", "send"],
                "exept",
                Some("except"),
            ),
            ("POST /v1/batch", &["actions", "3"], "sned", Some("send")),
            ("POST /v1/requests", &[], "timeout-ms", Some("timeout_ms")),
            ("POST /v1/requests", &[], "colour", None),
            ("POST /v1/nothing", &[], "text", None),
        ] {
            let found = meant(call, path, unknown);
            assert_eq!(found.as_deref(), known, "{call} {path:?} {unknown}");
        }
    }
}
