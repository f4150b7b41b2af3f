//! What a server is told when it starts.

use std::{fmt, time::Duration};

use subtle::ConstantTimeEq;

/// How a server behaves. [`Default`] is what `apr serve` does without flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who may ask; nobody needs a key if there are none.
    pub api_keys: Vec<ApiKey>,
    /// Origins whose pages may read answers, as `https://example.org`.
    pub cors_origins: Vec<String>,
    /// Names by which a server on loopback may be called, beside those of loopback itself.
    pub allowed_hosts: Vec<String>,
    /// The longest body of a request in bytes.
    pub max_body_bytes: usize,
    /// Connections at a time. One more takes the place of the one that is idle for longest.
    pub max_connections: usize,
    /// What a client may take to send the head of a request.
    pub header_timeout: Duration,
    /// What a client may take to send a body, or to take what is sent to it.
    pub io_timeout: Duration,
    /// What a request may take in all; `None` is as long as it takes.
    pub request_timeout: Option<Duration>,
    /// After how long a silence a stream shows that it lives.
    pub ping_interval: Duration,
    /// What running requests have when the server shuts down.
    pub grace: Duration,
    /// Requests that may wait, for an answer before their bodies are read.
    pub queue_len: usize,
    /// Is called when a large body has been read, for a program whose allocator keeps memory that
    /// is free: this is when there is much of it to be handed back to the system.
    pub give_back: fn(),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            max_body_bytes: 8 << 20,
            max_connections: 512,
            header_timeout: Duration::from_secs(15),
            io_timeout: Duration::from_secs(60),
            request_timeout: None,
            ping_interval: Duration::from_secs(5),
            grace: Duration::from_secs(30),
            queue_len: 64,
            give_back: || {},
        }
    }
}

/// A key that opens the server. It shows itself nowhere.
#[derive(Clone)]
pub struct ApiKey(Box<[u8]>);

impl ApiKey {
    /// Makes a key; `None` if it is empty or has characters that no header can carry.
    #[must_use]
    pub fn new(key: &str) -> Option<Self> {
        let is_good = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self(key.as_bytes().into()))
    }

    /// Compares with what a client says, in a time that tells nothing but the length.
    pub(crate) fn opens(&self, said: &[u8]) -> subtle::Choice {
        self.0.ct_eq(said)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_for_itself_alone_and_is_not_shown() {
        let key = ApiKey::new("sk-secret").unwrap();
        assert!(bool::from(key.opens(b"sk-secret")));
        assert!(!bool::from(key.opens(b"sk-secre")));
        assert!(!bool::from(key.opens(b"sk-secreT")));
        assert_eq!(format!("{key:?}"), "ApiKey");
        assert!(ApiKey::new("").is_none());
        assert!(ApiKey::new("a b").is_none());
    }
}
