//! The page to talk to the model: files that are built in.
//!
//! Nothing outside the server is loaded, which the policy in the header enforces. A browser
//! keeps what it has as long as the tag, a hash of the bytes, is the same.

mod files;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

use self::files::FILES;
use crate::{api_error::ApiError, call::Call};

const INDEX: File = File {
    name: "index.html",
    bytes: include_bytes!("../page/index.html"),
};

/// Everything comes from the server itself; images may also be written into the page. No text
/// becomes markup or a program: the page builds its elements one by one, and a browser that
/// knows trusted types throws at everything else.
const POLICY_TEXT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";
const POLICY: HeaderValue = HeaderValue::from_static(POLICY_TEXT);

/// A file of the page.
#[derive(Clone, Copy, Debug)]
struct File {
    name: &'static str,
    bytes: &'static [u8],
}

/// `GET /`
pub(crate) async fn index(call: Call) -> Result<Response, ApiError> {
    Ok(response(&INDEX, &call.parts.headers))
}

/// `GET /assets/{*file}`
pub(crate) async fn asset(call: Call) -> Result<Response, ApiError> {
    let path = call.parts.uri.path();
    let name = path.strip_prefix("/assets/").unwrap_or_default();
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => Ok(response(file, &call.parts.headers)),
        None => {
            let error = ApiError::new(StatusCode::NOT_FOUND, "the page has no such file");
            Err(error.code("no_such_path"))
        }
    }
}

fn response(file: &File, asked: &HeaderMap) -> Response {
    let tag = file.tag();
    let is_known = asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let body = match is_known {
        true => Body::empty(),
        false => Body::from(file.bytes),
    };
    let mut response = Response::new(body);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(file.content_type()),
    );
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    // May be kept, but must be asked for: the next version has the same names.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

impl File {
    fn content_type(&self) -> &'static str {
        match self.name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "application/octet-stream",
        }
    }

    /// Returns a hash of the bytes, FNV-1a.
    fn tag(&self) -> String {
        let hash = self
            .bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("\"{hash:016x}\"")
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn collect(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), &format!("{name}/"), names);
            } else {
                names.insert(name);
            }
        }
    }

    #[test]
    fn the_list_has_every_file_that_a_browser_loads() {
        let mut there = BTreeSet::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        collect(&folder, "", &mut there);
        there.retain(|name| !name.ends_with(".md") && !name.ends_with("LICENSE"));
        assert!(there.remove("index.html"));
        let listed: BTreeSet<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(listed, there);
        assert!(
            FILES
                .iter()
                .all(|file| file.content_type() != "application/octet-stream")
        );
    }

    #[test]
    fn the_page_is_tested_under_the_policy_it_is_served_with() {
        let mock = include_str!("../tests/page/mock-server.js");
        for rule in POLICY_TEXT.split("; ") {
            assert!(mock.contains(rule), "{rule}");
        }
    }

    #[test]
    fn a_file_that_a_browser_has_is_not_sent_again() {
        let first = response(&INDEX, &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        let tag = first.headers()[header::ETAG].clone();
        let asked = [(header::IF_NONE_MATCH, tag)].into_iter().collect();
        assert_eq!(response(&INDEX, &asked).status(), StatusCode::NOT_MODIFIED);
    }
}
