//! Rows and tables.

use serde::Serialize;
use serde_json::{Value, json};

use super::{held::Held, phases::Seconds, workload::Test};
use crate::{
    machine::Footprint,
    units::{bytes, count},
};

/// What all rows have in common.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) size_bytes: u64,
    pub(super) n_params: u64,
    pub(super) isa: &'static str,
    pub(super) threads: usize,
    pub(super) batch_size: usize,
    pub(super) weight_bytes_per_token: u64,
    /// What the multipliers could do: billions of multiplications and additions per second.
    pub(super) peak_gops: Option<f64>,
}

/// The result of a test.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    test: String,
    /// Sequences that go on together; figures are those of all of them.
    n_parallel: usize,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    /// Median over the rounds.
    tok_s: f64,
    /// Half the distance between the fastest and the slowest round.
    spread_tok_s: f64,
    seconds: Vec<f64>,
    /// What decoding reads from memory.
    read_gb_s: Option<f64>,
    /// A streaming read, measured after the rounds.
    stream_gb_s: f64,
    /// `read_gb_s` in percent of `stream_gb_s`.
    share_percent: Option<f64>,
    /// Products with weights, in percent of the peak.
    multiply_percent: Option<f64>,
    /// Keys and values of all positions.
    kv_bytes: u64,
    /// The most the process had in memory, mapped files included.
    peak_resident_bytes: Option<u64>,
    /// Memory of the process that belongs to no file.
    anonymous_bytes: Option<u64>,
    /// Mapped files in pages of 2 MiB.
    file_huge_bytes: Option<u64>,
    /// Seconds of the last round by step.
    phases: Option<Seconds>,
}

impl Row {
    /// `n_bytes` is what a round reads, where that can be said; `stream` is in bytes/s.
    pub(super) fn new(test: Test, seconds: &[f64], n_bytes: Option<u64>, stream: f64) -> Self {
        let mut rates: Vec<f64> = seconds
            .iter()
            .map(|seconds| test.n_timed() as f64 / seconds)
            .collect();
        rates.sort_by(f64::total_cmp);
        let (tok_s, spread_tok_s) = match rates.as_slice() {
            [] => (0.0, 0.0),
            [first, .., last] => (median(&rates), (last - first) / 2.0),
            [only] => (*only, 0.0),
        };
        let rate = tok_s / test.n_timed() as f64;
        let read_gb_s = n_bytes.map(|n_bytes| n_bytes as f64 * rate / 1e9);
        Self {
            test: test.to_string(),
            n_parallel: test.n_seqs,
            n_prompt: test.n_prompt,
            n_gen: test.n_gen,
            n_depth: test.depth,
            tok_s,
            spread_tok_s,
            seconds: seconds.to_vec(),
            read_gb_s,
            stream_gb_s: stream / 1e9,
            share_percent: read_gb_s.map(|gb_s| 100.0 * gb_s / (stream / 1e9)),
            multiply_percent: None,
            kv_bytes: 0,
            peak_resident_bytes: None,
            anonymous_bytes: None,
            file_huge_bytes: None,
            phases: None,
        }
    }

    pub(super) fn with_footprint(self, footprint: Option<Footprint>) -> Self {
        Self {
            peak_resident_bytes: footprint.map(|footprint| footprint.peak_resident),
            anonymous_bytes: footprint.map(|footprint| footprint.anonymous),
            file_huge_bytes: footprint.map(|footprint| footprint.file_huge),
            ..self
        }
    }

    /// `products` are those of a round, `peak` is what could be done in a second.
    pub(super) fn with_products(self, products: Option<u64>, peak: Option<f64>) -> Self {
        let n_timed = self.n_parallel * (self.n_prompt + self.n_gen);
        let rounds = self.tok_s / n_timed as f64;
        let percent = |(products, peak)| 100.0 * products as f64 * rounds / peak;
        Self {
            multiply_percent: products.zip(peak).map(percent),
            ..self
        }
    }

    pub(super) fn with_kv_bytes(self, kv_bytes: u64) -> Self {
        Self { kv_bytes, ..self }
    }

    pub(super) fn with_phases(self, phases: Option<Seconds>) -> Self {
        Self { phases, ..self }
    }

    pub(super) fn phases(&self) -> Option<&Seconds> {
        self.phases.as_ref()
    }
}

const CSV_HEADER: &str = "model,size_bytes,n_params,isa,threads,batch_size,test,n_parallel,\
                          n_prompt,n_gen,n_depth,tok_s,spread_tok_s,read_gb_s,stream_gb_s,share_percent,\
                          multiply_percent,kv_bytes,peak_resident_bytes,anonymous_bytes,\
                          file_huge_bytes\n";

