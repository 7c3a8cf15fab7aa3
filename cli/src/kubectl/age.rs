//! Durations as kubectl writes and reads them.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// The clock.
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// How long ago something was: `42s`, `3m10s`, `5h`, `12d`.
pub(super) fn since(then: Option<&Time>, now: Timestamp) -> String {
    let Some(then) = then else {
        return "-".to_owned();
    };
    let seconds = now.duration_since(then.0).as_secs().max(0);
    write(seconds)
}

/// Seconds as a person reads them: two units where the second one matters.
fn write(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let two = |whole: i64, unit: &str, rest: i64, lesser: &str| {
        if rest == 0 {
            format!("{whole}{unit}")
        } else {
            format!("{whole}{unit}{rest}{lesser}")
        }
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ => format!("{}d", seconds / DAY),
    }
}

/// Reads `30s`, `5m`, `1h30m`; a plain number is seconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 30s, 5m or 1h30m");
    let (mut total, mut digits) = (0u64, String::new());
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                digits.push(letter);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let more = count.checked_mul(unit);
        total = more
            .and_then(|more| total.checked_add(more))
            .ok_or_else(wrong)?;
        digits.clear();
    }
    if !digits.is_empty() {
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        total = total.checked_add(count).ok_or_else(wrong)?;
    } else if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (130, "2m10s"),
            (300, "5m"),
            (3700, "61m"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
        ] {
            assert_eq!(write(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_are_read_and_nonsense_is_refused() {
        for (text, seconds) in [
            ("30s", 30),
            ("5m", 300),
            ("1h30m", 5400),
            ("7", 7),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "5x", "-1s", "99999999999999999999s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
