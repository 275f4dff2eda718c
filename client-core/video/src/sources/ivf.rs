//! VP8 from an IVF file, such as a recording of a call, over and over, at the file's own pace. Of the header only the codec is believed:
//! its length and size are checked against the first key frame, and its count of frames is not read.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{SourceError, Stop, VideoSource, open_regular};
use crate::codec::{CodecError, VideoCodecs, VideoDecoder};
use crate::frame::SharedFrame;
use crate::record::key_frame_size;

/// Largest frame that is read, in bytes.
const MAX_FRAME: u32 = 8 << 20;
/// Longest pause that is kept: whoever joins waits for a key frame.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long the last picture is shown before the first one comes again.
const LAST: Duration = Duration::from_millis(33);
/// Shortest time that a picture is shown: times that do not advance would play a file as fast as it can be read.
const SHORTEST_PAUSE: Duration = Duration::from_nanos(8_333_333);
/// Length of the header, which every writer makes so long.
const HEADER: u64 = 32;

/// Why a file is not played.
#[derive(Debug, thiserror::Error)]
pub enum IvfError {
    /// The system failed to read it.
    #[error("cannot read the file: {0}; check the disk")]
    Read(#[from] io::Error),
    /// It does not start like an IVF file.
    #[error("not an IVF file ({0}): make one by `ffmpeg -i in.mp4 -c:v libvpx out.ivf`")]
    Header(&'static str),
    /// Something else than VP8.
    #[error(
        "the IVF file holds {fourcc:?}, which is not played: convert it by `ffmpeg -i in.ivf -c:v libvpx out.ivf`"
    )]
    Unsupported {
        /// The codec's four letters.
        fourcc: String,
    },
    /// The file ends in the middle of a frame, or no picture comes of it.
    #[error("the IVF file is damaged at frame {frame}: record it again")]
    Damaged {
        /// Counted from zero.
        frame: u64,
    },
    /// There is no decoder.
    #[error(transparent)]
    Decoder(#[from] CodecError),
}

/// Reads compressed frames in their order.
struct Reader<R> {
    input: BufReader<R>,
    size: (u32, u32),
    /// Ticks of the file's clock in a second, as a fraction. Without, its frames are [`LAST`] apart.
    ticks: Option<(u32, u32)>,
    start: u64,
    frame: u64,
    data: Vec<u8>,
}

impl<R: Read + Seek> Reader<R> {
    fn new(input: R) -> Result<Self, IvfError> {
        let mut input = BufReader::with_capacity(1 << 16, input);
        let mut header = [0; 32];
        if !read_all(&mut input, &mut header)? {
            return Err(IvfError::Header("it is shorter than a header"));
        }
        let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let long = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        if &header[..4] != b"DKIF" {
            return Err(IvfError::Header("it does not start with DKIF"));
        }
        if &header[8..12] != b"VP80" {
            return Err(IvfError::Unsupported {
                fourcc: String::from_utf8_lossy(&header[8..12]).into_owned(),
            });
        }
        let (length, size) = (u64::from(short(6)), (u32::from(short(12)), u32::from(short(14))));
        let (rate, scale) = (long(16), long(20));
        let ticks = (rate > 0 && scale > 0).then_some((rate, scale));
        // Where a key frame stands is the header's end, and it knows its size best.
        let (start, size) = match (key_frame_at(&mut input, length)?, key_frame_at(&mut input, HEADER)?) {
            (Some(size), _) => (length, size),
            (None, Some(size)) => (HEADER, size),
            (None, None) if length >= HEADER && size.0 >= 2 && size.1 >= 2 => (length, size),
            (None, None) => return Err(IvfError::Header("its header has no length or size")),
        };
        input.seek(SeekFrom::Start(start))?;
        Ok(Self { input, size, ticks, start, frame: 0, data: Vec::new() })
    }

