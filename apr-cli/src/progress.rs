//! Progress of long work, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr that leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Shows a bar of `total` steps; `template` is indicatif's. Hidden if `quiet`, or if
    /// stderr is no terminal.
    pub(crate) fn new(total: u64, template: &str, quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self(bar)
    }

    /// Shows progress counted in tokens.
    pub(crate) fn tokens(what: &str, total: usize, quiet: bool) -> Self {
        let template = format!("{what} {{wide_bar}} {{pos}}/{{len}} tokens, {{eta}} left");
        Self::new(total as u64, &template, quiet)
    }

    /// Shows progress counted in bytes.
    pub(crate) fn bytes(what: &str, total: u64, quiet: bool) -> Self {
        let template = format!("{what} {{wide_bar}} {{decimal_bytes}}/{{decimal_total_bytes}}");
        Self::new(total, &template, quiet)
    }

    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
