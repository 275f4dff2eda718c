//! Days, the finest that the relay keeps of when a room was made and used.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A day (UTC). As text and in JSON `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u32);

const SECONDS: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const BEFORE_1970: u32 = 719_468;

/// The text is no day from 1970 to 9999 as `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a day is written YYYY-MM-DD")]
pub struct DayError;

impl Day {
    /// The day that a time lies in, in seconds since 1970.
    pub fn of(unix: u64) -> Self {
        Self(u32::try_from(unix / SECONDS).unwrap_or(u32::MAX - BEFORE_1970))
    }

    /// How many days it is after `earlier`; 0 when it is not.
    pub fn days_since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Proleptic Gregorian calendar. Years start in March here, so that the leap day is a year's
        // last.
        let days = self.0 + BEFORE_1970;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u32::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let mut parts = text.splitn(3, '-').map(str::parse::<u32>);
        let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day))) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(DayError);
        };
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
            return Err(DayError);
        }
        let (year, month_from_march) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
        let (era, year_of_era) = (year / 400, year % 400);
        let day_of_year = (153 * month_from_march + 2) / 5 + day;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let found = (era * 146_097 + day_of_era).checked_sub(BEFORE_1970 + 1).map(Self).ok_or(DayError)?;
        // Only the one way to write it: no 30th of February, no missing zeros.
        if found.to_string() == text { Ok(found) } else { Err(DayError) }
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    /// Takes seconds since 1970 as well, which earlier relays kept, and rounds them down.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Kept {
            Day(String),
            Seconds(u64),
        }
        match Kept::deserialize(deserializer)? {
            Kept::Day(text) => text.parse().map_err(de::Error::custom),
            Kept::Seconds(unix) => Ok(Self::of(unix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Day;

    #[test]
    fn known_days_are_named_right() {
        for (unix, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(Day::of(unix).to_string(), expected);
            assert_eq!(expected.parse(), Ok(Day::of(unix)));
        }
    }

    #[test]
    fn every_day_is_read_as_it_is_written() {
        for day in (0..60_000).map(Day) {
            assert_eq!(day.to_string().parse(), Ok(day));
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in
            ["", "2026", "2026-13-01", "2026-02-29", "2026-1-01", "1969-12-31", "2026-01-01x", "2026-01-00"]
        {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }
}
