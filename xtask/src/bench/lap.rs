//! One test done by all engines in turn.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    engine::Setting,
    file_name,
    process::Outcome,
    record::{self, Reading},
    workload::Workload,
};

/// A test done by every engine, and how fast memory was before and after.
#[derive(Debug)]
pub(super) struct Lap {
    pub(super) round: usize,
    pub(super) workload: Workload,
    pub(super) stream_gb_s: [f64; 2],
    pub(super) samples: Vec<Sample>,
}

/// One result.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) setting: Setting,
    /// A rate and the record of the engine it stands in, or why there is none.
    pub(super) result: Result<(f64, Value), String>,
    pub(super) anonymous_bytes: u64,
}

impl Sample {
    pub(super) fn new(setting: Setting, outcome: &Outcome, reading: Reading) -> Self {
        let result = record::read(outcome, reading);
        // `apr` says what it had before it took a buffer to measure memory with.
        let own = result.as_ref().ok();
        let own = own.and_then(|(_, record)| record["anonymous_bytes"].as_u64());
        Self {
            setting,
            result,
            anonymous_bytes: own.unwrap_or(outcome.anonymous_bytes),
        }
    }

    /// Tokens, or starts, per second.
    pub(super) fn rate(&self) -> Option<f64> {
        self.result.as_ref().ok().map(|(rate, _)| *rate)
    }

    /// A figure of the engine's own record.
    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        self.result.as_ref().ok()?.1[name].as_f64()
    }

    fn record(&self, workload: Workload) -> Value {
        let shown = self.rate().map(|rate| workload.shown(rate));
        json!({
            "setting": self.setting.to_string(),
            "value": shown,
            "unit": workload.unit(),
            "anonymous_bytes": self.anonymous_bytes,
            "error": self.result.as_ref().err(),
            "record": self.result.as_ref().ok().map(|(_, record)| without_folder(record.clone())),
        })
    }
}

/// Leaves of the model's path, which other engines put into their records, the name.
fn without_folder(mut record: Value) -> Value {
    if let Some(Value::String(path)) = record.get_mut("model_filename") {
        *path = file_name(Path::new(path.as_str()));
    }
    record
}

impl Lap {
    /// Returns whether memory stayed as fast as it was, within some percent.
    pub(super) fn is_steady(&self, max_drift: f64) -> bool {
        let [before, after] = self.stream_gb_s;
        (after - before).abs() <= before * max_drift / 100.0
    }

    pub(super) fn stream(&self) -> f64 {
        let [before, after] = self.stream_gb_s;
        f64::midpoint(before, after)
    }

    pub(super) fn of(&self, setting: Setting) -> Option<&Sample> {
        self.samples.iter().find(|s| s.setting == setting)
    }

    pub(super) fn rate(&self, setting: Setting) -> Option<f64> {
        self.of(setting)?.rate()
    }

    /// The raw row.
    pub(super) fn record(&self, max_drift: f64) -> Value {
        let samples = self.samples.iter().map(|s| s.record(self.workload));
        json!({
            "round": self.round,
            "test": self.workload.to_string(),
            "stream_gb_s": self.stream_gb_s,
            "steady": self.is_steady(max_drift),
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stay_out_of_records() {
        let record = json!({"model_filename": "/home/somebody/models/a.gguf", "avg_ts": 1.5});
        let expected = json!({"model_filename": "a.gguf", "avg_ts": 1.5});
        assert_eq!(without_folder(record), expected);
        assert_eq!(without_folder(json!({"tok_s": 2})), json!({"tok_s": 2}));
    }
}
