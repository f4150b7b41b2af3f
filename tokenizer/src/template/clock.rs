//! The date and time as Python's `strftime` writes them, in UTC.
//!
//! Only what templates use: year, month, day, time and the English names. Days become dates
//! by the proleptic Gregorian calendar, counted in years that begin in March, so that the
//! leap day is the last of a year (Howard Hinnant, "chrono-compatible low-level date
//! algorithms").

use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Writes a time; the error says which part of the format is not known.
pub(super) fn strftime(time: SystemTime, format: &str) -> Result<String, String> {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let month_name = MONTHS[month as usize - 1];
    let weekday = WEEKDAYS[((days + 4) % 7) as usize];
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text += &match chars.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('d') => format!("{day:02}"),
            Some('e') => format!("{day:2}"),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) => return Err(format!("strftime_now: `%{other}` is not supported")),
            None => return Err("strftime_now: the format ends in `%`".to_owned()),
        };
    }
    Ok(text)
}

/// The year, month and day of a number of days since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097; // 400 years
    let since_march_of_year_0 = days + 719_468;
    let era = since_march_of_year_0 / DAYS_PER_ERA;
    let day_of_era = since_march_of_year_0 % DAYS_PER_ERA;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64, format: &str) -> Result<String, String> {
        strftime(UNIX_EPOCH + Duration::from_secs(seconds), format)
    }

    #[test]
    fn well_known_days() {
        struct Case {
            seconds: u64,
            text: &'static str,
        }
        // As `date --utc --date=@SECONDS` writes them.
        let cases = [
            Case {
                seconds: 0,
                text: "Thu 01 January 1970 00:00:00 12 AM",
            },
            Case {
                seconds: 951_827_696,
                text: "Tue 29 February 2000 12:34:56 12 PM",
            },
            Case {
                seconds: 1_709_251_199,
                text: "Thu 29 February 2024 23:59:59 11 PM",
            },
            Case {
                seconds: 4_107_542_400,
                text: "Mon 01 March 2100 00:00:00 12 AM",
            },
        ];
        for Case { seconds, text } in cases {
            assert_eq!(
                at(seconds, "%a %d %B %Y %H:%M:%S %I %p").unwrap(),
                text,
                "{seconds}"
            );
        }
    }

    #[test]
    fn an_unknown_part_is_named() {
        assert_eq!(
            at(0, "%Q").unwrap_err(),
            "strftime_now: `%Q` is not supported"
        );
        assert!(at(0, "100%").is_err());
        assert_eq!(
            at(0, "%d %b %y, %e %h %F %T %Z%z %%").unwrap(),
            "01 Jan 70,  1 Jan 1970-01-01 00:00:00 UTC+0000 %"
        );
    }
}
