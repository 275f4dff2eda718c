//! Raw pictures from a YUV4MPEG2 file (`ffmpeg -i clip.mp4 -pix_fmt yuv420p clip.y4m`), over and over, at the file's own rate.
//! Odd sides lose their last column or row. What is not played is refused with the command that converts it, all in one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use snug_codec::picture::{Picture, Plane, is_size_taken};

use super::{Pace, SourceError, Stop, VideoSource, open_regular};
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
    /// A colour format other than 8-bit 4:2:0, fields instead of pictures, a rate or a size out of range; or several of them.
    #[error("the y4m file has {what}, which is not played: convert it by `ffmpeg -i in.y4m {cure} out.y4m`")]
    Unsupported {
        /// What is not handled.
        what: String,
        /// What FFmpeg has to be told.
        cure: String,
    },
    /// The size is not handled.
    #[error(transparent)]
    Size(#[from] FrameError),
    /// There is a header, and not one whole picture.
    #[error("the y4m file holds no whole picture: write it again")]
    Empty,
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
    /// As the file has it; odd sides are cut.
    width: u32,
    height: u32,
    /// A picture with odd sides, before it is cut.
    whole: Vec<u8>,
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
        pool.frame(width & !1, height & !1, Instant::now())?;
        Ok(Self {
            input,
            pool,
            width,
            height,
            whole: Vec::new(),
            interval: header.interval,
            start,
            picture: 0,
        })
    }

    /// Columns and rows of all pictures.
    pub fn size(&self) -> (u32, u32) {
        (self.width & !1, self.height & !1)
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
        match self.read_frame(captured)? {
            Step::Picture(frame) => Ok(Some(frame)),
            Step::End => Ok(None),
            Step::Cut | Step::Strange => Err(damaged),
        }
    }

    fn read_frame(&mut self, captured: Instant) -> Result<Step, Y4mError> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(Step::End);
        }
        match read_line(&mut self.input)? {
            Some(line) if line == b"FRAME" || line.starts_with(b"FRAME ") => {}
            Some(_) => return Ok(Step::Strange),
            None => {
                let is_end = self.input.fill_buf()?.is_empty();
                return Ok(if is_end { Step::Cut } else { Step::Strange });
            }
        }
        let is_even = self.width.is_multiple_of(2) && self.height.is_multiple_of(2);
        let frame = if is_even {
            let mut frame = self.pool.frame(self.width, self.height, captured)?;
            read_whole(&mut self.input, frame.samples_mut())?.then_some(frame)
        } else {
            let (width, height) = (self.width as usize, self.height as usize);
            let chroma = width.div_ceil(2) * height.div_ceil(2);
            self.whole.resize(width * height + 2 * chroma, 0);
            if read_whole(&mut self.input, &mut self.whole)? {
                let (y, uv) = self.whole.split_at(width * height);
                let (u, v) = uv.split_at(chroma);
                let plane = |samples, stride| Plane { samples, stride };
                let planes = [plane(y, width), plane(u, width.div_ceil(2)), plane(v, width.div_ceil(2))];
                let picture = Picture { width: self.width, height: self.height, planes };
                Some(self.pool.copy(&picture, captured)?)
            } else {
                None
            }
        };
        Ok(frame.map_or(Step::Cut, |frame| {
            self.picture += 1;
            Step::Picture(frame)
        }))
    }

    /// The next picture, after the last whole one the first again: whoever wrote the file may have been stopped within a picture.
    fn next_frame_repeated(&mut self, captured: Instant) -> Result<I420Frame, Y4mError> {
        for _ in 0..2 {
            match self.read_frame(captured)? {
                Step::Picture(frame) => return Ok(frame),
                Step::Strange => return Err(Y4mError::Damaged { picture: self.picture }),
                Step::End | Step::Cut => self.rewind()?,
            }
        }
        // A file without a single picture would be read for ever.
        Err(Y4mError::Empty)
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

/// What comes next in a file.
enum Step {
    Picture(I420Frame),
    End,
    /// The file ends within a picture.
    Cut,
    /// Something that is no picture.
    Strange,
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
    let (mut width, mut height, mut rate) = (None, None, Some(USUAL));
    // All that is wrong is cured at once: somebody who converts a file wants to do it once.
    let (mut faults, mut filters, mut order) = (Vec::new(), Vec::new(), "");
    for field in fields.filter(|field| !field.is_empty()) {
        let mut letters = field.chars();
        let kind = letters.next();
        let value = letters.as_str();
        match kind {
            Some('W') => width = value.parse().ok(),
            Some('H') => height = value.parse().ok(),
            Some('F') => {
                rate = parse_rate(value)?;
                if rate.is_none() {
                    faults.push(format!("a frame rate of {value}"));
                }
            }
            Some('C') if !matches!(value, "420" | "420jpeg" | "420mpeg2" | "420paldv") => {
                faults.push(format!("the colour format {value:?}"));
            }
            // Mixed files are shown as they are: FFmpeg reads none, so that nobody could convert them.
            Some('I') if !matches!(value, "p" | "m" | "?") => {
                faults.push("interlaced pictures".into());
                filters.push("yadif");
                order = " -field_order progressive";
            }
            _ => {}
        }
    }
    let (Some(width), Some(height)) = (width, height) else {
        return Err(Y4mError::Header("its header has no width or height"));
    };
    if width < 2 || height < 2 {
        return Err(FrameError { width, height }.into());
    }
    if rate.is_none() {
        filters.push("fps=30");
    }
    if !is_size_taken(width, height) {
        faults.push(format!("pictures of {width}x{height}"));
        filters.push(if width >= height { "scale=1280:-2" } else { "scale=-2:1280" });
    }
    let (frames, seconds) = match rate {
        Some(rate) if faults.is_empty() => rate,
        _ => {
            filters.push("format=yuv420p");
            let cure = format!("-vf {}{order}", filters.join(","));
            return Err(Y4mError::Unsupported { what: faults.join(" and "), cure });
        }
    };
    let interval = Duration::from_secs_f64(f64::from(seconds) / f64::from(frames));
    Ok(Header { size: (width, height), interval })
}

/// False when the input ends before.
fn read_whole(input: &mut impl Read, samples: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(samples) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The rate of a file that names none, or names it unknown (`0:0`).
const USUAL: (u32, u32) = (30, 1);

/// Frames a second, as a fraction between 1 and 120; `None` outside.
fn parse_rate(value: &str) -> Result<Option<(u32, u32)>, Y4mError> {
    let parsed = value.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (frames, seconds): (u32, u32) = parsed.ok_or(Y4mError::Header("its frame rate is not a fraction"))?;
    if (frames, seconds) == (0, 0) {
        return Ok(Some(USUAL));
    }
    let is_fine = seconds > 0 && frames >= seconds && u64::from(frames) <= u64::from(seconds) * 120;
    Ok(is_fine.then_some((frames, seconds)))
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
        let file = open_regular(path)?;
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
