//! One CRI line: `<RFC 3339 time> <stdout|stderr> <tags> <content>`; see shipper/parsers/cri.py.

use memchr::memchr;

use crate::text::Lane;

const LONGEST_TIME: usize = "2026-11-21T10:00:00.123456789+00:00".len();

const USUAL_TIME: usize = "2026-11-21T10:00:00.123456789Z".len();

pub struct Line<'a> {
    pub time: &'a [u8],
    pub stream: usize, // 0: stdout, 1: stderr
    pub is_full: bool, // ends its record
    pub content: &'a [u8],
}

/// None where it is no CRI line.
#[inline]
pub fn split(line: &[u8]) -> Option<Line<'_>> {
    let (time, rest) = match line.first_chunk::<{ USUAL_TIME + 1 }>() {
        Some(first) if is_usual_time(first) => (&line[..USUAL_TIME], &line[USUAL_TIME + 1..]),
        _ => split_time(line)?,
    };
    let stream = match rest.first_chunk::<7>()? {
        b"stdout " => 0,
        b"stderr " => 1,
        _ => return None,
    };
    let is_full = match rest.get(7)? {
        b'F' => true,
        b'P' => false,
        _ => return None,
    };
    let content = match rest.get(8) {
        None => &rest[8..],
        Some(b' ') => &rest[9..],
        Some(b':') => memchr(b' ', rest[8..].as_ref()).map_or(&rest[rest.len()..], |n| &rest[8 + n + 1..]),
        Some(_) => return None,
    };
    Some(Line { time, stream, is_full, content })
}

fn split_time(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (time, rest) = line.split_at(memchr(b' ', &line[..line.len().min(LONGEST_TIME + 1)])?);
    is_time(time).then_some((time, &rest[1..]))
}

/// Whether it is one of nine digits behind the point, in UTC, and a space; nearly all are.
#[inline(always)]
fn is_usual_time(line: &[u8; USUAL_TIME + 1]) -> bool {
    const DATE_AND_HOUR: u32 = 0b1101_1011_0110_1111; // 2026-11-21T10:00
    const REST: u32 = 0b0111_1111_1101_1011; // 00:00.123456789Z
    let lane = |from: usize| Lane::of(std::array::from_fn(|i| line[from + i]));
    let has_digits = lane(0).digit() == DATE_AND_HOUR && lane(14).digit() == REST;
    has_digits && [line[19], line[29], line[30]] == *b".Z " && has_head(line)
}

/// As the runtimes write it: with at most nine digits behind the point, and Z or a numeric zone.
#[inline]
fn is_time(time: &[u8]) -> bool {
    let Some(head) = time.first_chunk::<19>() else { return false };
    let digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    if !digits.iter().all(|&i: &usize| head[i].is_ascii_digit()) {
        return false;
    }
    has_head(head) && is_rest(&time[19..])
}

/// Whether marks and values are those of a date and a time of day, where all that should be digits are.
#[inline(always)]
fn has_head<const N: usize>(time: &[u8; N]) -> bool {
    let two = |i: usize| time[i].wrapping_sub(b'0').wrapping_mul(10).wrapping_add(time[i + 1]).wrapping_sub(b'0');
    let has_marks = [time[4], time[7], time[10], time[13], time[16]] == *b"--T::";
    let is_date = (1..=12).contains(&two(5)) && (1..=31).contains(&two(8));
    let is_of_day = two(11) < 24 && two(14) < 60 && two(17) < 60;
    has_marks && is_date && is_of_day
}

#[inline]
fn is_rest(rest: &[u8]) -> bool {
    let zone = match rest.first() {
        Some(b'.') => {
            let digits = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &rest[1 + digits..]
        }
        _ => rest,
    };
    match zone {
        b"Z" => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            let is_hour = matches!((h1, h2), (b'0'..=b'1', b'0'..=b'9') | (b'2', b'0'..=b'3'));
            is_hour && matches!((m1, m2), (b'0'..=b'5', b'0'..=b'9'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_runtimes() {
        for good in ["2026-11-21T10:00:00Z", "2026-11-21T10:00:00.123456789Z", "2026-12-31T23:59:59.1-03:30"] {
            assert!(is_time(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "2026-11-21 10:00:00Z",
            "2026-13-21T10:00:00Z",
            "2026-11-00T10:00:00Z",
            "2026-11-32T10:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T10:60:00Z",
            "2026-11-21T10:00:60Z",
            "2026-11-21T10:00:00",
            "2026-11-21T10:00:00.Z",
            "2026-11-21T10:00:00.1234567890Z",
            "2026-11-21T10:00:00+24:00",
            "2026-11-21T10:00:00+0000",
            "202a-11-21T10:00:00Z",
        ] {
            assert!(!is_time(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn usual_times_are_times() {
        let usual = *b"2026-11-21T10:00:00.123456789Z ";
        assert!(is_usual_time(&usual));
        for at in 0..usual.len() {
            for byte in 0..=255 {
                let mut line = usual;
                line[at] = byte;
                let is_quick = is_usual_time(&line);
                assert_eq!(is_quick, split_time(&line).is_some_and(|(time, _)| time.len() == USUAL_TIME), "{line:?}");
            }
        }
    }

    #[test]
    fn further_tags_are_passed_over_and_content_may_be_missing() {
        let content = |end: &str| {
            split(format!("2026-11-21T10:00:00Z stderr {end}").as_bytes()).map(|line| line.content.to_vec())
        };
        assert_eq!(content("F a b"), Some(b"a b".to_vec()));
        assert_eq!(content("F:x:y a b"), Some(b"a b".to_vec()));
        assert_eq!(content("F:x"), Some(Vec::new()));
        assert_eq!(content("F "), Some(Vec::new()));
        assert_eq!(content("P"), Some(Vec::new()));
        assert_eq!(content("FF x"), None);
        assert_eq!(content("X x"), None);
        assert_eq!(content(""), None);
    }
}
