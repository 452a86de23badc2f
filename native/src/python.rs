//! The module `shipper._native`: thin, and without the GIL where there is work.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::body::Body;
use crate::{End, Envelope, Frame, HEAD_BYTES, Ours, Place, Summary, copy as copy_documents, encode as run, look};

/// Raised whenever a signature in here changes: a module built from other sources is not used.
const API: u32 = 6;

/// So little is done before another thread has taken the interpreter's lock and given it back.
const SHORT_BYTES: usize = 16 * 1024;

/// Keys that an application's JSON may not overwrite.
#[pyclass(frozen, module = "shipper._native")]
struct Keys(Ours);

#[pymethods]
impl Keys {
    #[new]
    fn new(names: Vec<String>) -> Self {
        Keys(Ours::new(names.iter().map(String::as_bytes)))
    }
}

/// (begin, end, bytes) of each record, 24 bytes each.
#[pyclass(frozen, module = "shipper._native", sequence)]
struct Places(Vec<(u64, u64, u64)>);

#[pymethods]
impl Places {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<(u64, u64, u64)> {
        let place = usize::try_from(index).ok().and_then(|index| self.0.get(index));
        place.copied().ok_or_else(|| PyIndexError::new_err("there is no such record"))
    }
}

/// (records, source bytes, consumed, time of the last line before that, new records, odd sizes, places, joined,
/// parse errors, records with invalid UTF-8)
type Said = (u64, u64, u64, Option<Vec<u8>>, u64, Vec<(u64, u64)>, Option<Places>, u64, u64, u64);

/// What the chunks of one container's log become in one output: `Frame` and `Envelope`, checked once.
#[pyclass(frozen, module = "shipper._native")]
struct Form {
    id_prefix: Option<Py<PyBytes>>,
    before_time: Py<PyBytes>,
    after_time: [Py<PyBytes>; 2],
    offset_tail: Option<Py<PyBytes>>,
    keys: Py<Keys>,
    merge: bool,
    keep_message: bool,
    limit: usize,
}

#[pymethods]
impl Form {
    #[new]
    #[pyo3(signature = (*, id_prefix, before_time, after_time, offset_tail, keys, merge, keep_message, limit))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        id_prefix: Option<Py<PyBytes>>,
        before_time: Py<PyBytes>,
        after_time: (Py<PyBytes>, Py<PyBytes>),
        offset_tail: Option<Py<PyBytes>>,
        keys: Py<Keys>,
        merge: bool,
        keep_message: bool,
        limit: usize,
    ) -> Self {
        let after_time = after_time.into();
        Form { id_prefix, before_time, after_time, offset_tail, keys, merge, keep_message, limit }
    }

    /// Appends the documents of a chunk of CRI lines to `body`: see shipper/encode.py, and `Place`. None: declined.
    #[allow(clippy::too_many_arguments)]
    fn append(
        &self,
        py: Python<'_>,
        chunk: &[u8],
        offset: u64,
        body: &Bound<'_, Body>,
        last_time: &[u8],
        is_final: bool,
        known: u64,
        time_prefix: &[u8],
    ) -> PyResult<Option<Said>> {
        let place = Place { offset, last_time, is_final, known, time_prefix };
        let envelope = self.envelope(py);
        let frame = self.frame();
        let body = body.get();
        let work = || body.open().map(|mut state| run(chunk, &place, &frame, &envelope, &mut state.data));
        let summary = if chunk.len() < SHORT_BYTES { work() } else { py.detach(work) }?;
        Ok(summary.map(|summary| said(summary, self.id_prefix.is_none())))
    }

    /// `append` where that is all there is to say of a chunk: it is consumed whole, all of it is of its records, none of
    /// which is odd. -> their number, the time of the last line, and where the body ends now. None: declined.
    fn append_whole(
        &self,
        py: Python<'_>,
        chunk: &[u8],
        offset: u64,
        body: &Bound<'_, Body>,
        last_time: &[u8],
        time_prefix: &[u8],
    ) -> PyResult<Option<(u64, Vec<u8>, usize)>> {
        let place = Place { offset, last_time, is_final: false, known: 0, time_prefix };
        let envelope = self.envelope(py);
        let frame = self.frame();
        if envelope.id_prefix.is_none() || chunk.len() >= SHORT_BYTES {
            return Ok(None);
        }
        let mut state = body.get().open()?;
        let start = state.data.len();
        let whole = run(chunk, &place, &frame, &envelope, &mut state.data).and_then(|summary| {
            let counts = &summary.counts;
            let size = chunk.len() as u64;
            let odd = counts.joined + counts.parse_errors + counts.invalid_utf8;
            let is_whole = counts.source_bytes == size && summary.consumed == offset + size;
            let is_plain = odd == 0 && summary.odd_sizes.is_empty() && counts.records > 0;
            (is_whole && is_plain).then_some((counts.records, summary.last_time?, state.data.len()))
        });
        if whole.is_none() {
            state.data.truncate(start);
        }
        Ok(whole)
    }

    /// Appends to `body` what stands in `other_body` from `start` on, where `other` has appended it. Whether it did.
    fn copy(
        &self,
        py: Python<'_>,
        other: &Bound<'_, Form>,
        other_body: &Bound<'_, Body>,
        start: usize,
        body: &Bound<'_, Body>,
        time_prefix: &[u8],
    ) -> PyResult<bool> {
        if body.is(other_body) {
            return Ok(false); // it cannot be read and written at once
        }
        let (from, to) = (other.get().envelope(py), self.envelope(py));
        let (source, target) = (other_body.get(), body.get());
        py.detach(|| {
            let source = source.read();
            let documents = source.data.get(start..).unwrap_or_default();
            target.open().map(|mut state| copy_documents(documents, &from, &to, time_prefix, &mut state.data).is_some())
        })
    }
}