    /// Reads the next frame into `data`. Answers with its time from the file's start, `None` after the last one.
    fn next(&mut self) -> Result<Option<Duration>, IvfError> {
        let damaged = IvfError::Damaged { frame: self.frame };
        let mut header = [0; 12];
        if !read_all(&mut self.input, &mut header)? {
            return Ok(None);
        }
        let [a, b, c, d, time @ ..] = header;
        let length = u32::from_le_bytes([a, b, c, d]);
        if length > MAX_FRAME {
            return Err(damaged);
        }
        // Grows with what there is, not with what the length says.
        self.data.clear();
        self.input.by_ref().take(length.into()).read_to_end(&mut self.data)?;
        if self.data.len() < length as usize {
            // Whoever wrote it was stopped in the middle of a frame; what is before it is whole.
            return Ok(None);
        }
        self.frame += 1;
        let Some((rate, scale)) = self.ticks else {
            return Ok(Some(LAST.saturating_mul(u32::try_from(self.frame).unwrap_or(u32::MAX))));
        };
        let nanoseconds =
            u128::from(u64::from_le_bytes(time)) * u128::from(scale) * 1_000_000_000 / u128::from(rate);
        Ok(Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))))
    }

    fn rewind(&mut self) -> Result<(), IvfError> {
        self.input.seek(SeekFrom::Start(self.start))?;
        self.frame = 0;
        Ok(())
    }
}

/// Width and height of the key frame whose frame header stands there (RFC 6386 §9.1), if one does.
fn key_frame_at(input: &mut (impl Read + Seek), at: u64) -> Result<Option<(u32, u32)>, IvfError> {
    let mut bytes = [0; 22];
    input.seek(SeekFrom::Start(at))?;
    if at < HEADER || !read_all(input, &mut bytes)? {
        return Ok(None);
    }
    let size = key_frame_size(&bytes[12..]).map(|[width, height]| (width.into(), height.into()));
    Ok(size.filter(|size: &(u32, u32)| size.0 >= 2 && size.1 >= 2))
}

/// False when the input ends before the buffer is full.
fn read_all(input: &mut impl Read, buffer: &mut [u8]) -> Result<bool, IvfError> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A file as a camera. Frames that cannot be decoded are left out.
pub struct IvfSource {
    path: PathBuf,
    reader: Reader<File>,
    codecs: Arc<dyn VideoCodecs>,
    decoder: Box<dyn VideoDecoder>,
    /// The last picture's time in the file, and when it was shown.
    last: Option<(Duration, Instant)>,
    /// How long the picture before it was shown: as long is the last one of a round.
    pause: Duration,
}

impl IvfSource {
    /// Opens the file; `codecs` must decode VP8.
    ///
    /// # Errors
    /// When there is none, or it cannot be played.
    pub fn open(path: &Path, codecs: Arc<dyn VideoCodecs>) -> Result<Self, SourceError> {
        let file = open_regular(path)?;
        let damaged = |error| SourceError::Ivf { path: path.into(), error };
        let reader = Reader::new(file).map_err(damaged)?;
        let decoder = codecs.decoder().map_err(|error| damaged(error.into()))?;
        Ok(Self { path: path.into(), reader, codecs, decoder, last: None, pause: LAST })
    }

    /// Width and height of its first picture.
    pub fn size(&self) -> (u32, u32) {
        self.reader.size
    }

    /// When the frame of this time is due, `None` for the first one of a round.
    fn due(&mut self, time: Option<Duration>) -> Instant {
        let Some((before, shown)) = self.last else { return Instant::now() };
        if let Some(time) = time {
            let pause = time.checked_sub(before).filter(|pause| !pause.is_zero()).unwrap_or(LAST);
            self.pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        }
        let pause = self.pause;
        // After a hold-up it goes on from here instead of catching up.
        (shown + pause).max(Instant::now().checked_sub(LAST).unwrap_or(shown))
    }
}

impl VideoSource for IvfSource {
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<SharedFrame>, SourceError> {
        self.next_decoded(stop).map_err(|error| SourceError::Ivf { path: self.path.clone(), error })
    }
}

impl IvfSource {
    fn next_decoded(&mut self, stop: &Stop) -> Result<Option<SharedFrame>, IvfError> {
        let mut began_anew = false;
        loop {
            let at_start = self.reader.frame == 0;
            let Some(time) = self.reader.next()? else {
                // A file without a single picture would be read for ever.
                if at_start || std::mem::replace(&mut began_anew, true) {
                    return Err(IvfError::Damaged { frame: 0 });
                }
                self.reader.rewind()?;
                self.decoder = self.codecs.decoder()?;
                continue;
            };
            let due = self.due((!at_start).then_some(time));
            if stop.wait_until(due) {
                return Ok(None);
            }
            self.last = Some((time, due));
            // A frame that cannot be decoded is left out, as in a call.
            if let Ok(Some(picture)) = self.decoder.decode(&self.reader.data, due) {
                return Ok(Some(Arc::new(picture)));
            }
        }
    }
}
