//! The OpenAPI 3.1 document of all services, out of their tables: nothing that a table does not say, and nothing left out.
//!
//! Routes of one path and method (actions, microversions) are one operation there; `x-nacre-operations` lists them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{Access, FaultStyle, Route, Service, Version, service::Verb};

/// The document.
pub fn document(services: &[Service]) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for service in services {
        let mut operations: BTreeMap<(String, &'static str), Vec<&Route>> = BTreeMap::new();
        for route in service.routes {
            let key = (format!("{}{}", service.prefix, plain(route.path)), method(route.method));
            operations.entry(key).or_default().push(route);
        }
        for ((path, method), routes) in operations {
            let operation = operation(service, &path, method, &routes);
            paths.entry(path).or_default().insert(method.to_owned(), operation);
        }
    }
    let tags: Vec<Value> = services.iter().map(|service| json!({ "name": service.name })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Nacre",
            "description": "OpenStack's APIs as this cloud serves them, and its own under /nacre/v1.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "A token of POST /identity/v3/auth/tokens." },
            },
            "parameters": {
                "Microversion": {
                    "name": "OpenStack-API-Version", "in": "header", "required": false, "schema": { "type": "string" },
                    "description": "The microversion to speak, as `SERVICE X.Y` or `SERVICE latest`.",
                },
                "IdempotencyKey": {
                    "name": "Idempotency-Key", "in": "header", "required": false,
                    "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
                    "description": "The same request with the same key takes effect once in 24 hours, and is answered alike.",
                },
            },
            "responses": faults(),
        },
    })
}

/// A path as OpenAPI writes it: matchit's `{*rest}` is a parameter like any other.
fn plain(path: &str) -> String {
    path.replace("{*", "{")
}

fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::Head => "head",
        Verb::Post => "post",
        Verb::Put => "put",
        Verb::Patch => "patch",
        Verb::Delete => "delete",
    }
}

fn operation(service: &Service, path: &str, method: &str, routes: &[&Route]) -> Value {
    let mut operation = json!({
        "operationId": operation_id(path, method),
        "tags": [service.name],
        "parameters": parameters(service, path, method, routes),
        "responses": responses(service, routes),
        "x-nacre-operations": routes.iter().map(|route| one(service, route)).collect::<Vec<_>>(),
    });
    if let Some(body) = body(method, routes) {
        operation["requestBody"] = body;
    }
    if routes.iter().any(|route| route.access != Access::Public) {
        operation["security"] = json!([{ "token": [] }]);
    }
    operation
}

/// `get_compute_v2.1_servers_id`: unique, as path and method are.
fn operation_id(path: &str, method: &str) -> String {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let words: Vec<String> = words.iter().map(|word| word.replace('{', "by-").replace('}', "")).collect();
    // Glance has `/v2/images` and `/v2/images/`.
    let slash = if path.len() > 1 && path.ends_with('/') { "_slash" } else { "" };
    if words.is_empty() { format!("{method}_root") } else { format!("{method}_{}{slash}", words.join("_")) }
}

fn parameters(service: &Service, path: &str, method: &str, routes: &[&Route]) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    let mut parameters: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if service.versions.is_some() {
        parameters.push(json!({ "$ref": "#/components/parameters/Microversion" }));
    }
    if method == "post" && routes.iter().any(|route| route.access != Access::Public && !route.streaming) {
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
    }
    parameters
}

fn body(method: &str, routes: &[&Route]) -> Option<Value> {
    if !matches!(method, "post" | "put" | "patch") {
        return None;
    }
    if routes.iter().any(|route| route.streaming) {
        return Some(json!({ "content": { "application/octet-stream": {} } }));
    }
    let actions: std::collections::BTreeSet<&str> = routes.iter().filter_map(|route| route.action).collect();
    let schema = if actions.is_empty() {
        json!({ "type": "object" })
    } else {
        let one = |action: &&str| json!({ "type": "object", "required": [*action], "properties": { *action: {} } });
        json!({ "anyOf": actions.iter().map(one).collect::<Vec<_>>() })
    };
    Some(json!({ "required": !actions.is_empty(), "content": { "application/json": { "schema": schema } } }))
}

fn responses(service: &Service, routes: &[&Route]) -> Value {
    let fault = format!("#/components/responses/{:?}Fault", service.faults);
    let mut responses = json!({
        "2XX": { "description": "Done, or begun." },
        "4XX": { "$ref": fault },
        "5XX": { "$ref": fault },
    });
    if routes.iter().any(|route| route.access == Access::Public && route.path.len() <= 5) {
        responses["300"] = json!({ "description": "Which versions there are." });
    }
    responses
}

/// One line of a table.
fn one(service: &Service, route: &Route) -> Value {
    let mut line = Map::new();
    match route.access {
        Access::Public => line.insert("access".to_owned(), json!("public")),
        Access::Token => line.insert("access".to_owned(), json!("token")),
        Access::Rule(rule) => line.insert("rule".to_owned(), json!(rule)),
    };
    if let Access::Rule(rule) = route.access
        && let Some(rule) = service.policy.iter().find(|known| known.name == rule)
        && !rule.description.is_empty()
    {
        line.insert("description".to_owned(), json!(rule.description));
    }
    if let Some(action) = route.action {
        line.insert("action".to_owned(), json!(action));
    }
    if route.since != Version::MIN {
        line.insert("since".to_owned(), json!(route.since.to_string()));
    }
    if route.until != Version::MAX {
        line.insert("until".to_owned(), json!(route.until.to_string()));
    }
    Value::Object(line)
}

/// Faults as each service writes them.
fn faults() -> Value {
    let text = json!({ "type": "string" });
    let fault = |schema: Value| {
        json!({
            "description": "The request was refused or failed; the message says what to change.",
            "headers": {
                "X-OpenStack-Request-Id": { "schema": { "type": "string" } },
                "Retry-After": { "description": "Seconds, where trying again makes sense.", "schema": { "type": "integer" } },
            },
            "content": { "application/json": { "schema": schema } },
        })
    };
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let nova =
        object(&["code", "message"], json!({ "code": { "type": "integer" }, "message": text, "retryAfter": text }));
    let schemas = [
        (
            FaultStyle::Nova,
            json!({ "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": nova }),
        ),
        (
            FaultStyle::Neutron,
            object(
                &["NeutronError"],
                json!({ "NeutronError": object(&["type", "message"], json!({ "type": text, "message": text, "detail": text })) }),
            ),
        ),
        (
            FaultStyle::Keystone,
            object(
                &["error"],
                json!({ "error": object(&["code", "message"], json!({ "code": { "type": "integer" }, "title": text, "message": text })) }),
            ),
        ),
        (FaultStyle::Glance, object(&["message"], json!({ "code": text, "title": text, "message": text }))),
        (
            FaultStyle::Placement,
            object(
                &["errors"],
                json!({ "errors": { "type": "array", "items": object(
                    &["status", "detail"],
                    json!({ "status": { "type": "integer" }, "title": text, "detail": text, "code": text, "request_id": text }),
                ) } }),
            ),
        ),
    ];
    let named = schemas.into_iter().map(|(style, schema)| (format!("{style:?}Fault"), fault(schema)));
    Value::Object(named.collect())
}
