//! One output's documents made of another one's: the same records, with other bytes in front of their times.

use memchr::memchr;

use crate::document::Envelope;
use crate::encode::is_of;

/// Appends to `out`, as `to` has them, the records that stand in `documents` as `from` has them. None: declined, and
/// nothing was appended.
pub fn copy(documents: &[u8], from: &Envelope, to: &Envelope, time_prefix: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if from.after_time != to.after_time || from.offset_tail != to.offset_tail {
        return None;
    }
    let start = out.len();
    out.reserve(documents.len());
    let done = append(documents, from, to, time_prefix, out);
    if done.is_none() {
        out.truncate(start);
    }
    done
}

fn append(mut documents: &[u8], from: &Envelope, to: &Envelope, time_prefix: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (from_id, to_id) = (from.id_prefix?, to.id_prefix?);
    while !documents.is_empty() {
        let (document, following) = next(documents, from, from_id)?;
        if !is_of(document.time, time_prefix) {
            return None;
        }
        for piece in [to_id, document.place, to.before_time, document.tail] {
            out.extend_from_slice(piece);
        }
        documents = following;
    }
    Some(())
}

struct Document<'a> {
    place: &'a [u8], // begin and end, in hex
    time: &'a [u8],
    tail: &'a [u8], // from the time on
}

fn next<'a>(documents: &'a [u8], from: &Envelope, id_prefix: &[u8]) -> Option<(Document<'a>, &'a [u8])> {
    let behind_id = documents.get(id_prefix.len()..)?;
    let (place, rest) = behind_id.split_at(memchr(b'"', behind_id)?); // what follows an id closes its string
    let (tail, following) = split_line(rest.get(from.before_time.len()..)?)?;
    let time = &tail[..memchr(b'"', tail)?];
    Some((Document { place, time, tail }, following))
}

/// No document has a newline in it.
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    memchr(b'\n', text).map(|n| text.split_at(n + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK: Envelope = Envelope {
        id_prefix: Some(b"{\"create\":{\"_id\":\"x-"),
        before_time: b"\"}}\n{\"@timestamp\":\"",
        after_time: [b"\",\"s\":0", b"\",\"s\":1"],
        offset_tail: None,
    };
    const ARCHIVE: Envelope = Envelope {
        id_prefix: Some(b"{\"_id\":\"x-"),
        before_time: b"\",\"@timestamp\":\"",
        after_time: BULK.after_time,
        offset_tail: None,
    };
    const DOCUMENTS: &[u8] = b"{\"create\":{\"_id\":\"x-0-1f\"}}\n{\"@timestamp\":\"2026Z\",\"s\":0,\"a\":1}\n\
        {\"create\":{\"_id\":\"x-1f-2a\"}}\n{\"@timestamp\":\"2027Z\",\"s\":1}\n";

    #[test]
    fn heads_are_exchanged() {
        let mut out = b"before".to_vec();
        assert_eq!(copy(DOCUMENTS, &BULK, &ARCHIVE, b"202", &mut out), Some(()));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "before{\"_id\":\"x-0-1f\",\"@timestamp\":\"2026Z\",\"s\":0,\"a\":1}\n\
             {\"_id\":\"x-1f-2a\",\"@timestamp\":\"2027Z\",\"s\":1}\n"
        );
    }

    #[test]
    fn another_time_or_form_is_declined() {
        let mut out = b"before".to_vec();
        assert_eq!(copy(DOCUMENTS, &BULK, &ARCHIVE, b"2026", &mut out), None);
        for other in [Envelope { id_prefix: None, ..ARCHIVE }, Envelope { after_time: [b"", b""], ..ARCHIVE }] {
            assert_eq!(copy(DOCUMENTS, &BULK, &other, b"", &mut out), None);
            assert_eq!(copy(DOCUMENTS, &other, &ARCHIVE, b"", &mut out), None);
        }
        assert_eq!(out, b"before");
    }
}