impl Report {
    /// The lines before the rows.
    pub(super) fn header(&self, is_csv: bool) -> String {
        if is_csv {
            return CSV_HEADER.to_owned();
        }
        let columns = ["model", "size", "params", "isa", "threads", "test"];
        let numbers = [
            "tok/s",
            "read GB/s",
            "stream GB/s",
            "share",
            "of peak",
            "KV",
            "anonymous",
        ];
        let rule = "| --- ".repeat(columns.len()) + &"| ---: ".repeat(numbers.len());
        format!(
            "| {} | {} |\n{rule}|\n",
            columns.join(" | "),
            numbers.join(" | ")
        )
    }

    pub(super) fn markdown(&self, row: &Row) -> String {
        let (size, params) = (bytes(self.size_bytes), count(self.n_params));
        let read = row
            .read_gb_s
            .map_or_else(String::new, |x| format!("{x:.1}"));
        let anonymous = row.anonymous_bytes.map_or_else(String::new, bytes);
        let share = row
            .share_percent
            .map_or_else(String::new, |x| format!("{x:.0} %"));
        let of_peak = row
            .multiply_percent
            .map_or_else(String::new, |x| format!("{x:.0} %"));
        let kv = bytes(row.kv_bytes);
        format!(
            "| {} | {size} | {params} | {} | {} | {} | {:.2} ± {:.2} | {read} | {:.1} | {share} | \
             {of_peak} | {kv} | {anonymous} |",
            self.model.replace('|', "\\|"),
            self.isa,
            self.threads,
            row.test,
            row.tok_s,
            row.spread_tok_s,
            row.stream_gb_s,
        )
    }

    pub(super) fn csv(&self, row: &Row) -> String {
        let optional = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.3}"));
        let whole = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
        let fields = [
            format!("\"{}\"", self.model.replace('"', "\"\"")),
            self.size_bytes.to_string(),
            self.n_params.to_string(),
            self.isa.to_owned(),
            self.threads.to_string(),
            self.batch_size.to_string(),
            row.test.clone(),
            row.n_parallel.to_string(),
            row.n_prompt.to_string(),
            row.n_gen.to_string(),
            row.n_depth.to_string(),
            format!("{:.3}", row.tok_s),
            format!("{:.3}", row.spread_tok_s),
            optional(row.read_gb_s),
            format!("{:.3}", row.stream_gb_s),
            optional(row.share_percent),
            optional(row.multiply_percent),
            row.kv_bytes.to_string(),
            whole(row.peak_resident_bytes),
            whole(row.anonymous_bytes),
            whole(row.file_huge_bytes),
        ];
        fields.join(",")
    }

    /// The JSON object.
    pub(super) fn record(&self, rows: &[Row], held: &[Held]) -> Value {
        json!({ "engine": self, "rows": rows, "held": held })
    }
}

/// Returns the middle of sorted numbers, of which there is at least one.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Test = Test {
        n_seqs: 1,
        depth: 0,
        n_prompt: 0,
        n_gen: 10,
    };

    #[test]
    fn the_median_and_half_the_range_stand_in_a_row() {
        let row = Row::new(TEST, &[1.0, 0.5, 2.0], Some(40_000_000_000), 80e9);
        assert_eq!((row.tok_s, row.spread_tok_s), (10.0, 7.5));
        assert_eq!((row.read_gb_s, row.share_percent), (Some(40.0), Some(50.0)));
        assert_eq!(Row::new(TEST, &[1.0, 0.5], None, 1.0).tok_s, 15.0);
        let three = Test { n_seqs: 3, ..TEST };
        assert_eq!(Row::new(three, &[1.0], None, 1.0).tok_s, 30.0);
    }

    #[test]
    fn tables_have_as_many_fields_as_their_header() {
        let report = Report {
            model: "a|b.gguf".to_owned(),
            size_bytes: 12_000_000,
            n_params: 14_400_000,
            isa: "scalar",
            threads: 2,
            batch_size: 512,
            weight_bytes_per_token: 1,
            peak_gops: Some(1.0),
        };
        let row = Row::new(TEST, &[1.0], Some(1), 1e9);
        let fields = |line: &str| line.replace("\\|", "").matches('|').count();
        let header = report.header(false);
        assert!(
            header
                .lines()
                .all(|line| fields(line) == fields(&report.markdown(&row)))
        );
        let commas = |line: &str| line.matches(',').count();
        assert_eq!(commas(CSV_HEADER), commas(&report.csv(&row)));
    }
}
