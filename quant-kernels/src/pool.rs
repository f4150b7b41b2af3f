//! One resident team of threads; the only file that knows about threads.
//!
//! A forward pass has hundreds of short phases. Starting threads, or handing each phase
//! to a work queue, costs microseconds every time; so the team stays. [`Pool::enter`]
//! makes its caller the leader of a pass. For each phase the leader opens a gate. Members
//! that see it open go in, and all, the leader itself included, claim units from a counter
//! until none is left. Then the leader closes the gate, and goes on when those inside have
//! come out. It never waits for a member that has not come: one that the system runs late,
//! because it slept or because another process has its core, costs nothing but its help.
//! A single unit the leader does alone. Between phases the others spin, then yield, then
//! sleep, so that an idle team costs nothing. Nothing is allocated on the way.
//!
//! Which member computes a unit cannot change a bit of it: units write disjoint places
//! and never share a sum.
#![expect(unsafe_code, reason = "threads share closures and parts of buffers")]

mod band;
mod parts;

use std::{
    any::Any,
    cell::UnsafeCell,
    fmt,
    num::NonZeroUsize,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub(crate) use self::{
    band::{Band, BandStrip},
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
    gate: Apart<Gate>,
    /// The next unit nobody has claimed.
    next_unit: Apart<AtomicUsize>,
    /// Members asleep; the leader notifies only if there are any.
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    /// Whether a phase is under way.
    busy: AtomicBool,
    /// The first panic of a member.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Work of a phase, on the leader's stack.
type Work = &'static (dyn Fn(usize) + Sync);

/// The way into a phase. One cache line brings all that a member needs to know.
struct Gate {
    /// The number of the phase, whether it is open, and how many members are inside.
    state: AtomicU64,
    /// Written while the gate is closed and nobody inside; `None` ends the team.
    work: UnsafeCell<Option<Work>>,
}

// SAFETY: the leader alone writes `work`, while the gate is closed and nobody inside;
// members read it only inside.
unsafe impl Sync for Gate {}

impl Gate {
    const OPEN: u64 = 1 << 31;
    const INSIDE: u64 = Self::OPEN - 1;
    const PHASE: u64 = 1 << 32;

    fn phase(&self) -> u64 {
        self.state.load(Ordering::Relaxed) / Self::PHASE
    }

    /// Begins the next phase. The gate must be closed and nobody inside.
    fn open(&self, work: Option<Work>) {
        // SAFETY: nobody is inside (the caller's promise), so nobody reads this.
        unsafe { *self.work.get() = work };
        let state = (self.phase() + 1) * Self::PHASE + Self::OPEN;
        self.state.store(state, Ordering::SeqCst);
    }

    /// Goes in, unless the gate is closed or the phase is `seen`; returns phase and work.
    fn go_in(&self, seen: u64) -> Option<(u64, Option<Work>)> {
        let mut state = self.state.load(Ordering::SeqCst);
        while state & Self::OPEN != 0 && state / Self::PHASE != seen {
            let inside = self.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            match inside {
                Err(now) => state = now,
                // SAFETY: inside; the leader writes only when nobody is.
                Ok(_) => return Some((state / Self::PHASE, unsafe { *self.work.get() })),
            }
        }
        None
    }

    fn come_out(&self) {
        self.state.fetch_sub(1, Ordering::Release);
    }

    /// Closes the gate and waits until nobody is inside.
    fn close(&self) {
        let state = self.state.fetch_and(!Self::OPEN, Ordering::Acquire);
        if state & Self::INSIDE != 0 {
            let inside = || self.state.load(Ordering::Acquire) & Self::INSIDE;
            spin_then_yield(|| (inside() == 0).then_some(()), None);
        }
    }
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
        self.shared.gate.0.phase()
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
        self.shared.publish(None);
        for member in self.members.drain(..) {
            // A member catches the panics of its work, so it cannot have ended in one.
            let _ = member.join();
        }
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            gate: Apart(Gate {
                state: AtomicU64::new(0),
                work: UnsafeCell::new(None),
            }),
            next_unit: Apart(AtomicUsize::new(0)),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
            busy: AtomicBool::new(false),
            panic: Mutex::new(None),
        }
    }

    /// Starts a phase, or ends the team.
    fn publish(&self, work: Option<Work>) {
        self.gate.0.open(work);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _bed = lock(&self.bed);
            self.bell.notify_all();
        }
    }

    /// The life of a member: wait for a phase, go in, work, come out; until the team ends.
    fn follow(&self, member: usize) {
        let mut seen = 0;
        loop {
            let (phase, work) = self.await_phase(seen);
            let Some(work) = work else {
                return;
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| work(member)));
            if let Err(panic) = outcome {
                lock(&self.panic).get_or_insert(panic);
            }
            self.gate.0.come_out();
            seen = phase;
        }
    }

    /// Waits until there is a phase other than `seen` to go into.
    fn await_phase(&self, seen: u64) -> (u64, Option<Work>) {
        let go_in = || self.gate.0.go_in(seen);
        if let Some(phase) = spin_then_yield(go_in, Some(YIELD)) {
            return phase;
        }
        let mut bed = lock(&self.bed);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let phase = loop {
            if let Some(phase) = go_in() {
                break phase;
            }
            bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        phase
    }

    /// Does all of `work`, with the members that come, and waits for these.
    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        // Else units of one phase would be taken for those of the other.
        let nested = self.busy.swap(true, Ordering::Acquire);
        assert!(!nested, "work of a phase must not start another");
        self.next_unit.0.store(0, Ordering::Relaxed);
        // SAFETY: only the lifetime is changed; members use the reference inside the gate
        // alone, and this function returns only when nobody is.
        let lasting: Work = unsafe { std::mem::transmute(work) };
        self.publish(Some(lasting));
        let outcome = catch_unwind(AssertUnwindSafe(|| work(0)));
        self.gate.0.close();
        self.busy.store(false, Ordering::Release);
        let of_member = lock(&self.panic).take();
        if let Some(panic) = outcome.err().or(of_member) {
            resume_unwind(panic);
        }
    }
}

