//! A trace for people.

use super::record::{LayerRecord, OverlapRecord, Record};
use crate::{
    terminal::one_line,
    units::{bytes, plural},
};

/// Letters of a list of experts.
const LIST_WIDTH: usize = 48;

impl Record {
    /// Returns the tables for a terminal.
    pub(super) fn report(&self) -> String {
        let heading = format!("{}: {}", self.about.model, self.subtitle());
        let mut lines = vec![one_line(&heading).into_owned(), String::new()];
        lines.extend(self.layer_lines());
        lines.push(String::new());
        lines.extend(self.hottest_lines());
        lines.push(String::new());
        lines.extend(self.coverage_lines());
        lines.extend(self.never_lines());
        let lines = lines.iter();
        lines.map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// Returns the line above a picture.
    pub(super) fn title(&self) -> String {
        format!("{} – experts chosen by layer", self.about.model)
    }

    /// Returns what was read, and what could be chosen.
    pub(super) fn subtitle(&self) -> String {
        let windows = match self.about.n_windows {
            1 => String::new(),
            n => format!(" in {n} windows of at most {}", self.about.n_ctx),
        };
        let n_tokens = usize::try_from(self.n_tokens).unwrap_or(usize::MAX);
        format!(
            "{} of {}{windows}, each to {} of {} experts in {}",
            plural(n_tokens, "token"),
            self.about.text,
            self.n_expert_used,
            self.n_expert,
            plural(self.n_layer, "layer")
        )
    }

    fn layer_lines(&self) -> Vec<String> {
        let hottest = format!("hottest {}", self.n_expert.div_ceil(8));
        let most = format!("of {:.2}", (self.n_expert as f64).log2());
        let heads = [
            ["layer", ""],
            ["entropy", &most],
            [&hottest, "take"],
            ["next token", "repeats"],
            ["by", "chance"],
            ["tells of", "next layer"],
            ["by", "chance"],
            ["never", "chosen"],
        ];
        let mut rows: Vec<[String; 8]> = (0..2).map(|i| heads.map(|head| head[i].into())).collect();
        rows.extend(
            (0..)
                .zip(&self.layers)
                .map(|(number, layer)| row(number, layer)),
        );
        aligned(&rows)
    }

    fn hottest_lines(&self) -> Vec<String> {
        let mut rows =
            vec![["hottest", "layer", "expert", "of tokens", "mean weight"].map(str::to_owned)];
        rows.extend(self.hottest.iter().map(|hot| {
            let weight = hot
                .mean_weight
                .map_or_else(String::new, |weight| format!("{weight:.3}"));
            [
                String::new(),
                hot.layer.to_string(),
                hot.expert.to_string(),
                percent(hot.share),
                weight,
            ]
        }));
        aligned(&rows)
    }

    fn coverage_lines(&self) -> Vec<String> {
        let n_all = self.n_expert * self.n_layer;
        let mut rows =
            vec![["of choices", "hottest experts", "bytes", "of all"].map(str::to_owned)];
        rows.extend(self.coverage.iter().map(|part| {
            let of_all = part.bytes as f64 / self.expert_bytes as f64;
            [
                format!("{} %", part.percent),
                format!("{} of {n_all}", part.n_experts),
                format!("{} of {}", bytes(part.bytes), bytes(self.expert_bytes)),
                percent(of_all),
            ]
        }));
        aligned(&rows)
    }

    /// Names the experts that were never chosen.
    fn never_lines(&self) -> Vec<String> {
        let layers = self.layers.iter().enumerate();
        let layers = layers.filter(|(_, layer)| !layer.never_chosen.is_empty());
        let mut lines: Vec<String> = layers
            .map(|(number, layer)| {
                let experts = list(&layer.never_chosen);
                format!("never chosen in layer {number}: {experts}")
            })
            .collect();
        if !lines.is_empty() {
            lines.insert(0, String::new());
        }
        lines
    }
}

fn row(number: usize, layer: &LayerRecord) -> [String; 8] {
    let [repeats, by_chance] = pair(layer.next_token, percent);
    let [bits, bits_by_chance] = pair(layer.next_layer_bits, |bits| format!("{bits:.3} bits"));
    [
        number.to_string(),
        format!("{:.2} bits", layer.entropy_bits),
        percent(layer.hottest_eighth),
        repeats,
        by_chance,
        bits,
        bits_by_chance,
        layer.never_chosen.len().to_string(),
    ]
}

fn pair(overlap: Option<OverlapRecord>, shown: impl Fn(f64) -> String) -> [String; 2] {
    match overlap {
        None => ["–", "–"].map(str::to_owned),
        Some(overlap) => [overlap.found, overlap.by_chance].map(shown),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Aligns columns to the right, two spaces apart.
fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        cells.join("  ")
    };
    rows.iter().map(line).collect()
}

/// Lists ascending numbers, neighbours as a range, as far as there is room.
fn list(numbers: &[usize]) -> String {
    let mut list = String::new();
    for run in numbers.chunk_by(|a, b| a + 1 == *b) {
        let run = match run {
            [first, .., last] => format!("{first}–{last}"),
            only => only.iter().map(usize::to_string).collect(),
        };
        if list.chars().count() + run.chars().count() > LIST_WIDTH {
            list.push_str(", … (all with --json)");
            break;
        }
        let comma = if list.is_empty() { "" } else { ", " };
        list.push_str(comma);
        list.push_str(&run);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_ranges() {
        assert_eq!(list(&[1, 2, 3, 7, 9, 10]), "1–3, 7, 9–10");
    }

    #[test]
    fn a_list_without_room_ends_with_a_whole_number() {
        let even: Vec<usize> = (10..60).map(|n| 2 * n).collect();
        let list = list(&even);
        assert!(list.starts_with("20, 22, 24"), "{list}");
        assert!(list.ends_with("42, 44, … (all with --json)"), "{list}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bcd"], ["–12", "e"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), ["  a  bcd", "–12    e"]);
    }
}
