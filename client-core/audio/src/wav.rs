//! WAV files in and out. Reading takes PCM of 8 to 32 bits and floats, any rate and channels; writing is 16-bit, 48 kHz mono.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
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

/// Makes a file and never touches one that is there: `name.wav` becomes `name-2.wav`, and so on.
///
/// # Errors
/// When the file cannot be made, or ten thousand of them are there.
pub fn create_beside(path: &Path) -> std::io::Result<File> {
    let (stem, extension) = (path.file_stem().unwrap_or_default(), path.extension().unwrap_or_default());
    let mut place = path.to_owned();
    for number in 2..=10_000 {
        match File::create_new(&place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let mut name = stem.to_owned();
                name.push(format!("-{number}."));
                name.push(extension);
                place = path.with_file_name(name);
            }
            done => return done,
        }
    }
    File::create_new(place)
}

const SPEC: WavSpec =
    WavSpec { channels: 1, sample_rate: SAMPLE_RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };

/// A block, and how many silent ones go before it.
struct Piece {
    silence: u64,
    block: [i16; BLOCK],
}

/// Writes blocks to a file from a thread of its own, so that a slow disk delays nobody. Dropping it lets the thread finish the file;
/// whoever has to know that the file is whole joins the thread.
pub(crate) struct WavRecorder {
    pieces: Option<SyncSender<Piece>>,
    silence: u64,
    begun: bool,
}

impl WavRecorder {
    /// Makes the file at once.
    pub(crate) fn create(path: &Path) -> Result<(Self, JoinHandle<()>), IoError> {
        let file = create_beside(path).map_err(|error| unusable(path, &error))?;
        let warn = |error| tracing::warn!(%error, "a recording stopped");
        Self::start(path.to_owned(), Some(file), warn)
    }

    /// Makes the file with the first sound: who never says anything leaves none. A fault is told from the thread.
    pub(crate) fn later(
        path: PathBuf,
        failed: impl FnOnce(IoError) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), IoError> {
        Self::start(path, None, failed)
    }

    fn start(
        path: PathBuf,
        file: Option<File>,
        failed: impl FnOnce(IoError) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), IoError> {
        let (pieces, waiting) = sync_channel(WAITING);
        let begun = file.is_some();
        let name = path.clone();
        let thread = std::thread::Builder::new()
            .name("snug-wav".to_owned())
            .spawn(move || {
                if let Err(error) = write_all(&path, file, &waiting) {
                    failed(unusable(&path, &error));
                }
            })
            .map_err(|error| unusable(&name, &error))?;
        Ok((Self { pieces: Some(pieces), silence: 0, begun }, thread))
    }

    /// Appends a block. What a slow disk makes miss is made up by silence, so that the file keeps its time.
    pub(crate) fn write(&mut self, block: &[f32; BLOCK]) {
        let Some(pieces) = &self.pieces else { return };
        self.begun |= block.iter().any(|value| *value != 0.0);
        if !self.begun {
            self.silence += 1;
            return;
        }
        let block = block.map(|value| (value.clamp(-1.0, 1.0) * f32::from(i16::MAX)) as i16);
        match pieces.try_send(Piece { silence: self.silence, block }) {
            Ok(()) => self.silence = 0,
            Err(TrySendError::Full(_)) => self.silence += 1,
            Err(TrySendError::Disconnected(_)) => self.pieces = None,
        }
    }
}

fn unusable(path: &Path, cause: &dyn std::fmt::Display) -> IoError {
    IoError::File { path: path.display().to_string(), cause: cause.to_string() }
}

fn write_all(path: &Path, file: Option<File>, pieces: &Receiver<Piece>) -> Result<(), hound::Error> {
    let mut pieces = pieces.iter().peekable();
    let file = match file {
        Some(file) => file,
        None if pieces.peek().is_none() => return Ok(()),
        None => create_beside(path)?,
    };
    let mut writer = WavWriter::new(BufWriter::new(file), SPEC)?;
    let mut left = LONGEST / BLOCK as u64;
    for (number, Piece { silence, block }) in pieces.enumerate() {
        if left <= silence {
            break;
        }
        left -= silence + 1;
        if number % WHOLE_EVERY == 0 {
            // The header says how long the file is, whatever happens afterwards.
            writer.flush()?;
        }
        for _ in 0..silence * BLOCK as u64 {
            writer.write_sample(0i16)?;
        }
        for sample in block {
            writer.write_sample(sample)?;
        }
    }
    writer.finalize()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop anywhere")]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("snug-wav-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_second_recording_leaves_the_first_one_alone() {
        let folder = folder("second");
        let path = folder.join("ana.wav");
        for _ in 0..3 {
            let (mut recorder, thread) = WavRecorder::create(&path).unwrap();
            recorder.write(&[0.5; BLOCK]);
            drop(recorder);
            thread.join().unwrap();
        }
        for name in ["ana.wav", "ana-2.wav", "ana-3.wav"] {
            assert_eq!(WavReader::open(folder.join(name)).unwrap().duration(), BLOCK as u32, "{name}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_is_made_with_the_first_sound_and_keeps_the_silence_before_it() {
        let folder = folder("first");
        let path = folder.join("ana.wav");
        for (sounds, length) in [(false, None), (true, Some(6 * BLOCK as u32))] {
            let (mut recorder, thread) = WavRecorder::later(path.clone(), |error| panic!("{error}")).unwrap();
            for _ in 0..5 {
                recorder.write(&[0.0; BLOCK]);
            }
            if sounds {
                recorder.write(&[0.5; BLOCK]);
            }
            drop(recorder);
            thread.join().unwrap();
            assert_eq!(WavReader::open(&path).ok().map(|file| file.duration()), length);
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told_by_its_thread() {
        let path = folder("gone").join("missing").join("ana.wav");
        let (told, heard) = sync_channel(1);
        let (mut recorder, thread) =
            WavRecorder::later(path, move |error| told.send(error).unwrap()).unwrap();
        recorder.write(&[0.5; BLOCK]);
        assert_eq!(heard.recv().unwrap().code(), "AUDIO_FILE_UNREADABLE");
        drop(recorder);
        thread.join().unwrap();
    }
}
