//! WAV files in and out. Reading takes PCM of 8 to 32 bits and floats, any rate and channels; writing is 16-bit, 48 kHz mono.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use crate::io::IoError;
use crate::resample::Resampler;
use crate::{BLOCK, SAMPLE_RATE};

/// Blocks that wait for a slow disk at most: 5 s.
const WAITING: usize = 500;
/// Blocks after which a file is made whole while it grows: a second.
const WHOLE_EVERY: usize = 100;
/// Samples of one file at most: twelve hours, below the format's 4 GiB.
const LONGEST: u64 = 12 * 3_600 * SAMPLE_RATE as u64;

/// Reads a file as 48 kHz mono, again and again.
pub(crate) struct WavLoop {
    path: PathBuf,
    reader: WavReader<BufReader<File>>,
    resampler: Resampler,
    scale: f32,
    ready: std::collections::VecDeque<f32>,
    repeat: bool,
}

impl WavLoop {
    pub(crate) fn open(path: &Path, repeat: bool) -> Result<Self, IoError> {
        let reader = open(path)?;
        let spec = reader.spec();
        let damaged =
            |cause: &str| IoError::Damaged { path: path.display().to_string(), cause: cause.to_owned() };
        if !(4_000..=384_000).contains(&spec.sample_rate) {
            return Err(damaged("its sample rate is not between 4 and 384 kHz"));
        }
        if spec.channels == 0 {
            return Err(damaged("it has no channels"));
        }
        if reader.duration() == 0 {
            return Err(damaged("it holds no sound"));
        }
        let scale = match spec.sample_format {
            SampleFormat::Float => 1.0,
            SampleFormat::Int => 0.5f32.powi(i32::from(spec.bits_per_sample.clamp(1, 32)) - 1),
        };
        let resampler = Resampler::new(spec.sample_rate, SAMPLE_RATE);
        Ok(Self { path: path.to_owned(), reader, resampler, scale, ready: Default::default(), repeat })
    }

    /// Fills `out`. Past the end, or behind the first unreadable sample, it is silent or starts again.
    pub(crate) fn read(&mut self, out: &mut [f32]) {
        let mut rewound = false;
        while self.ready.len() < out.len() {
            if let Some(sample) = self.frame() {
                rewound = false;
                let ready = &mut self.ready;
                self.resampler.push(sample, |value| ready.push_back(value));
            } else if self.repeat && !rewound && self.reader.seek(0).is_ok() {
                rewound = true;
            } else {
                break;
            }
        }
        for value in out {
            *value = self.ready.pop_front().unwrap_or(0.0);
        }
    }

    /// The mean of the next frame's channels.
    fn frame(&mut self) -> Option<f32> {
        let spec = self.reader.spec();
        let mut sum = 0.0;
        for _ in 0..spec.channels {
            let value = match spec.sample_format {
                SampleFormat::Float => self.reader.samples::<f32>().next(),
                SampleFormat::Int => {
                    self.reader.samples::<i32>().next().map(|s| s.map(|v| v as f32 * self.scale))
                }
            };
            match value {
                Some(Ok(value)) if value.is_finite() => sum += value.clamp(-1.0, 1.0),
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::warn!(path = %self.path.display(), %error, "the sound file ends early");
                    return None;
                }
                None => return None,
            }
        }
        Some(sum / f32::from(spec.channels))
    }
}

fn open(path: &Path) -> Result<WavReader<BufReader<File>>, IoError> {
    let name = || path.display().to_string();
    let file = File::open(path).map_err(|error| IoError::File { path: name(), cause: error.to_string() })?;
    WavReader::new(BufReader::new(file))
        .map_err(|error| IoError::Damaged { path: name(), cause: error.to_string() })
}

/// Writes blocks to a file from a thread of its own, so that a slow disk delays nobody.
pub(crate) struct WavRecorder {
    blocks: Option<SyncSender<[i16; BLOCK]>>,
    missed: usize,
    thread: Option<JoinHandle<()>>,
}

impl WavRecorder {
    pub(crate) fn create(path: &Path) -> Result<Self, IoError> {
        let failed = |cause: String| IoError::File { path: path.display().to_string(), cause };
        let spec = WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let writer = WavWriter::create(path, spec).map_err(|error| failed(error.to_string()))?;
        let (blocks, waiting) = sync_channel(WAITING);
        let name = path.display().to_string();
        let thread = std::thread::Builder::new()
            .name("snug-wav".to_owned())
            .spawn(move || {
                if let Err(error) = write_all(writer, &waiting) {
                    tracing::warn!(path = name, %error, "a recording stopped");
                }
            })
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { blocks: Some(blocks), missed: 0, thread: Some(thread) })
    }

    /// Appends a block. What a slow disk makes miss is made up by silence, so that the file keeps its time.
    pub(crate) fn write(&mut self, block: &[f32; BLOCK]) {
        let Some(blocks) = &self.blocks else { return };
        while self.missed > 0 && blocks.try_send([0; BLOCK]).is_ok() {
            self.missed -= 1;
        }
        let samples = block.map(|value| (value.clamp(-1.0, 1.0) * f32::from(i16::MAX)) as i16);
        match blocks.try_send(samples) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.missed += 1,
            Err(TrySendError::Disconnected(_)) => self.blocks = None,
        }
    }
}

impl Drop for WavRecorder {
    /// Waits until what was recorded is on disk.
    fn drop(&mut self) {
        self.blocks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(
    mut writer: WavWriter<BufWriter<File>>,
    blocks: &std::sync::mpsc::Receiver<[i16; BLOCK]>,
) -> Result<(), hound::Error> {
    let mut left = LONGEST;
    for (number, block) in blocks.iter().enumerate() {
        if left < BLOCK as u64 {
            break;
        }
        if number % WHOLE_EVERY == 0 {
            // The header says how long the file is, whatever happens afterwards.
            writer.flush()?;
        }
        left -= BLOCK as u64;
        for sample in block {
            writer.write_sample(sample)?;
        }
    }
    writer.finalize()
}
