//! How large each participant is shown by a shell without a window: the others send what is asked for here, and no more.
//! It asks until a `set_tiles` command comes, which a window in front of this process sends.

use std::collections::BTreeSet;
use std::str::FromStr;

use snug_core::{Command, Event, LinkState, TileSize};

/// A call of two is shown in a whole window, a larger one in tiles.
const TWO: Size = Size { width: 1280, height: 720 };
const MORE: Size = Size { width: 640, height: 360 };
/// A shared screen is shown as large as most are.
const SCREEN: Size = Size { width: 1920, height: 1080 };

/// Width and height in pixels; 0x0 shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    width: u16,
    height: u16,
}

/// Not a size.
#[derive(Debug, thiserror::Error)]
#[error("not WIDTHxHEIGHT; write for example 640x360")]
pub(crate) struct NoSize;

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let (width, height) = text.split_once('x').ok_or(NoSize)?;
        Ok(Self { width: width.parse().map_err(|_| NoSize)?, height: height.parse().map_err(|_| NoSize)? })
    }
}

/// Who is shown, and how.
pub(crate) struct Tiles {
    /// The same for everybody, however many there are.
    fixed: Option<Size>,
    shown: BTreeSet<String>,
    /// A window says it from here on.
    given: bool,
}

impl Tiles {
    /// Whoever records wants all there is.
    pub(crate) fn new(asked: Option<Size>, records: bool) -> Self {
        Self { fixed: asked.or_else(|| records.then_some(TWO)), shown: BTreeSet::new(), given: false }
    }

    pub(crate) fn on_command(&mut self, command: &Command) {
        self.given |= matches!(command, Command::SetTiles { .. });
    }

    /// What to ask for after this event, when that has changed.
    pub(crate) fn on_event(&mut self, event: &Event) -> Option<Command> {
        let changed = match event {
            Event::ParticipantJoined { user, .. } | Event::Link { user, state: LinkState::Connected } => {
                self.shown.insert(user.clone())
            }
            Event::ParticipantLeft { user, .. } => self.shown.remove(user),
            _ => false,
        };
        (changed && !self.given).then(|| self.command())
    }

    fn command(&self) -> Command {
        let Size { width, height } = self.fixed.unwrap_or(if self.shown.len() > 1 { MORE } else { TWO });
        let (screen_width, screen_height) = if width == 0 { (0, 0) } else { (SCREEN.width, SCREEN.height) };
        let tile = TileSize { width, height, screen_width, screen_height };
        Command::SetTiles { tiles: self.shown.iter().map(|user| (user.clone(), tile)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use snug_core::{Command, Event};

    use super::{Size, Tiles};

    fn joined(user: &str) -> Event {
        Event::ParticipantJoined { user: user.to_owned(), name: String::new(), new_key: false }
    }

    fn widths(command: Option<Command>) -> Vec<u16> {
        match command {
            Some(Command::SetTiles { tiles }) => tiles.values().map(|tile| tile.width).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn one_other_fills_the_window_and_more_share_it() {
        let mut tiles = Tiles::new(None, false);
        assert_eq!(widths(tiles.on_event(&joined("a"))), [1280]);
        assert_eq!(widths(tiles.on_event(&joined("b"))), [640, 640]);
        assert_eq!(tiles.on_event(&joined("b")), None, "nothing changed");
        let left = Event::ParticipantLeft { user: "a".to_owned(), kicked: false, replaced: false };
        assert_eq!(widths(tiles.on_event(&left)), [1280]);
    }

    #[test]
    fn a_recording_wants_everybody_whole_and_an_option_comes_first() {
        let mut tiles = Tiles::new(None, true);
        tiles.on_event(&joined("a"));
        assert_eq!(widths(tiles.on_event(&joined("b"))), [1280, 1280]);
        let mut tiles = Tiles::new("320x180".parse().ok(), true);
        assert_eq!(widths(tiles.on_event(&joined("a"))), [320]);
    }

    #[test]
    fn a_window_that_says_it_itself_is_left_alone() {
        let mut tiles = Tiles::new(None, false);
        tiles.on_command(&Command::SetTiles { tiles: Default::default() });
        assert_eq!(tiles.on_event(&joined("a")), None);
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "640", "640x", "x360", "640x360x1", "-1x5", "70000x1"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
