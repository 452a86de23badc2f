//! Text into the inside of a JSON string (RFC 8259, section 7), and what is not UTF-8 into U+FFFD.

pub const LANE: usize = 16; // bytes that are looked at at once

/// One bit for each byte: whether it is a quote, a backslash or a control character.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code)]
pub fn special(bytes: &[u8; LANE]) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let [low, high] = [0, 8].map(|at| i64::from_le_bytes(std::array::from_fn(|i| bytes[at + i])));
    // SAFETY: registers only, no pointers; and every x86-64 has SSE2.
    unsafe {
        let lane = _mm_set_epi64x(high, low);
        let quote = _mm_cmpeq_epi8(lane, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(lane, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(lane, _mm_set1_epi8(0x1f)), lane);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn special(bytes: &[u8; LANE]) -> u32 {
    let bits = bytes.iter().enumerate().map(|(i, &byte)| (is_special(byte) as u32) << i);
    bits.fold(0, |mask, bit| mask | bit)
}

#[inline(always)]
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..0x20)
}

/// The place of the first special byte at or after `i`; `text.len()` if there is none.
#[inline(always)]
pub fn find_special(text: &[u8], mut i: usize) -> usize {
    while let Some(lane) = text.get(i..).and_then(|rest| rest.first_chunk::<LANE>()) {
        let mask = special(lane);
        if mask != 0 {
            return i + mask.trailing_zeros() as usize;
        }
        i += LANE;
    }
    while i < text.len() && !is_special(text[i]) {
        i += 1;
    }
    i
}

/// Appends `text[..n]`, escaped. What follows is there only so that whole lanes can be loaded.
pub fn escape(out: &mut Vec<u8>, text: &[u8], n: usize) {
    let mut from = 0;
    loop {
        let at = find_special(text, from);
        if at >= n {
            out.extend_from_slice(&text[from..n]);
            return;
        }
        out.extend_from_slice(&text[from..at]);
        escape_byte(out, text[at]);
        from = at + 1;
    }
}

#[cold]
fn escape_byte(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
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

/// `text` with U+FFFD in place of what is not UTF-8, and behind it what ends every token; None where all of it is.
pub fn mend(text: &[u8]) -> Option<Vec<u8>> {
    if std::str::from_utf8(text).is_ok() {
        return None;
    }
    Some(String::from_utf8_lossy(text).into_owned().into_bytes())
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
    fn a_special_byte_is_found_at_any_place_within_and_behind_a_lane() {
        for length in 0..40 {
            for at in 0..length {
                let mut text = vec![b'x'; length];
                text[at] = b'"';
                assert_eq!(find_special(&text, 0), at);
                assert_eq!(find_special(&text, at + 1), length);
                assert_eq!(escaped(&text).len(), length + 1);
            }
        }
    }

    #[test]
    fn both_ways_to_look_at_a_lane_agree() {
        for byte in 0..=255u8 {
            assert_eq!(special(&[byte; LANE]) == 0xffff, is_special(byte));
        }
    }

    #[test]
    fn what_follows_the_text_is_not_written() {
        let mut out = Vec::new();
        escape(&mut out, b"ab\"cd\"", 3);
        assert_eq!(out, b"ab\\\"");
    }
}