impl Form {
    fn frame(&self) -> Frame<'_> {
        let ours = &self.keys.get().0;
        Frame { merge: self.merge, keep_message: self.keep_message, ours, limit: self.limit }
    }

    fn envelope<'a>(&'a self, py: Python<'a>) -> Envelope<'a> {
        let [stdout, stderr] = &self.after_time;
        Envelope {
            id_prefix: self.id_prefix.as_ref().map(|prefix| prefix.as_bytes(py)),
            before_time: self.before_time.as_bytes(py),
            after_time: [stdout.as_bytes(py), stderr.as_bytes(py)],
            offset_tail: self.offset_tail.as_ref().map(|tail| tail.as_bytes(py)),
        }
    }
}

fn said(summary: Summary, has_places: bool) -> Said {
    let counts = summary.counts;
    (
        counts.records,
        counts.source_bytes,
        summary.consumed,
        summary.last_time,
        counts.new_records,
        summary.odd_sizes,
        has_places.then_some(Places(summary.places)),
        counts.joined,
        counts.parse_errors,
        counts.invalid_utf8,
    )
}

/// `bytes.count(b"\n")` searches for each newline anew; this takes a tenth of its time.
#[pyfunction]
fn count_lines(py: Python<'_>, data: &[u8]) -> usize {
    py.detach(|| memchr::memchr_iter(b'\n', data).count())
}

/// For each file (its descriptor, how much of it is known, the mark of its head) what `look` says: its size, and its
/// news, of which there are at most `most` bytes each, and `budget` in all.
#[pyfunction]
#[allow(clippy::type_complexity)]
fn look_at_ends<'py>(
    py: Python<'py>,
    files: Vec<(RawFd, u64, u64)>,
    most: usize,
    budget: usize,
) -> Vec<Option<(u64, Option<Bound<'py, PyBytes>>)>> {
    let mut left = budget;
    let found: Vec<Option<End>> = py.detach(|| {
        let mut room = vec![0; most];
        let look_at = |&(descriptor, known, mark): &(RawFd, u64, u64)| {
            let end = look(&borrowed(descriptor), known, mark, &mut room[..most.min(left)]);
            left -= end.as_ref().and_then(|end| end.news.as_ref()).map_or(0, Vec::len);
            end
        };
        files.iter().map(look_at).collect()
    });
    let news = |data: Vec<u8>| PyBytes::new(py, &data);
    found.into_iter().map(|end| end.map(|end| (end.size, end.news.map(news)))).collect()
}

/// A file that is somebody else's to close.
#[allow(unsafe_code)]
fn borrowed(descriptor: RawFd) -> ManuallyDrop<File> {
    // SAFETY: the caller holds the file open until the call that this is part of has returned; nothing closes it here.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) })
}

/// See `ends::mark_of`.
#[pyfunction]
fn mark_of(head: &[u8]) -> u64 {
    crate::mark_of(head)
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("API", API)?;
    module.add_class::<Body>()?;
    module.add_class::<Keys>()?;
    module.add_class::<Places>()?;
    module.add_class::<Form>()?;
    module.add("HEAD_BYTES", HEAD_BYTES)?;
    module.add_function(wrap_pyfunction!(count_lines, module)?)?;
    module.add_function(wrap_pyfunction!(look_at_ends, module)?)?;
    module.add_function(wrap_pyfunction!(mark_of, module)?)
}
