//! What verification found, stage by stage, as people and machines read it.
//!
//! A stage has one verdict. Figures are what it measured; findings are what somebody should
//! know: errors make a stage fail, warnings and notes do not. Each kind of finding is listed
//! up to a bound and counted beyond it, since a broken file is broken in a million places.
//! `docs/verify.md` describes the JSON that these types become.

use serde::Serialize;

/// The version of the JSON's layout; it changes when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Findings of one severity that a stage lists.
const MAX_LISTED: usize = 20;

/// Verification of one model.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The file or folder, as it was named.
    pub model: String,
    /// Failed if a stage failed.
    pub verdict: Verdict,
    /// Whether samples were looked at instead of everything.
    pub quick: bool,
    /// Where the checks ran, from the caller: machine, threads, version.
    pub environment: Vec<(String, String)>,
    /// The stages, in their order.
    pub stages: Vec<TimedStage>,
    /// The tensors in the order of the file, for comparison; empty if they were not read whole.
    pub tensors: Vec<TensorHash>,
}

/// A stage and how long it took.
#[derive(Clone, Debug, Serialize)]
pub struct TimedStage {
    /// What was found.
    #[serde(flatten)]
    pub report: StageReport,
    /// Seconds by the caller's clock.
    pub seconds: f64,
}

/// A tensor and the hash of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct TensorHash {
    /// Its name in the file.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Its dimensions, slowest first.
    pub shape: Vec<u64>,
    /// XXH3 of its bytes, 128 bits, as 32 hexadecimal digits.
    pub xxh3: String,
}

/// What is asked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Whether headers, metadata and tensors are as they must be.
    File,
    /// Whether the weights are numbers that a model could have.
    Numbers,
    /// Whether tokenizer and chat template say what they must.
    Text,
    /// Whether fast kernels give the scalar code's bits.
    Kernels,
    /// Whether the fast pass is as near to the reference as it can be.
    Forward,
    /// Whether nothing but the tokens decides about the bits.
    Invariance,
    /// Whether the model answers as it did.
    Golden,
}

/// How a stage or a model came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is wrong.
    Passed,
    /// Something is wrong.
    Failed,
    /// Nothing was asked; a note says why.
    Skipped,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is wrong, or we are.
    Error,
    /// Odd, and maybe meant so.
    Warning,
    /// Worth knowing.
    Note,
}

/// Something that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// Where: a tensor, a key, a layer, an id.
    pub place: String,
    /// What is there, and what was expected.
    pub text: String,
}

/// Something that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What.
    pub name: String,
    /// How much, or which.
    pub value: FigureValue,
    /// In what unit; empty if it has none.
    pub unit: &'static str,
}

/// The value of a figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FigureValue {
    /// How many.
    Count(u64),
    /// How much; `null` in JSON if it is not finite.
    Number(f64),
    /// Which.
    Text(String),
}

/// What a stage found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageReport {
    /// Which stage.
    pub stage: Stage,
    /// How it came out.
    pub verdict: Verdict,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What was measured of each layer or part, too much for a line.
    pub details: Vec<Figure>,
    /// What somebody should know, in the order it was found.
    pub findings: Vec<Finding>,
    /// Findings that are not listed, since there are too many of their severity.
    pub unlisted: Unlisted,
}

/// How many findings a stage does not list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unlisted {
    /// Errors.
    pub errors: u64,
    /// Warnings.
    pub warnings: u64,
    /// Notes.
    pub notes: u64,
}

impl Stage {
    /// All stages, in their order.
    pub const ALL: [Self; 7] = [
        Self::File,
        Self::Numbers,
        Self::Text,
        Self::Kernels,
        Self::Forward,
        Self::Invariance,
        Self::Golden,
    ];

    /// Returns its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Numbers => "numbers",
            Self::Text => "text",
            Self::Kernels => "kernels",
            Self::Forward => "forward",
            Self::Invariance => "invariance",
            Self::Golden => "golden",
        }
    }

    /// Returns what it asks, as a sentence.
    #[must_use]
    pub const fn question(self) -> &'static str {
        match self {
            Self::File => "Do headers, metadata and tensors fit each other and the architecture?",
            Self::Numbers => "Is every block of every tensor one that a trained model could have?",
            Self::Text => "Do tokenizer and chat template fit each other and the model?",
            Self::Kernels => "Do the fast kernels give the scalar code's bits on these weights?",
            Self::Forward => "Is the fast pass as near to the f64 reference as rounding allows?",
            Self::Invariance => "Are the bits the same however the work is cut and divided?",
            Self::Golden => "Does the model answer as it did when its answers were recorded?",
        }
    }
}

