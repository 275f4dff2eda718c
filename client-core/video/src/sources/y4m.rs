//! Raw pictures from a YUV4MPEG2 file (`ffmpeg -i clip.mp4 -pix_fmt yuv420p clip.y4m`), over and over, at the file's own rate.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Pace, SourceError, Stop, VideoSource};
use crate::frame::{FrameError, FramePool, I420Frame, SharedFrame};

/// Longest header line that is read, in bytes.
const MAX_LINE: u64 = 1024;

/// Why a file is not played.
#[derive(Debug, thiserror::Error)]
pub enum Y4mError {
    /// The system failed to read it.
    #[error("cannot read the file: {0}; check the disk")]
    Read(#[from] io::Error),
    /// The first line is not a y4m header.
    #[error("not a y4m file ({0}): make one by `ffmpeg -i in.mp4 -pix_fmt yuv420p out.y4m`")]
    Header(&'static str),
    /// A colour format other than 8-bit 4:2:0, or a rate out of range.
    #[error(
        "the y4m file has {what}, which is not played: convert it by `ffmpeg -i in.y4m -pix_fmt yuv420p out.y4m`"
    )]
    Unsupported {
        /// What is not handled.
        what: String,
    },
    /// The size is not handled.
    #[error(transparent)]
    Size(#[from] FrameError),
    /// The file ends in the middle of a picture, or one does not start where it should.
    #[error("the y4m file is damaged at picture {picture}: write it again")]
    Damaged {
        /// Counted from zero.
        picture: u64,
    },
}

/// Reads pictures in their order.
pub struct Y4mReader<R> {
    input: BufReader<R>,
    pool: FramePool,
    width: u32,
    height: u32,
    interval: Duration,
    /// Where the first picture starts.
    start: u64,
    picture: u64,
}

impl<R: Read + Seek> Y4mReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is not the header of a file that can be played.
    pub fn new(input: R) -> Result<Self, Y4mError> {
        let mut input = BufReader::with_capacity(1 << 16, input);
        let line = read_line(&mut input)?.ok_or(Y4mError::Header("the first line is too long or missing"))?;
        let header = parse_header(&line)?;
        let start = input.stream_position()?;
        let (width, height) = header.size;
        let pool = FramePool::default();
        pool.frame(width, height, Instant::now())?;
        Ok(Self { input, pool, width, height, interval: header.interval, start, picture: 0 })
    }

    /// Columns and rows of all pictures.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Time between two pictures.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The next picture, `None` after the last one.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn next_frame(&mut self, captured: Instant) -> Result<Option<I420Frame>, Y4mError> {
        let damaged = Y4mError::Damaged { picture: self.picture };
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        match read_line(&mut self.input)? {
            Some(line) if line == b"FRAME" || line.starts_with(b"FRAME ") => {}
            _ => return Err(damaged),
        }
        let mut frame = self.pool.frame(self.width, self.height, captured)?;
        match self.input.read_exact(frame.samples_mut()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged),
            Err(error) => return Err(error.into()),
        }
        self.picture += 1;
        Ok(Some(frame))
    }

    /// The next picture, after the last one the first again.
    fn next_frame_repeated(&mut self, captured: Instant) -> Result<I420Frame, Y4mError> {
        if let Some(frame) = self.next_frame(captured)? {
            return Ok(frame);
        }
        self.rewind()?;
        // A file without a single picture would be read for ever.
        self.next_frame(captured)?.ok_or(Y4mError::Damaged { picture: 0 })
    }

    /// Back to the first picture.
    ///
    /// # Errors
    /// When the input cannot seek.
    pub fn rewind(&mut self) -> Result<(), Y4mError> {
        self.input.seek(SeekFrom::Start(self.start))?;
        self.picture = 0;
        Ok(())
    }
}

struct Header {
    size: (u32, u32),
    interval: Duration,
}

fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

fn parse_header(line: &[u8]) -> Result<Header, Y4mError> {
    let line = std::str::from_utf8(line).map_err(|_| Y4mError::Header("its first line is not text"))?;
    let mut fields = line.split(' ');
    if fields.next() != Some("YUV4MPEG2") {
        return Err(Y4mError::Header("it does not start with YUV4MPEG2"));
    }
    let (mut width, mut height, mut rate) = (None, None, (30, 1));
    for field in fields.filter(|field| !field.is_empty()) {
        let mut letters = field.chars();
        let kind = letters.next();
        let value = letters.as_str();
        match kind {
            Some('W') => width = value.parse().ok(),
            Some('H') => height = value.parse().ok(),
            Some('F') => rate = parse_rate(value)?,
            Some('C') if !matches!(value, "420" | "420jpeg" | "420mpeg2" | "420paldv") => {
                return Err(Y4mError::Unsupported { what: format!("the colour format {value:?}") });
            }
            Some('I') if !matches!(value, "p" | "?") => {
                return Err(Y4mError::Unsupported { what: "interlaced pictures".into() });
            }
            _ => {}
        }
    }
    let (Some(width), Some(height)) = (width, height) else {
        return Err(Y4mError::Header("its header has no width or height"));
    };
    let interval = Duration::from_secs_f64(f64::from(rate.1) / f64::from(rate.0));
    Ok(Header { size: (width, height), interval })
}

/// Frames a second, as a fraction between 1 and 120.
fn parse_rate(value: &str) -> Result<(u32, u32), Y4mError> {
    let parsed = value.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (frames, seconds): (u32, u32) = parsed.ok_or(Y4mError::Header("its frame rate is not a fraction"))?;
    if seconds == 0 || frames < seconds || u64::from(frames) > u64::from(seconds) * 120 {
        return Err(Y4mError::Unsupported { what: format!("a frame rate of {value}") });
    }
    Ok((frames, seconds))
}

/// A file as a camera.
pub struct Y4mSource {
    path: PathBuf,
    reader: Y4mReader<File>,
    pace: Pace,
}

impl Y4mSource {
    /// Opens the file.
    ///
    /// # Errors
    /// When there is none, or it cannot be played.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(|reason| SourceError::Open { path: path.into(), reason })?;
        let reader = Y4mReader::new(file).map_err(|error| SourceError::Y4m { path: path.into(), error })?;
        let pace = Pace::new(reader.interval());
        Ok(Self { path: path.into(), reader, pace })
    }

    /// Width and height of its pictures.
    pub fn size(&self) -> (u32, u32) {
        self.reader.size()
    }
}

impl VideoSource for Y4mSource {
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<SharedFrame>, SourceError> {
        let Some(turn) = self.pace.wait(stop) else { return Ok(None) };
        match self.reader.next_frame_repeated(turn) {
            Ok(frame) => Ok(Some(Arc::new(frame))),
            Err(error) => Err(SourceError::Y4m { path: self.path.clone(), error }),
        }
    }
}
