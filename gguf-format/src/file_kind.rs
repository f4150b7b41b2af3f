//! What a file is, when it is not GGUF.
//!
//! People hand over the page that announced a download, the pointer that Git-LFS left in
//! its place, or weights in another format. Each is told apart by its first bytes, so that
//! the error can say what to do.

use std::fmt;

/// What a file that is not GGUF appears to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// No bytes at all.
    Empty,
    /// The text that Git-LFS keeps in place of a large file.
    GitLfsPointer,
    /// A web page, as servers send instead of a file.
    HtmlPage,
    /// An XML document, as object stores send for an error.
    Xml,
    /// JSON: a configuration, an index of shards or a server's error.
    Json,
    /// A zip archive, the container of `PyTorch` checkpoints.
    Zip,
    /// A gzip, zstd, xz or bzip2 stream.
    Compressed,
    /// A safetensors file.
    Safetensors,
    /// A Python pickle, the older form of `PyTorch` checkpoints.
    Pickle,
    /// One of ggml's formats from before GGUF.
    LegacyGgml,
    /// GGUF with the bytes of the magic reversed, as a faulty big-endian writer leaves it.
    ReversedGguf,
    /// Nothing that is recognised.
    Unknown,
}

impl FileKind {
    /// Tells by the first bytes what a file is that is not GGUF.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        const STARTS: &[(&[u8], FileKind)] = &[
            (b"version https://git-lfs", FileKind::GitLfsPointer),
            (b"PK\x03\x04", FileKind::Zip),
            (b"PK\x05\x06", FileKind::Zip),
            (b"\x1f\x8b", FileKind::Compressed),
            (b"\x28\xb5\x2f\xfd", FileKind::Compressed),
            (b"\xfd7zXZ\0", FileKind::Compressed),
            (b"BZh", FileKind::Compressed),
            (b"FUGG", FileKind::ReversedGguf),
            (b"lmgg", FileKind::LegacyGgml),
            (b"fmgg", FileKind::LegacyGgml),
            (b"tjgg", FileKind::LegacyGgml),
            (b"algg", FileKind::LegacyGgml),
        ];
        if bytes.is_empty() {
            return Self::Empty;
        }
        if let Some((_, kind)) = STARTS.iter().find(|(start, _)| bytes.starts_with(start)) {
            return *kind;
        }
        if matches!(bytes, [0x80, 2..=5, ..]) {
            return Self::Pickle;
        }
        // Eight bytes of header length, then the header's opening brace.
        if matches!(bytes, [_, _, _, _, _, 0, 0, 0, b'{', ..]) {
            return Self::Safetensors;
        }
        Self::of_text(bytes)
    }

    fn of_text(bytes: &[u8]) -> Self {
        let text = bytes
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(bytes)
            .trim_ascii_start();
        let begins = |start: &[u8]| {
            text.get(..start.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
        };
        if begins(b"<!doctype html") || begins(b"<html") || begins(b"<head") || begins(b"<!--") {
            Self::HtmlPage
        } else if begins(b"<?xml") {
            Self::Xml
        } else if begins(b"{") {
            Self::Json
        } else {
            Self::Unknown
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::GitLfsPointer => "a Git-LFS pointer; run `git lfs pull` to fetch the file itself",
            Self::HtmlPage => "an HTML page; download the file itself, not the page about it",
            Self::Xml => "an XML document, probably an error message of the download server",
            Self::Json => "JSON text, probably a configuration or an error message",
            Self::Zip => "a zip archive (perhaps a PyTorch checkpoint); convert it to GGUF first",
            Self::Compressed => "a compressed file; unpack it first",
            Self::Safetensors => {
                "a safetensors file, part of a checkpoint; open its folder, or convert it to GGUF first"
            }
            Self::Pickle => "a Python pickle; convert it to GGUF first",
            Self::LegacyGgml => "a ggml file from before GGUF; convert the model again",
            Self::ReversedGguf => {
                "a GGUF file with reversed bytes, written for big-endian machines"
            }
            Self::Unknown => "something else",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_first_bytes() {
        let cases: &[(&[u8], FileKind)] = &[
            (b"", FileKind::Empty),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                FileKind::GitLfsPointer,
            ),
            (b"\n <!DOCTYPE HTML><html>", FileKind::HtmlPage),
            (b"\xef\xbb\xbf<html lang=en>", FileKind::HtmlPage),
            (b"<?xml version=\"1.0\"?><Error>", FileKind::Xml),
            (b"{\"error\": \"gated\"}", FileKind::Json),
            (b"PK\x03\x04\x14\0", FileKind::Zip),
            (b"\x1f\x8b\x08\0", FileKind::Compressed),
            (
                b"\x40\x1f\0\0\0\0\0\0{\"__metadata__\"",
                FileKind::Safetensors,
            ),
            (b"\x80\x02\x8a\x0a", FileKind::Pickle),
            (b"tjgg\x03\0\0\0", FileKind::LegacyGgml),
            (b"FUGG\0\0\0\x03", FileKind::ReversedGguf),
            (b"\0\0\0\0", FileKind::Unknown),
        ];
        for (bytes, kind) in cases {
            assert_eq!(FileKind::of(bytes), *kind, "{}", bytes.escape_ascii());
        }
    }
}
