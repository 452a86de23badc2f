//! A request body that grows in place, chunk by chunk: nothing is copied between encoding and sending.
#![allow(unsafe_code)] // the buffer protocol is C

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyBufferError, PyIndexError};
use pyo3::prelude::*;
use pyo3::types::PySlice;
use pyo3::{ffi, sync::MutexExt};

/// What Python sees as far as it may be used for both: a `bytearray` (shipper/body.py).
#[pyclass(frozen, module = "shipper._native")]
#[derive(Default)]
pub struct Body {
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub data: Vec<u8>,
    views: usize, // exported buffers: while there is one, `data` is neither moved nor written
}

impl Body {
    /// For writing. Fails while somebody looks at the bytes, as a `bytearray` does.
    pub fn open(&self) -> PyResult<MutexGuard<'_, State>> {
        let state = self.read();
        if state.views > 0 {
            return Err(PyBufferError::new_err("a view of this body is in use: its size cannot change"));
        }
        Ok(state)
    }

    /// Also while somebody looks at the bytes.
    pub fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, py: Python<'_>) -> MutexGuard<'_, State> {
        self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Body {
    #[new]
    fn new() -> Self {
        Body::default()
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.look(py).data.len()
    }

    fn __iadd__(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        py.detach(|| self.open().map(|mut state| state.data.extend_from_slice(data)))
    }

    /// `del body[start:]` alone: memory stays for what comes next.
    fn __delitem__(&self, py: Python<'_>, place: &Bound<'_, PySlice>) -> PyResult<()> {
        let length = self.__len__(py);
        let found = place.indices(isize::try_from(length)?)?;
        if found.step != 1 || (found.slicelength > 0 && found.stop != isize::try_from(length)?) {
            return Err(PyIndexError::new_err("only the end of a body can be cut off"));
        }
        let start = length - found.slicelength;
        py.detach(|| self.open().map(|mut state| state.data.truncate(start)))
    }

    /// Bytes that it holds memory for.
    #[getter]
    fn capacity(&self, py: Python<'_>) -> usize {
        self.look(py).data.capacity()
    }

    /// # Safety
    /// Called by Python alone, with a `view` that it owns.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let mut state = slf.get().look(slf.py());
        let (bytes, length) = (state.data.as_mut_ptr(), isize::try_from(state.data.len())?);
        // SAFETY: `bytes` stays where it is until the view is released, since `open` refuses till then; the object
        // lives as long, since the view holds a reference to it; and it is read only (1).
        let code = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), bytes.cast(), length, 1, flags) };
        if code < 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        state.views += 1;
        Ok(())
    }

    /// # Safety
    /// Called by Python alone, once for each view.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.read().views -= 1;
    }
}
