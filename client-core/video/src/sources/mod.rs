//! Where pictures come from. A source is driven by a thread of its own that blocks in [`VideoSource::next_frame`]; a shell whose platform
//! pushes pictures hands them over a channel inside its own source.

#[cfg(feature = "camera")]
mod camera;
mod pattern;
mod y4m;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "camera")]
pub use camera::{CameraDevice, CameraSource, cameras};
pub use pattern::{PatternSource, PatternStamp, read_stamp};
pub use y4m::{Y4mError, Y4mReader, Y4mSource};

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
    /// The file is not what it should be.
    #[error(transparent)]
    Y4m(#[from] Y4mError),
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
    /// The device is open and gives nothing.
    #[error("the camera has given no picture for two seconds: plug it in again")]
    Silent,
}

impl SourceError {
    /// A short name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Open { .. } => "source_not_found",
            Self::Y4m(Y4mError::Read(_)) => "source_read_failed",
            Self::Y4m(Y4mError::Unsupported { .. }) => "source_unsupported",
            Self::Y4m(_) => "source_damaged",
            Self::Size(_) => "source_size",
            Self::NoCameras => "camera_missing",
            Self::UnknownCamera(_) => "camera_unknown",
            Self::Camera(_) => "camera_failed",
            Self::Silent => "camera_silent",
        }
    }

    /// Whether the source will never give another picture.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Camera(_) | Self::Silent)
    }

    #[cfg(feature = "camera")]
    fn camera(error: nokhwa::NokhwaError) -> Self {
        Self::Camera(error.to_string())
    }
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