impl Verdict {
    /// Returns its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Severity {
    /// Returns its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl Report {
    /// Returns the report as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // All fields are numbers, texts and lists of them: nothing that JSON cannot hold.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl StageReport {
    /// Begins the report of a stage, which passes unless an error is added.
    #[must_use]
    pub const fn new(stage: Stage) -> Self {
        Self {
            stage,
            verdict: Verdict::Passed,
            figures: Vec::new(),
            details: Vec::new(),
            findings: Vec::new(),
            unlisted: Unlisted {
                errors: 0,
                warnings: 0,
                notes: 0,
            },
        }
    }

    /// Reports that nothing was asked, and why.
    #[must_use]
    pub fn skipped(stage: Stage, why: impl Into<String>) -> Self {
        let mut report = Self::new(stage);
        report.note("", why);
        report.verdict = Verdict::Skipped;
        report
    }

    /// Adds something that was measured.
    pub fn figure(
        &mut self,
        name: impl Into<String>,
        value: impl Into<FigureValue>,
        unit: &'static str,
    ) {
        self.figures.push(Figure {
            name: name.into(),
            value: value.into(),
            unit,
        });
    }

    /// Adds something that was measured of a layer or a part.
    pub fn detail(
        &mut self,
        name: impl Into<String>,
        value: impl Into<FigureValue>,
        unit: &'static str,
    ) {
        self.details.push(Figure {
            name: name.into(),
            value: value.into(),
            unit,
        });
    }

    /// Adds an error: the stage fails.
    pub fn error(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.verdict = Verdict::Failed;
        self.add(Severity::Error, place.into(), text.into());
    }

    /// Adds a warning.
    pub fn warning(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.add(Severity::Warning, place.into(), text.into());
    }

    /// Adds a note.
    pub fn note(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.add(Severity::Note, place.into(), text.into());
    }

    /// Counts findings that nobody wrote down, where making their texts would take too long.
    pub fn count_unlisted(&mut self, severity: Severity, n: u64) {
        match severity {
            Severity::Error => {
                self.unlisted.errors += n;
                if n > 0 {
                    self.verdict = Verdict::Failed;
                }
            }
            Severity::Warning => self.unlisted.warnings += n,
            Severity::Note => self.unlisted.notes += n,
        }
    }

    /// Returns the findings of a severity that are listed.
    pub fn listed(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        let findings = self.findings.iter();
        findings.filter(move |finding| finding.severity == severity)
    }

    /// Returns how many findings of a severity there are, listed or not.
    #[must_use]
    pub fn count(&self, severity: Severity) -> u64 {
        let unlisted = match severity {
            Severity::Error => self.unlisted.errors,
            Severity::Warning => self.unlisted.warnings,
            Severity::Note => self.unlisted.notes,
        };
        self.listed(severity).count() as u64 + unlisted
    }

    /// Takes over the findings of a part of the stage.
    pub(super) fn absorb(&mut self, part: Self) {
        let Unlisted {
            errors,
            warnings,
            notes,
        } = part.unlisted;
        for finding in part.findings {
            if finding.severity == Severity::Error {
                self.verdict = Verdict::Failed;
            }
            self.add(finding.severity, finding.place, finding.text);
        }
        self.count_unlisted(Severity::Error, errors);
        self.count_unlisted(Severity::Warning, warnings);
        self.count_unlisted(Severity::Note, notes);
    }

    fn add(&mut self, severity: Severity, place: String, text: String) {
        if self.listed(severity).count() == MAX_LISTED {
            self.count_unlisted(severity, 1);
            return;
        }
        self.findings.push(Finding {
            severity,
            place,
            text,
        });
    }
}

impl From<u64> for FigureValue {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<usize> for FigureValue {
    fn from(value: usize) -> Self {
        Self::Count(value as u64)
    }
}

impl From<f64> for FigureValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<String> for FigureValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for FigureValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_make_a_stage_fail() {
        let mut report = StageReport::new(Stage::File);
        report.warning("a", "odd");
        report.note("b", "known");
        assert_eq!(report.verdict, Verdict::Passed);
        report.error("c", "wrong");
        assert_eq!(report.verdict, Verdict::Failed);
        let skipped = StageReport::skipped(Stage::Golden, "nothing to compare with");
        assert_eq!(skipped.verdict, Verdict::Skipped);
    }

    #[test]
    fn findings_are_listed_up_to_a_bound_and_counted_beyond() {
        let mut report = StageReport::new(Stage::Numbers);
        for idx in 0..MAX_LISTED + 5 {
            report.error(format!("block {idx}"), "NaN");
        }
        report.warning("row 3", "all zero");
        assert_eq!(report.findings.len(), MAX_LISTED + 1);
        assert_eq!(report.unlisted.errors, 5);
        assert_eq!(report.count(Severity::Error), MAX_LISTED as u64 + 5);
        assert_eq!(report.count(Severity::Warning), 1);
    }

    #[test]
    fn stages_have_the_names_of_their_json() {
        for stage in Stage::ALL {
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
        }
        for verdict in [Verdict::Passed, Verdict::Failed, Verdict::Skipped] {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.name());
        }
    }
}
