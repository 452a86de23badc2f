//! One CRI line: `<RFC 3339 time> <stdout|stderr> <tags> <content>`; see shipper/parsers/cri.py.

use memchr::memchr;

const LONGEST_TIME: usize = "2026-11-21T10:00:00.123456789+00:00".len();

pub struct Line<'a> {
    pub time: &'a [u8],
    pub stream: usize, // 0: stdout, 1: stderr
    pub is_full: bool, // ends its record
    pub content: &'a [u8],
}

/// None where it is no CRI line.
#[inline]
pub fn split(line: &[u8]) -> Option<Line<'_>> {
    let (time, rest) = line.split_at(memchr(b' ', &line[..line.len().min(LONGEST_TIME + 1)])?);
    let rest = &rest[1..];
    if !is_time(time) {
        return None;
    }
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

/// As the runtimes write it: with at most nine digits behind the point, and Z or a numeric zone.
#[inline]
fn is_time(time: &[u8]) -> bool {
    let Some(head) = time.first_chunk::<19>() else { return false };
    let digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    if !digits.iter().all(|&i: &usize| head[i].is_ascii_digit()) {
        return false;
    }
    let two = |i: usize| (head[i] - b'0') * 10 + head[i + 1] - b'0';
    let has_marks = [head[4], head[7], head[10], head[13], head[16]] == *b"--T::";
    let is_date = (1..=12).contains(&two(5)) && (1..=31).contains(&two(8));
    let is_of_day = two(11) < 24 && two(14) < 60 && two(17) < 60;
    has_marks && is_date && is_of_day && is_rest(&time[19..])
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
