//! Where pictures come from. A source is driven by a thread of its own that blocks in [`VideoSource::next_frame`]; a shell whose platform
//! pushes pictures hands them over a channel inside its own source.

#[cfg(feature = "camera")]
mod camera;
mod ivf;
mod pattern;
#[cfg(any(feature = "camera", test))]
mod watched;
mod y4m;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "camera")]
pub use camera::{CameraDevice, CameraSource, cameras};
pub use ivf::{IvfError, IvfSource};
pub use pattern::{PatternSource, PatternStamp, read_stamp};
pub use y4m::{Y4mError, Y4mReader, Y4mSource};

use snug_media_proto::container;

use crate::codec::VideoCodecs;
use crate::frame::{FrameError, SharedFrame};

/// Cameras, screens, files and test patterns.
pub trait VideoSource: Send {
    /// Waits for the next picture. `None` once `stop` is raised. A source whose picture does not change repeats it at least once a second:
    /// whoever joins waits for a key frame.
    ///
    /// # Errors
    /// Why there is none. After [`SourceError::is_final`] asking again is of no use; otherwise the source recovers by itself when it can.
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<SharedFrame>, SourceError>;
}

/// Why a source gives no pictures.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be opened.
    #[error("cannot open {path}: {reason}; check its name and permissions")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        reason: io::Error,
    },
    /// The name stands for something that is no file.
    #[error("{path} is {what}, and no file: give a y4m or IVF file")]
    NotAFile {
        /// What was given.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file is of another kind.
    #[error(
        "{path} is {kind}, and only y4m and IVF files are played: give one, such as `ffmpeg -i IN -pix_fmt yuv420p out.y4m` makes"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file is not what it should be.
    #[error("{path}: {error}")]
    Y4m {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Y4mError,
    },
    /// The recording is not what it should be.
    #[error("{path}: {error}")]
    Ivf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: IvfError,
    },
    /// The picture's size is not handled.
    #[error(transparent)]
    Size(#[from] FrameError),
    /// There is no camera at all.
    #[error("no camera is plugged in: plug one in, or join with a file or without video")]
    NoCameras,
    /// No camera has this id.
    #[error("there is no camera {0:?}: choose one of `snug devices`")]
    UnknownCamera(String),
    /// The device or its driver fails; it is tried again.
    #[error("the camera fails ({0}): close other programs that use it, or plug it in again")]
    Camera(String),
    /// The device is open and gives nothing; it is opened again.
    #[error(
        "the camera has given no picture for two seconds: it is tried again, and may have to be plugged in again"
    )]
    Silent,
    /// The device was there and is not any more.
    #[error("the camera is gone: plug it in again, it will be used at once")]
    Gone,
}

impl SourceError {
    /// A short name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Open { reason, .. } if reason.kind() == io::ErrorKind::NotFound => "source_not_found",
            Self::Open { .. } => "source_unreadable",
            Self::NotAFile { .. } => "source_not_a_file",
            Self::Foreign { .. } => "source_foreign",
            Self::Y4m { error: Y4mError::Read(_), .. } | Self::Ivf { error: IvfError::Read(_), .. } => {
                "source_read_failed"
            }
            Self::Y4m { error: Y4mError::Unsupported { .. }, .. }
            | Self::Ivf { error: IvfError::Unsupported { .. }, .. } => "source_unsupported",
            Self::Ivf { error: IvfError::Decoder(_), .. } => "video_decoder",
            Self::Y4m { .. } | Self::Ivf { .. } => "source_damaged",
            Self::Size(_) => "source_size",
            Self::NoCameras => "camera_missing",
            Self::UnknownCamera(_) => "camera_unknown",
            Self::Camera(_) => "camera_failed",
            Self::Silent => "camera_silent",
            Self::Gone => "camera_gone",
        }
    }

    /// Whether the source will never give another picture.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Camera(_) | Self::Silent | Self::Gone)
    }

    #[cfg(feature = "camera")]
    fn camera(error: nokhwa::NokhwaError) -> Self {
        Self::Camera(error.to_string())
    }
}

/// A source with the width and height of its pictures in pixels.
pub type SizedSource = (Box<dyn VideoSource>, (u32, u32));

/// Opens a file of either kind, known by its first bytes, and tells the size of its pictures.
///
/// # Errors
/// When there is none, or it cannot be played.
pub fn open_file(path: &Path, codecs: &Arc<dyn VideoCodecs>) -> Result<SizedSource, SourceError> {
    let mut start = Vec::new();
    open_regular(path)?
        .take(container::START as u64)
        .read_to_end(&mut start)
        .map_err(|reason| SourceError::Open { path: path.into(), reason })?;
    let is_called = |extension| path.extension().is_some_and(|end| end.eq_ignore_ascii_case(extension));
    Ok(if start.starts_with(b"DKIF") {
        let source = IvfSource::open(path, Arc::clone(codecs))?;
        let size = source.size();
        (Box::new(source), size)
    } else if start.starts_with(b"YUV4MPEG") {
        let source = Y4mSource::open(path)?;
        let size = source.size();
        (Box::new(source), size)
    } else if start.is_empty() && is_called("ivf") {
        return Err(SourceError::Ivf { path: path.into(), error: IvfError::Header("it is empty") });
    } else if start.is_empty() && is_called("y4m") {
        return Err(SourceError::Y4m { path: path.into(), error: Y4mError::Header("it is empty") });
    } else {
        let kind = container::kind(&start).unwrap_or("of no kind that is known");
        return Err(SourceError::Foreign { path: path.into(), kind });
    })
}

/// Opens a file, and nothing that only looks like one: a pipe would be waited for.
fn open_regular(path: &Path) -> Result<File, SourceError> {
    let failed = |reason| SourceError::Open { path: path.into(), reason };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_file() {
        return File::open(path).map_err(failed);
    }
    let what = if metadata.is_dir() { "a folder" } else { "a pipe or a device" };
    Err(SourceError::NotAFile { path: path.into(), what })
}

/// Tells a source to stop, at once even while it waits. Clones share it.
#[derive(Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Raises it, for good.
    pub fn raise(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it was raised.
    pub fn is_raised(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until then. True if it was raised meanwhile or before.
    pub fn wait_until(&self, then: Instant) -> bool {
        let raised = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = then.saturating_duration_since(Instant::now());
        let waited = self.0.1.wait_timeout_while(raised, left, |raised| !*raised);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({})", self.is_raised())
    }
}

/// Lets one picture through per interval; after a hold-up it goes on from there instead of catching up.
struct Pace {
    interval: Duration,
    next: Option<Instant>,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self { interval, next: None }
    }

    /// Waits for the next turn. `None` once `stop` is raised.
    fn wait(&mut self, stop: &Stop) -> Option<Instant> {
        let due = self.next.unwrap_or_else(Instant::now);
        if stop.wait_until(due) {
            return None;
        }
        let now = Instant::now();
        let late = now.saturating_duration_since(due) > self.interval;
        let turn = if late { now } else { due };
        self.next = Some(turn + self.interval);
        Some(turn)
    }
}
