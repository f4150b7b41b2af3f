//! The context of all work: instruction set and threads together.
//!
//! A binary builds one [`Cpu`]; a forward pass enters it once and gets the [`Team`],
//! whose methods are the phases of the pass. How rows are split is decided here, how many
//! threads there are by the binary. Nothing here may change a bit: a phase is divided
//! where results are independent of each other.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    Isa, KernelError,
    pool::{Crew, Pool, Rows},
    product::Scratch,
};

/// Instruction set and threads.
///
/// Built once and shared by reference; passes of several callers take turns. The threads
/// end when it is dropped.
pub struct Cpu {
    isa: Isa,
    pool: Pool,
    scratch: Vec<Mutex<Scratch>>,
    listener: Option<Listener>,
}

/// Is told the steps of a pass.
type Listener = Box<dyn Fn(&'static str) + Send + Sync>;

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpu")
            .field("isa", &self.isa)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl Cpu {
    /// Makes a team of `n_threads`: starts all but one, whose place the caller of
    /// [`Self::enter`] takes. Between passes they sleep.
    ///
    /// # Errors
    /// [`KernelError::Threads`] if the system refuses to start them.
    pub fn new(isa: Isa, n_threads: NonZeroUsize) -> Result<Self, KernelError> {
        let scratch = (0..n_threads.get()).map(|_| Mutex::default()).collect();
        Ok(Self {
            isa,
            pool: Pool::new(n_threads)?,
            scratch,
            listener: None,
        })
    }

    /// Has `listener` told every step of a pass as soon as it is done, by the thread that
    /// leads. Libraries read no clock: so a program finds out where the time goes.
    pub fn listen(&mut self, listener: impl Fn(&'static str) + Send + Sync + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// Returns the instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns the number of threads, the leader of a pass among them.
    pub fn n_threads(&self) -> NonZeroUsize {
        self.pool.n_threads()
    }

    /// Returns how many times the threads have met so far: once per phase that was
    /// divided among them.
    pub fn n_phases(&self) -> u64 {
        self.pool.n_phases()
    }

    /// Runs `pass` on the calling thread, which leads the others, and returns its result.
    ///
    /// Passes of several callers take turns. A pass must not enter the same `Cpu` again:
    /// it would wait for itself.
    ///
    /// # Panics
    /// If the pass or a unit of its work panics. The team can be entered again
    /// afterwards.
    pub fn enter<R>(&self, pass: impl FnOnce(&Team<'_>) -> R) -> R {
        self.pool.enter(|crew| {
            pass(&Team {
                isa: self.isa,
                crew,
                scratch: &self.scratch,
                listener: self.listener.as_ref(),
            })
        })
    }
}

/// The threads during one pass, lent by [`Cpu::enter`].
///
/// Each method that takes work is a phase and returns when all of it is done. Work that is
/// less than a meeting of the threads costs is done by the leader alone. Phases follow one
/// another: work within a phase must not start another one.
pub struct Team<'a> {
    isa: Isa,
    pub(crate) crew: &'a Crew<'a>,
    scratch: &'a [Mutex<Scratch>],
    listener: Option<&'a Listener>,
}

impl fmt::Debug for Team<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team")
            .field("isa", &self.isa)
            .field("n_threads", &self.crew.n_threads())
            .finish_non_exhaustive()
    }
}

impl Team<'_> {
    /// Returns the instruction set, for small work that one thread does at once.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns the number of threads, the leader among them.
    pub fn n_threads(&self) -> usize {
        self.crew.n_threads()
    }

    /// Says that a step of the pass is done, to the one who listens ([`Cpu::listen`]).
    pub fn done(&self, step: &'static str) {
        if let Some(listener) = self.listener {
            listener(step);
        }
    }

    /// Runs `work(idx, chunk)` for consecutive chunks of `chunk_len` elements of `data`,
    /// on any thread and in any order; the last chunk may be shorter. `work` must not
    /// start a phase of its own.
    ///
    /// # Panics
    /// If `chunk_len` is zero or `work` panics.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        chunk_len: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(chunk_len > 0, "chunks of length zero");
        let n_chunks = data.len().div_ceil(chunk_len);
        self.crew.for_each_part(
            &Rows::new(data, chunk_len),
            n_chunks,
            1,
            |_| (),
            |(), chunks, chunk| work(chunks.start, chunk),
        );
    }

    /// Runs `work(row, a, b)` for every row of two buffers of `n_rows` rows each, on any
    /// thread and in any order, `unit_rows` together. `work` must not start a phase of
    /// its own.
    ///
    /// # Panics
    /// If `unit_rows` is zero, a buffer is no whole number of rows, or `work` panics.
    pub fn for_each_row<A: Send, B: Send>(
        &self,
        n_rows: usize,
        unit_rows: usize,
        a: &mut [A],
        b: &mut [B],
        work: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        let row_len = |len: usize| {
            let row_len = len.checked_div(n_rows).unwrap_or_default();
            assert_eq!(row_len * n_rows, len, "{len} elements in {n_rows} rows");
            row_len
        };
        let (a_len, b_len) = (row_len(a.len()), row_len(b.len()));
        self.crew.for_each_part(
            &(Rows::new(a, a_len), Rows::new(b, b_len)),
            n_rows,
            unit_rows,
            |_| (),
            |(), rows, (a, b)| {
                for (i, row) in rows.enumerate() {
                    let (a, b) = (&mut a[i * a_len..], &mut b[i * b_len..]);
                    work(row, &mut a[..a_len], &mut b[..b_len]);
                }
            },
        );
    }

    pub(crate) fn scratch(&self, member: usize) -> MutexGuard<'_, Scratch> {
        self.scratch[member]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
