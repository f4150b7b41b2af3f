//! Manifests of members: versions, edition and lints come from the workspace, so they are
//! said once.

use super::Violation;
use crate::workspace::SourceFile;

/// Keys that every member takes from the workspace, as its manifest says it.
const INHERITED: [&str; 5] = [
    "version.workspace = true",
    "edition.workspace = true",
    "rust-version.workspace = true",
    "license.workspace = true",
    "[lints]\nworkspace = true",
];

pub(super) fn check(files: &[SourceFile]) -> Vec<Violation> {
    let root = files.iter().find(|file| file.path == "Cargo.toml");
    let members = root.map_or_else(Vec::new, |root| members(&root.text));
    members
        .iter()
        .flat_map(|member| check_member(member, files))
        .collect()
}

/// Returns the entries of `members = […]`.
fn members(manifest: &str) -> Vec<&str> {
    let list = manifest
        .split_once("\nmembers = [")
        .and_then(|(_, rest)| rest.split_once(']'));
    list.map_or_else(Vec::new, |(list, _)| {
        list.split('"').skip(1).step_by(2).collect()
    })
}

fn check_member(member: &str, files: &[SourceFile]) -> Vec<Violation> {
    let path = format!("{member}/Cargo.toml");
    let Some(manifest) = files.iter().find(|file| file.path == path) else {
        return vec![Violation::new(path, "the member has no manifest")];
    };
    let missing = INHERITED
        .iter()
        .filter(|key| !manifest.text.contains(*key))
        .map(|key| Violation::new(&path, format!("says no `{}`", key.replace('\n', " "))));
    let mut violations: Vec<Violation> = missing.collect();
    let mut section = "";
    for line in manifest.text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && line.contains('=')
            && !line.contains("workspace = true")
        {
            let message = format!("`{line}`: versions and paths are those of the workspace");
            violations.push(Violation::new(&path, message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{broken, file},
        *,
    };

    const GOOD: &str = "[package]\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\n\n[dependencies]\n\
        half.workspace = true\nclap = { workspace = true, features = [\"env\"] }\n\n\
        [lints]\nworkspace = true\n";

    #[test]
    fn members_inherit_from_the_workspace() {
        let bad = GOOD
            .replace("half.workspace = true", "half = \"2.7\"")
            .replace("edition.workspace = true", "edition = \"2024\"")
            .replace("[lints]\nworkspace = true\n", "");
        let files = [
            file(
                "Cargo.toml",
                "[workspace]\nmembers = [\n    \"good\",\n    \"bad\", \"gone\"]\n",
            ),
            file("good/Cargo.toml", GOOD),
            file("bad/Cargo.toml", &bad),
            file("good/fuzz/Cargo.toml", ""),
        ];
        assert_eq!(
            broken(check, &files),
            [
                "bad/Cargo.toml: says no `edition.workspace = true`",
                "bad/Cargo.toml: says no `[lints] workspace = true`",
                "bad/Cargo.toml: `half = \"2.7\"`: versions and paths are those of the workspace",
                "gone/Cargo.toml: the member has no manifest",
            ]
        );
    }
}
