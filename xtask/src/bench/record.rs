//! What programs print, and the one figure in it.

use serde_json::Value;

use super::process::Outcome;

/// Where a result is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// `rows[0].tok_s` of one JSON object.
    Apr,
    /// A field of the last record: JSON lines, or a JSON list.
    Field(&'static str),
    /// The column `S_TG t/s` of a table among the messages.
    Table,
    /// When the first output came.
    FirstOutput,
}

/// Finds a rate, tokens per second or starts per second, and the record it stands in.
pub(super) fn read(outcome: &Outcome, reading: Reading) -> Result<(f64, Value), String> {
    if !outcome.status.success() {
        let said = outcome.stderr.trim().lines().next_back();
        return Err(format!("{}: {}", outcome.status, said.unwrap_or_default()));
    }
    let stdout = outcome.stdout.as_str();
    let (rate, record) = match reading {
        Reading::Apr => {
            let record: Value = serde_json::from_str(stdout).map_err(|e| e.to_string())?;
            let row = record["rows"][0].clone();
            (row["tok_s"].as_f64(), row)
        }
        Reading::Field(name) => {
            let record = last_record(stdout).ok_or("no record")?;
            (record[name].as_f64(), record)
        }
        Reading::Table => (last_row(&outcome.stderr), Value::Null),
        Reading::FirstOutput => {
            let time = outcome.first_output.map(|time| time.as_secs_f64());
            (time.map(f64::recip), Value::Null)
        }
    };
    let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0);
    Ok((rate.ok_or("no result in the output")?, record))
}

/// Finds the last object of JSON lines, or of a list that begins on a line of its own; other
/// lines are messages.
fn last_record(text: &str) -> Option<Value> {
    let lines = text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    });
    let list = lines
        .filter(|(_, line)| line.starts_with('['))
        .map(|(at, _)| at);
    let mut listed = list.filter_map(|at| {
        let list: Value = serde_json::from_str(&text[at..]).ok()?;
        list.as_array()?.last().cloned()
    });
    listed.next().or_else(|| {
        // A message without an end of line may stand before it.
        let mut records = text
            .lines()
            .rev()
            .filter_map(|line| Some(&line[line.find('{')?..]));
        records.find_map(|record| serde_json::from_str(record).ok())
    })
}

/// Finds the generation rate in the last row of
/// `| PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | T s | S t/s |`.
fn last_row(text: &str) -> Option<f64> {
    const COLUMN: usize = 8;
    let rows = text.lines().rev().filter(|line| line.starts_with('|'));
    let mut rates = rows.filter_map(|row| row.split('|').nth(COLUMN)?.trim().parse().ok());
    rates.next()
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;

    fn outcome(stdout: &str, stderr: &str) -> Outcome {
        let cargo = Command::new("cargo").arg("--version").output().unwrap();
        Outcome {
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
            status: cargo.status,
            anonymous_bytes: 0,
            first_output: Some(Duration::from_millis(250)),
        }
    }

    #[test]
    fn each_program_has_its_own_way_to_say_a_rate() {
        struct Case {
            reading: Reading,
            stdout: &'static str,
            stderr: &'static str,
            rate: f64,
        }
        let case = |reading, stdout, stderr, rate| Case {
            reading,
            stdout,
            stderr,
            rate,
        };
        let lines = "loading\n{\"n_gen\": 8, \"avg_ts\": 11.5, \"samples_ts\": [ 11.5 ]}\n\n";
        let after_message = "rounding down{\"avg_ts\": 2.5}\n";
        let list = "build: 1\n[\n  {\n    \"avg_ts\": 3.0,\n    \"samples_ts\": [ 3.0 ]\n  },\n  \
                    {\n    \"avg_ts\": 4.5\n  }\n]\n";
        let table = "n_kv_max = 512\n\n\
            |    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |\n\
            |-------|--------|------|--------|----------|----------|----------|----------|----------|----------|\n\
            |    16 |      8 |    4 |     96 |    0.005 | 13666.45 |    0.005 |  7064.02 |    0.009 | 10420.06 |\n\
            llama_print_timings: load time = 26.89 ms\n";
        let apr = "{\"engine\": {}, \"rows\": [{\"tok_s\": 20.25, \"read_gb_s\": 40.0}]}";
        let cases = [
            case(Reading::Field("avg_ts"), lines, "", 11.5),
            case(Reading::Field("avg_ts"), after_message, "", 2.5),
            case(Reading::Field("avg_ts"), list, "", 4.5),
            case(Reading::Table, "", table, 7064.02),
            case(Reading::Apr, apr, "", 20.25),
            case(Reading::FirstOutput, "Once", "", 4.0),
        ];
        for case in cases {
            let (rate, _) = read(&outcome(case.stdout, case.stderr), case.reading).unwrap();
            assert_eq!(rate, case.rate, "{:?}", case.reading);
        }
    }

    #[test]
    fn a_missing_result_is_an_error_and_never_zero() {
        for (reading, stdout) in [
            (Reading::Field("avg_ts"), "{\"avg_ts\": 0.0}"),
            (Reading::Field("speed_tg"), "{\"avg_ts\": 3.0}"),
            (Reading::Field("avg_ts"), "killed"),
            (Reading::Apr, "{\"rows\": []}"),
            (Reading::Apr, ""),
            (Reading::Table, "| 1 | 2 |"),
        ] {
            assert!(read(&outcome(stdout, ""), reading).is_err(), "{stdout}");
        }
    }
}
