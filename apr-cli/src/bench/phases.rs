//! Where the time of a test goes, step by step.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use quant_kernels::Cpu;

/// Seconds by step. The time up to the first step of a pass counts to that step: with it
/// comes what happens between passes.
pub(super) type Seconds = BTreeMap<&'static str, f64>;

/// Listens to a [`Cpu`] and looks at the clock after every step.
#[derive(Clone, Debug)]
pub(super) struct Phases(Arc<Mutex<Times>>);

#[derive(Debug)]
struct Times {
    last: Instant,
    seconds: Seconds,
}

impl Phases {
    pub(super) fn of(cpu: &mut Cpu) -> Self {
        let phases = Self(Arc::new(Mutex::new(Times {
            last: Instant::now(),
            seconds: Seconds::new(),
        })));
        let listener = phases.clone();
        cpu.listen(move |step| {
            listener.with(|times| {
                let now = Instant::now();
                *times.seconds.entry(step).or_default() += (now - times.last).as_secs_f64();
                times.last = now;
            });
        });
        phases
    }

    /// Forgets what was so far and begins to count.
    pub(super) fn begin(&self) {
        self.with(|times| {
            times.seconds.clear();
            times.last = Instant::now();
        });
    }

    /// Returns what was counted since [`Self::begin`].
    pub(super) fn seconds(&self) -> Seconds {
        self.with(|times| times.seconds.clone())
    }

    fn with<R>(&self, look: impl FnOnce(&mut Times) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Lists the steps and their shares, the largest first.
pub(super) fn line(seconds: &Seconds) -> String {
    let total: f64 = seconds.values().sum();
    let mut steps: Vec<(&str, f64)> = seconds.iter().map(|(step, s)| (*step, *s)).collect();
    steps.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shares: Vec<String> = steps
        .iter()
        .map(|(step, seconds)| format!("{step} {:.1} %", 100.0 * seconds / total))
        .collect();
    shares.join(", ")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use quant_kernels::Isa;

    use super::*;

    #[test]
    fn steps_share_the_time_since_the_beginning() {
        let mut cpu = Cpu::new(Isa::SCALAR, NonZeroUsize::MIN).unwrap();
        let phases = Phases::of(&mut cpu);
        cpu.enter(|team| team.done("before"));
        phases.begin();
        let begin = Instant::now();
        cpu.enter(|team| {
            team.done("first");
            team.done("second");
            team.done("first");
        });
        let (seconds, elapsed) = (phases.seconds(), begin.elapsed().as_secs_f64());
        assert_eq!(
            seconds.keys().copied().collect::<Vec<_>>(),
            ["first", "second"]
        );
        assert!(seconds.values().sum::<f64>() <= elapsed + 1e-3);
    }

    #[test]
    fn the_largest_share_comes_first() {
        let seconds = Seconds::from([("a", 1.0), ("b", 3.0)]);
        assert_eq!(line(&seconds), "b 75.0 %, a 25.0 %");
    }
}
