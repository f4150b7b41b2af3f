//! Ctrl-C.
//!
//! The handler sets a flag, which is looked at after each token and after each layer of a
//! batch, and the verb ends in good order. Reading a large file or a layer of a very large
//! batch may still take longer than a person waits. So where the program is to end anyway,
//! the handler ends it itself after a moment; all text was flushed as it was written.
//!
//! SIGTERM ends the program at once, except where that would leave a file behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use generate::CancelFlag;

use crate::{error, terminal};

/// What the loops have to end in good order.
const GRACE: Duration = Duration::from_millis(60);

/// The flag, and what a Ctrl-C means.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    cancel: CancelFlag,
    /// Whether the first Ctrl-C ends only what is going on, not the program.
    is_gentle: Arc<AtomicBool>,
}

impl Interrupt {
    /// Installs the handler. Without one Ctrl-C ends the program at once, which is said.
    pub(crate) fn install() -> Self {
        let interrupt = Self::default();
        let of_handler = interrupt.clone();
        if let Err(error) = ctrlc::set_handler(move || of_handler.on_signal()) {
            terminal::say(format_args!("note: Ctrl-C cannot be handled: {error}"));
        }
        interrupt
    }

    /// Returns the flag that loops look at.
    pub(crate) const fn flag(&self) -> &CancelFlag {
        &self.cancel
    }

    /// Lets the first Ctrl-C end only what is going on; a second one ends the program.
    pub(crate) fn make_gentle(&self) {
        self.is_gentle.store(true, Ordering::Relaxed);
    }

    /// Lets the first Ctrl-C or SIGTERM, by which service managers and `timeout` end programs,
    /// only set the flag, so that no half of a file is left; a second one ends the program.
    pub(crate) fn end_in_order(&self) {
        self.make_gentle();
        #[cfg(unix)]
        {
            use signal_hook::{consts::SIGTERM, flag};

            // If the signal cannot be caught, it ends the program as it would have.
            let status = i32::from(error::INTERRUPTED);
            let _ = flag::register_conditional_shutdown(SIGTERM, status, self.cancel.shared());
            let _ = flag::register(SIGTERM, self.cancel.shared());
        }
    }

    pub(crate) fn is_gentle(&self) -> bool {
        self.is_gentle.load(Ordering::Relaxed)
    }

    fn on_signal(&self) {
        let was_set = self.cancel.cancel();
        if self.is_gentle() && !was_set {
            return;
        }
        thread::sleep(GRACE);
        terminal::say("");
        std::process::exit(i32::from(error::INTERRUPTED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gentle_first_signal_only_sets_the_flag() {
        let interrupt = Interrupt::default();
        interrupt.make_gentle();
        assert!(!interrupt.flag().is_cancelled());
        interrupt.on_signal();
        assert!(interrupt.flag().is_cancelled());
    }
}
