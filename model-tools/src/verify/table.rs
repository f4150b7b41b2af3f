//! A report as people read it: a line per stage, its figures, and what was found.

use std::fmt::Write;

use super::{Figure, FigureValue, Finding, Report, Severity, StageReport, TimedStage, Verdict};

/// Columns before the figures.
const MARGIN: usize = 32;

impl Report {
    /// Returns the report as a table that is `width` columns wide, if words allow it.
    #[must_use]
    pub fn to_table(&self, width: usize) -> String {
        let stages = self.stages.iter().map(|stage| stage.to_rows(width));
        stages.chain([self.conclusion()]).collect()
    }

    /// Returns the last line of the table.
    #[must_use]
    pub fn conclusion(&self) -> String {
        let n_failed = self
            .stages
            .iter()
            .filter(|stage| stage.report.verdict == Verdict::Failed)
            .count();
        let verdict = match (n_failed, self.quick) {
            (0, false) => "passed".to_owned(),
            (0, true) => "passed, as far as samples show".to_owned(),
            (1, _) => "FAILED in 1 stage".to_owned(),
            (n, _) => format!("FAILED in {n} stages"),
        };
        format!("{}: {verdict}\n", printable(&self.model))
    }
}

impl TimedStage {
    /// Returns the lines of the table about this stage.
    #[must_use]
    pub fn to_rows(&self, width: usize) -> String {
        let mut rows = String::new();
        add_stage(&mut rows, self, width.max(MARGIN + 20));
        rows
    }
}

fn add_stage(table: &mut String, stage: &TimedStage, width: usize) {
    let TimedStage { report, seconds } = stage;
    let verdict = match report.verdict {
        Verdict::Failed => "FAILED",
        other => other.name(),
    };
    let time = match report.verdict {
        Verdict::Skipped => String::new(),
        Verdict::Passed | Verdict::Failed => format!("{seconds:.2} s"),
    };
    let head = format!("{:<10}  {verdict:<7}  {time:>9}", report.stage.name());
    let rest = match report.verdict {
        Verdict::Skipped => {
            let why = report.findings.first();
            why.map(|finding| finding.text.clone()).unwrap_or_default()
        }
        Verdict::Passed | Verdict::Failed => figures(&report.figures),
    };
    wrap(table, &format!("{head:<MARGIN$}"), MARGIN, &rest, width);
    if report.verdict != Verdict::Skipped {
        add_findings(table, report, width);
    }
}

fn add_findings(table: &mut String, report: &StageReport, width: usize) {
    for severity in [Severity::Error, Severity::Warning, Severity::Note] {
        for Finding { place, text, .. } in report.listed(severity) {
            let head = format!("  {}: ", severity.name());
            let text = match place.as_str() {
                "" => text.clone(),
                place => format!("{place}: {text}"),
            };
            wrap(table, &head, 4, &text, width);
        }
        let n_more = report.count(severity) - report.listed(severity).count() as u64;
        if n_more > 0 {
            let name = severity.name();
            let plural = if n_more == 1 { "" } else { "s" };
            table.push_str(&format!("  and {n_more} more {name}{plural}\n"));
        }
    }
}

fn figures(figures: &[Figure]) -> String {
    let figures: Vec<String> = figures.iter().map(figure).collect();
    figures.join(", ")
}

fn figure(figure: &Figure) -> String {
    let value = match &figure.value {
        FigureValue::Count(n) => grouped(*n),
        FigureValue::Number(n) if *n != 0.0 && !(1e-2..1e5).contains(&n.abs()) => {
            format!("{n:.2e}")
        }
        FigureValue::Number(n) => format!("{n:.2}"),
        FigureValue::Text(text) => text.clone(),
    };
    let mut line = format!("{} {value}", figure.name);
    if !figure.unit.is_empty() {
        let _ = write!(line, " {}", figure.unit);
    }
    line
}

/// Returns a count with its thousands apart.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Adds words behind a head, in lines of `width` columns of which the later ones are indented.
fn wrap(table: &mut String, head: &str, indent: usize, text: &str, width: usize) {
    let mut line = head.to_owned();
    for (n_words, word) in printable(text).split(' ').enumerate() {
        let n_columns = line.chars().count() + word.chars().count();
        if n_words > 0 && n_columns >= width {
            table.push_str(line.trim_end());
            table.push('\n');
            line = " ".repeat(indent);
        }
        line.push_str(word);
        line.push(' ');
    }
    table.push_str(line.trim_end());
    table.push('\n');
}

/// Escapes what would steer a terminal.
fn printable(text: &str) -> String {
    let escape = |c: char| match c {
        c if c.is_control() => c.escape_debug().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{SCHEMA, Stage};

    #[test]
    fn a_table_has_a_line_per_stage_and_its_findings_below() {
        let mut file = StageReport::new(Stage::File);
        file.figure("weights", 14_385_152_usize, "");
        file.figure("largest piece", 6.125, "times the middle one");
        file.warning("a\u{1b}[31m", "a tensor that the model does not read");
        for idx in 0..21 {
            file.error("", format!("wrong {idx}"));
        }
        let skipped = StageReport::skipped(Stage::Numbers, "means nothing, since `file` failed");
        let timed = |report| TimedStage {
            report,
            seconds: 1.5,
        };
        let report = Report {
            schema: SCHEMA,
            model: "m.gguf".to_owned(),
            verdict: Verdict::Failed,
            quick: false,
            environment: Vec::new(),
            stages: vec![timed(file), timed(skipped)],
            tensors: Vec::new(),
        };
        let table = report.to_table(60);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[0],
            "file        FAILED      1.50 s  weights 14,385,152, largest"
        );
        assert_eq!(
            lines[1],
            "                                piece 6.12 times the middle"
        );
        assert_eq!(lines[3], "  error: wrong 0");
        assert!(lines.contains(&"  and 1 more error"));
        assert!(lines.contains(&"  warning: a\\u{1b}[31m: a tensor that the model does not"));
        assert!(lines.contains(&"m.gguf: FAILED in 1 stage"));
        assert!(lines.iter().all(|line| line.chars().count() <= 60));
    }

    #[test]
    fn thousands_are_apart() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(n), text);
        }
    }
}
