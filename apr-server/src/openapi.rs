//! The table of routes as an `OpenAPI` document.

use axum::{http::Method, response::Response};
use serde_json::{Map, Value, json};

use crate::{
    api_error::ApiError,
    call::Call,
    routes::{self, Access, ROUTES},
};

/// `GET /openapi.json`
pub(crate) async fn document(_call: Call) -> Result<Response, ApiError> {
    Ok(routes::json(&openapi()))
}

fn openapi() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        // The document knows no path of several parts.
        let path = route.path.replace("{*", "{");
        let method = route.method.as_str().to_lowercase();
        paths.insert(path.clone(), json!({method: operation(route, &path)}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "apr",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "One Qwen3-MoE model on a CPU, behind the APIs that people use.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": error_schema()},
        },
    })
}

fn operation(route: &routes::Route, path: &str) -> Value {
    let error = json!({
        "description": "Refused or failed",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    });
    let name = path
        .trim_matches(['/', '}'])
        .replace(['/', '{', '}', '.', '-'], "_");
    let id = format!("{}_{name}", route.method.as_str().to_lowercase());
    let mut operation = json!({
        "operationId": id.trim_end_matches('_'),
        "summary": route.summary,
        "responses": {"200": {"description": "Done"}, "default": error},
    });
    if route.method == Method::POST {
        operation["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": {"type": "object"}}},
        });
    }
    if route.access == Access::Key {
        operation["security"] = json!([{"key": []}, {}]);
    }
    let parameter = path
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    if let Some((name, _)) = parameter {
        let schema = json!({"type": "string"});
        let parameter = json!({"name": name, "in": "path", "required": true, "schema": schema});
        operation["parameters"] = json!([parameter]);
    }
    operation
}

fn error_schema() -> Value {
    let text_or_null = json!({"type": ["string", "null"]});
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": text_or_null,
                "code": text_or_null,
            },
        }},
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_an_operation_of_its_own_name() {
        let document = openapi();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), ROUTES.len());
        let operations = paths
            .values()
            .flat_map(|path| path.as_object().unwrap().values());
        let ids: BTreeSet<_> = operations.map(|it| it["operationId"].to_string()).collect();
        assert_eq!(ids.len(), ROUTES.len());
        assert_eq!(
            document["paths"]["/v1/models/{id}"]["get"]["parameters"][0]["name"],
            "id"
        );
    }
}
