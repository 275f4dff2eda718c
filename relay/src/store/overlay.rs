//! A redb backend over a file that must not or cannot be written: reads come from the file, writes stay in memory.
//! Never touches the disk, so a file that needs redb's repair can still be read on a full or read-only disk.
//! What is written here is what a repair writes, a few pages; it is gone with the backend.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE: u64 = 4096;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Overlay {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// Bytes of the file that are still part of the storage: cutting it shorter and growing it again reads as zeros.
    file_len: u64,
    len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// Opens `path` for reading alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { inner: Mutex::new(Inner { file, file_len: len, len, pages: BTreeMap::new() }) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// One page as the file has it, zeros past its end.
    fn page_of_file(&mut self, number: u64) -> io::Result<Box<[u8]>> {
        let mut page = vec![0; PAGE as usize].into_boxed_slice();
        let start = number * PAGE;
        let have = self.file_len.saturating_sub(start).min(PAGE) as usize;
        if have > 0 {
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(&mut page[..have])?;
        }
        Ok(page)
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= self.len);
        if end.is_none() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "read past the end of the room file"));
        }
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let count = (PAGE as usize - within).min(out.len() - done);
            let target = &mut out[done..done + count];
            match self.pages.get(&(at / PAGE)) {
                Some(page) => target.copy_from_slice(&page[within..within + count]),
                None => {
                    let page = self.page_of_file(at / PAGE)?;
                    target.copy_from_slice(&page[within..within + count]);
                }
            }
            done += count;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let number = at / PAGE;
            let within = (at % PAGE) as usize;
            let count = (PAGE as usize - within).min(data.len() - done);
            if !self.pages.contains_key(&number) {
                let page = self.page_of_file(number)?;
                self.pages.insert(number, page);
            }
            if let Some(page) = self.pages.get_mut(&number) {
                page[within..within + count].copy_from_slice(&data[done..done + count]);
            }
            done += count;
        }
        self.len = self.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.file_len = self.file_len.min(len);
            self.pages.retain(|number, _| number * PAGE < len);
            let within = (len % PAGE) as usize;
            if let Some(page) = self.pages.get_mut(&(len / PAGE)) {
                page[within..].fill(0);
            }
        }
        self.len = len;
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner().read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner().set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner().write(offset, data)
    }
}

#[cfg(test)]
mod tests {
    use super::Overlay;
    use redb::StorageBackend;

    #[test]
    fn writes_are_seen_and_the_file_stays_as_it_was() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        let original: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        std::fs::write(&path, &original).expect("write");

        let overlay = Overlay::open(&path).expect("open");
        overlay.write(4090, &[9; 12]).expect("write across a page border");
        let mut seen = vec![0; original.len()];
        overlay.read(0, &mut seen).expect("read");
        let mut expected = original.clone();
        expected[4090..4102].fill(9);
        assert_eq!(seen, expected);

        overlay.set_len(5_000).expect("cut");
        overlay.set_len(9_000).expect("grow");
        let mut tail = vec![1; 4_000];
        overlay.read(5_000, &mut tail).expect("read");
        assert!(tail.iter().all(|byte| *byte == 0), "what was cut off must not come back");
        assert!(overlay.read(8_999, &mut [0; 2]).is_err());
        assert_eq!(std::fs::read(&path).expect("read"), original);
    }
}
