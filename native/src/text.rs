//! Text into the inside of a JSON string (RFC 8259, section 7), and what is not UTF-8 into U+FFFD.

pub const LANE: usize = 16; // bytes that are looked at at once
pub const BLOCK: usize = 4 * LANE; // ... and that are remembered, one bit for each

/// Sixteen bytes, and questions to all of them at once. The answer has one bit for each.
#[derive(Clone, Copy)]
pub struct Lane(Bytes);

#[cfg(target_arch = "x86_64")]
type Bytes = std::arch::x86_64::__m128i;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // registers only, no pointers; and every x86-64 has SSE2
impl Lane {
    #[inline(always)]
    pub fn of(bytes: [u8; LANE]) -> Self {
        use std::arch::x86_64::_mm_set_epi64x;
        let [low, high] = [0, 8].map(|at| i64::from_le_bytes(std::array::from_fn(|i| bytes[at + i])));
        // SAFETY: see above.
        Lane(unsafe { _mm_set_epi64x(high, low) })
    }

    /// Whether it is a quote, a backslash or a control character.
    #[inline(always)]
    pub fn special(self) -> u32 {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8};
        // SAFETY: see above.
        unsafe {
            let quote = _mm_cmpeq_epi8(self.0, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(self.0, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(self.0, _mm_set1_epi8(0x1f)), self.0);
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
        }
    }

    #[inline(always)]
    pub fn digit(self) -> u32 {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_set1_epi8, _mm_sub_epi8};
        // SAFETY: see above.
        unsafe {
            let value = _mm_sub_epi8(self.0, _mm_set1_epi8(b'0' as i8));
            _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(value, _mm_set1_epi8(9)), value)) as u32
        }
    }

    /// Whether it is above 0x7F.
    #[inline(always)]
    pub fn high(self) -> u32 {
        // SAFETY: see above.
        unsafe { std::arch::x86_64::_mm_movemask_epi8(self.0) as u32 }
    }
}

#[cfg(not(target_arch = "x86_64"))]
type Bytes = [u8; LANE];

#[cfg(not(target_arch = "x86_64"))]
impl Lane {
    #[inline(always)]
    pub fn of(bytes: [u8; LANE]) -> Self {
        Lane(bytes)
    }

    #[inline(always)]
    pub fn special(self) -> u32 {
        self.ask(|byte| matches!(byte, b'"' | b'\\' | ..0x20))
    }

    #[inline(always)]
    pub fn digit(self) -> u32 {
        self.ask(|byte| byte.is_ascii_digit())
    }

    #[inline(always)]
    pub fn high(self) -> u32 {
        self.ask(|byte| !byte.is_ascii())
    }

    #[inline(always)]
    fn ask(self, question: impl Fn(u8) -> bool) -> u32 {
        self.0.iter().enumerate().fold(0, |mask, (i, &byte)| mask | u32::from(question(byte)) << i)
    }
}

/// Where the special bytes of a text are, asked for in ascending order.
pub struct Specials<'a> {
    text: &'a [u8],
    base: usize, // of the block that is remembered
    mask: u64,
}

impl<'a> Specials<'a> {
    #[inline(always)]
    pub fn of(text: &'a [u8]) -> Self {
        let mut specials = Specials { text, base: 0, mask: 0 };
        specials.look(0);
        specials
    }

    /// The place of the first one at or after `i`; at or behind the text's end if there is none.
    #[inline(always)]
    pub fn find(&mut self, mut i: usize) -> usize {
        loop {
            let passed = i.wrapping_sub(self.base);
            if passed < BLOCK {
                let rest = self.mask >> passed;
                if rest != 0 {
                    return i + rest.trailing_zeros() as usize;
                }
                i = self.base + BLOCK;
            }
            if i >= self.text.len() {
                return i;
            }
            self.look(i);
        }
    }

    #[inline(always)]
    fn look(&mut self, i: usize) {
        let rest = self.text.get(i..).unwrap_or_default();
        let mask = match rest.first_chunk::<BLOCK>() {
            Some(block) => mask_of(block, Lane::special),
            None => specials_of_end(rest),
        };
        (self.base, self.mask) = (i, mask);
    }
}

#[inline(always)]
fn mask_of(block: &[u8; BLOCK], question: impl Fn(Lane) -> u32) -> u64 {
    let lane = |n: usize| Lane::of(std::array::from_fn(|i| block[n * LANE + i]));
    (0..4).fold(0, |mask, n| mask | u64::from(question(lane(n))) << (n * LANE))
}

