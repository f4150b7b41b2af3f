//! The one table of what can be asked for. Routing, the body of a 404, the document at
//! `/openapi.json` and the tables in the documents all come from it or are held against it.

use std::{pin::Pin, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};
use serde_json::Value;

use crate::{
    anthropic, api_error::ApiError, app::App, call::Call, error_form::ErrorForm,
    exchange::RoutePath, native, ollama, openai, openapi, page, responses,
};

/// Something that can be asked for.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    handler: Handler,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: it tells nothing and does no work.
    Public,
    /// Whoever has a key, if the server has keys.
    Key,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send>>;
type Handler = fn(Call) -> Answer;

const fn get(path: &'static str, summary: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::GET,
        path,
        summary,
        access: Access::Key,
        handler,
    }
}

const fn post(path: &'static str, summary: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::POST,
        path,
        summary,
        access: Access::Key,
        handler,
    }
}

const fn public(path: &'static str, summary: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::GET,
        path,
        summary,
        access: Access::Public,
        handler,
    }
}

/// Everything that can be asked for.
pub(crate) static ROUTES: &[Route] = &[
    public("/", "The page to talk to the model", |call| {
        Box::pin(page::index(call))
    }),
    public("/assets/{*file}", "The files of the page", |call| {
        Box::pin(page::asset(call))
    }),
    public("/health", "Whether the server can answer", |call| {
        Box::pin(native::health(call))
    }),
    get(
        "/metrics",
        "Counters and histograms for Prometheus",
        |call| Box::pin(native::metrics(call)),
    ),
    get("/openapi.json", "This table for programs", |call| {
        Box::pin(openapi::document(call))
    }),
    get(
        "/props",
        "The model, its template and the defaults",
        |call| Box::pin(native::props(call)),
    ),
    get("/slots", "What is worked on", |call| {
        Box::pin(native::slots(call))
    }),
    post("/tokenize", "Text to token ids", |call| {
        Box::pin(native::tokenize(call))
    }),
    get(
        "/tokenizer_info",
        "The tokenizer, as vLLM describes it",
        |call| Box::pin(native::tokenizer_info(call)),
    ),
    post("/detokenize", "Token ids to text", |call| {
        Box::pin(native::detokenize(call))
    }),
    post(
        "/apply-template",
        "A conversation as the model reads it",
        |call| Box::pin(native::apply_template(call)),
    ),
    get("/v1/models", "The model, as a list of one", |call| {
        Box::pin(openai::models(call))
    }),
    get("/v1/models/{id}", "One model by its name", |call| {
        Box::pin(openai::model(call))
    }),
    post(
        "/v1/chat/completions",
        "The next message of a conversation",
        |call| Box::pin(openai::chat(call)),
    ),
    post("/v1/completions", "The continuation of texts", |call| {
        Box::pin(openai::completions(call))
    }),
    post(
        "/v1/embeddings",
        "The mean of the hidden states of texts",
        |call| Box::pin(openai::embeddings(call)),
    ),
    post(
        "/v1/messages",
        "The next message, in Anthropic's API",
        |call| Box::pin(anthropic::messages(call)),
    ),
    post(
        "/v1/messages/count_tokens",
        "The tokens of a conversation, in Anthropic's API",
        |call| Box::pin(anthropic::count_tokens(call)),
    ),
    post(
        "/v1/responses",
        "A response, in OpenAI's newer API",
        |call| Box::pin(responses::responses(call)),
    ),
    post("/api/chat", "The next message, in Ollama's API", |call| {
        Box::pin(ollama::chat(call))
    }),
    post(
        "/api/generate",
        "The answer to a text, in Ollama's API",
        |call| Box::pin(ollama::generate(call)),
    ),
    get("/api/tags", "The model, in Ollama's API", |call| {
        Box::pin(ollama::tags(call))
    }),
    post("/api/show", "More of the model, in Ollama's API", |call| {
        Box::pin(ollama::show(call))
    }),
    get("/api/version", "The version, in Ollama's API", |call| {
        Box::pin(ollama::version(call))
    }),
];

/// Returns whether a path needs no key.
pub(crate) fn is_public(path: &str) -> bool {
    let public = ROUTES.iter().filter(|route| route.access == Access::Public);
    public
        .into_iter()
        .any(|route| match route.path.split_once("{*") {
            Some((folder, _)) => path.starts_with(folder),
            None => route.path == path,
        })
}

/// Makes the router of the table.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, method_router(app, route));
    }
    router.fallback(|request: Request| async move { not_found(request.uri().path()) })
}

fn method_router(app: &Arc<App>, route: &'static Route) -> MethodRouter {
    let app = Arc::clone(app);
    let filter = match route.method {
        Method::POST => MethodFilter::POST,
        _ => MethodFilter::GET,
    };
    let handler = on(filter, move |request: Request| {
        let (parts, body) = request.into_parts();
        let call = Call {
            app: Arc::clone(&app),
            parts,
            body,
        };
        let answer = (route.handler)(call);
        async move {
            let form = ErrorForm::of(route.path);
            let answer = answer.await.unwrap_or_else(|error| form.response(error));
            of_route(route, answer)
        }
    });
    handler.fallback(move || async move { of_route(route, wrong_method(route)) })
}

fn of_route(route: &Route, mut response: Response) -> Response {
    response.extensions_mut().insert(RoutePath(route.path));
    response
}

fn wrong_method(route: &Route) -> Response {
    let allowed = match route.method {
        Method::POST => "POST",
        _ => "GET, HEAD",
    };
    let message = format!("this path is asked with {allowed}");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
        .code("method_not_allowed")
        .header(header::ALLOW, HeaderValue::from_static(allowed));
    ErrorForm::of(route.path).response(error)
}

/// Says what there is instead.
fn not_found(path: &str) -> Response {
    let error = ApiError::new(StatusCode::NOT_FOUND, "there is no such path").code("no_such_path");
    let mut body = ErrorForm::of(path).json(&error);
    let routes = ROUTES.iter();
    let routes = routes.map(|route| Value::from(format!("{} {}", route.method, route.path)));
    body["routes"] = routes.collect();
    error.into_response_of(&body)
}

/// Makes a response of JSON.
pub(crate) fn json(body: &Value) -> Response {
    text(body.to_string(), "application/json")
}

/// Makes a response of a text.
pub(crate) fn text(body: String, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_stands_once() {
        let mut paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), ROUTES.len());
    }

    #[test]
    fn only_what_tells_nothing_is_public() {
        assert!(is_public("/") && is_public("/health") && is_public("/assets/js/a.js"));
        for path in ["/v1/models", "/slots", "/metrics", "/asset", "/healthy", ""] {
            assert!(!is_public(path), "{path}");
        }
    }

    #[test]
    fn the_documents_show_the_table() {
        let row =
            |route: &Route| format!("| `{} {}` | {} |", route.method, route.path, route.summary);
        for document in [
            include_str!("../../docs/server.md"),
            include_str!("../README.md"),
        ] {
            for route in ROUTES {
                assert!(document.contains(&row(route)), "{}", row(route));
            }
        }
    }
}
