//! Sizes and lengths of time as people write them: `10GiB`, `500MB`, `7d`, `90m`.
//!
//! A few lines of our own: what is refused here, a crate for it would guess (is `10G` a power of ten?), and both kinds
//! share their reading and their messages.

/// Units of bytes, with their factors.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Units of time, in milliseconds.
const TIME_UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Reads a count of bytes; one without a unit is in bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit = if unit.is_empty() { "B" } else { unit };
    scaled(text, number, unit, &BYTE_UNITS).map_err(|reason| {
        let prefix = unit.trim_end_matches(['b', 'B', 'i', 'I']).to_uppercase();
        let meant = BYTE_UNITS.iter().any(|(name, _)| *name == format!("{prefix}iB"));
        let is_known = BYTE_UNITS.iter().any(|(name, _)| *name == unit);
        if meant && !is_known && !number.is_empty() {
            format!("\"{text}\" may be {number}{prefix}iB (powers of 1024) or {number}{prefix}B (powers of 1000): say which")
        } else {
            format!("{reason}; a size is a number and one of B, KiB, MiB, GiB, TiB, KB, MB, GB, TB: 10GiB")
        }
    })
}

/// Reads a length of time, in milliseconds.
pub(crate) fn milliseconds(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    scaled(text, number, unit, &TIME_UNITS)
        .map_err(|reason| format!("{reason}; a length of time is a number and one of ms, s, m, h, d, w: 7d"))
}

/// A length of time for people: the largest unit of which it is a whole number.
pub(crate) fn milliseconds_text(ms: u64) -> String {
    let unit = TIME_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| ms.is_multiple_of(*factor));
    let (name, factor) = unit.copied().unwrap_or(("ms", 1));
    format!("{}{name}", ms / factor)
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn scaled(text: &str, number: &str, unit: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    if number.is_empty() {
        return Err(format!("\"{text}\" does not begin with a number"));
    }
    if unit.is_empty() {
        return Err(format!("\"{text}\" has no unit"));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("\"{unit}\" of \"{text}\" is no unit"));
    };
    let too_large = || format!("\"{text}\" is too large");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*factor).ok_or_else(too_large);
    }
    let (whole, fraction) = number
        .split_once('.')
        .filter(|(_, fraction)| !fraction.is_empty() && fraction.len() <= 9 && !fraction.contains('.'))
        .ok_or_else(|| format!("\"{number}\" of \"{text}\" is no number"))?;
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| too_large())?,
    };
    let tenths = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(9));
    let fraction: u128 = fraction.parse().map_err(|_| too_large())?;
    let parts = u128::from(whole) * tenths + fraction;
    let scaled = parts * u128::from(*factor) / tenths;
    u64::try_from(scaled).map_err(|_| too_large())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("10GiB", 10 << 30),
            ("10 GiB", 10 << 30),
            ("1.5KiB", 1536),
            (".5KB", 500),
            ("3TB", 3_000_000_000_000),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for (text, part) in [
            ("10G", "10GiB (powers of 1024) or 10GB"),
            ("10gb", "10GiB (powers of 1024) or 10GB"),
            ("10kb", "10KiB"),
            ("", "does not begin with a number"),
            ("-1GiB", "does not begin with a number"),
            ("1.2.3KiB", "is no number"),
            ("1.KiB", "is no number"),
            ("7 days", "\"days\" of \"7 days\" is no unit"),
            ("99999999999TiB", "too large"),
            ("99999999999999999999999B", "is no number"),
        ] {
            let error = bytes(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn lengths_of_time_are_read() {
        for (text, expected) in [
            ("7d", 7 * 86_400_000),
            ("90m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("2w", 14 * 86_400_000),
        ] {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
        for (text, part) in [
            ("7", "\"7\" has no unit"),
            ("7 years", "\"years\" of"),
            ("soon", "does not begin with a number"),
        ] {
            let error = milliseconds(text).unwrap_err();
            assert!(
                error.contains(part) && error.contains("ms, s, m, h, d, w"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn lengths_of_time_are_written_as_they_are_read() {
        for text in ["7d", "90m", "36h", "1w", "1ms", "61s"] {
            let ms = milliseconds(text).unwrap();
            assert_eq!(milliseconds(&milliseconds_text(ms)), Ok(ms), "{text}");
        }
        assert_eq!(milliseconds_text(7 * 86_400_000), "1w");
        assert_eq!(milliseconds_text(3 * 86_400_000), "3d");
    }
}
