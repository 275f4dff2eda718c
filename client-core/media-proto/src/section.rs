//! The media sections that every link has, in the order of its session description.

/// One of the four fixed media sections of a link; the data channel follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Audio of the microphone.
    Microphone = 0,
    /// Video of the camera.
    Camera = 1,
    /// Video of the shared screen.
    Screen = 2,
    /// Audio of the shared screen.
    ScreenSound = 3,
}

impl Section {
    /// All sections in the order of the session description.
    pub const ALL: [Self; 4] = [Self::Microphone, Self::Camera, Self::Screen, Self::ScreenSound];

    /// The position in the session description, from 0.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The section at a position of the session description.
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// Whether the section carries pictures; the others carry sound.
    pub const fn is_video(self) -> bool {
        matches!(self, Self::Camera | Self::Screen)
    }
}
