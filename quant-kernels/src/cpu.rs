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
    activations::{Activations, Forms},
    matrix::MatMut,
    pool::{Band, Crew, Pool},
    product::{Product, Scratch, Strip},
};

/// Weight rows in a unit of work: enough that claiming it costs nothing, few enough that
/// a thread taken away by the system delays the others little.
const STRIP_ROWS: usize = 64;

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
/// Each method that takes work is a phase and returns when all of it is done. Phases
/// follow one another: work within a phase must not start another one.
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
        self.crew
            .for_each_chunk(data, chunk_len, |_| (), |(), idx, chunk| work(idx, chunk));
    }

    /// Writes the token rows `x: [n_tokens, n_cols]` into `out`, in the forms that the
    /// products to come need. What `out` held before is gone.
    ///
    /// A block that holds NaN or infinity gets the scale NaN, so that every result it
    /// enters is NaN.
    ///
    /// # Panics
    /// If `n_cols` is zero, `x` is no whole number of rows, or a row is no whole number
    /// of blocks: of 32 for [`Q8Small`](crate::ActivationForm::Q8Small), of 256 for
    /// [`Q8Super`](crate::ActivationForm::Q8Super).
    pub fn activate(&self, x: &[f32], n_cols: usize, forms: Forms, out: &mut Activations) {
        assert!(
            n_cols > 0 && x.len().is_multiple_of(n_cols),
            "{} floats are no rows of {n_cols}",
            x.len()
        );
        forms.check(n_cols);
        let buffers = out.resize(x.len() / n_cols, n_cols, forms);
        let row = |idx: usize| &x[idx * n_cols..(idx + 1) * n_cols];
        self.for_each_chunk(buffers.floats, n_cols, |idx, out| {
            out.copy_from_slice(row(idx));
        });
        self.for_each_chunk(buffers.small, buffers.groups, |idx, out| {
            self.isa.quantize_small(row(idx), out);
        });
        self.for_each_chunk(buffers.superblocks, buffers.groups, |idx, out| {
            self.isa.quantize_super(row(idx), out);
        });
    }

    /// Computes the products of one phase, all from the same activations into one output.
    ///
    /// They are listed in the order of their places: each below the rows of the one
    /// before, or right of it in the same rows. Where no product has its place `out`
    /// stays as it is.
    ///
    /// # Panics
    /// If shapes do not fit, a row of `x` does not exist, places are outside of `out`,
    /// overlap or are out of order, or `x` lacks the form for a type
    /// ([`QuantType::activation_form`](crate::QuantType::activation_form)).
    pub fn products(&self, products: &[Product<'_>], x: &Activations, out: MatMut<'_>) {
        products.iter().for_each(|product| product.check(x));
        let band = |idx: usize| {
            let product: &Product<'_> = &products[idx];
            Band {
                rows: product.out_row..product.out_row + product.x_rows.len(),
                cols: product.out_col..product.out_col + product.w.n_rows(),
            }
        };
        self.crew.for_each_tile(
            out,
            &band,
            products.len(),
            STRIP_ROWS,
            |member| self.scratch(member),
            |scratch, idx, rows, tile| {
                let product = &products[idx];
                let (w, up) = product.strip_rows(rows);
                let strip = Strip {
                    w,
                    x,
                    x_rows: product.x_rows,
                };
                self.isa.gated_strip(strip, up, scratch, tile);
            },
        );
    }

    pub(crate) fn scratch(&self, member: usize) -> MutexGuard<'_, Scratch> {
        self.scratch[member]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
