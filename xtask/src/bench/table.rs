//! The table in Markdown.

use std::path::Path;

use serde_json::Value;

use super::{
    engine::Setting,
    file_name,
    summary::{Line, Summary},
};

/// Machine, programs and model.
pub(super) fn heading(machine: &Value, versions: &[Value], model: &Path) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".to_owned(),
        other => other.to_string(),
    };
    let versions = versions
        .iter()
        .map(|v| format!("- {}: {}\n", text(&v["program"]), text(&v["version"])));
    format!(
        "{}, {} threads, {} kernels, streaming {} GB/s before the first lap; `{}`\n\n{}",
        text(&machine["cpu"]),
        text(&machine["threads"]),
        text(&machine["isa"]),
        machine["read_gb_s"]
            .as_f64()
            .map_or(0.0, |x| (x * 10.0).round() / 10.0),
        file_name(model),
        versions.collect::<String>(),
    )
}

/// The lines above the rows.
pub(super) fn header() -> String {
    let columns = ["test", "engine", "median", "spread"];
    let numbers = [
        "apr is",
        "GB/s",
        "of stream",
        "of peak",
        "anonymous",
        "laps",
    ];
    let rule = "|---".repeat(2) + &"|---:".repeat(columns.len() - 2 + numbers.len());
    format!(
        "| {} | {} |\n{rule}|",
        columns.join(" | "),
        numbers.join(" | ")
    )
}

/// A row for each setting; the first says how `apr` stands against the best of the others.
pub(super) fn rows(summary: &Summary) -> String {
    summary
        .lines
        .iter()
        .map(|line| row(summary, line))
        .collect()
}

fn row(summary: &Summary, line: &Line) -> String {
    let Summary {
        workload,
        n_laps,
        n_counted,
        ..
    } = summary;
    let number =
        |x: Option<f64>, unit: &str| x.map_or_else(String::new, |x| format!("{x:.1}{unit}"));
    // A rate and its spread may be shown as a time.
    let shown = workload.shown(line.rate);
    let spread = shown * line.spread / line.rate;
    let ratio = line
        .ratio
        .map_or_else(String::new, |ratio| match line.setting {
            Setting::Apr => format!("**{ratio:.2} × the best**"),
            Setting::Llama { .. } | Setting::Ik { .. } => format!("{ratio:.2} ×"),
        });
    format!(
        "| {workload} | {} | {shown:.2} {} | ± {spread:.2} | {ratio} | {} | {} | {} | {:.2} GB | \
         {n_counted} of {n_laps} |\n",
        line.setting,
        workload.unit(),
        number(line.read_gb_s, ""),
        number(line.read_percent, " %"),
        number(line.multiply_percent, " %"),
        line.anonymous_bytes as f64 / 1e9,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::workload::Workload;

    #[test]
    fn rows_have_the_columns_of_the_header_and_a_start_takes_seconds() {
        let line = Line {
            setting: Setting::Apr,
            rate: 4.0,
            spread: 1.0,
            ratio: Some(2.5),
            read_gb_s: None,
            read_percent: None,
            multiply_percent: Some(61.26),
            anonymous_bytes: 150_000_000,
        };
        let summary = Summary {
            workload: Workload::Start,
            n_laps: 5,
            n_counted: 4,
            lines: vec![line],
        };
        let row = rows(&summary);
        let expected = "| start | apr | 0.25 s | ± 0.06 | **2.50 × the best** |  |  | 61.3 % | \
                        0.15 GB | 4 of 5 |\n";
        assert_eq!(row, expected);
        let columns = |line: &str| line.matches('|').count();
        assert!(header().lines().all(|line| columns(line) == columns(&row)));
    }
}
