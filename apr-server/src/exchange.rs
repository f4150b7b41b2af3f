//! One request and its response: what happens to all of them, whatever they ask for.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header},
    response::Response,
};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::{api_error::ApiError, app::App, error_form::ErrorForm, guard, random, routes};

/// The most bytes of a head, and of an answer between hyper and the system.
pub(crate) const BUFFER_BYTES: usize = 64 << 10;
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that is taken over from a client.
const MAX_ID_LEN: usize = 128;

/// The pattern of the route that a response came from, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoutePath(pub(crate) &'static str);

/// Answers a request.
pub(crate) async fn answer(
    app: &Arc<App>,
    router: Router,
    is_loopback: bool,
    request: Request<Body>,
) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let id = request_id(request.headers());
    let origin = guard::listed_origin(&app.config, request.headers());
    let is_preflight = guard::is_preflight(&method, request.headers());
    let mut response = match check(app, is_loopback, &request) {
        Err(error) => ErrorForm::of(request.uri().path()).response(error),
        Ok(()) if is_preflight && origin.is_some() => no_content(),
        Ok(()) => route(router, request).await,
    };
    let route = response.extensions().get::<RoutePath>();
    let route = route.map_or("-", |route| route.0);
    let status = response.status().as_u16();
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        guard::allow_origin(headers, origin, is_preflight);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    app.metrics.count_response(status);
    let micros = begin.elapsed().as_micros();
    let id_text = id.to_str().unwrap_or_default();
    tracing::info!(id = id_text, %method, route, status, micros, "request");
    headers.insert(X_REQUEST_ID, id);
    response
}

/// Makes the whole response to what never became a request: what is no HTTP, or has a head
/// that is too long.
pub(crate) fn refuse(app: &App, status: StatusCode) -> Vec<u8> {
    let (message, code) = match status {
        StatusCode::URI_TOO_LONG => ("the address is too long".to_owned(), "address_too_long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let most = BUFFER_BYTES >> 10;
            let message = format!("the head is longer than {most} KiB or has too many lines");
            (message, "head_too_large")
        }
        _ => (
            "this is no request of HTTP/1.1".to_owned(),
            "malformed_request",
        ),
    };
    let body = ApiError::new(status, message).code(code).to_json();
    let body = body.to_string();
    let id = random::id("req");
    app.metrics.count_response(status.as_u16());
    tracing::info!(id, route = "-", status = status.as_u16(), "request");
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\nx-content-type-options: nosniff\r\nx-request-id: {id}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn check(app: &App, is_loopback: bool, request: &Request<Body>) -> Result<(), ApiError> {
    let (uri, headers) = (request.uri(), request.headers());
    guard::check_host(&app.config, is_loopback, uri, headers)?;
    guard::check_origin(&app.config, uri, headers)?;
    // A browser sends no key when it asks what it may ask.
    if routes::is_public(uri.path()) || guard::is_preflight(request.method(), headers) {
        return Ok(());
    }
    guard::check_key(&app.config, headers)
}

async fn route(router: Router, request: Request<Body>) -> Response {
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Takes the client's id if it can be written to a log as it is, or makes one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_good = |id: &&HeaderValue| {
        let id = id.as_bytes();
        id.len() <= MAX_ID_LEN && !id.is_empty() && id.iter().all(u8::is_ascii_graphic)
    };
    if let Some(id) = headers.get(X_REQUEST_ID).filter(is_good) {
        return id.clone();
    }
    let made = HeaderValue::from_str(&random::id("req"));
    made.unwrap_or_else(|_| HeaderValue::from_static("req"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clients_are_taken_if_a_log_can_have_them() {
        let with = |id: &'static str| {
            let id = HeaderValue::from_static(id);
            request_id(&[(X_REQUEST_ID, id)].into_iter().collect())
        };
        assert_eq!(with("abc-1"), "abc-1");
        assert_ne!(with("a b"), "a b");
        assert!(with("").to_str().unwrap().starts_with("req_"));
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
