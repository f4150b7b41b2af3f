//! Which crate may use which: the picture in ARCHITECTURE.md, arrow by arrow.

use serde_json::Value;

use super::Violation;
use crate::{error::TaskError, workspace::Workspace};

/// One line of a manifest: a crate uses another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    from: String,
    to: String,
    /// For tests, examples and benchmarks only.
    is_dev: bool,
    /// Another crate of this workspace.
    is_ours: bool,
}

/// What a crate may use.
struct Place {
    name: &'static str,
    ours: &'static [&'static str],
    /// `None` where any will do: the binaries.
    others: Option<&'static [&'static str]>,
}

const PICTURE: [Place; 13] = [
    Place {
        name: "gguf-format",
        ours: &[],
        others: Some(&["thiserror"]),
    },
    Place {
        name: "quant-kernels",
        ours: &[],
        others: Some(&["bytemuck", "half", "thiserror"]),
    },
    Place {
        name: "apr-sampler",
        ours: &[],
        others: Some(&["libm", "llguidance", "serde_json", "thiserror"]),
    },
    Place {
        name: "apr-tokenizer",
        ours: &["gguf-format"],
        others: Some(&[
            "hashbrown",
            "minijinja",
            "minijinja-contrib",
            "regex",
            "serde",
            "serde_json",
            "thiserror",
            "unicode-normalization-alignments",
        ]),
    },
    Place {
        name: "apr-reply-parser",
        ours: &[],
        others: Some(&["serde_json", "thiserror"]),
    },
    Place {
        name: "moe-model",
        ours: &["gguf-format", "quant-kernels"],
        others: Some(&[
            "libm",
            "memmap2",
            "safetensors",
            "serde",
            "serde_json",
            "thiserror",
        ]),
    },
    Place {
        name: "type-mix",
        ours: &["quant-kernels"],
        others: Some(&["thiserror"]),
    },
    Place {
        name: "synth-model",
        ours: &["gguf-format", "quant-kernels", "type-mix"],
        others: Some(&["rayon", "thiserror"]),
    },
    Place {
        name: "model-tools",
        ours: &[
            "gguf-format",
            "quant-kernels",
            "apr-tokenizer",
            "apr-sampler",
            "apr-generate",
            "type-mix",
            "moe-model",
        ],
        others: Some(&[
            "quick-xml",
            "rayon",
            "regex",
            "resvg",
            "serde",
            "serde_json",
            "thiserror",
            "xxhash-rust",
        ]),
    },
    Place {
        name: "apr-generate",
        ours: &[
            "gguf-format",
            "quant-kernels",
            "apr-sampler",
            "apr-tokenizer",
            "moe-model",
        ],
        others: Some(&["thiserror", "xxhash-rust"]),
    },
    Place {
        name: "apr-server",
        ours: &[
            "quant-kernels",
            "apr-sampler",
            "apr-tokenizer",
            "moe-model",
            "apr-generate",
            "apr-reply-parser",
        ],
        others: Some(&[
            "axum",
            "base64",
            "bytes",
            "http-body",
            "http-body-util",
            "humantime",
            "hyper",
            "hyper-util",
            "percent-encoding",
            "serde_json",
            "strsim",
            "subtle",
            "thiserror",
            "tokio",
            "tracing",
        ]),
    },
    Place {
        name: "apr-cli",
        ours: &[
            "gguf-format",
            "quant-kernels",
            "apr-sampler",
            "apr-tokenizer",
            "moe-model",
            "apr-generate",
            "apr-reply-parser",
            "apr-server",
            "type-mix",
            "model-tools",
        ],
        others: None,
    },
    Place {
        name: "xtask",
        ours: &[
            "gguf-format",
            "quant-kernels",
            "apr-sampler",
            "apr-tokenizer",
            "moe-model",
            "synth-model",
            "apr-generate",
            "model-tools",
        ],
        others: None,
    },
];

/// What tests may use besides: these stand above the crates that they are made of.
const FOR_TESTS: [&str; 2] = ["synth-model", "model-tools"];

/// Pairs whose tests alone meet: what a reply parser reads, chat templates must write again.
const TESTED_TOGETHER: [(&str, &str); 1] = [("apr-reply-parser", "apr-tokenizer")];

