//! A stream, cut anywhere: valid frames come out as they went in whatever the cuts, and of any other bytes the same frames come out as when they are
//! there at once.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use snug_turn_proto::{FramingError, MAX_FRAME, frame_length};

#[derive(Arbitrary, Debug)]
struct Stream {
    frames: Vec<Frame>,
    /// What follows the valid frames.
    rest: Vec<u8>,
    /// Lengths of what arrives together.
    chunks: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Frame {
    Message { kind: u16, words: u8, byte: u8 },
    ChannelData { number: u16, length: u16, byte: u8 },
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        match *self {
            Self::Message { kind, words, byte } => {
                let length = u16::from(words) * 4;
                let mut bytes = [kind & 0x3ff, length].map(u16::to_be_bytes).concat();
                bytes.resize(20 + usize::from(length), byte);
                bytes
            }
            Self::ChannelData { number, length, byte } => {
                // The longest are rare, so that most runs are fast.
                let length = if byte == 0xff { length } else { length & 0x3ff };
                let mut bytes = [0x4000 | (number & 0xfff), length].map(u16::to_be_bytes).concat();
                bytes.resize(4 + usize::from(length).next_multiple_of(4), byte);
                bytes
            }
        }
    }
}

/// What a shell does: cuts off frames as they are complete.
fn cut(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Result<usize, FramingError>) {
    let (mut buffered, mut frames) = (Vec::new(), Vec::new());
    for chunk in chunks {
        buffered.extend_from_slice(chunk);
        loop {
            match frame_length(&buffered) {
                Err(error) => return (frames, Err(error)),
                Ok(None) => {
                    assert!(buffered.len() < 4, "four bytes are enough");
                    break;
                }
                Ok(Some(length)) => {
                    assert!((4..=MAX_FRAME).contains(&length) && length.is_multiple_of(4));
                    if buffered.len() < length {
                        break;
                    }
                    frames.push(buffered.drain(..length).collect());
                }
            }
        }
    }
    (frames, Ok(buffered.len()))
}

fuzz_target!(|stream: Stream| {
    let valid: Vec<Vec<u8>> = stream.frames.iter().take(8).map(Frame::bytes).collect();
    let whole = [valid.concat(), stream.rest.clone()].concat();
    let (at_once, end) = cut(&[&whole]);
    assert_eq!(at_once[..valid.len()], valid[..]);
    let mut chunks = Vec::new();
    let (mut left, mut lengths) = (&whole[..], stream.chunks.iter().cycle());
    while !left.is_empty() {
        // Byte by byte only where there are few.
        let least = 1 + whole.len() / 256;
        let length = lengths.next().map_or(1, |length| usize::from(*length)).max(least).min(left.len());
        let (chunk, behind) = left.split_at(length);
        chunks.push(chunk);
        left = behind;
    }
    assert_eq!(cut(&chunks), (at_once, end));
});
