//! A report as `JUnit`'s XML, which build servers show: a suite per model, a case per stage.

use std::io;

use quick_xml::{Writer, events::BytesText};

use super::{Finding, Report, Severity, StageReport, TimedStage, Verdict};

impl Report {
    /// Returns the report as `JUnit`'s XML.
    #[must_use]
    pub fn to_junit(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        let written = self.write_junit(&mut writer);
        debug_assert!(written.is_ok(), "memory takes everything");
        let xml = String::from_utf8_lossy(&writer.into_inner()).into_owned();
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{xml}\n")
    }

    fn write_junit(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let n_tests = self.stages.len().to_string();
        let count = |verdict| {
            let stages = self.stages.iter();
            let n = stages.filter(|stage| stage.report.verdict == verdict);
            n.count().to_string()
        };
        let (n_failed, n_skipped) = (count(Verdict::Failed), count(Verdict::Skipped));
        let seconds = self.stages.iter().map(|stage| stage.seconds).sum::<f64>();
        let (model, seconds) = (clean(&self.model), format!("{seconds:.3}"));
        let attributes = [
            ("name", model.as_str()),
            ("tests", &n_tests),
            ("failures", &n_failed),
            ("errors", "0"),
            ("skipped", &n_skipped),
            ("time", &seconds),
        ];
        let suites = writer
            .create_element("testsuites")
            .with_attribute(("name", "apr verify"));
        suites.write_inner_content(|writer| {
            let suite = writer
                .create_element("testsuite")
                .with_attributes(attributes);
            suite.write_inner_content(|writer| {
                self.write_environment(writer)?;
                let mut stages = self.stages.iter();
                stages.try_for_each(|stage| write_stage(writer, &model, stage))
            })?;
            Ok(())
        })?;
        Ok(())
    }

    fn write_environment(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        if self.environment.is_empty() {
            return Ok(());
        }
        let properties = writer.create_element("properties");
        properties.write_inner_content(|writer| {
            for (name, value) in &self.environment {
                let (name, value) = (clean(name), clean(value));
                let attributes = [("name", name.as_str()), ("value", value.as_str())];
                let property = writer.create_element("property");
                property.with_attributes(attributes).write_empty()?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

fn write_stage(writer: &mut Writer<Vec<u8>>, model: &str, stage: &TimedStage) -> io::Result<()> {
    let TimedStage { report, seconds } = stage;
    let seconds = format!("{seconds:.3}");
    let attributes = [
        ("classname", model),
        ("name", report.stage.name()),
        ("time", &seconds),
    ];
    let case = writer
        .create_element("testcase")
        .with_attributes(attributes);
    case.write_inner_content(|writer| {
        let first = report.findings.first().map(sentence).unwrap_or_default();
        match report.verdict {
            Verdict::Passed => {}
            Verdict::Skipped => {
                let skipped = writer.create_element("skipped");
                skipped
                    .with_attribute(("message", first.as_str()))
                    .write_empty()?;
            }
            Verdict::Failed => {
                let errors = lines(report, &[Severity::Error]);
                let message = errors.lines().next().unwrap_or_default().to_owned();
                let failure = writer
                    .create_element("failure")
                    .with_attributes([("type", report.stage.name()), ("message", &message)]);
                failure.write_text_content(BytesText::new(&errors))?;
            }
        }
        let rest = lines(report, &[Severity::Warning, Severity::Note]);
        if !rest.is_empty() && report.verdict != Verdict::Skipped {
            let out = writer.create_element("system-out");
            out.write_text_content(BytesText::new(&rest))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Returns the findings of some severities, one a line, and how many more there are.
fn lines(report: &StageReport, severities: &[Severity]) -> String {
    let mut lines = Vec::new();
    for &severity in severities {
        lines.extend(report.listed(severity).map(sentence));
        let n_more = report.count(severity) - report.listed(severity).count() as u64;
        if n_more > 0 {
            lines.push(format!("and {n_more} more of severity {}", severity.name()));
        }
    }
    lines.join("\n")
}

fn sentence(finding: &Finding) -> String {
    let Finding { place, text, .. } = finding;
    let sentence = match place.as_str() {
        "" => text.clone(),
        place => format!("{place}: {text}"),
    };
    clean(&sentence)
}

/// Replaces what XML cannot hold even escaped: control characters and noncharacters.
fn clean(text: &str) -> String {
    let is_sound =
        |c: char| matches!(c, '\t' | '\n' | ' '..='\u{7e}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    let sound = |c| if is_sound(c) { c } else { '\u{fffd}' };
    text.chars().map(sound).collect()
}

#[cfg(test)]
mod tests {
    use quick_xml::{Reader, events::Event};

    use super::*;
    use crate::verify::{SCHEMA, Stage};

    fn report() -> Report {
        let mut wrong = StageReport::new(Stage::File);
        for idx in 0..22 {
            wrong.error(format!("<t\u{1}{idx}>"), "a & \"b\" ]]>");
        }
        wrong.warning("k", "odd");
        let skipped = StageReport::skipped(Stage::Numbers, "since `file` failed");
        let stages = [wrong, StageReport::new(Stage::Text), skipped];
        let timed = |report| TimedStage {
            report,
            seconds: 0.25,
        };
        Report {
            schema: SCHEMA,
            model: "a<b>'.gguf".to_owned(),
            verdict: Verdict::Failed,
            quick: false,
            environment: vec![("cpu".to_owned(), "\"x\"".to_owned())],
            stages: stages.map(timed).into(),
            tensors: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_counts_are_right() {
        let xml = report().to_junit();
        let mut reader = Reader::from_str(&xml);
        let (mut elements, mut texts) = (Vec::new(), String::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Eof => break,
                Event::Start(start) | Event::Empty(start) => {
                    let mut element = start.name().as_ref().to_owned();
                    for attribute in start.attributes() {
                        let attribute = attribute.unwrap();
                        let (name, value) = (attribute.key.as_ref(), attribute.value.as_ref());
                        element.push_str(&format!(" {name}={value}"));
                    }
                    elements.push(element);
                }
                Event::Text(text) => texts.push_str(&text),
                _ => {}
            }
        }
        let names: Vec<&str> = elements
            .iter()
            .map(|element| element.split(' ').next().unwrap())
            .collect();
        let expected = [
            "testsuites",
            "testsuite",
            "properties",
            "property",
            "testcase",
            "failure",
            "system-out",
            "testcase",
            "testcase",
            "skipped",
        ];
        assert_eq!(names, expected);
        assert!(elements[1].ends_with("tests=3 failures=1 errors=0 skipped=1 time=0.750"));
        assert!(texts.contains("and 2 more of severity error"));
        assert!(!xml.contains('\u{1}') && xml.contains('\u{fffd}'));
    }

    #[test]
    fn special_characters_are_escaped() {
        let xml = report().to_junit();
        assert!(xml.contains("a&lt;b&gt;"));
        assert!(xml.contains("a &amp; "));
        assert!(!xml.contains("]]>"));
    }
}
