//! Who may ask the server: keys, origins and names, and what an open address needs.

use std::{net::IpAddr, path::PathBuf};

use apr_server::{ApiKey, Config};
use clap::{Args, builder::BoolishValueParser};

use crate::{error::Error, input};

/// Flags about access.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(super) struct AccessArgs {
    /// Key that requests must have; may be repeated. A file keeps it from the process list
    #[arg(long, value_name = "KEY", env = "APR_API_KEY")]
    #[arg(hide_env_values = true)]
    api_key: Vec<String>,
    /// File with such keys, one a line
    #[arg(long, value_name = "FILE", env = "APR_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
    /// Serve without a key on an address that others can reach
    #[arg(long, env = "APR_NO_API_KEY", value_parser = BoolishValueParser::new())]
    no_api_key: bool,
    /// Origin whose pages may use the server, as `https://example.org`; may be repeated
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "APR_CORS_ORIGIN",
        value_delimiter = ','
    )]
    cors_origin: Vec<String>,
    /// Name by which a server on loopback may be called, beside localhost; may be repeated
    #[arg(
        long,
        value_name = "NAME",
        env = "APR_ALLOWED_HOST",
        value_delimiter = ','
    )]
    allowed_host: Vec<String>,
}

impl AccessArgs {
    /// Adds what the flags say.
    pub(super) fn apply(&self, config: &mut Config, host: IpAddr) -> Result<(), Error> {
        let api_keys = self.keys()?;
        if api_keys.is_empty() && !host.is_loopback() && !self.no_api_key {
            let message = format!(
                "--host {host}: others can reach this address; give --api-key or \
                 --api-key-file, or --no-api-key if everybody may use the server"
            );
            return Err(Error::usage(message));
        }
        config.api_keys = api_keys;
        config.cors_origins.clone_from(&self.cors_origin);
        config.allowed_hosts.clone_from(&self.allowed_host);
        Ok(())
    }

    fn keys(&self) -> Result<Vec<ApiKey>, Error> {
        let unusable = "expected letters, digits and signs without spaces";
        let of_flag = |key: &String| {
            ApiKey::new(key).ok_or_else(|| Error::usage(format!("--api-key: {unusable}")))
        };
        let mut keys = self
            .api_key
            .iter()
            .map(of_flag)
            .collect::<Result<Vec<_>, _>>()?;
        let Some(path) = &self.api_key_file else {
            return Ok(keys);
        };
        let text = input::read_file(path)?;
        let name = path.display().to_string();
        let n_before = keys.len();
        for (idx, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = ApiKey::new(line);
            let message = || Error::input(&name, format!("line {}: {unusable}", idx + 1));
            keys.push(key.ok_or_else(message)?);
        }
        if keys.len() == n_before {
            return Err(Error::input(&name, "expected at least one key"));
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        access: AccessArgs,
    }

    fn apply(flags: &[&str], host: &str) -> Result<Config, Error> {
        let flags = Flags::parse_from(["x"].iter().chain(flags));
        let mut config = Config::default();
        flags.access.apply(&mut config, host.parse().unwrap())?;
        Ok(config)
    }

    #[test]
    fn an_open_address_needs_a_key_or_a_word() {
        assert!(apply(&[], "127.0.0.1").is_ok());
        assert!(apply(&[], "::1").is_ok());
        assert!(apply(&[], "0.0.0.0").is_err());
        assert!(apply(&[], "192.168.0.7").is_err());
        assert!(apply(&["--no-api-key"], "0.0.0.0").is_ok());
        let keys = |flags: &[&str]| apply(flags, "0.0.0.0").unwrap().api_keys.len();
        assert_eq!(keys(&["--api-key", "a,b"]), 1);
        assert_eq!(keys(&["--api-key", "a", "--api-key", "b"]), 2);
        assert!(apply(&["--api-key", "a b"], "0.0.0.0").is_err());
    }
}
