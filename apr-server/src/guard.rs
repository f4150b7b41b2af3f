//! Who may ask: host, origin and key, checked before anything of a request is used.
//!
//! A page on the web can make a browser talk to a server on the same machine. Two checks
//! keep it out: a server on loopback answers only to names of loopback, so that a foreign
//! name that was bent to 127.0.0.1 gets nowhere, and a request from a page of another origin
//! is refused unless the origin is listed.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use subtle::Choice;

use crate::{api_error::ApiError, config::Config};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Checks that the server is called by a name of its own.
pub(crate) fn check_host(
    config: &Config,
    is_loopback: bool,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    if !is_loopback {
        return Ok(());
    }
    let bad = |status, message, code| Err(ApiError::new(status, message).code(code));
    let Some(host) = host(uri, headers) else {
        return bad(
            StatusCode::BAD_REQUEST,
            "the Host header is missing",
            "host_missing",
        );
    };
    let name = without_port(host);
    let is_listed = |name: &str| {
        let mut listed = config.allowed_hosts.iter();
        listed.any(|own| own.eq_ignore_ascii_case(name))
    };
    if is_loopback_name(name) || is_listed(name) {
        return Ok(());
    }
    let message = "the Host header does not name this server";
    bad(StatusCode::FORBIDDEN, message, "host_not_allowed")
}

/// Checks that no page of another origin asks.
pub(crate) fn check_origin(
    config: &Config,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    if listed_origin(config, headers).is_some() {
        return Ok(());
    }
    let own = host(uri, headers);
    let of_origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    match (own, of_origin) {
        (Some(own), Some((_, host))) if own.eq_ignore_ascii_case(host) => Ok(()),
        _ => {
            let message = "pages of this origin may not use this server; see --cors-origin";
            Err(ApiError::new(StatusCode::FORBIDDEN, message).code("origin_not_allowed"))
        }
    }
}

/// Checks the key, in `Authorization: Bearer` or in `x-api-key`. All keys are compared, so
/// that the time tells nothing of which one was close.
pub(crate) fn check_key(config: &Config, headers: &HeaderMap) -> Result<(), ApiError> {
    if config.api_keys.is_empty() {
        return Ok(());
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
    });
    let said = bearer.or_else(|| headers.get(X_API_KEY).map(HeaderValue::as_bytes));
    let opens = |said: &[u8]| {
        let mut any = Choice::from(0);
        for key in &config.api_keys {
            any |= key.opens(said);
        }
        bool::from(any)
    };
    if said.is_some_and(opens) {
        return Ok(());
    }
    let message = match said {
        Some(_) => "the API key is not valid",
        None => "an API key is needed, as `Authorization: Bearer KEY` or `x-api-key: KEY`",
    };
    let error = ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key");
    Err(error.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// Returns the origin of a request if its pages may read answers.
pub(crate) fn listed_origin(config: &Config, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let mut listed = config.cors_origins.iter();
    let is_listed = listed.any(|own| own.as_bytes() == origin.as_bytes() || own == "*");
    is_listed.then(|| origin.clone())
}

/// Returns whether a browser asks what it may ask.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Adds what lets pages of a listed origin read an answer.
pub(crate) fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue, is_preflight: bool) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("x-request-id, retry-after"),
    );
    if is_preflight {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST"),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(
                "authorization, content-type, x-api-key, x-request-id, anthropic-version, \
                 anthropic-beta, anthropic-dangerous-direct-browser-access",
            ),
        );
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("600"),
        );
    }
}

fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let in_header = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    in_header.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str))
}

fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback_name(name: &str) -> bool {
    let is_address = name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_address || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn loopback_answers_to_its_own_names() {
        let config = Config {
            allowed_hosts: vec!["box.lan".to_owned()],
            ..Config::default()
        };
        let status = |host: &'static str| {
            let headers = headers(&[("host", host)]);
            let checked = check_host(&config, true, &Uri::from_static("/"), &headers);
            checked.err().map(|error| error.status())
        };
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "box.lan:9",
        ] {
            assert_eq!(status(good), None, "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "",
            "10.0.0.1",
        ] {
            assert_eq!(status(bad), Some(StatusCode::FORBIDDEN), "{bad}");
        }
        let missing = check_host(&config, true, &Uri::from_static("/"), &HeaderMap::new());
        assert_eq!(missing.unwrap_err().status(), StatusCode::BAD_REQUEST);
        let open = check_host(&config, false, &Uri::from_static("/"), &HeaderMap::new());
        assert!(open.is_ok());
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_listed() {
        let config = Config {
            cors_origins: vec!["https://ui.example".to_owned()],
            ..Config::default()
        };
        let is_ok = |origin: &'static str| {
            let headers = headers(&[("host", "localhost:8080"), ("origin", origin)]);
            check_origin(&config, &Uri::from_static("/"), &headers).is_ok()
        };
        assert!(is_ok("http://localhost:8080"));
        assert!(is_ok("https://ui.example"));
        assert!(!is_ok("http://localhost:9090"));
        assert!(!is_ok("https://evil.example"));
        assert!(!is_ok("null"));
        assert!(check_origin(&config, &Uri::from_static("/"), &HeaderMap::new()).is_ok());
    }

    #[test]
    fn any_of_the_keys_opens_in_either_header() {
        let config = Config {
            api_keys: ["one", "two"]
                .iter()
                .filter_map(|key| ApiKey::new(key))
                .collect(),
            ..Config::default()
        };
        let is_ok = |name, value| check_key(&config, &headers(&[(name, value)])).is_ok();
        assert!(is_ok("authorization", "Bearer one"));
        assert!(is_ok("authorization", "bearer two"));
        assert!(is_ok("x-api-key", "two"));
        assert!(!is_ok("authorization", "Bearer three"));
        assert!(!is_ok("authorization", "Basic one"));
        assert!(!is_ok("authorization", "Bear"));
        assert!(!is_ok("host", "one"));
        assert!(check_key(&Config::default(), &HeaderMap::new()).is_ok());
    }
}
