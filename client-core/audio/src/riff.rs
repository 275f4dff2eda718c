//! Where the sound of a WAV file is, and how it is written, whatever the file says of its own lengths.
//! Only bytes in and numbers out: it opens no file, and holds no more of it than a header.
//!
//! 1. `RIFF`, `RF64` or `BW64`, a length that nobody believes, `WAVE`.
//! 2. Chunks in any order: a name, a length, bytes, and a pad byte after an odd length, which some writers forget.
//! 3. `fmt ` says how samples are written, `data` holds them. A length beyond the file's end ends there: a stream's writer knows no
//!    length (`0xFFFFFFFF`), one that was stopped never wrote it (`0`), and a cut file is shorter than it says.
//! 4. Only whole frames count, a frame being one sample of each channel, so that a second round starts on one.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Chunks that are looked at before and after the sound.
const CHUNKS: usize = 4096;
/// Bytes behind a format chunk of a wrong length in which the sound is looked for.
const SEARCHED: u64 = 64 * 1024;
/// A length that stands for "see elsewhere" or "not known".
const UNKNOWN: u64 = 0xffff_ffff;
/// Names of chunks that writers use: what follows an odd chunk tells whether it was padded.
const NAMES: [&[u8; 4]; 16] = [
    b"fmt ", b"data", b"LIST", b"fact", b"bext", b"JUNK", b"junk", b"ds64", b"PEAK", b"cue ", b"smpl",
    b"inst", b"id3 ", b"ID3 ", b"iXML", b"PAD ",
];
/// What follows a format's number in the GUID of `WAVE_FORMAT_EXTENSIBLE`.
const GUID: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
/// Sample rates that are resampled.
const RATES: Range<u32> = 4_000..384_001;
/// A frame of more is no recording that somebody made to be heard.
const MOST_CHANNELS: u16 = 64;

/// Why a file is not played.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RiffError {
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is no WAV file; the start of it tells what else.
    #[error("it does not start with RIFF and WAVE")]
    Foreign,
    /// Another program can convert it.
    #[error("{0}")]
    Unsupported(String),
    /// Nobody can make sense of it.
    #[error("{0}")]
    Damaged(&'static str),
}

/// How one sample is written, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Unsigned8,
    Signed16,
    Signed24,
    /// The lower three of four bytes.
    Signed24In32,
    Signed32,
    Float32,
    Float64,
}

impl Encoding {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Unsigned8 => 1,
            Self::Signed16 => 2,
            Self::Signed24 => 3,
            Self::Signed24In32 | Self::Signed32 | Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// The sample in these bytes between -1 and 1. What is no number is silent.
    pub(crate) fn sample(self, bytes: &[u8]) -> f32 {
        let value = match (self, bytes) {
            (Self::Unsigned8, [a]) => (f32::from(*a) - 128.0) / 128.0,
            (Self::Signed16, [a, b]) => f32::from(i16::from_le_bytes([*a, *b])) / 32_768.0,
            (Self::Signed24, [a, b, c]) | (Self::Signed24In32, [a, b, c, _]) => {
                i32::from_le_bytes([0, *a, *b, *c]) as f32 / 2_147_483_648.0
            }
            (Self::Signed32, [a, b, c, d]) => i32::from_le_bytes([*a, *b, *c, *d]) as f32 / 2_147_483_648.0,
            (Self::Float32, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
            (Self::Float64, [a, b, c, d, e, f, g, h]) => {
                f64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as f32
            }
            _ => 0.0,
        };
        if value.is_nan() { 0.0 } else { value.clamp(-1.0, 1.0) }
    }
}

/// What the `fmt ` chunk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) encoding: Encoding,
    pub(crate) channels: u16,
    pub(crate) rate: u32,
}

impl Format {
    /// Bytes of one frame.
    pub(crate) fn frame(&self) -> usize {
        self.encoding.bytes() * usize::from(self.channels)
    }
}

/// Where the sound is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    /// Bytes of the file, a whole number of frames.
    pub(crate) data: Range<u64>,
}

