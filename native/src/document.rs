//! One document: what stands around a record, and its message. See `Envelope` in shipper/record.py.

use crate::json::object;
use crate::rename::{Ours, write_renamed};
use crate::text::{escape, mend};

/// How messages are treated; `Frame` of shipper/encode.py.
pub struct Frame<'a> {
    pub merge: bool,
    pub keep_message: bool,
    pub ours: &'a Ours,
    pub limit: usize,
}

/// The bytes around a record's own; shipper/record.py says in which order.
pub struct Envelope<'a> {
    pub id_prefix: Option<&'a [u8]>,
    pub before_time: &'a [u8],
    pub after_time: [&'a [u8]; 2], // stdout, stderr
    pub offset_tail: Option<&'a [u8]>,
}

/// A record as it stands in its chunk. `text[..n]` is its message; `object` says what may stand behind it.
pub struct Record<'a> {
    pub begin: u64,
    pub end: u64,
    pub time: &'a [u8],
    pub stream: usize,
    pub text: &'a [u8],
    pub n: usize,
    pub is_framed: bool,
}

/// A number in lower-case hex, remembered: the end of one record is the begin of the next.
#[derive(Default)]
struct Hex {
    value: Option<u64>,
    digits: [u8; 16],
    count: usize,
}

impl Hex {
    fn write(&mut self, out: &mut Vec<u8>, value: u64) {
        if self.value != Some(value) {
            self.value = Some(value);
            self.count = (67 - value.leading_zeros() as usize).div_euclid(4).max(1);
            let left = value << (64 - 4 * self.count);
            self.digits[..8].copy_from_slice(&hex_of((left >> 32) as u32));
            self.digits[8..].copy_from_slice(&hex_of(left as u32));
        }
        out.extend_from_slice(&self.digits[..self.count]);
    }
}

/// The eight digits of a number, side by side in one register.
#[inline(always)]
fn hex_of(value: u32) -> [u8; 8] {
    let mut nibbles = u64::from(value); // to one in each byte
    nibbles = (nibbles << 16 | nibbles) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles << 8 | nibbles) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles << 4 | nibbles) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// Writes documents; keeps what it needs from one record to the next.
pub struct Writer<'a> {
    frame: &'a Frame<'a>,
    envelope: &'a Envelope<'a>,
    hex: Hex,
}

impl<'a> Writer<'a> {
    pub fn new(frame: &'a Frame<'a>, envelope: &'a Envelope<'a>) -> Self {
        Writer { frame, envelope, hex: Hex::default() }
    }

    /// Appends one document. -> whether bytes of it became U+FFFD.
    #[inline]
    pub fn write(&mut self, out: &mut Vec<u8>, record: &Record) -> bool {
        self.write_head(out, record);
        if !record.is_framed {
            out.extend_from_slice(b",\"parse_error\":\"cri\"");
        }
        if let Some(mended) = mend(record.text, record.n) {
            self.write_message(out, &mended, mended.len(), record.is_framed);
            return true;
        }
        self.write_message(out, record.text, record.n, record.is_framed);
        false
    }

    #[inline]
    fn write_head(&mut self, out: &mut Vec<u8>, record: &Record) {
        let envelope = self.envelope;
        if let Some(prefix) = envelope.id_prefix {
            out.extend_from_slice(prefix);
            self.hex.write(out, record.begin);
            out.push(b'-');
            self.hex.write(out, record.end);
        }
        out.extend_from_slice(envelope.before_time);
        out.extend_from_slice(record.time);
        if let Some(tail) = envelope.offset_tail {
            out.extend_from_slice(envelope.after_time[0]);
            out.extend_from_slice(record.begin.to_string().as_bytes());
            out.extend_from_slice(tail);
        } else {
            out.extend_from_slice(envelope.after_time[record.stream]);
        }
    }

    #[inline]
    fn write_message(&mut self, out: &mut Vec<u8>, text: &[u8], n: usize, is_framed: bool) {
        let (frame, mut has_ours) = (self.frame, false);
        let found =
            if frame.merge && is_framed { object(text, n, |key| has_ours |= frame.ours.has(text, &key)) } else { None };
        let Some(found) = found else {
            out.extend_from_slice(b",\"message\":\"");
            escape(out, text, n);
            return out.extend_from_slice(b"\"}\n");
        };
        if frame.keep_message {
            out.extend_from_slice(b",\"message\":\"");
            escape(out, text, n);
            out.push(b'"');
        }
        if !found.is_empty {
            out.push(b',');
        }
        if has_ours {
            write_renamed(out, text, n, &found, frame.ours);
        } else {
            out.extend_from_slice(&text[found.begin..found.end]);
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_as_format_writes_it() {
        let mut hex = Hex::default();
        for value in [0, 1, 15, 16, 255, 256, 0xfff_ffff, u64::MAX, u64::MAX >> 4] {
            let mut out = Vec::new();
            hex.write(&mut out, value);
            assert_eq!(out, format!("{value:x}").as_bytes());
        }
    }
}
