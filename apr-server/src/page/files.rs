//! The files of the page, one a line. A test holds the list against the folder.

use super::File;

macro_rules! file {
    ($name:literal) => {
        File {
            name: $name,
            bytes: include_bytes!(concat!("../../page/", $name)),
        }
    };
}

/// What the page loads, by the name behind `/assets/`.
pub(super) static FILES: &[File] = &[
    file!("icon.svg"),
    file!("js/answer-view.js"),
    file!("js/answer.js"),
    file!("js/api.js"),
    file!("js/clipboard.js"),
    file!("js/code-block.js"),
    file!("js/composer.js"),
    file!("js/conversation-file.js"),
    file!("js/conversations.js"),
    file!("js/dom.js"),
    file!("js/entities.js"),
    file!("js/figures.js"),
    file!("js/first-paint.js"),
    file!("js/highlight.js"),
    file!("js/inline.js"),
    file!("js/key-dialog.js"),
    file!("js/key.js"),
    file!("js/keys.js"),
    file!("js/main.js"),
    file!("js/markdown.js"),
    file!("js/notice.js"),
    file!("js/server-state.js"),
    file!("js/settings-dialog.js"),
    file!("js/settings.js"),
    file!("js/sidebar.js"),
    file!("js/store.js"),
    file!("js/stream.js"),
    file!("js/text-box.js"),
    file!("js/theme.js"),
    file!("js/thread.js"),
    file!("js/turn.js"),
    file!("js/user-view.js"),
    file!("style/colours.css"),
    file!("style/controls.css"),
    file!("style/layout.css"),
    file!("style/markdown.css"),
    file!("style/messages.css"),
    file!("vendor/highlight/bash.js"),
    file!("vendor/highlight/core.js"),
    file!("vendor/highlight/cpp.js"),
    file!("vendor/highlight/csharp.js"),
    file!("vendor/highlight/css.js"),
    file!("vendor/highlight/diff.js"),
    file!("vendor/highlight/go.js"),
    file!("vendor/highlight/ini.js"),
    file!("vendor/highlight/java.js"),
    file!("vendor/highlight/javascript.js"),
    file!("vendor/highlight/json.js"),
    file!("vendor/highlight/python.js"),
    file!("vendor/highlight/rust.js"),
    file!("vendor/highlight/sql.js"),
    file!("vendor/highlight/typescript.js"),
    file!("vendor/highlight/xml.js"),
    file!("vendor/highlight/yaml.js"),
    file!("vendor/marked.js"),
];