/// Polls: spinning first, then yielding; `None` once `limit` has passed.
fn spin_then_yield<T>(poll: impl Fn() -> Option<T>, limit: Option<Duration>) -> Option<T> {
    // Most waits are shorter than the first polls, and need no clock.
    const POLLS_PER_CLOCK: usize = 64;
    let mut start = None;
    loop {
        for _ in 0..POLLS_PER_CLOCK {
            if let Some(value) = poll() {
                return Some(value);
            }
            std::hint::spin_loop();
        }
        let waited = start.get_or_insert_with(Instant::now).elapsed();
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
        let claim = || self.shared.next_unit.0.fetch_add(1, Ordering::Relaxed);
        self.shared.run(&|member| {
            let mut unit = claim();
            if unit < n_units {
                let mut state = state(member);
                while unit < n_units {
                    work(&mut state, unit);
                    unit = claim();
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

    /// Runs `work(state, strip, next, tile)` for strips of at most `strip_len` columns of
    /// every band; `next` is the strip that the same member will probably get after this one.
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
        work: impl Fn(&mut S, BandStrip, Option<BandStrip>, TileMut<'_>) + Sync,
    ) {
        let n_units = check_bands(&out, bands, n_bands, strip_len);
        let MatMut {
            data,
            n_cols: stride,
        } = out;
        let start = SharedMut::new(data);
        let state = |member| (state(member), Cursor::default());
        self.for_each_unit(n_units, state, |(state, cursor), unit| {
            let (band, strip) = cursor.strip(unit, bands, strip_len);
            // Members that take as long for a unit as the others take turns.
            let next = unit + self.n_threads;
            let next = (next < n_units).then(|| cursor.clone().strip(next, bands, strip_len).1);
            let first = band.cols.start;
            let place = first + strip.cols.start..first + strip.cols.end;
            // SAFETY: units are claimed once each, bands do not overlap (`check_bands`),
            // nor do the strips of a band.
            let tile = unsafe { TileMut::new(&start, stride, band.rows, place) };
            work(state, strip, next, tile);
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

    /// Each unit waits until both threads have one, so a member that stays asleep would
    /// keep the test from ending.
    #[test]
    fn members_that_fell_asleep_wake_for_the_next_phase() {
        let pool = pool(2);
        pool.enter(|crew| {
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(2));
                let n_here = AtomicUsize::new(0);
                let meet = |(): &mut (), _| {
                    n_here.fetch_add(1, Ordering::Relaxed);
                    while n_here.load(Ordering::Relaxed) < 2 {
                        std::thread::yield_now();
                    }
                };
                crew.for_each_unit(2, |_| (), meet);
            }
        });
    }

    #[test]
    fn a_member_that_does_not_come_is_not_waited_for() {
        let shared = Shared::new();
        let crew = Crew {
            shared: &shared,
            n_threads: 3,
        };
        let total = AtomicUsize::new(0);
        for _ in 0..5 {
            let count = |(): &mut (), unit| {
                total.fetch_add(unit, Ordering::Relaxed);
            };
            crew.for_each_unit(4, |_| (), count);
        }
        assert_eq!(total.into_inner(), 5 * (1 + 2 + 3));
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
                |(), strip, _, mut tile| {
                    for row in 0..tile.n_rows() {
                        for (x, col) in tile.row(row).iter_mut().zip(strip.cols.clone()) {
                            *x += (100 * (strip.band + 1) + col) as f32;
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
