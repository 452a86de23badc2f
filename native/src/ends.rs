//! What is new at the ends of files that grow: size, head and tail of many of them in one call. See
//! shipper/inputs/tail/ends.py, which does the same file by file.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

pub const HEAD_BYTES: usize = 1024; // as in shipper/inputs/tail/identity.py
const FEW_BYTES: usize = 2048; // some lines

/// What a file is found to be: as long as that, with these bytes behind what was known, if they are few.
pub struct End {
    pub size: u64,
    pub news: Option<Vec<u8>>,
}

/// A hash that nobody outside can foresee, of a process's own.
pub fn mark_of(head: &[u8]) -> u64 {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = KEYS.get_or_init(RandomState::new).build_hasher();
    hasher.write(head);
    hasher.finish()
}

/// None: it is shorter than `known`, its head is none of that mark, or it cannot be read; or it has not even a head.
///
/// `room`: for the news; more of them are left to others. Where these are few, as they mostly are, they tell the size,
/// since they come to an end. The head is looked at after them, so that news are only those of a file which still had
/// that head then.
pub fn look(mut file: &File, known: u64, mark: u64, room: &mut [u8]) -> Option<End> {
    let few = room.len().min(FEW_BYTES);
    let mut read = if few == 0 { 0 } else { file.read_at(&mut room[..few], known).unwrap_or(0) };
    let mut size = known + read as u64;
    if read == 0 || read == few {
        size = file.seek(SeekFrom::End(0)).ok()?;
        let length = usize::try_from(size.checked_sub(known)?).ok()?;
        let is_read = length <= room.len() && file.read_exact_at(&mut room[..length], known).is_ok();
        read = if is_read { length } else { 0 };
    }
    if size == known {
        return Some(End { size, news: None });
    }
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0).ok()?;
    (mark_of(&head) == mark).then(|| End { size, news: (read > 0).then(|| room[..read].to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// An empty file that is gone with its last descriptor.
    fn file_of(bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("ends-{}-{:x}", std::process::id(), mark_of(bytes)));
        let mut options = File::options();
        let mut file = options.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn what_was_appended_is_found_where_the_head_is_the_same() {
        let bytes: Vec<u8> = (0..3000_u32).map(|i| (i % 251) as u8).collect();
        let (file, mark) = (file_of(&bytes), mark_of(&bytes[..HEAD_BYTES]));
        let room = &mut [0; 100];
        let end = look(&file, 2900, mark, room).unwrap();
        assert_eq!((end.size, end.news.as_deref()), (3000, Some(&bytes[2900..])));
        let end = look(&file, 2899, mark, room).unwrap();
        assert_eq!((end.size, end.news), (3000, None), "too much of it");
        let end = look(&file, 100, mark, &mut [0; 3000]).unwrap();
        assert_eq!((end.size, end.news.as_deref()), (3000, Some(&bytes[100..])), "more than a few");
        let end = look(&file, 3000 - FEW_BYTES as u64, mark, &mut [0; FEW_BYTES]).unwrap();
        assert_eq!((end.size, end.news.as_deref()), (3000, Some(&bytes[3000 - FEW_BYTES..])), "no byte more");
        let end = look(&file, 2900, mark, &mut []).unwrap();
        assert_eq!((end.size, end.news), (3000, None), "no room");
        assert!(look(&file, 3000, 0, room).unwrap().news.is_none(), "nothing new: nobody looks at its head");
        assert!(look(&file, 3001, mark, room).is_none(), "shorter than it was");
        assert!(look(&file, 2900, mark ^ 1, room).is_none(), "another head");
    }

    #[test]
    fn a_file_without_a_whole_head_is_for_others() {
        assert!(look(&file_of(b"short"), 1, mark_of(b"short"), &mut [0; 100]).is_none());
    }
}
