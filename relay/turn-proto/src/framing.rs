//! Where a message ends in a stream (RFC 8489 §6.2.2, RFC 8656 §12.5): STUN messages and padded ChannelData, one after the other.

/// The longest frame: a STUN header and a body of 16 bits' length, whole words. ChannelData is never longer than that.
pub const MAX_FRAME: usize = 20 + 0xfffc;

/// The stream is something else than STUN and ChannelData; it cannot be understood from here on and has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The first two bits or the channel number belong to no message of TURN.
    #[error("the stream holds something else than STUN messages and ChannelData")]
    Kind,
    /// A STUN message whose length is not a multiple of four.
    #[error("the stream holds a STUN message with an odd length")]
    Length,
}

/// The length in bytes, padding included, of the message that begins `buffered`; it may be longer than what is there.
/// `None` while there are fewer than four bytes. A STUN message begins with a byte up to 3 (RFC 7983 §7), so TLS on the wrong port is found out at once;
/// the `G` of an HTTP request is also a channel's first byte, and nobody waits for its frame for ever.
///
/// # Errors
/// When no message begins like that.
pub fn frame_length(buffered: &[u8]) -> Result<Option<usize>, FramingError> {
    let Some(&[first, _, high, low]) = buffered.first_chunk() else {
        return match buffered.first() {
            Some(first) if !matches!(first, 0x00..=0x03 | 0x40..=0x4f) => Err(FramingError::Kind),
            _ => Ok(None),
        };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match first {
        0x00..=0x03 if length.is_multiple_of(4) => Ok(Some(20 + length)),
        0x00..=0x03 => Err(FramingError::Length),
        0x40..=0x4f => Ok(Some(4 + length.next_multiple_of(4))),
        _ => Err(FramingError::Kind),
    }
}

#[cfg(test)]
mod tests {
    use super::{FramingError, MAX_FRAME, frame_length};

    #[test]
    fn the_first_four_bytes_tell_the_length() {
        assert_eq!(frame_length(&[]), Ok(None));
        assert_eq!(frame_length(&[0x40, 0, 0]), Ok(None));
        assert_eq!(frame_length(&[0, 1, 0, 0]), Ok(Some(20)));
        assert_eq!(frame_length(&[0, 1, 0xff, 0xfc]), Ok(Some(MAX_FRAME)));
        assert_eq!(frame_length(&[0x40, 0, 0, 0]), Ok(Some(4)));
        for (length, frame) in [(1_u16, 8), (4, 8), (5, 12), (0xffff, 0x1_0004)] {
            let [high, low] = length.to_be_bytes();
            assert_eq!(frame_length(&[0x4f, 0xff, high, low]), Ok(Some(frame)));
        }
        assert!(
            frame_length(&[0x4f, 0xff, 0xff, 0xff]).is_ok_and(|frame| frame.is_some_and(|f| f <= MAX_FRAME))
        );
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_byte() {
        for first in [0x16, b'P', 0x04, 0x3f, 0x50, 0x80, 0xff] {
            assert_eq!(frame_length(&[first]), Err(FramingError::Kind));
            assert_eq!(frame_length(&[first, 0, 0, 4]), Err(FramingError::Kind));
        }
        for length in [0xfffd_u16, 0xfffe, 0xffff, 1, 2, 3] {
            let [high, low] = length.to_be_bytes();
            assert_eq!(frame_length(&[0, 1, high, low]), Err(FramingError::Length));
        }
    }
}
