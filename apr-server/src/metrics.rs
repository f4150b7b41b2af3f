//! Counters and histograms, in the text format of Prometheus and with vLLM's names under
//! `apr_`.
//!
//! What an engine counts itself is asked for when somebody looks; the rest is counted here,
//! with atomic additions and no lock.

mod histogram;

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use generate::EngineStatus;

pub(crate) use self::histogram::Histogram;

/// Reasons for which a completion ends, as their label says them.
pub(crate) const ENDS: [&str; 6] = ["stop", "length", "abort", "error", "timeout", "shutdown"];

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Responses by the first digit of their status, 1 to 5.
    responses: [AtomicU64; 5],
    /// Completions by [`ENDS`].
    ends: [AtomicU64; ENDS.len()],
    /// Connections that were closed to make room for others.
    pub(crate) connections_evicted: AtomicU64,
    /// Connections that are open.
    pub(crate) connections: AtomicU64,
    /// From submission to the first token.
    pub(crate) first_token: Histogram<TimeToFirst>,
    /// Between two tokens of a completion.
    pub(crate) inter_token: Histogram<BetweenTokens>,
    /// From submission to the end.
    pub(crate) whole: Histogram<WholeRequest>,
    /// From submission to the start of the prompt.
    pub(crate) queue: Histogram<TimeToFirst>,
    /// From giving a completion up, as when its client has gone, to its slot being free.
    pub(crate) cancel: Histogram<BetweenTokens>,
}

/// Upper bounds of a histogram's buckets in seconds.
pub(crate) trait Buckets {
    const BOUNDS: &'static [f64];
}

/// From a cached prompt of a small model to a long one of a large model.
#[derive(Debug)]
pub(crate) struct TimeToFirst;

/// From 1,000 to less than one token per second.
#[derive(Debug)]
pub(crate) struct BetweenTokens;

/// From an instant to an hour.
#[derive(Debug)]
pub(crate) struct WholeRequest;

impl Buckets for TimeToFirst {
    const BOUNDS: &'static [f64] = &[
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    ];
}

impl Buckets for BetweenTokens {
    const BOUNDS: &'static [f64] = &[
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5,
    ];
}

impl Buckets for WholeRequest {
    const BOUNDS: &'static [f64] = &[
        0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
    ];
}

impl Metrics {
    pub(crate) fn count_response(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.responses[class].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a completion. `why` is one of [`ENDS`].
    pub(crate) fn count_end(&self, why: &str, took: Duration) {
        if let Some(idx) = ENDS.iter().position(|&end| end == why) {
            self.ends[idx].fetch_add(1, Ordering::Relaxed);
        }
        self.whole.observe(took);
    }

    /// Writes everything; `engine` is `None` while the model is being loaded.
    pub(crate) fn to_text(&self, engine: Option<&EngineStatus>) -> String {
        let mut page = Page::default();
        if let Some(status) = engine {
            engine_metrics(&mut page, status);
        }
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        page.head(
            "apr_request_success_total",
            "counter",
            "Completions by why they ended.",
        );
        for (end, count) in ENDS.iter().zip(&self.ends) {
            page.line(
                "apr_request_success_total",
                &format!("finished_reason=\"{end}\""),
                load(count),
            );
        }
        page.head(
            "apr_http_responses_total",
            "counter",
            "Responses by class of status.",
        );
        for (class, count) in (1..).zip(&self.responses) {
            page.line(
                "apr_http_responses_total",
                &format!("status=\"{class}xx\""),
                load(count),
            );
        }
        page.gauge(
            "apr_http_connections",
            "Connections that are open.",
            load(&self.connections),
        );
        page.counter(
            "apr_http_connections_evicted_total",
            "Idle connections that were closed to make room.",
            load(&self.connections_evicted),
        );
        self.first_token.write(
            &mut page,
            "apr_time_to_first_token_seconds",
            "From the arrival of a completion to its first token.",
        );
        self.inter_token.write(
            &mut page,
            "apr_inter_token_latency_seconds",
            "Between two tokens of a completion.",
        );
        self.whole.write(
            &mut page,
            "apr_e2e_request_latency_seconds",
            "From the arrival of a completion to its end.",
        );
        self.queue.write(
            &mut page,
            "apr_request_queue_time_seconds",
            "From the arrival of a completion to the start of its prompt.",
        );
        self.cancel.write(
            &mut page,
            "apr_request_cancel_seconds",
            "From giving a completion up to its slot being free.",
        );
        page.text
    }
}

fn engine_metrics(page: &mut Page, status: &EngineStatus) {
    let n_running = status.slots.iter().flatten().count();
    page.gauge(
        "apr_requests_running",
        "Completions that are worked on.",
        n_running as u64,
    );
    page.gauge(
        "apr_requests_waiting",
        "Completions in the queue.",
        status.n_waiting as u64,
    );
    page.gauge(
        "apr_slots",
        "Completions that can be worked on at a time.",
        status.slots.len() as u64,
    );
    page.counter(
        "apr_requests_total",
        "Completions that came to an end.",
        status.n_ended,
    );
    page.counter(
        "apr_prompt_tokens_total",
        "Tokens of all prompts.",
        status.n_prompt_tokens,
    );
    page.counter(
        "apr_generation_tokens_total",
        "Tokens generated.",
        status.n_generated_tokens,
    );
    page.counter(
        "apr_prefix_cache_queries_total",
        "Prompt tokens that were looked up in the prefix cache.",
        status.n_looked_up_tokens,
    );
    page.counter(
        "apr_prefix_cache_hits_total",
        "Prompt tokens that were found in the prefix cache.",
        status.n_cached_tokens,
    );
    page.gauge(
        "apr_prefix_cache_bytes",
        "Keys and values that are remembered in memory.",
        status.cache_bytes,
    );
    page.gauge(
        "apr_prefix_cache_disk_bytes",
        "Keys and values that are remembered on disk.",
        status.disk_bytes,
    );
    page.counter(
        "apr_prefix_cache_disk_failures_total",
        "Files of the prefix cache that could not be written or removed.",
        status.n_disk_failures,
    );
    page.gauge(
        "apr_prefix_cache_tokens",
        "Tokens that are remembered.",
        status.n_remembered_tokens,
    );
    page.counter("apr_engine_steps_total", "Forward passes.", status.n_steps);
}

/// The text on its way.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.text, "{name} {value}"),
            labels => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.line(name, "", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_stands_under_its_type_and_no_name_is_told_twice() {
        let metrics = Metrics::default();
        metrics.count_response(404);
        metrics.count_end("stop", Duration::from_millis(30));
        let status = EngineStatus {
            slots: vec![None; 4],
            ..EngineStatus::default()
        };
        let text = metrics.to_text(Some(&status));
        let mut family = String::new();
        let mut seen = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(!seen.contains(&family), "{family} twice");
                seen.push(family.clone());
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&family), "{line} under {family}");
                let value = line.rsplit(' ').next().unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.contains("apr_http_responses_total{status=\"4xx\"} 1\n"));
        assert!(text.contains("apr_request_success_total{finished_reason=\"stop\"} 1\n"));
        assert!(text.contains("apr_slots 4\n"));
    }
}
