//! Wall-clock instants as people read them: RFC 3339, UTC, with milliseconds.
//!
//! By hand and not with a calendar crate, since this is all that the daemon needs of the calendar:
//! the days-to-date arithmetic is Howard Hinnant's `civil_from_days` (public domain), exact for
//! every date of the Gregorian calendar.
//!
//! Limits: years 1970 to 9999; no other time zones; leap seconds don't exist in Unix time.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z. JSON shows `2026-11-21T05:52:01.123Z`, the wire the
/// number. For people only: nothing is decided by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

/// The last instant that can be written with four digits of the year.
const LAST: u64 = 253_402_300_799_999;
/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [year, month, day, hour, minute, second, milli] = self.parts();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

impl WallTime {
    /// Year, month, day, hour, minute, second and millisecond.
    #[must_use]
    pub fn parts(self) -> [u64; 7] {
        let ms = self.0.min(LAST);
        let (year, month, day) = civil(ms / DAY);
        let of_day = ms % DAY;
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
        [year, month, day, hour, minute, second, milli]
    }
}

/// Year, month and day of the day that is `days` after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to this date; the inverse of [`civil`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let y = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let era = y / 400;
    let yoe = y % 400;
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe).checked_sub(719_468)
}

impl std::str::FromStr for WallTime {
    type Err = &'static str;

    /// Reads `2026-11-21T05:52:01Z` with up to three digits of a second's fraction.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = "not an RFC 3339 time in UTC, such as 2026-11-21T05:52:01.123Z";
        let (date, time) = text
            .strip_suffix('Z')
            .and_then(|text| text.split_once('T'))
            .ok_or(bad)?;
        let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let [year, month, day] = numbers(date, '-').ok_or(bad)?;
        let [hour, minute, second] = numbers(time, ':').ok_or(bad)?;
        let milli = match fraction.len() {
            1..=3 => digits(&format!("{fraction:0<3}")).ok_or(bad)?,
            _ => return Err(bad),
        };
        let sane = (1..=12).contains(&month)
            && day >= 1
            && year <= 9_999
            && hour < 24
            && minute < 60
            && second < 60;
        let day_number = if sane {
            days(year, month, day).ok_or(bad)?
        } else {
            return Err(bad);
        };
        if civil(day_number) != (year, month, day) {
            return Err(bad);
        }
        Ok(Self(
            day_number * DAY + hour * 3_600_000 + minute * 60_000 + second * 1_000 + milli,
        ))
    }
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(digits);
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(serde::de::Error::custom);
        }
        u64::deserialize(deserializer).map(Self)
    }
}
