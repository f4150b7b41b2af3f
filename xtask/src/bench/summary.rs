//! Medians over laps.

use super::{engine::Setting, lap::Lap, workload::Workload};

/// One test over all laps that count.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) workload: Workload,
    pub(super) n_laps: usize,
    pub(super) n_counted: usize,
    pub(super) lines: Vec<Line>,
}

/// One setting.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    pub(super) setting: Setting,
    /// Median rate, and half the distance between the fastest and the slowest lap.
    pub(super) rate: f64,
    pub(super) spread: f64,
    /// How many times faster `apr` is than this; for `apr`, than the best peer of each lap.
    pub(super) ratio: Option<f64>,
    /// Bytes per second if it reads what `apr` reads, and their share of the stream.
    pub(super) read_gb_s: Option<f64>,
    pub(super) read_percent: Option<f64>,
    /// Share of the multiplier's peak.
    pub(super) multiply_percent: Option<f64>,
    pub(super) anonymous_bytes: u64,
}

impl Summary {
    /// Sums up the steady laps of a test; if none was steady, all of them.
    pub(super) fn of(laps: &[Lap], workload: Workload, max_drift: f64) -> Self {
        let all: Vec<&Lap> = laps.iter().filter(|l| l.workload == workload).collect();
        let steady: Vec<&Lap> = all
            .iter()
            .copied()
            .filter(|lap| lap.is_steady(max_drift))
            .collect();
        let counted = if steady.is_empty() { &all } else { &steady };
        let settings = all.first().map_or(&[][..], |lap| &lap.samples);
        let lines = settings.iter().map(|s| Line::of(counted, s.setting));
        Self {
            workload,
            n_laps: all.len(),
            n_counted: steady.len(),
            lines: lines.flatten().collect(),
        }
    }
}

impl Line {
    /// `None` if the setting has no result in any lap.
    fn of(laps: &[&Lap], setting: Setting) -> Option<Self> {
        let rates: Vec<f64> = laps.iter().filter_map(|lap| lap.rate(setting)).collect();
        let (least, most) = range(&rates)?;
        // What `apr` says about itself, times how much faster this is.
        let scaled = |lap: &Lap, name: &str| {
            let of_apr = lap.of(Setting::Apr)?;
            Some(of_apr.figure(name)? * lap.rate(setting)? / of_apr.rate()?)
        };
        let over_laps = |figure: &dyn Fn(&Lap) -> Option<f64>| {
            median(laps.iter().filter_map(|lap| figure(lap)).collect())
        };
        let read = |lap: &Lap| scaled(lap, "read_gb_s");
        let memory = laps.iter().filter_map(|lap| lap.of(setting));
        Some(Self {
            setting,
            rate: median(rates)?,
            spread: (most - least) / 2.0,
            ratio: over_laps(&|lap| ratio(lap, setting)),
            read_gb_s: over_laps(&read),
            read_percent: over_laps(&|lap| Some(100.0 * read(lap)? / lap.stream())),
            multiply_percent: over_laps(&|lap| scaled(lap, "multiply_percent")),
            anonymous_bytes: memory.map(|s| s.anonymous_bytes).max().unwrap_or_default(),
        })
    }
}

/// How many times faster `apr` was in this lap than `setting`, or than the best of the
/// others.
fn ratio(lap: &Lap, setting: Setting) -> Option<f64> {
    let other = if setting == Setting::Apr {
        let peers = lap.samples.iter().filter(|s| s.setting != Setting::Apr);
        let (_, best) = range(&peers.filter_map(|s| s.rate()).collect::<Vec<_>>())?;
        best
    } else {
        lap.rate(setting)?
    };
    Some(lap.rate(Setting::Apr)? / other)
}

fn range(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().reduce(f64::min)?;
    Some((least, values.iter().copied().fold(least, f64::max)))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n.is_multiple_of(2) => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::lap::Sample;

    const DECODE: Workload = Workload::Decode { n_gen: 8, depth: 0 };
    const IK: Setting = Setting::Ik { repack: false };
    const RTR: Setting = Setting::Ik { repack: true };

    /// A lap with a rate of `apr`, which reads 1 GB per token, and of two peers.
    fn lap(stream_gb_s: [f64; 2], apr: f64, ik: f64, rtr: Result<f64, &str>) -> Lap {
        let sample = |setting, rate: Result<f64, &str>| Sample {
            setting,
            result: rate
                .map(|rate| (rate, json!({ "read_gb_s": rate })))
                .map_err(str::to_owned),
            anonymous_bytes: 7,
        };
        Lap {
            round: 1,
            workload: DECODE,
            stream_gb_s,
            samples: vec![
                sample(Setting::Apr, Ok(apr)),
                sample(IK, Ok(ik)),
                sample(RTR, rtr),
            ],
        }
    }

    #[test]
    fn the_median_of_ratios_counts_and_not_the_ratio_of_medians() {
        let laps = [
            lap([40.0, 40.0], 10.0, 5.0, Ok(4.0)),
            lap([20.0, 20.0], 4.0, 1.0, Ok(2.0)),
            lap([40.0, 41.0], 12.0, 8.0, Ok(6.0)),
            lap([40.0, 20.0], 99.0, 1.0, Ok(1.0)),
        ];
        let summary = Summary::of(&laps, DECODE, 5.0);
        assert_eq!((summary.n_laps, summary.n_counted), (4, 3));
        let [apr, ik, _] = &summary.lines[..] else {
            panic!("{summary:?}");
        };
        assert_eq!((apr.rate, apr.spread), (10.0, 4.0));
        // 10/5, 4/2 and 12/8 against the best; 10/5, 4/1 and 12/8 against `ik`.
        assert_eq!((apr.ratio, ik.ratio), (Some(2.0), Some(2.0)));
        assert_eq!((ik.rate, ik.read_gb_s), (5.0, Some(5.0)));
        assert_eq!(apr.read_percent, Some(25.0));
        assert_eq!(apr.multiply_percent, None);
    }

    #[test]
    fn if_no_lap_was_steady_all_count_and_failures_do_not() {
        let laps = [
            lap([10.0, 20.0], 10.0, 5.0, Err("out of memory")),
            lap([20.0, 10.0], 20.0, 5.0, Err("out of memory")),
        ];
        let summary = Summary::of(&laps, DECODE, 5.0);
        assert_eq!((summary.n_laps, summary.n_counted), (2, 0));
        assert_eq!(summary.lines.len(), 2);
        assert_eq!(summary.lines[0].rate, 15.0);
        assert_eq!(summary.lines[0].ratio, Some(3.0));
    }
}
