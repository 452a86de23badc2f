//! Is this one JSON object (RFC 8259)? And where do the keys at its top stand? No tree, no recursion.

use crate::text::{LANE, Lane, Specials};

const MAX_DEPTH: usize = 1000; // Elasticsearch's parser refuses deeper ones, so they are text

/// A key at the top, between its quotes.
#[derive(Clone, Copy)]
pub struct Key {
    pub begin: usize,
    pub end: usize,
    pub is_escaped: bool,
}

/// Where the members of an object stand, and what closes it.
pub struct Object {
    pub begin: usize, // of the first member, or of the closing brace
    pub end: usize,   // behind the closing brace
    pub is_empty: bool,
}

#[inline(always)]
fn at(text: &[u8], i: usize) -> u8 {
    text.get(i).copied().unwrap_or(b'\n')
}

#[inline(always)]
fn pair(text: &[u8], i: usize) -> Option<&[u8; 2]> {
    text.get(i..)?.first_chunk()
}

#[inline(always)]
fn skip_white(text: &[u8], mut i: usize) -> usize {
    while matches!(at(text, i), b' ' | b'\t' | b'\r') {
        i += 1;
    }
    i
}

/// From behind the opening quote to behind the closing one.
#[inline(always)]
fn string(text: &[u8], specials: &mut Specials, mut i: usize, is_escaped: &mut bool) -> Option<usize> {
    loop {
        i = specials.find(i);
        match *text.get(i)? {
            b'"' => return Some(i + 1),
            b'\\' => {
                *is_escaped = true;
                match *text.get(i + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => i += 2,
                    b'u' if text.get(i + 2..i + 6)?.iter().all(u8::is_ascii_hexdigit) => i += 6,
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
}

#[inline(always)]
fn digits(text: &[u8], mut i: usize) -> Option<usize> {
    if !at(text, i).is_ascii_digit() {
        return None;
    }
    while at(text, i).is_ascii_digit() {
        i += 1;
    }
    Some(i)
}

/// `number`, where all of it and what follows stand in one lane, and there is no exponent.
#[inline(always)]
fn short_number(text: &[u8], i: usize) -> Option<usize> {
    let lane = text.get(i..)?.first_chunk::<LANE>()?;
    let digits = Lane::of(*lane).digit();
    let whole = digits.trailing_ones() as usize;
    if whole == 0 || whole > LANE - 2 || lane[0] == b'0' && whole > 1 {
        return None;
    }
    let next = lane[whole];
    if next == b'.' {
        let part = (digits >> (whole + 1)).trailing_ones() as usize;
        let end = whole + 1 + part;
        return (part > 0 && end < LANE && !matches!(lane[end], b'e' | b'E')).then_some(i + end);
    }
    (!matches!(next, b'e' | b'E')).then_some(i + whole)
}

#[inline(always)]
fn number(text: &[u8], i: usize) -> Option<usize> {
    let unsigned = i + usize::from(at(text, i) == b'-');
    short_number(text, unsigned).or_else(|| long_number(text, i))
}

/// To the letter of the RFC.
#[cold]
fn long_number(text: &[u8], mut i: usize) -> Option<usize> {
    i += usize::from(at(text, i) == b'-');
    i = if at(text, i) == b'0' { i + 1 } else { digits(text, i)? };
    if at(text, i) == b'.' {
        i = digits(text, i + 1)?;
    }
    if matches!(at(text, i), b'e' | b'E') {
        i += 1;
        i += usize::from(matches!(at(text, i), b'+' | b'-'));
        i = digits(text, i)?;
    }
    Some(i)
}

/// Which of the containers that are open are objects, one bit for each.
struct Containers {
    bits: [u64; MAX_DEPTH / 64 + 1],
    depth: usize,
}

impl Containers {
    fn open(&mut self, is_object: bool) -> bool {
        if self.depth == MAX_DEPTH {
            return false;
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        self.bits[word] = self.bits[word] & !(1 << bit) | u64::from(is_object) << bit;
        self.depth += 1;
        true
    }

    /// Whether the innermost one is an object.
    #[inline(always)]
    fn is_object(&self) -> bool {
        let top = self.depth - 1;
        self.bits[top / 64] >> (top % 64) & 1 == 1
    }
}

/// Whether `text[..n]` is one object, white space around it allowed. `on_key` is told of those at its top, in order (and
/// of some where it is none).
///
/// Valid UTF-8 is the caller's business. If something stands behind `n`, it begins with a newline, which no token
/// takes, and is there only so that whole lanes can be loaded.
#[inline(always)]
pub fn object(text: &[u8], n: usize, mut on_key: impl FnMut(Key)) -> Option<Object> {
    let mut i = skip_white(text, 0);
    if at(text, i) != b'{' {
        return None;
    }
    let mut specials = Specials::of(text);
    let mut containers = Containers { bits: [0; MAX_DEPTH / 64 + 1], depth: 0 };
    containers.open(true);
    let begin = skip_white(text, i + 1);
    i = begin;
    let is_empty = at(text, i) == b'}';
    let mut is_object = true;
    let mut is_closing = is_empty; // right behind the opening bracket of an empty one
    let close = 'value: loop {
        if !is_closing {
            if is_object {
                if at(text, i) != b'"' {
                    return None;
                }
                let mut key = Key { begin: i + 1, end: 0, is_escaped: false };
                i = string(text, &mut specials, i + 1, &mut key.is_escaped)?;
                if containers.depth == 1 {
                    key.end = i - 1;
                    on_key(key);
                }
                if let Some([b':', b'!'..=255]) = pair(text, i) {
                    i += 1;
                } else {
                    i = skip_white(text, i);
                    if at(text, i) != b':' {
                        return None;
                    }
                    i = skip_white(text, i + 1);
                }
            }
            let first = at(text, i);
            if first == b'"' {
                i = string(text, &mut specials, i + 1, &mut false)?;
            } else if first.is_ascii_digit() || first == b'-' {
                i = number(text, i)?;
            } else if first == b'{' || first == b'[' {
                is_object = first == b'{';
                if !containers.open(is_object) {
                    return None;
                }
                i = skip_white(text, i + 1);
                is_closing = at(text, i) == if is_object { b'}' } else { b']' };
                continue 'value;
            } else {
                i += [&b"true"[..], b"false", b"null"].into_iter().find(|word| text[i..].starts_with(word))?.len();
            }
        }
        if let (false, Some([b',', b'!'..=255])) = (is_closing, pair(text, i)) {
            i += 1;
            continue;
        }
        is_closing = false;
        loop {
            i = skip_white(text, i);
            match at(text, i) {
                b',' => {
                    i = skip_white(text, i + 1);
                    continue 'value;
                }
                bracket if bracket == if is_object { b'}' } else { b']' } => {}
                _ => return None,
            }
            containers.depth -= 1;
            if containers.depth == 0 {
                break 'value i;
            }
            is_object = containers.is_object();
            i += 1;
        }
    };
    (skip_white(text, close + 1) == n).then_some(Object { begin, end: close + 1, is_empty })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_object(text: &[u8]) -> bool {
        let alone = object(text, text.len(), |_| {}).is_some();
        let followed = [text, b"\n{\"a\":1}               "].concat();
        assert_eq!(object(&followed, text.len(), |_| {}).is_some(), alone);
        alone
    }

    #[test]
    fn objects_are_those_of_the_rfc() {
        for good in [
            r#"{}"#,
            " \t{ } \r",
            r#"{"a":-0.5E+7,"b":[true,false,null,[],{}],"c":{"d":"\u00e9\/"}}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"":0}"#,
            r#"{"a" : 1 , "a" : [ 1 , 2 ] }"#,
        ] {
            assert!(is_object(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "{",
            "}",
            "[]",
            "1",
            "{}{}",
            "{}}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":.5}"#,
            r#"{"a":1.}"#,
            r#"{"a":1e}"#,
            r#"{"a":-}"#,
            r#"{"a":NaN}"#,
            r#"{"a":tru}"#,
            r#"{"a":"\x41"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":"b}"#,
            r#"{"a":[}"#,
            r#"{"a":{]}"#,
            r#"{a:1}"#,
            r#"{"a":1 2}"#,
            "{\"a\":\"\x01\"}",
            "{\"a\":\"\n\"}",
        ] {
            assert!(!is_object(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn short_numbers_are_what_the_long_way_finds() {
        let parts = ["", "-", "0", "00", "7", "12", "1234567890123", ".", "..", "5", "e", "E+", "e-3", "x", ",", "}"];
        for (a, b) in parts.iter().flat_map(|a| parts.iter().map(move |b| (a, b))) {
            for (c, d) in parts.iter().flat_map(|c| parts.iter().map(move |d| (c, d))) {
                for end in [",\"a\":1}          ", "", "1", "\n                "] {
                    let text = format!("{a}{b}{c}{d}{end}");
                    let found = number(text.as_bytes(), 0);
                    assert_eq!(found, long_number(text.as_bytes(), 0), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_thousand_levels_are_an_object_and_one_more_is_none() {
        for (opening, closing) in [("[", "]"), (r#"{"b":"#, "}")] {
            let nested = |levels: usize| {
                let inner = if opening == "[" { "" } else { "1" };
                format!(r#"{{"a":{}{inner}{}}}"#, opening.repeat(levels - 1), closing.repeat(levels - 1))
            };
            assert!(is_object(nested(1000).as_bytes()));
            assert!(!is_object(nested(1001).as_bytes()));
        }
    }

    #[test]
    fn keys_are_those_at_the_top() {
        let (text, mut keys) = (br#" {"a":{"b":1},"c\u0064":[{"e":2}], "f":3}"#, Vec::new());
        let found = object(text, text.len(), |key| keys.push(key)).unwrap();
        assert_eq!(
            keys.iter().map(|key| &text[key.begin..key.end]).collect::<Vec<_>>(),
            [&b"a"[..], b"c\\u0064", b"f"]
        );
        assert_eq!(keys.iter().map(|key| key.is_escaped).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!((found.begin, found.end, found.is_empty), (2, text.len(), false));
    }
}
