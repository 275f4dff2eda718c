//! How a record lies in a redb value: `crc32 | revision | bytes`, both numbers little endian.
//! Never says what the bytes are; that is the room's business.
//!
//! The checksum covers the key as well, so a value that turns up under another room's id is found out. redb checks its
//! pages when a file is opened and not at each read, hence a checksum of our own.

/// Length of what precedes the bytes.
const HEADER: usize = 4 + 8;

/// A record in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Grows with every save of the whole store; of two records for a key the higher one is the truth.
    pub(super) revision: u64,
    /// What was saved.
    pub(super) bytes: Vec<u8>,
}

impl Record {
    /// The redb value of this record under `key`.
    pub(super) fn encode(&self, key: &str) -> Vec<u8> {
        let mut value = Vec::with_capacity(HEADER + self.bytes.len());
        value.extend_from_slice(&[0; 4]);
        value.extend_from_slice(&self.revision.to_le_bytes());
        value.extend_from_slice(&self.bytes);
        let crc = checksum(key, &value[4..]);
        value[..4].copy_from_slice(&crc.to_le_bytes());
        value
    }

    /// The record in `value`, or `None` when it is not what was written under `key`.
    pub(super) fn decode(key: &str, value: &[u8]) -> Option<Self> {
        let revision = revision_of(key, value)?;
        Some(Self { revision, bytes: value[HEADER..].to_vec() })
    }
}

/// The checked revision in `value`, without copying its bytes.
pub(super) fn revision_of(key: &str, value: &[u8]) -> Option<u64> {
    let (crc, rest) = value.split_first_chunk::<4>()?;
    let (revision, _) = rest.split_first_chunk::<8>()?;
    (checksum(key, rest) == u32::from_le_bytes(*crc)).then(|| u64::from_le_bytes(*revision))
}

fn checksum(key: &str, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key.as_bytes());
    // Keeps "ab" + "c…" and "a" + "bc…" apart.
    hasher.update(&[0]);
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn a_record_comes_back_only_whole_and_under_its_own_key() {
        let record = Record { revision: 7, bytes: b"room".to_vec() };
        let value = record.encode("a-b");
        assert_eq!(Record::decode("a-b", &value), Some(record));
        assert_eq!(Record::decode("a-c", &value), None);
        for cut in 0..value.len() {
            assert_eq!(Record::decode("a-b", &value[..cut]), None, "cut at {cut}");
        }
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode("a-b", &bad), None, "bit {bit}");
        }
    }
}
