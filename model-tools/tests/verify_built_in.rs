//! The built-in model passes every stage, with the record of its answers, whole and in part.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{num::NonZeroUsize, ops::ControlFlow, path::PathBuf, time::Duration};

use model_tools::verify::{
    Caller, Event, FigureValue, Report, Severity, Stage, StageReport, Verdict, VerifyOptions,
    golden::{Golden, Tolerance},
    verify,
};
use moe_model::ModelFile;

struct Patient;

impl Caller for Patient {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn hear(&mut self, _: Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn report(change: impl FnOnce(&mut VerifyOptions)) -> Report {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let file = ModelFile::open(&here.join("../apr-cli/assets/bard.gguf")).unwrap();
    let json = std::fs::read(here.join("tests/data/golden__bard.json")).unwrap();
    let golden = Golden::from_json(&json).unwrap();
    let mut options = VerifyOptions {
        n_tokens: NonZeroUsize::new(9),
        golden: Some((golden, Tolerance::Exact)),
        ..VerifyOptions::new(NonZeroUsize::new(2).unwrap())
    };
    change(&mut options);
    verify(&file, &options, &mut Patient).unwrap()
}

fn stage(report: &Report, stage: Stage) -> &StageReport {
    let mut stages = report.stages.iter();
    &stages
        .find(|timed| timed.report.stage == stage)
        .unwrap()
        .report
}

fn number(report: &StageReport, name: &str) -> f64 {
    let mut figures = report.figures.iter().chain(&report.details);
    match figures.find(|figure| figure.name == name).unwrap().value {
        FigureValue::Number(number) => number,
        FigureValue::Count(count) => count as f64,
        FigureValue::Text(_) => panic!("{name} is no number"),
    }
}

#[test]
fn the_built_in_model_passes_all_stages() {
    let report = report(|_| ());
    for timed in &report.stages {
        let errors: Vec<_> = timed.report.listed(Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        assert_eq!(
            timed.report.verdict,
            Verdict::Passed,
            "{:?}",
            timed.report.stage
        );
    }
    let forward = stage(&report, Stage::Forward);
    // A trained model has sums that cancel; a bound they came near would be too narrow.
    assert!(number(forward, "worst step") < 0.25, "{forward:#?}");
    assert_eq!(number(forward, "router choices"), 36.0);
    assert!(number(forward, "logits") < number(forward, "bound"));
    assert!(number(forward, "layer 3 hidden state") < 1e-5);
}

#[test]
fn layers_and_tokens_bound_what_is_compared() {
    let report = report(|options| {
        options.n_layers = NonZeroUsize::new(2);
        options.n_tokens = NonZeroUsize::new(3);
    });
    let forward = stage(&report, Stage::Forward);
    assert_eq!(forward.verdict, Verdict::Passed);
    assert_eq!(number(forward, "router choices"), 6.0);
    let details = || forward.details.iter().map(|figure| figure.name.as_str());
    assert!(details().any(|name| name.starts_with("layer 1 ")));
    assert!(!details().any(|name| name.starts_with("layer 2 ")));
    assert!(!forward.figures.iter().any(|figure| figure.name == "logits"));
}
