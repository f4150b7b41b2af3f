//! The threads that models are read and written on, for as long as a work takes.

use std::num::NonZeroUsize;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::ToolError;

/// Starts so many threads, which end when the pool is dropped.
pub(crate) fn threads(n_threads: NonZeroUsize) -> Result<ThreadPool, ToolError> {
    let threads = ThreadPoolBuilder::new().num_threads(n_threads.get());
    threads.build().map_err(|error| ToolError::Threads {
        n_threads: n_threads.get(),
        reason: error.to_string(),
    })
}
