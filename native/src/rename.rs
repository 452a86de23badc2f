//! Keys that are ours, in an application's object: they get a new name there. Rare, so plain rather than quick.

use std::collections::{HashMap, HashSet};

use crate::json::{Key, Object, object};

type Units = Vec<u16>; // UTF-16, so that an escaped lone surrogate is a name as well

const SUFFIX: &str = "_original";

/// Names that an application's keys may not have, nor begin with and go on with a dot.
pub struct Ours {
    names: Vec<Vec<u8>>,
    first_bytes: [bool; 256],
}

impl Ours {
    pub fn new<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let names: Vec<Vec<u8>> = names.into_iter().map(<[u8]>::to_vec).collect();
        let has_empty = names.iter().any(Vec::is_empty);
        let mut first_bytes = [has_empty; 256];
        names.iter().filter_map(|name| name.first()).for_each(|&byte| first_bytes[usize::from(byte)] = true);
        Ours { names, first_bytes }
    }

    #[inline]
    pub fn has(&self, text: &[u8], key: &Key) -> bool {
        if key.is_escaped {
            return self.has_units(&unescape(&text[key.begin..key.end]));
        }
        let first = text.get(key.begin).map_or(0, |&byte| usize::from(byte)); // a quote, where the name is empty
        self.first_bytes[first] && self.has_name(&text[key.begin..key.end])
    }

    #[inline(never)]
    fn has_name(&self, name: &[u8]) -> bool {
        let fits = |own: &Vec<u8>| matches!(name.strip_prefix(own.as_slice()), Some([] | [b'.', ..]));
        self.names.iter().any(fits)
    }

    fn has_units(&self, name: &[u16]) -> bool {
        let fits = |own: &Vec<u8>| {
            let own: Units = String::from_utf8_lossy(own).encode_utf16().collect();
            name.strip_prefix(own.as_slice()).is_some_and(|rest| matches!(rest.first(), None | Some(0x2e)))
        };
        self.names.iter().any(fits)
    }
}

/// The text between a JSON string's quotes.
fn unescape(quoted: &[u8]) -> Units {
    let text = String::from_utf8_lossy(quoted);
    let (mut units, mut rest, mut buffer) = (Units::new(), text.chars(), [0; 2]);
    while let Some(char) = rest.next() {
        if char != '\\' {
            units.extend_from_slice(char.encode_utf16(&mut buffer));
            continue;
        }
        units.push(match rest.next().unwrap_or('\\') {
            'u' => {
                let digits: String = rest.by_ref().take(4).collect();
                u16::from_str_radix(&digits, 16).unwrap_or(0xfffd)
            }
            'b' => 0x08,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            other => other as u16, // a quote, a backslash or a slash
        });
    }
    units
}

/// Appends the members of an object, and its closing brace; each key that is ours gets a name that no other one has.
#[cold]
pub fn write_renamed(out: &mut Vec<u8>, text: &[u8], n: usize, found: &Object, ours: &Ours) {
    let mut keys: Vec<Key> = Vec::new();
    object(text, n, |key| keys.push(key));
    let names: Vec<Units> = keys.iter().map(|key| unescape(&text[key.begin..key.end])).collect();
    let mut taken: HashSet<Units> = names.iter().cloned().collect();
    let mut suffixes: HashMap<&Units, usize> = HashMap::new(); // how often the suffix is needed
    for name in names.iter().filter(|name| ours.has_units(name)) {
        suffixes.entry(name).or_insert_with(|| {
            let (mut longer, mut times) = (name.clone(), 0);
            loop {
                longer.extend(SUFFIX.encode_utf16());
                times += 1;
                if taken.insert(longer.clone()) {
                    return times;
                }
            }
        });
    }
    let mut from = found.begin;
    for (key, name) in keys.iter().zip(&names) {
        if let Some(&times) = suffixes.get(name) {
            out.extend_from_slice(&text[from..key.end]);
            out.extend_from_slice(SUFFIX.repeat(times).as_bytes());
            from = key.end;
        }
    }
    out.extend_from_slice(&text[from..found.end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(text: &str) -> String {
        let ours = Ours::new([&b"stream"[..], b"kubernetes"]);
        let mut out = Vec::new();
        let found = object(text.as_bytes(), text.len(), |_| {}).unwrap();
        write_renamed(&mut out, text.as_bytes(), text.len(), &found, &ours);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ours_are_renamed_to_what_is_free() {
        assert_eq!(renamed(r#"{"stream":1,"a":2}"#), r#""stream_original":1,"a":2}"#);
        assert_eq!(renamed(r#"{"str\u0065am":1}"#), r#""str\u0065am_original":1}"#);
        assert_eq!(
            renamed(r#"{"stream":1,"stream_original":2,"stream":3}"#),
            r#""stream_original_original":1,"stream_original":2,"stream_original_original":3}"#
        );
        assert_eq!(
            renamed(r#"{"kubernetes.a.b":1,"kubernetes_a":2}"#),
            r#""kubernetes.a.b_original":1,"kubernetes_a":2}"#
        );
    }

    #[test]
    fn surrogates_of_a_pair_are_one_character_however_they_are_written() {
        assert_eq!(unescape(br"\ud83d\ude00"), unescape("😀".as_bytes()));
        assert_eq!(unescape(br"\ud800"), [0xd800]);
        assert_eq!(unescape(br#"\"\\\/\b\f\n\r\t"#), "\"\\/\x08\x0c\n\r\t".encode_utf16().collect::<Units>());
    }

    #[test]
    fn an_empty_name_of_ours_has_the_empty_key_and_those_with_a_dot_in_front() {
        let ours = Ours::new([&b""[..]]);
        let key = |text: &str| Key { begin: 0, end: text.len(), is_escaped: false };
        assert!(ours.has(b"", &key("")));
        assert!(ours.has(b".a", &key(".a")));
        assert!(!ours.has(b"a", &key("a")));
    }
}
