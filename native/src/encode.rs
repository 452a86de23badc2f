//! A chunk of CRI lines into documents, in one pass; see shipper/encode.py and shipper/parsers/join.py.

use memchr::memchr;

use crate::cri;
use crate::document::{Envelope, Frame, Record, Writer};

const SPAN: u64 = 64 * 1024; // as in shipper/parsers/join.py
const SAMPLE: usize = 16 * 1024; // bytes
const PADDING: &[u8] = b"\n               "; // behind a message: it ends every token, and fills a lane

/// Where a chunk stands in its file, and what is known there.
pub struct Place<'a> {
    pub offset: u64,
    pub last_time: &'a [u8],
    pub is_final: bool,        // nothing will ever follow
    pub known: u64,            // what ends up to here was read before
    pub time_prefix: &'a [u8], // what all times must begin with, in UTC; empty: nothing
}

#[derive(Clone, Default)]
pub struct Counts {
    pub records: u64,
    pub source_bytes: u64,
    pub new_records: u64,
    pub joined: u64,
    pub parse_errors: u64,
    pub invalid_utf8: u64,
}

/// `Summary` of shipper/parsers/summary.py, as far as this twin does not decline.
#[derive(Default)]
pub struct Summary {
    pub counts: Counts,
    pub consumed: u64,
    pub last_time: Option<Vec<u8>>, // of the last line before `consumed`; None: there is none
    pub odd_sizes: Vec<(u64, u64)>, // (begin, bytes)
    pub places: Vec<(u64, u64, u64)>, // (begin, end, bytes), where no id tells
}

/// A record of which parts are here, but not yet its end.
#[derive(Default)]
struct Open<'a> {
    parts: Vec<&'a [u8]>,
    begin: usize,
    time: &'a [u8],
    source_bytes: usize,
    content_bytes: usize,
}

/// What is known at a place where no record is open.
struct Mark<'a> {
    counts: Counts,
    at: usize,
    written: usize,
    last_time: Option<&'a [u8]>,
    odd_sizes: usize,
    places: usize,
}

/// About how many there are, if they go on as they begin: to count all of them is a twentieth of the work.
fn lines(chunk: &[u8]) -> usize {
    let first = &chunk[..chunk.len().min(SAMPLE)];
    memchr::memchr_iter(b'\n', first).count() * chunk.len().div_ceil(first.len().max(1))
}

/// Bytes that a chunk's documents may take: enough for most.
pub fn guess(chunk: &[u8], envelope: &Envelope) -> usize {
    let around = envelope.id_prefix.map_or(0, |prefix| prefix.len() + 32)
        + envelope.before_time.len()
        + envelope.after_time[0].len().max(envelope.after_time[1].len())
        + envelope.offset_tail.map_or(0, |tail| tail.len() + 20)
        + 64;
    lines(chunk) * around + chunk.len() + chunk.len() / 16 + 4096
}

/// Appends the documents of all records that are complete, and before which none is open. None: declined, and nothing
/// was appended.
pub fn encode(chunk: &[u8], place: &Place, frame: &Frame, envelope: &Envelope, out: &mut Vec<u8>) -> Option<Summary> {
    let start = out.len();
    out.reserve(guess(chunk, envelope));
    let mut encoder = Encoder {
        chunk,
        place,
        longest_span: 2 * frame.limit as u64 + SPAN,
        limit: frame.limit,
        has_ids: envelope.id_prefix.is_some(),
        writer: Writer::new(frame, envelope),
        out,
        open: Default::default(),
        joined: Vec::new(),
        last_time: place.last_time,
        summary: Summary::default(),
    };
    let done = encoder.run();
    let summary = encoder.summary;
    if done.is_none() {
        out.truncate(start);
    }
    done.map(|()| summary)
}

struct Encoder<'a, 'b> {
    chunk: &'a [u8],
    place: &'a Place<'a>,
    longest_span: u64,
    limit: usize,
    has_ids: bool,
    writer: Writer<'b>,
    out: &'b mut Vec<u8>,
    open: [Open<'a>; 2],
    joined: Vec<u8>,
    last_time: &'a [u8], // of the line before
    summary: Summary,
}

impl<'a> Encoder<'a, '_> {
    fn run(&mut self) -> Option<()> {
        let (mut at, mut mark) = (0, None);
        while let Some((n, end)) = self.line(at)? {
            match cri::split(&self.chunk[at..at + n]) {
                Some(line) => {
                    if !line.is_full && !self.has_open() {
                        mark = Some(self.mark(at));
                    }
                    self.take(&line, n, at, end)?;
                }
                None => self.take_unframed(n, at, end)?,
            }
            at = end;
        }
        if !self.is_left_alone() {
            return None;
        }
        let mark = mark.filter(|_| self.has_open()).unwrap_or_else(|| self.mark(at));
        self.go_back(mark);
        Some(())
    }

    #[inline]
    fn has_open(&self) -> bool {
        self.open.iter().any(|group| !group.parts.is_empty())
    }

