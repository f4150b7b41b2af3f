//! One resident team of threads; the only file that knows about threads.
//!
//! A forward pass has hundreds of short phases. Starting threads, or handing each phase
//! to a work queue, costs microseconds every time; so the team stays. [`Pool::enter`]
//! makes its caller the leader of a pass. For each phase the leader publishes a closure;
//! all members, itself included, begin with the unit of their own number and then claim
//! units from a counter until none is left; and the leader goes on when the last has
//! arrived. A single unit the leader does alone. Between phases the others spin, then
//! yield, then sleep, so that an idle team costs nothing and a machine with foreign load
//! loses no more than its share. Nothing is allocated on the way.
//!
//! Which member computes a unit cannot change a bit of it: units write disjoint places
//! and never share a sum.
#![expect(
    unsafe_code,
    reason = "threads share closures and disjoint parts of a buffer"
)]

mod band;
mod parts;

use std::{
    any::Any,
    fmt,
    num::NonZeroUsize,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub(crate) use self::{
    band::Band,
    parts::{Rows, Table, TileMut},
};
use self::{
    band::{Cursor, check_bands},
    parts::SharedMut,
};
use crate::{KernelError, matrix::MatMut};

/// How long a member spins for the next phase before it yields its core.
const SPIN: Duration = Duration::from_micros(20);
/// How long a member waits in all before it sleeps.
const YIELD: Duration = Duration::from_micros(200);

/// Threads that run passes, one pass at a time.
pub(crate) struct Pool {
    members: Vec<JoinHandle<()>>,
    n_threads: NonZeroUsize,
    turn: Mutex<()>,
    shared: Arc<Shared>,
}

/// On a cache line pair of its own, so that members do not disturb each other.
#[repr(align(128))]
struct Apart<T>(T);

/// What leader and members share.
struct Shared {
    /// Counts phases; a member runs a phase when it sees the number change.
    phase: Apart<AtomicU64>,
    /// Members that have finished the phase.
    arrived: Apart<AtomicUsize>,
    /// The next unit nobody has claimed.
    next_unit: Apart<AtomicUsize>,
    /// A `&(dyn Fn(usize) + Sync)` on the leader's stack, or null to end the team.
    work: AtomicPtr<&'static (dyn Fn(usize) + Sync)>,
    /// Members asleep; the leader notifies only if there are any.
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    /// Whether a phase is under way.
    busy: AtomicBool,
    /// The first panic of a member.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("n_threads", &self.n_threads)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts a team of `n_threads`, whose leader is whoever enters.
    pub(crate) fn new(n_threads: NonZeroUsize) -> Result<Self, KernelError> {
        let mut pool = Self {
            members: Vec::new(),
            n_threads,
            turn: Mutex::new(()),
            shared: Arc::new(Shared::new()),
        };
        for member in 1..n_threads.get() {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("apr-{member}"));
            match thread.spawn(move || shared.follow(member)) {
                Ok(handle) => pool.members.push(handle),
                Err(error) => {
                    return Err(KernelError::Threads {
                        n_threads: n_threads.get(),
                        reason: error.to_string(),
                    });
                }
            }
        }
        Ok(pool)
    }

    pub(crate) fn n_threads(&self) -> NonZeroUsize {
        self.n_threads
    }

    /// Returns how many phases the team has met for.
    pub(crate) fn n_phases(&self) -> u64 {
        self.shared.phase.0.load(Ordering::SeqCst)
    }

    /// Runs `pass` with the team, led by the calling thread. A panic of a unit is raised
    /// here. Passes of several callers take turns.
    pub(crate) fn enter<R>(&self, pass: impl FnOnce(&Crew<'_>) -> R) -> R {
        let _turn = lock(&self.turn);
        pass(&Crew {
            shared: &self.shared,
            n_threads: self.n_threads.get(),
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.publish(ptr::null_mut());
        for member in self.members.drain(..) {
            // A member catches the panics of its work, so it cannot have ended in one.
            let _ = member.join();
        }
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            phase: Apart(AtomicU64::new(0)),
            arrived: Apart(AtomicUsize::new(0)),
            next_unit: Apart(AtomicUsize::new(0)),
            work: AtomicPtr::new(ptr::null_mut()),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
            busy: AtomicBool::new(false),
            panic: Mutex::new(None),
        }
    }

    /// Starts a phase, or ends the team with null.
    fn publish(&self, work: *mut &'static (dyn Fn(usize) + Sync)) {
        self.work.store(work, Ordering::Relaxed);
        self.phase.0.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _bed = lock(&self.bed);
            self.bell.notify_all();
        }
    }

    /// The life of a member: wait for a phase, work, arrive; until the team ends.
    fn follow(&self, member: usize) {
        let mut seen = 0;
        loop {
            seen = self.await_phase(seen);
            let work = self.work.load(Ordering::Relaxed);
            if work.is_null() {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: `run` keeps the closure alive until every member has arrived,
                // and this member arrives below, after its last use.
                let work = unsafe { *work };
                work(member);
            }));
            if let Err(panic) = outcome {
                lock(&self.panic).get_or_insert(panic);
            }
            self.arrived.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Waits until the phase number is no longer `seen` and returns it.
    fn await_phase(&self, seen: u64) -> u64 {
        let changed = || {
            let phase = self.phase.0.load(Ordering::SeqCst);
            (phase != seen).then_some(phase)
        };
        if let Some(phase) = spin_then_yield(changed, Some(YIELD)) {
            return phase;
        }
        let mut bed = lock(&self.bed);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let phase = loop {
            if let Some(phase) = changed() {
                break phase;
            }
            bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        phase
    }

    /// Lets every member run `work` and waits for all; the leader works too.
    fn run(&self, n_threads: usize, work: &(dyn Fn(usize) + Sync)) {
        // Else units and arrivals of one phase would be taken for those of the other.
        let nested = self.busy.swap(true, Ordering::Acquire);
        assert!(!nested, "work of a phase must not start another");
        self.arrived.0.store(0, Ordering::Relaxed);
        self.next_unit.0.store(n_threads, Ordering::Relaxed);
        // SAFETY: only the lifetime is changed; no member uses the reference after it has
        // arrived, and this function returns only then.
        let mut work: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(work) };
        self.publish(&raw mut work);
        let outcome = catch_unwind(AssertUnwindSafe(|| work(0)));
        let all = || (self.arrived.0.load(Ordering::Acquire) == n_threads - 1).then_some(());
        spin_then_yield(all, None);
        self.busy.store(false, Ordering::Release);
        let of_member = lock(&self.panic).take();
        if let Some(panic) = outcome.err().or(of_member) {
            resume_unwind(panic);
        }
    }
}

/// Polls: spinning first, then yielding; `None` once `limit` has passed.
fn spin_then_yield<T>(poll: impl Fn() -> Option<T>, limit: Option<Duration>) -> Option<T> {
    const POLLS_PER_CLOCK: usize = 64;
    let start = Instant::now();
    loop {
        for _ in 0..POLLS_PER_CLOCK {
            if let Some(value) = poll() {
                return Some(value);
            }
            std::hint::spin_loop();
        }
        let waited = start.elapsed();
        if limit.is_some_and(|limit| waited > limit) {
            return None;
        }
        if waited > SPIN {
            std::thread::yield_now();
        }
    }
}

/// The team during a pass, as its leader sees it.
pub(crate) struct Crew<'a> {
    shared: &'a Shared,
    n_threads: usize,
}

