//! Measures for people.

use model_tools::eval::{Kind, Row};

use crate::terminal::one_line;

/// Returns a line for each measure of each task.
pub(super) fn table(rows: &[Row]) -> String {
    let names: Vec<String> = rows.iter().map(name).collect();
    let widths = names.iter().map(|name| name.chars().count());
    let width = widths.max().unwrap_or_default().max("task".len());
    let mut text = format!(
        "{:<width$}  {:>7}  {:<15}  {:>12}  {:>8}\n",
        "task", "items", "metric", "value", "stderr"
    );
    for (row, name) in rows.iter().zip(&names) {
        for (idx, metric) in row.metrics.iter().enumerate() {
            let (name, items) = match idx {
                0 => (name.as_str(), row.n_items.to_string()),
                _ => ("", String::new()),
            };
            let stderr = metric
                .stderr
                .map_or_else(String::new, |it| format!("{it:.4}"));
            let line = format!(
                "{name:<width$}  {items:>7}  {:<15}  {:>12.4}  {stderr:>8}",
                metric.name, metric.value
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

fn name(row: &Row) -> String {
    let kind = match row.kind {
        Kind::MultipleChoice => "choices",
        Kind::Continuation => "continuations",
        Kind::Text => "texts",
    };
    match &row.task {
        Some(task) => one_line(task).into_owned(),
        None => format!("all {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use model_tools::eval::Metric;

    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_measure() {
        let metric = |name, value, stderr| Metric {
            name,
            value,
            stderr,
        };
        let row = |task: Option<&str>, metrics| Row {
            task: task.map(str::to_owned),
            kind: Kind::Text,
            n_items: 12,
            n_tokens: 100,
            metrics,
        };
        let rows = [
            row(
                Some("ré\nné"),
                vec![
                    metric("acc", 0.75, Some(0.1306)),
                    metric("acc_norm", 1.0, None),
                ],
            ),
            row(None, vec![metric("word_perplexity", 12345.67891, None)]),
        ];
        let expected = [
            "task         items  metric                  value    stderr",
            "ré\\nné          12  acc                    0.7500    0.1306",
            "                    acc_norm               1.0000",
            "all texts       12  word_perplexity    12345.6789",
        ];
        assert_eq!(table(&rows).lines().collect::<Vec<_>>(), expected);
    }
}
