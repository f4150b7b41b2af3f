//! Numbers for people.

use std::time::Duration;

/// Returns a number of bytes with three digits, in powers of 1000.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n as f64, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Returns a count with three digits: `30.5 B`.
pub(crate) fn count(n: u64) -> String {
    scaled(n as f64, &["", "k", "M", "B", "T"])
        .trim_end()
        .to_owned()
}

/// Returns a duration: `12.3 s` or `45 ms`.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.01 => format!("{:.1} ms", seconds * 1e3),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        ..100.0 => format!("{seconds:.1} s"),
        _ => format!(
            "{:.0} min {:02.0} s",
            (seconds / 60.0).floor(),
            seconds % 60.0
        ),
    }
}

/// Returns tokens per second; zero where no time has passed.
pub(crate) fn tok_s(n_tokens: usize, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        n_tokens as f64 / seconds
    } else {
        0.0
    }
}

/// Returns a count with its noun: `1 token`, `2 tokens`.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{ending}")
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.00 kB");
        assert_eq!(bytes(11_970_528), "12.0 MB");
        assert_eq!(bytes(18_551_000_000), "18.6 GB");
        assert_eq!(count(30_532_122_624), "30.5 B");
        assert_eq!(count(512), "512");
    }

    #[test]
    fn times_fit_their_size() {
        assert_eq!(seconds(Duration::from_micros(1500)), "1.5 ms");
        assert_eq!(seconds(Duration::from_millis(345)), "345 ms");
        assert_eq!(seconds(Duration::from_millis(2345)), "2.3 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(tok_s(10, Duration::ZERO), 0.0);
    }
}