    /// The complete line at `at`: its length, and where the next one begins. The outer None: perhaps to be cut.
    #[inline]
    fn line(&self, at: usize) -> Option<Option<(usize, usize)>> {
        let rest = self.chunk.len() - at;
        let (n, end) = match memchr(b'\n', &self.chunk[at..]) {
            Some(n) => (n, at + n + 1),
            None if self.place.is_final && rest > 0 => (rest, self.chunk.len()),
            None => return (rest <= self.limit).then_some(None),
        };
        (end - at <= self.limit).then_some(Some((n, end)))
    }

    #[inline]
    fn take(&mut self, line: &cri::Line<'a>, n: usize, at: usize, end: usize) -> Option<()> {
        self.last_time = line.time;
        let group = &mut self.open[line.stream];
        if !line.is_full || !group.parts.is_empty() {
            return self.take_part(line, at, end);
        }
        let record = self.record(at, end, line.time, line.stream);
        let text = &self.chunk[at + n - line.content.len()..];
        self.emit(&Record { text, n: line.content.len(), ..record }, end - at)
    }

    #[inline]
    fn take_unframed(&mut self, n: usize, at: usize, end: usize) -> Option<()> {
        self.summary.counts.parse_errors += 1;
        let record = self.record(at, end, self.last_time, 0);
        self.emit(&Record { text: &self.chunk[at..], n, is_framed: false, ..record }, end - at)
    }

    /// Of a record of several lines. None where it is to be cut.
    fn take_part(&mut self, line: &cri::Line<'a>, at: usize, end: usize) -> Option<()> {
        let group = &mut self.open[line.stream];
        if group.parts.is_empty() {
            (group.begin, group.time, group.content_bytes, group.source_bytes) = (at, line.time, 0, 0);
        }
        group.parts.push(line.content);
        group.content_bytes += line.content.len();
        group.source_bytes += end - at;
        let is_long = group.content_bytes > self.limit || (end - group.begin) as u64 > self.longest_span;
        if is_long && group.parts.len() > 1 {
            return None;
        }
        if line.is_full { self.join(line.stream, end) } else { Some(()) }
    }

    fn join(&mut self, stream: usize, end: usize) -> Option<()> {
        let (group, mut text) = (&mut self.open[stream], std::mem::take(&mut self.joined));
        text.clear();
        group.parts.drain(..).for_each(|part| text.extend_from_slice(part));
        let n = text.len();
        text.extend_from_slice(PADDING);
        let (begin, time, source_bytes) = (group.begin, group.time, group.source_bytes);
        self.summary.counts.joined += 1;
        let record = self.record(begin, end, time, stream);
        let done = self.emit(&Record { text: &text, n, ..record }, source_bytes);
        self.joined = text;
        done
    }

    /// One whose message is yet to be named.
    #[inline]
    fn record<'r>(&self, begin: usize, end: usize, time: &'r [u8], stream: usize) -> Record<'r> {
        let offset = self.place.offset;
        let (begin, end) = (offset + begin as u64, offset + end as u64);
        Record { begin, end, time, stream, text: &[], n: 0, is_framed: true }
    }

    /// Whether records that are open stay so: at the end of a file, and far from its begin, one is ended.
    fn is_left_alone(&self) -> bool {
        let is_far = |group: &Open| (self.chunk.len() - group.begin) as u64 >= self.longest_span;
        let mut still_open = self.open.iter().filter(|group| !group.parts.is_empty());
        !still_open.any(|group| self.place.is_final || is_far(group))
    }

    /// None where it does not belong to the target.
    #[inline]
    fn emit(&mut self, record: &Record, source_bytes: usize) -> Option<()> {
        if !is_of(record.time, self.place.time_prefix) {
            return None;
        }
        let is_invalid = self.writer.write(self.out, record);
        let counts = &mut self.summary.counts;
        counts.records += 1;
        counts.source_bytes += source_bytes as u64;
        counts.new_records += u64::from(record.end > self.place.known);
        counts.invalid_utf8 += u64::from(is_invalid);
        if record.end - record.begin != source_bytes as u64 {
            self.summary.odd_sizes.push((record.begin, source_bytes as u64));
        }
        if !self.has_ids {
            self.summary.places.push((record.begin, record.end, source_bytes as u64));
        }
        Some(())
    }

    fn mark(&self, at: usize) -> Mark<'a> {
        Mark {
            counts: self.summary.counts.clone(),
            at,
            written: self.out.len(),
            last_time: (at > 0).then_some(self.last_time),
            odd_sizes: self.summary.odd_sizes.len(),
            places: self.summary.places.len(),
        }
    }

    /// What was written behind the mark stands behind a record that is still open.
    fn go_back(&mut self, mark: Mark) {
        self.out.truncate(mark.written);
        let summary = &mut self.summary;
        summary.counts = mark.counts;
        summary.consumed = self.place.offset + mark.at as u64;
        summary.last_time = mark.last_time.map(<[u8]>::to_vec);
        summary.odd_sizes.truncate(mark.odd_sizes);
        summary.places.truncate(mark.places);
    }
}

/// Whether a record of this time belongs to the target of that prefix.
#[inline]
pub fn is_of(time: &[u8], prefix: &[u8]) -> bool {
    prefix.is_empty() || time.starts_with(prefix) && (time.ends_with(b"Z") || time.ends_with(b"+00:00"))
}