/// Of less than a block.
#[cold]
fn specials_of_end(rest: &[u8]) -> u64 {
    let mut block = [b' '; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    mask_of(&block, Lane::special)
}

/// Appends `text[..n]`, escaped. What follows is there only so that whole blocks can be loaded.
pub fn escape(out: &mut Vec<u8>, text: &[u8], n: usize) {
    let (mut specials, mut from) = (Specials::of(text), 0);
    loop {
        let at = specials.find(from);
        if at >= n {
            out.extend_from_slice(&text[from..n]);
            return;
        }
        out.extend_from_slice(&text[from..at]);
        match text[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => escape_control(out, byte),
        }
        from = at + 1;
    }
}

#[cold]
fn escape_control(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// `text[..n]` with U+FFFD in place of what is not UTF-8; None where all of it is.
#[inline]
pub fn mend(text: &[u8], n: usize) -> Option<Vec<u8>> {
    if is_utf8(text, n) {
        return None;
    }
    Some(String::from_utf8_lossy(&text[..n]).into_owned().into_bytes())
}

/// `std::str::from_utf8` of `text[..n]`, which is slow where some characters are not ASCII: only these are shown to it.
/// A character of several bytes has no ASCII in it, so what is between two ASCII bytes can be looked at alone.
#[inline]
fn is_utf8(text: &[u8], n: usize) -> bool {
    let mut begin = find_high(text, 0, n);
    while begin < n {
        let end = text[begin..n].iter().position(u8::is_ascii).map_or(n, |length| begin + length);
        if std::str::from_utf8(&text[begin..end]).is_err() {
            return false;
        }
        begin = find_high(text, end, n);
    }
    true
}

/// The place of the first byte above 0x7F from `i` on; at or behind `n` if there is none before.
#[inline(always)]
fn find_high(text: &[u8], mut i: usize, n: usize) -> usize {
    while i < n {
        let Some(block) = text[i..].first_chunk::<BLOCK>() else {
            return text[i..n].iter().position(|byte| !byte.is_ascii()).map_or(n, |length| i + length);
        };
        let mask = mask_of(block, Lane::high);
        if mask != 0 {
            return i + mask.trailing_zeros() as usize;
        }
        i += BLOCK;
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        escape(&mut out, text, text.len());
        out
    }

    #[test]
    fn control_characters_have_their_short_forms_or_four_digits() {
        assert_eq!(
            escaped(b"\"\\\x08\t\n\x0c\r\x00\x1f\x7f"),
            br#"\"\\\b\t\n\f\r\u0000\u001f"#.iter().chain(b"\x7f").copied().collect::<Vec<u8>>()
        );
    }

    #[test]
    fn a_special_byte_is_found_at_any_place_within_and_behind_a_block() {
        for length in 0..3 * BLOCK {
            for at in 0..length {
                let mut text = vec![b'x'; length];
                text[at] = b'"';
                let mut specials = Specials::of(&text);
                assert_eq!(specials.find(at / 2), at);
                assert_eq!(specials.find(at), at);
                assert!(specials.find(at + 1) >= length);
                assert_eq!(escaped(&text).len(), length + 1);
            }
        }
    }

    #[test]
    fn all_ways_to_look_at_a_byte_agree() {
        for byte in 0..=255u8 {
            let lane = Lane::of([byte; LANE]);
            let all = |is: bool| if is { 0xffff } else { 0 };
            assert_eq!(lane.special(), all(matches!(byte, b'"' | b'\\' | ..0x20)));
            assert_eq!(lane.digit(), all(byte.is_ascii_digit()));
            assert_eq!(lane.high(), all(!byte.is_ascii()));
        }
        assert_eq!(Lane::of(*b"0x23456789abcde9").digit(), 0b1000_0011_1111_1101);
    }

    #[test]
    fn what_is_utf8_is_so_for_the_standard_library_too() {
        let pieces: [&[u8]; 9] = [
            b"a",
            "é".as_bytes(),
            "王".as_bytes(),
            "😀".as_bytes(),
            b"\xc3",
            b"\x80",
            b"\xed\xa0\x80",
            b"\xf0\x9f",
            b"\xff",
        ];
        for (first, second) in pieces.iter().flat_map(|first| pieces.iter().map(move |second| (first, second))) {
            for before in [0, 1, 13, 61, 62, 63, 64, 65, 127] {
                for between in [0, 1, 70] {
                    let xs = |n| vec![b'x'; n];
                    let text = [&xs(before), *first, &xs(between), second, &xs(3)].concat();
                    let is_good = std::str::from_utf8(&text).is_ok();
                    assert_eq!(is_utf8(&text, text.len()), is_good);
                    assert_eq!(mend(&text, text.len()).is_none(), is_good);
                    let followed = [&text[..], b"\n\xff", &xs(BLOCK)].concat();
                    assert_eq!(is_utf8(&followed, text.len()), is_good);
                    let cut = before + first.len() - 1; // perhaps within a character
                    assert_eq!(is_utf8(&text, cut), std::str::from_utf8(&text[..cut]).is_ok());
                }
            }
        }
    }

    #[test]
    fn what_follows_the_text_is_not_written() {
        let mut out = Vec::new();
        escape(&mut out, b"ab\"cd\"", 3);
        assert_eq!(out, b"ab\\\"");
    }
}
