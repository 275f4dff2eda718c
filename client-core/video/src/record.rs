//! Recorders: frames as they were received (IVF), and decoded pictures (y4m).

use std::io::{self, Seek, SeekFrom, Write};

use crate::frame::I420Frame;

/// Why a recording stops.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be written.
    #[error("cannot write the recording: {0}; check the disk's free space and permissions")]
    Write(#[from] io::Error),
    /// A y4m file has one size.
    #[error("the picture is {}x{} and the recording {}x{}: start another file", .given.0, .given.1, .recording.0, .recording.1)]
    Size {
        /// The picture's.
        given: (u32, u32),
        /// The file's.
        recording: (u32, u32),
    },
}

/// Writes VP8 frames into an IVF file without encoding them again, on the sender's clock. Starts at the first key frame.
///
/// The header has the duration in ticks of 90 kHz at offset 24, where FFmpeg and what builds on it look for it, and the number of frames
/// at offset 28, which the format leaves unused.
pub struct IvfRecorder<W: Write + Seek> {
    output: W,
    frames: u32,
    clock: Option<Clock>,
}

/// The sender's clock, in ticks of 90 kHz.
#[derive(Clone, Copy)]
struct Clock {
    /// The last RTP timestamp.
    last: u32,
    /// From the first frame to the last one.
    ticks: u64,
    /// How long the last frame but one was shown: a guess for the last one.
    step: u64,
}

impl<W: Write + Seek> IvfRecorder<W> {
    /// Writes nothing before the first key frame.
    pub fn new(output: W) -> Self {
        Self { output, frames: 0, clock: None }
    }

    /// Adds a frame with its 90 kHz timestamp, which may wrap. Frames before the first key frame are left out: they could not be decoded.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, data: &[u8], timestamp: u32) -> Result<(), RecordError> {
        let clock = match self.clock {
            None => {
                let Some(size) = key_frame_size(data) else { return Ok(()) };
                self.write_header(size)?;
                Clock { last: timestamp, ticks: 0, step: 0 }
            }
            Some(Clock { last, ticks, step }) => {
                // A frame that arrives out of order must not throw the clock ahead by half its range.
                let passed = timestamp.wrapping_sub(last);
                let forward = passed < 1 << 31;
                let passed = if forward { u64::from(passed) } else { 0 };
                Clock { last: timestamp, ticks: ticks + passed, step: if passed > 0 { passed } else { step } }
            }
        };
        self.clock = Some(clock);
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        self.output.write_all(&length.to_le_bytes())?;
        self.output.write_all(&clock.ticks.to_le_bytes())?;
        self.output.write_all(data)?;
        self.frames = self.frames.saturating_add(1);
        Ok(())
    }

    /// Writes duration and number of frames into the header: what is in the file until then is whole, whatever happens afterwards.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn checkpoint(&mut self) -> Result<(), RecordError> {
        if let Some(Clock { ticks, step, .. }) = self.clock {
            let duration = u32::try_from(ticks + step).unwrap_or(u32::MAX);
            self.output.seek(SeekFrom::Start(24))?;
            self.output.write_all(&duration.to_le_bytes())?;
            self.output.write_all(&self.frames.to_le_bytes())?;
            self.output.seek(SeekFrom::End(0))?;
        }
        self.output.flush()?;
        Ok(())
    }

    /// Writes the header's last figures, and gives the file back.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<W, RecordError> {
        self.checkpoint()?;
        Ok(self.output)
    }

    fn write_header(&mut self, [width, height]: [u16; 2]) -> io::Result<()> {
        let mut header = Vec::with_capacity(32);
        header.extend(b"DKIF");
        header.extend([0, 0, 32, 0]);
        header.extend(b"VP80");
        header.extend(width.to_le_bytes());
        header.extend(height.to_le_bytes());
        header.extend(90_000u32.to_le_bytes());
        header.extend(1u32.to_le_bytes());
        header.extend([0; 8]);
        self.output.write_all(&header)
    }
}

/// Columns and rows of a VP8 key frame (RFC 6386 §9.1), `None` for every other frame.
pub(crate) fn key_frame_size(data: &[u8]) -> Option<[u16; 2]> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = data else { return None };
    (tag & 1 == 0).then(|| [[*w0, *w1], [*h0, *h1]].map(|side| u16::from_le_bytes(side) & 0x3fff))
}

/// Writes decoded pictures into a y4m file.
pub struct Y4mRecorder<W: Write> {
    output: W,
    size: (u32, u32),
}

impl<W: Write> Y4mRecorder<W> {
    /// Writes the header, for pictures of this size at this many frames a second.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(mut output: W, size: (u32, u32), frame_rate: u32) -> Result<Self, RecordError> {
        let (width, height) = size;
        writeln!(output, "YUV4MPEG2 W{width} H{height} F{frame_rate}:1 Ip A1:1 C420jpeg")?;
        Ok(Self { output, size })
    }

    /// Adds a picture.
    ///
    /// # Errors
    /// When it is of another size, or the file cannot be written.
    pub fn write(&mut self, frame: &I420Frame) -> Result<(), RecordError> {
        let given = (frame.width(), frame.height());
        if given != self.size {
            return Err(RecordError::Size { given, recording: self.size });
        }
        self.output.write_all(b"FRAME\n")?;
        self.output.write_all(frame.samples())?;
        Ok(())
    }

    /// Gives the file back, all of it written.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<W, RecordError> {
        self.output.flush()?;
        Ok(self.output)
    }
}
