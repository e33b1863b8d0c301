//! How far this node's own time is from UTC: windows are in the time of the people around it.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use wire::world::WallMs;

/// Where a system keeps its zones, and its own.
const ZONES: &str = "/usr/share/zoneinfo";
const OWN: &str = "/etc/localtime";

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    /// So many seconds ahead of UTC, always.
    Fixed(i32),
    /// By the rules of a place.
    Place(TimeZone),
}

impl Zone {
    /// The system's own; UTC if it has none.
    pub fn of_the_system() -> Zone {
        Zone::in_file(Path::new(OWN), "local").unwrap_or(Zone::Fixed(0))
    }

    /// Reads `UTC`, `+02:00`, or a name such as `Europe/Oslo`, whose rules the system must have.
    pub fn parse(text: &str) -> Result<Zone, String> {
        let expected = || format!("{text:?} is no time zone: it reads like \"+02:00\" or \"Europe/Oslo\"");
        if text == "UTC" {
            return Ok(Zone::Fixed(0));
        }
        if let Some(hours) = text.strip_prefix(['+', '-']) {
            let minutes = package::trust::window::parse_minute(hours).filter(|minutes| *minutes <= 14 * 60);
            let seconds = 60 * i32::from(minutes.ok_or_else(expected)?);
            return Ok(Zone::Fixed(if text.starts_with('-') { -seconds } else { seconds }));
        }
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
        };
        if !text.split('/').all(is_name) {
            return Err(expected());
        }
        Zone::in_file(&Path::new(ZONES).join(text), text).ok_or_else(|| {
            format!(
                "this system has no rules of {text:?} in {ZONES}; write it as \"+02:00\", or install tzdata"
            )
        })
    }

    fn in_file(path: &Path, name: &str) -> Option<Zone> {
        TimeZone::tzif(name, &std::fs::read(path).ok()?).ok().map(Zone::Place)
    }

    /// How many seconds it is ahead of UTC at this time.
    pub fn offset_s(&self, at_ms: WallMs) -> i32 {
        match self {
            Zone::Fixed(seconds) => *seconds,
            Zone::Place(zone) => {
                Timestamp::from_millisecond(at_ms).map_or(0, |at| zone.to_offset(at).seconds())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_read_and_know_summer() {
        let offset = |text: &str, at_ms| Zone::parse(text).map(|zone| zone.offset_s(at_ms));
        assert_eq!(offset("UTC", 0), Ok(0));
        assert_eq!(offset("+05:30", 0), Ok(19_800));
        assert_eq!(offset("-03:00", i64::MAX), Ok(-10_800));
        for wrong in
            ["", "oslo!", "+5", "+15:00", "../../etc/passwd", "Europe/../../x", "No/Such", "/etc/localtime"]
        {
            assert!(Zone::parse(wrong).is_err(), "{wrong}");
        }
        if !Path::new(ZONES).join("Europe/Oslo").is_file() {
            println!("skipped: this system has no time zones");
            return;
        }
        let (january_ms, july_ms) = (1_767_225_600_000, 1_782_864_000_000);
        assert_eq!((offset("Europe/Oslo", january_ms), offset("Europe/Oslo", july_ms)), (Ok(3600), Ok(7200)));
        Zone::of_the_system().offset_s(july_ms);
    }
}
