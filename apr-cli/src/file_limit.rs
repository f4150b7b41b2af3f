//! A limit on the size of files, as shells and service managers set it.
//!
//! Where a file would grow beyond it, the system sends a signal that ends the program, before the
//! program could clean up. If the signal is caught, writing fails with an error like any other.

/// Lets writing beyond the limit be an error.
#[cfg(unix)]
pub(crate) fn make_an_error() {
    use std::sync::{Arc, atomic::AtomicBool};

    use signal_hook::{consts::SIGXFSZ, flag};

    // Nobody asks for the flag: the error says it all. If the signal cannot be caught, it ends
    // the program as it would have.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// There is no such limit.
#[cfg(not(unix))]
pub(crate) fn make_an_error() {}