/// Asks cargo for the dependencies of all members.
pub(super) fn read(workspace: &Workspace) -> Result<Vec<Dependency>, TaskError> {
    let command = "cargo metadata";
    let output = workspace
        .cargo(&["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .map_err(|source| TaskError::Start {
            command: command.to_owned(),
            source,
        })?;
    if !output.status.success() {
        return Err(TaskError::Command {
            command: command.to_owned(),
            status: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    parse(&output.stdout).map_err(|reason| TaskError::Output {
        command: command.to_owned(),
        reason,
    })
}

/// Returns what breaks the picture, and crates that are not in it.
pub(super) fn check(dependencies: &[Dependency]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for dependency in dependencies {
        let Dependency {
            from, to, is_dev, ..
        } = dependency;
        let Some(place) = PICTURE.iter().find(|place| place.name == from) else {
            violations.push(Violation::new(
                from,
                "this crate has no place in the picture",
            ));
            continue;
        };
        let allowed = match (dependency.is_ours, is_dev) {
            (true, false) => place.ours.contains(&to.as_str()),
            (true, true) => {
                place.ours.contains(&to.as_str())
                    || FOR_TESTS.contains(&to.as_str())
                    || TESTED_TOGETHER.contains(&(from.as_str(), to.as_str()))
            }
            (false, true) => true,
            (false, false) => place
                .others
                .is_none_or(|others| others.contains(&to.as_str())),
        };
        if !allowed {
            violations.push(Violation::new(from, format!("may not depend on `{to}`")));
        }
    }
    violations
}

fn parse(json: &[u8]) -> Result<Vec<Dependency>, String> {
    let metadata: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let list = |value: &Value, key: &str| {
        value[key]
            .as_array()
            .cloned()
            .ok_or_else(|| format!("no list `{key}`"))
    };
    let name = |value: &Value| {
        value["name"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| "a package has no name".to_owned())
    };
    let mut dependencies = Vec::new();
    for package in list(&metadata, "packages")? {
        for dependency in list(&package, "dependencies")? {
            dependencies.push(Dependency {
                from: name(&package)?,
                to: name(&dependency)?,
                is_dev: dependency["kind"] == "dev",
                is_ours: dependency["path"].is_string(),
            });
        }
    }
    Ok(dependencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_cargo_becomes_dependencies() {
        let json = br#"{"packages": [{"name": "moe-model", "dependencies": [
            {"name": "gguf-format", "kind": null, "path": "/x/gguf-format"},
            {"name": "proptest", "kind": "dev"}
        ]}]}"#;
        let dependency = |to: &str, is_dev, is_ours| Dependency {
            from: "moe-model".to_owned(),
            to: to.to_owned(),
            is_dev,
            is_ours,
        };
        let expected = [
            dependency("gguf-format", false, true),
            dependency("proptest", true, false),
        ];
        assert_eq!(parse(json).unwrap(), expected);
        assert_eq!(parse(b"{}").unwrap_err(), "no list `packages`");
    }

    #[test]
    fn arrows_against_the_picture_are_found() {
        struct Case {
            from: &'static str,
            to: &'static str,
            is_dev: bool,
            is_ours: bool,
            allowed: bool,
        }
        let case = |from, to, is_dev, is_ours, allowed| Case {
            from,
            to,
            is_dev,
            is_ours,
            allowed,
        };
        let cases = [
            case("moe-model", "gguf-format", false, true, true),
            case("gguf-format", "moe-model", false, true, false),
            case("quant-kernels", "gguf-format", false, true, false),
            case("quant-kernels", "gguf-format", true, true, false),
            case("moe-model", "synth-model", true, true, true),
            case("moe-model", "synth-model", false, true, false),
            case("apr-reply-parser", "apr-tokenizer", true, true, true),
            case("apr-reply-parser", "apr-tokenizer", false, true, false),
            case("gguf-format", "serde", false, false, false),
            case("gguf-format", "proptest", true, false, true),
            case("apr-cli", "anything", false, false, true),
            case("new-crate", "thiserror", false, false, false),
        ];
        for Case {
            from,
            to,
            is_dev,
            is_ours,
            allowed,
        } in cases
        {
            let dependency = Dependency {
                from: from.to_owned(),
                to: to.to_owned(),
                is_dev,
                is_ours,
            };
            assert_eq!(check(&[dependency]).is_empty(), allowed, "{from} to {to}");
        }
    }
}
