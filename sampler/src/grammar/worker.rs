//! A thread that computes while the caller does something else.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
    thread,
};

type Job = Box<dyn FnOnce() + Send>;

/// One thread for all matchers of a vocabulary: a step of one takes a fraction of a millisecond
/// and a forward pass many. It ends when the worker is dropped.
pub(super) struct Worker {
    /// None if the thread could not be started.
    jobs: Option<Mutex<Sender<Job>>>,
}

impl Worker {
    pub(super) fn start() -> Self {
        let (jobs, queue) = channel::<Job>();
        let run = move || queue.into_iter().for_each(|job| job());
        let thread = thread::Builder::new().name("apr-grammar".to_owned());
        let is_started = thread.spawn(run).is_ok();
        Self {
            jobs: is_started.then(|| Mutex::new(jobs)),
        }
    }

    /// Has `work` done, at once and here if there is no thread. Returns what its result comes
    /// through.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Receiver<T> {
        let (result, receiver) = sync_channel(1);
        let job: Job = Box::new(move || {
            // Nobody waits for the result of a request that has ended.
            let _ = result.send(work());
        });
        let left = match &self.jobs {
            None => Some(job),
            Some(jobs) => {
                let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
                jobs.send(job).err().map(|unsent| unsent.0)
            }
        };
        if let Some(job) = left {
            job();
        }
        receiver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_elsewhere_in_order_and_unheard_results_do_no_harm() {
        let worker = Worker::start();
        let here = thread::current().id();
        drop(worker.run(|| ()));
        let results: Vec<_> = (0..9)
            .map(|n| worker.run(move || (n, thread::current().id())))
            .collect();
        for (n, result) in results.into_iter().enumerate() {
            let (found, place) = result.recv().unwrap();
            assert_eq!(found, n);
            assert_ne!(place, here);
        }
    }

    #[test]
    fn without_a_thread_the_caller_does_the_work() {
        let worker = Worker { jobs: None };
        let place = worker.run(|| thread::current().id()).recv().unwrap();
        assert_eq!(place, thread::current().id());
    }
}
