//! The native twin of `shipper/encode.py`: from the bytes of a log file to the bytes of a request body.
//!
//! The Python twin is the judge. What is rare and intricate is declined here (`None`), and done there: so both give
//! the same bytes for any input. Nothing in here does I/O but `ends`, and nothing that parses is `unsafe`.

mod copy;
mod cri;
mod document;
mod encode;
mod ends;
mod json;
mod rename;
mod text;

pub use copy::copy;
pub use document::{Envelope, Frame};
pub use encode::{Place, Summary, encode};
pub use ends::{End, HEAD_BYTES, look, mark_of};
pub use rename::Ours;

#[cfg(feature = "python")]
mod body;
#[cfg(feature = "python")]
mod python;