impl Crew<'_> {
    pub(crate) fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Runs `work(state, unit)` for every unit below `n_units`, spread over the team.
    /// Each member that gets a unit makes its `state` once, from its own index.
    pub(crate) fn for_each_unit<S>(
        &self,
        n_units: usize,
        state: impl Fn(usize) -> S + Sync,
        work: impl Fn(&mut S, usize) + Sync,
    ) {
        if self.n_threads == 1 || n_units <= 1 {
            if n_units > 0 {
                let mut state = state(0);
                (0..n_units).for_each(|unit| work(&mut state, unit));
            }
            return;
        }
        let next = &self.shared.next_unit.0;
        self.shared.run(self.n_threads, &|member| {
            let mut unit = member;
            if unit < n_units {
                let mut state = state(member);
                while unit < n_units {
                    work(&mut state, unit);
                    unit = next.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    /// Runs `work(state, rows, part)` for consecutive parts of `unit_rows` rows of a table
    /// of `n_rows`; the last may be shorter.
    pub(crate) fn for_each_part<P: Table, S>(
        &self,
        table: &P,
        n_rows: usize,
        unit_rows: usize,
        state: impl Fn(usize) -> S + Sync,
        work: impl Fn(&mut S, Range<usize>, P::Part) + Sync,
    ) {
        assert!(unit_rows > 0, "parts without rows");
        self.for_each_unit(n_rows.div_ceil(unit_rows), state, |state, unit| {
            let rows = unit * unit_rows..((unit + 1) * unit_rows).min(n_rows);
            // SAFETY: units are claimed once each, and different units have no row in
            // common.
            let part = unsafe { table.part(rows.clone()) };
            work(state, rows, part);
        });
    }

    /// Runs `work(state, band_idx, cols, tile)` for strips of at most `strip_len` columns
    /// of every band; `cols` counts from the band's first column.
    ///
    /// Bands must lie within `out`, and each must start below the rows of the one before,
    /// or have the same rows and start right of it.
    pub(crate) fn for_each_tile<S>(
        &self,
        out: MatMut<'_>,
        bands: &(impl Fn(usize) -> Band + Sync),
        n_bands: usize,
        strip_len: usize,
        state: impl Fn(usize) -> S + Sync,
        work: impl Fn(&mut S, usize, Range<usize>, TileMut<'_>) + Sync,
    ) {
        let n_units = check_bands(&out, bands, n_bands, strip_len);
        let MatMut {
            data,
            n_cols: stride,
        } = out;
        let start = SharedMut::new(data);
        let state = |member| (state(member), Cursor::default());
        self.for_each_unit(n_units, state, |(state, cursor), unit| {
            let (idx, band, cols) = cursor.strip(unit, bands, strip_len);
            let first = band.cols.start;
            let place = first + cols.start..first + cols.end;
            // SAFETY: units are claimed once each, bands do not overlap (`check_bands`),
            // nor do the strips of a band.
            let tile = unsafe { TileMut::new(&start, stride, band.rows, place) };
            work(state, idx, cols, tile);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(n_threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(n_threads).unwrap()).unwrap()
    }

    #[test]
    fn every_unit_runs_once_in_every_phase() {
        for n_threads in 1..=4 {
            let pool = pool(n_threads);
            for n_units in [0, 1, 2, 3, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..n_units).map(|_| AtomicUsize::new(0)).collect();
                pool.enter(|crew| {
                    for _ in 0..50 {
                        crew.for_each_unit(
                            n_units,
                            |_| (),
                            |(), unit| {
                                counts[unit].fetch_add(1, Ordering::Relaxed);
                            },
                        );
                    }
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 50));
            }
        }
    }

    #[test]
    fn members_that_fell_asleep_wake_for_the_next_phase() {
        let pool = pool(3);
        let total = AtomicUsize::new(0);
        pool.enter(|crew| {
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(2));
                crew.for_each_unit(
                    9,
                    |_| (),
                    |(), _| {
                        total.fetch_add(1, Ordering::Relaxed);
                    },
                );
            }
        });
        assert_eq!(total.into_inner(), 45);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = pool(3);
        for bad in 0..6 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.enter(|crew| {
                    crew.for_each_unit(6, |_| (), |(), unit| assert!(unit != bad, "unit {unit}"));
                });
            }));
            assert!(outcome.is_err());
        }
        assert_eq!(pool.enter(|_| 7), 7);
    }

    #[test]
    fn a_phase_within_a_phase_is_refused() {
        let pool = pool(3);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.enter(|crew| {
                let inner = || crew.for_each_unit(4, |_| (), |(), _| ());
                crew.for_each_unit(4, |_| (), |(), _| inner());
            });
        }));
        assert!(outcome.is_err());
        assert_eq!(pool.enter(|_| 7), 7);
    }

    #[test]
    fn tiles_cover_their_bands_and_nothing_else() {
        let bands = [
            Band {
                rows: 0..2,
                cols: 0..5,
            },
            Band {
                rows: 0..2,
                cols: 6..7,
            },
            Band {
                rows: 3..4,
                cols: 2..7,
            },
        ];
        let mut data = vec![0.0; 4 * 7];
        pool(2).enter(|crew| {
            let out = MatMut::new(&mut data, 7);
            let band = |idx: usize| bands[idx].clone();
            crew.for_each_tile(
                out,
                &band,
                3,
                2,
                |_| (),
                |(), idx, cols, mut tile| {
                    for row in 0..tile.n_rows() {
                        for (x, col) in tile.row(row).iter_mut().zip(cols.clone()) {
                            *x += (100 * (idx + 1) + col) as f32;
                        }
                    }
                },
            );
        });
        let row = [100.0, 101.0, 102.0, 103.0, 104.0, 0.0, 200.0];
        assert_eq!(data[..7], row);
        assert_eq!(data[7..14], row);
        assert_eq!(
            data[14..],
            [
                0., 0., 0., 0., 0., 0., 0., 0., 0., 300., 301., 302., 303., 304.
            ]
        );
    }

    #[test]
    #[should_panic(expected = "overlaps")]
    fn overlapping_bands_are_refused() {
        let mut data = [0.0; 8];
        let band = |idx: usize| Band {
            rows: 0..2,
            cols: idx..idx + 2,
        };
        pool(1).enter(|crew| {
            let out = MatMut::new(&mut data, 4);
            crew.for_each_tile(out, &band, 2, 2, |_| (), |(), _, _, _| {});
        });
    }
}