impl Layout {
    /// Reads as much of the file as it takes.
    pub(crate) fn read(file: &mut (impl Read + Seek)) -> Result<Self, RiffError> {
        let end = file.seek(SeekFrom::End(0))?;
        let mut walk = Walk { file, end, long: None, format: None, data: None };
        walk.chunks()?;
        let format = match walk.format {
            Some((format, _)) => format?,
            None => return Err(RiffError::Damaged("it has no format chunk")),
        };
        let data = walk.data.ok_or(RiffError::Damaged("it has no data chunk"))?;
        let frame = format.frame() as u64;
        let frames = data.end.saturating_sub(data.start) / frame;
        if frames == 0 {
            return Err(RiffError::Damaged("it holds no sound"));
        }
        Ok(Self { format, data: data.start..data.start + frames * frame })
    }
}

struct Walk<'a, F> {
    file: &'a mut F,
    /// Length of the file.
    end: u64,
    /// Length of the sound by the `ds64` chunk.
    long: Option<u64>,
    /// What the format chunk says, and where its sixteen fixed bytes end.
    format: Option<(Result<Format, RiffError>, u64)>,
    data: Option<Range<u64>>,
}

impl<F: Read + Seek> Walk<'_, F> {
    fn chunks(&mut self) -> Result<(), RiffError> {
        let Some(head) = self.bytes::<12>(0)? else {
            let is_cut = self.bytes(0)? == Some(*b"RIFF") || self.end == 0;
            let cause = if self.end == 0 { "it is empty" } else { "it is cut short" };
            return Err(if is_cut { RiffError::Damaged(cause) } else { RiffError::Foreign });
        };
        match (&head[..4], &head[8..]) {
            (b"RIFF" | b"RF64" | b"BW64", b"WAVE") => {}
            (b"RIFX", b"WAVE") => {
                return Err(RiffError::Unsupported("its numbers are big-endian (RIFX)".into()));
            }
            _ => return Err(RiffError::Foreign),
        }
        let mut at = 12;
        for _ in 0..CHUNKS {
            let Some(chunk) = self.bytes::<8>(at)? else { break };
            let [a, b, c, d, length @ ..] = chunk;
            let (body, length) = (at + 8, u64::from(u32::from_le_bytes(length)));
            let mut end = body.saturating_add(length);
            match &[a, b, c, d] {
                b"fmt " if self.format.is_none() => {
                    self.format = Some((self.format_chunk(body, length)?, body + 16));
                }
                b"ds64" => {
                    let sizes = self.bytes::<16>(body)?;
                    self.long = sizes.map(|s| u64::from_le_bytes(std::array::from_fn(|n| s[8 + n])));
                }
                b"data" if self.data.as_ref().is_none_or(Range::is_empty) => {
                    end = self.data_end(body, length)?;
                    self.data = Some(body..end);
                }
                _ => {}
            }
            if self.format.is_some() && self.data.as_ref().is_some_and(|data| !data.is_empty()) {
                return Ok(());
            }
            at = self.after(end, length)?;
        }
        if self.data.is_none()
            && let Some((_, from)) = self.format
        {
            self.data = self.search(from)?;
        }
        Ok(())
    }

    /// Where the sound really ends.
    fn data_end(&mut self, body: u64, length: u64) -> Result<u64, RiffError> {
        let said = match length {
            UNKNOWN => self.long.filter(|long| *long > 0).unwrap_or(u64::MAX),
            // Never filled in, unless another chunk follows.
            0 if !self.name_at(body)?.is_some_and(|name| is_known(&name)) => u64::MAX,
            length => length,
        };
        Ok(body.saturating_add(said).min(self.end))
    }

    /// Where the chunk after one of this length starts.
    fn after(&mut self, end: u64, length: u64) -> Result<u64, RiffError> {
        if length.is_multiple_of(2) || end >= self.end {
            return Ok(end);
        }
        let is_padded = self.name_at(end + 1)?.is_some_and(|name| is_known(&name));
        let is_not = self.name_at(end)?.is_some_and(|name| is_known(&name));
        Ok(if is_not && !is_padded { end } else { end + 1 })
    }

    /// Looks for the sound where a wrong length led astray.
    fn search(&mut self, from: u64) -> Result<Option<Range<u64>>, RiffError> {
        self.file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        self.file.by_ref().take(SEARCHED).read_to_end(&mut bytes)?;
        let Some(found) = bytes.windows(8).position(|window| window.starts_with(b"data")) else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(std::array::from_fn(|n| bytes[found + 4 + n]));
        let body = from + found as u64 + 8;
        Ok(Some(body..self.data_end(body, length.into())?))
    }

    /// The outer error is the file's, the inner one the format's.
    fn format_chunk(&mut self, body: u64, length: u64) -> io::Result<Result<Format, RiffError>> {
        let Some(fixed) = self.bytes::<16>(body)? else {
            return Ok(Err(RiffError::Damaged("its format chunk is cut short")));
        };
        let extension = if length >= 40 { self.bytes::<24>(body + 16)? } else { None };
        Ok(format(&fixed, extension.as_ref()))
    }

    fn name_at(&mut self, at: u64) -> io::Result<Option<[u8; 4]>> {
        self.bytes(at)
    }

    /// `None` behind the end of the file.
    fn bytes<const N: usize>(&mut self, at: u64) -> io::Result<Option<[u8; N]>> {
        if at.saturating_add(N as u64) > self.end {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.file.seek(SeekFrom::Start(at))?;
        match self.file.read_exact(&mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_known(name: &[u8; 4]) -> bool {
    NAMES.contains(&name)
}

fn format(fixed: &[u8; 16], extension: Option<&[u8; 24]>) -> Result<Format, RiffError> {
    let short = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
    let long = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
    let (mut tag, channels, rate, bits) = (short(0), short(2), long(4), short(14));
    let (bytes_a_second, alignment) = (long(8), short(12));
    if tag == 0xfffe {
        let guid = extension.map(|extension| &extension[8..]);
        match guid {
            Some([a, b, rest @ ..]) if rest == GUID => tag = u16::from_le_bytes([*a, *b]),
            Some(_) => return Err(RiffError::Unsupported("its samples are coded in a private way".into())),
            // The extension is missing: PCM is all that is ever written so.
            None => tag = 1,
        }
    }
    if channels == 0 {
        return Err(RiffError::Damaged("it has no channels"));
    }
    if channels > MOST_CHANNELS {
        return Err(RiffError::Unsupported(format!(
            "it has {channels} channels, and at most {MOST_CHANNELS} are mixed"
        )));
    }
    if rate == 0 {
        return Err(RiffError::Damaged("it has no sample rate"));
    }
    if !RATES.contains(&rate) {
        return Err(RiffError::Unsupported(format!(
            "its sample rate of {rate} Hz is not between 4 and 384 kHz"
        )));
    }
    // The block's length is computed, not believed, but for the one case in which it says something: 24 bits in four bytes each,
    // when the bytes a second say so as well.
    let block = 4 * u32::from(channels);
    let spread =
        u32::from(alignment) == block && u64::from(bytes_a_second) == u64::from(block) * u64::from(rate);
    let encoding = match (tag, bits) {
        (1, 1..=8) => Encoding::Unsigned8,
        (1, 9..=16) => Encoding::Signed16,
        (1, 17..=24) if spread => Encoding::Signed24In32,
        (1, 17..=24) => Encoding::Signed24,
        (1, 25..=32) => Encoding::Signed32,
        (3, 32) => Encoding::Float32,
        (3, 64) => Encoding::Float64,
        (1 | 3, bits) => {
            return Err(RiffError::Unsupported(format!("its samples have {bits} bits")));
        }
        (tag, _) => {
            let name = match tag {
                2 | 17 => "ADPCM",
                6 => "A-law",
                7 => "mu-law",
                0x55 => "MP3",
                _ => return Err(RiffError::Unsupported(format!("its sound is coded in format {tag:#06x}"))),
            };
            return Err(RiffError::Unsupported(format!("its sound is coded as {name}")));
        }
    };
    Ok(Format { encoding, channels, rate })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop anywhere")]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn chunk(name: &[u8; 4], length: u32, body: &[u8]) -> Vec<u8> {
        [&name[..], &length.to_le_bytes(), body].concat()
    }

    /// A format chunk of mono at 48 kHz, with a block and a rate of bytes that fit.
    fn fmt(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
        let block = channels.wrapping_mul(bits.div_ceil(8));
        fmt_with(tag, channels, 48_000, 48_000 * u32::from(block), block, bits)
    }

    fn fmt_with(tag: u16, channels: u16, rate: u32, bytes: u32, block: u16, bits: u16) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(tag.to_le_bytes());
        body.extend(channels.to_le_bytes());
        body.extend(rate.to_le_bytes());
        body.extend(bytes.to_le_bytes());
        body.extend(block.to_le_bytes());
        body.extend(bits.to_le_bytes());
        chunk(b"fmt ", 16, &body)
    }

    fn extensible(bits: u16, valid: u16, sub: u16) -> Vec<u8> {
        let mut body = fmt(0xfffe, 1, bits)[8..].to_vec();
        body.extend(22u16.to_le_bytes());
        body.extend(valid.to_le_bytes());
        body.extend(4u32.to_le_bytes());
        body.extend(sub.to_le_bytes());
        body.extend(GUID);
        chunk(b"fmt ", 40, &body)
    }

    fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
        let body = chunks.concat();
        let mut file = chunk(b"RIFF", body.len() as u32 + 4, b"WAVE");
        file.extend(body);
        file
    }

    fn read(file: &[u8]) -> Result<Layout, RiffError> {
        Layout::read(&mut Cursor::new(file))
    }

    /// The sound that is found.
    fn sound(file: &[u8]) -> Vec<u8> {
        let data = read(file).unwrap().data;
        file[data.start as usize..data.end as usize].to_vec()
    }

    #[test]
    fn the_sound_ends_with_the_file_and_on_a_frame_whatever_the_lengths_say() {
        let pcm = fmt(1, 1, 16);
        let body = b"abcdefgh";
        for length in [8, 9, 0, 1 << 20, u32::MAX, u32::MAX - 1, 0x8000_0000] {
            assert_eq!(sound(&riff(&[pcm.clone(), chunk(b"data", length, body)])), body, "{length:#x}");
        }
        for (length, wanted) in [(7, &b"abcdef"[..]), (5, b"abcd"), (2, b"ab")] {
            assert_eq!(sound(&riff(&[pcm.clone(), chunk(b"data", length, body)])), wanted, "{length}");
        }
        let whole = riff(&[pcm, chunk(b"data", 8, body)]);
        for cut in 1..=6 {
            let left = (8 - cut) / 2 * 2;
            assert_eq!(sound(&whole[..whole.len() - cut]), body[..left], "{cut} bytes are missing");
        }
        for lie in [0u32, 1, 36, u32::MAX] {
            let mut file = whole.clone();
            file[4..8].copy_from_slice(&lie.to_le_bytes());
            assert_eq!(sound(&file), body, "a RIFF of {lie}");
        }
    }

    #[test]
    fn other_chunks_are_passed_over_padded_or_not_and_in_any_order() {
        let pcm = fmt(1, 1, 16);
        let list = |pad: &[u8]| chunk(b"LIST", 5, &[b"INFOx", pad].concat());
        let data = chunk(b"data", 4, b"abcd");
        for pad in [&b"\0"[..], b"", b"z"] {
            let file = riff(&[list(pad), pcm.clone(), list(pad), data.clone()]);
            assert_eq!(sound(&file), b"abcd", "pad {pad:?}");
            let early = [chunk(b"data", 3, &[b"abc", pad].concat()), list(pad), pcm.clone()];
            assert_eq!(sound(&riff(&early)), b"ab", "data before fmt, pad {pad:?}");
        }
        assert_eq!(sound(&riff(&[pcm.clone(), data.clone(), list(b"\0")])), b"abcd");
        let streamed = riff(&[pcm.clone(), chunk(b"data", 0, b"abcd")]);
        assert_eq!(sound(&streamed), b"abcd", "a length that was never written");
        // A format chunk that claims too little or too much leads astray.
        for lie in [18u32, 14, 24, 1 << 30] {
            let mut wrong = pcm.clone();
            wrong[4..8].copy_from_slice(&lie.to_le_bytes());
            assert_eq!(sound(&riff(&[wrong, data.clone()])), b"abcd", "a format chunk of {lie}");
        }
    }

    #[test]
    fn files_beyond_four_gigabytes_tell_their_length_elsewhere() {
        for name in [b"RF64", b"BW64"] {
            for (long, wanted) in [(4u64, &b"abcd"[..]), (0, b"abcdefgh"), (u64::MAX, b"abcdefgh")] {
                let sizes = [0u64.to_le_bytes(), long.to_le_bytes(), 0u64.to_le_bytes()].concat();
                let ds64 = chunk(b"ds64", 28, &[&sizes[..], &[0; 4]].concat());
                let mut file = riff(&[ds64, fmt(1, 1, 16), chunk(b"data", u32::MAX, b"abcdefgh")]);
                file[..8].copy_from_slice(&chunk(name, u32::MAX, b""));
                assert_eq!(sound(&file), wanted, "{long}");
            }
        }
    }

    #[test]
    fn every_way_to_write_a_sample_is_the_same_sound() {
        // 0.5 and -0.25 in each.
        let cases: [(Vec<u8>, Encoding, Vec<u8>); 10] = [
            (fmt(1, 1, 8), Encoding::Unsigned8, vec![192, 96]),
            (fmt(1, 1, 16), Encoding::Signed16, vec![0, 0x40, 0, 0xe0]),
            (fmt(1, 1, 12), Encoding::Signed16, vec![0, 0x40, 0, 0xe0]),
            (fmt(1, 1, 24), Encoding::Signed24, vec![0, 0, 0x40, 0, 0, 0xe0]),
            (fmt(1, 1, 32), Encoding::Signed32, vec![0, 0, 0, 0x40, 0, 0, 0, 0xe0]),
            (fmt(3, 1, 32), Encoding::Float32, [0.5f32.to_le_bytes(), (-0.25f32).to_le_bytes()].concat()),
            (fmt(3, 1, 64), Encoding::Float64, [0.5f64.to_le_bytes(), (-0.25f64).to_le_bytes()].concat()),
            (extensible(16, 16, 1), Encoding::Signed16, vec![0, 0x40, 0, 0xe0]),
            (extensible(32, 24, 1), Encoding::Signed32, vec![0, 0, 0, 0x40, 0, 0, 0, 0xe0]),
            (
                extensible(64, 64, 3),
                Encoding::Float64,
                [0.5f64.to_le_bytes(), (-0.25f64).to_le_bytes()].concat(),
            ),
        ];
        for (fmt, encoding, bytes) in cases {
            let layout = read(&riff(&[fmt, chunk(b"data", bytes.len() as u32, &bytes)])).unwrap();
            assert_eq!(layout.format.encoding, encoding);
            let samples: Vec<f32> = bytes.chunks(encoding.bytes()).map(|one| encoding.sample(one)).collect();
            assert_eq!(samples, [0.5, -0.25], "{encoding:?}");
        }
        assert_eq!(Encoding::Float32.sample(&f32::NAN.to_le_bytes()), 0.0);
        assert_eq!(Encoding::Float64.sample(&1e300f64.to_le_bytes()), 1.0);
    }

    #[test]
    fn a_block_that_lies_is_computed() {
        for block in [0, 1, 3, 7, 4, u16::MAX] {
            let lies = fmt_with(1, 1, 48_000, 96_000, block, 16);
            let layout = read(&riff(&[lies, chunk(b"data", 4, b"abcd")])).unwrap();
            assert_eq!((layout.format.encoding, layout.format.frame()), (Encoding::Signed16, 2), "{block}");
        }
        let spread = fmt_with(1, 2, 48_000, 384_000, 8, 24);
        let layout = read(&riff(&[spread, chunk(b"data", 8, b"abcdefgh")])).unwrap();
        assert_eq!(layout.format.encoding, Encoding::Signed24In32);
        let many = read(&riff(&[fmt(1, 64, 16), chunk(b"data", 129, &[0; 129])])).unwrap();
        assert_eq!(many.data.end - many.data.start, 128, "one frame of many channels");
    }

    #[test]
    fn what_cannot_be_played_is_named() {
        let data = chunk(b"data", 4, b"abcd");
        let with = |fmt: Vec<u8>| riff(&[fmt, data.clone()]);
        for (file, cause) in [
            (vec![], "it is empty"),
            (b"RIFF".to_vec(), "it is cut short"),
            (riff(&[]), "it has no format chunk"),
            (riff(std::slice::from_ref(&data)), "it has no format chunk"),
            (riff(&[fmt(1, 1, 16)]), "it has no data chunk"),
            (riff(&[fmt(1, 1, 16), chunk(b"data", 0, b"")]), "it holds no sound"),
            (riff(&[fmt(1, 1, 16), chunk(b"data", 1, b"a")]), "it holds no sound"),
            (riff(&[fmt(1, 1, 16), chunk(b"data", 0, b""), chunk(b"LIST", 4, b"INFO")]), "it holds no sound"),
            (with(fmt(1, 0, 16)), "it has no channels"),
            (with(fmt_with(1, 1, 0, 0, 2, 16)), "it has no sample rate"),
            (
                with(fmt_with(1, 1, 3_999, 0, 2, 16)),
                "its sample rate of 3999 Hz is not between 4 and 384 kHz",
            ),
            (with(fmt(1, 65, 16)), "it has 65 channels, and at most 64 are mixed"),
            (with(fmt(3, u16::MAX, 64)), "it has 65535 channels, and at most 64 are mixed"),
            (with(fmt(1, 1, 0)), "its samples have 0 bits"),
            (with(fmt(1, 1, 64)), "its samples have 64 bits"),
            (with(fmt(3, 1, 16)), "its samples have 16 bits"),
            (with(fmt(2, 1, 4)), "its sound is coded as ADPCM"),
            (with(fmt(7, 1, 8)), "its sound is coded as mu-law"),
            (with(fmt(0x1234, 1, 8)), "its sound is coded in format 0x1234"),
            (b"RIFF\x04\0\0\0AVI LIST".to_vec(), "it does not start with RIFF and WAVE"),
            (b"RIFX\x04\0\0\0WAVEfmt ".to_vec(), "its numbers are big-endian (RIFX)"),
        ] {
            assert_eq!(read(&file).unwrap_err().to_string(), cause, "{file:?}");
        }
    }

    #[test]
    fn a_file_of_nothing_but_empty_chunks_is_given_up() {
        let mut file = riff(&[fmt(1, 1, 16)]);
        file.extend(chunk(b"JUNK", 0, b"").repeat(200_000));
        assert_eq!(read(&file).unwrap_err().to_string(), "it has no data chunk");
    }

    proptest! {
        #[test]
        fn perturbed_files_never_panic_and_what_is_found_lies_in_the_file(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..12),
            cut in any::<proptest::sample::Index>(),
            which in 0usize..4,
        ) {
            let list = chunk(b"LIST", 5, b"INFOx\0");
            let fmt = [fmt(1, 2, 16), fmt(3, 1, 64), extensible(24, 24, 1), fmt(1, 1, 8)][which].clone();
            let mut file = riff(&[list.clone(), fmt, list, chunk(b"data", 33, &[7; 33])]);
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            file.truncate(file.len() - cut.index(file.len()) / 2);
            if let Ok(layout) = read(&file) {
                let frame = layout.format.frame() as u64;
                let length = layout.data.end - layout.data.start;
                prop_assert!(length > 0 && length % frame == 0 && layout.data.end <= file.len() as u64);
            }
        }
    }
}
