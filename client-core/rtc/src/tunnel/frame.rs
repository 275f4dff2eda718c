//! What may pass between the library's datagrams and the stream to a TURN server: STUN messages of TURN and ChannelData, nothing else.
//! Both sides of it come from outside (a remote candidate may name any address, and a server may send anything), so whatever does not parse
//! is left out. Pure.

use snug_turn_proto::{FramingError, frame_length};

/// Bytes of a STUN header (RFC 8489 §5).
const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x0006;
const ERROR_CODE: u16 = 0x0009;

/// Tells a request and its answer from others.
pub(crate) type TransactionId = [u8; 12];

/// What a message is for, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request that begins everything.
    Allocate,
    /// Any other request.
    Request,
    /// The server gave an address.
    Allocated,
    /// The server gave none.
    Refused,
    /// Any other answer.
    Answer,
    /// Media, checks and encryption's handshake: loss is theirs to deal with.
    Data,
}

/// Which message of TURN this is; `None` for anything else. Looks at the first twenty bytes alone.
pub(super) fn kind(message: &[u8]) -> Option<Kind> {
    match message.first_chunk::<2>().map(|&bytes| u16::from_be_bytes(bytes))? {
        0x4000..=0x4fff => Some(Kind::Data),
        _ if message.len() < HEADER || message[4..8] != MAGIC_COOKIE => None,
        0x0003 => Some(Kind::Allocate),
        0x0004 | 0x0008 | 0x0009 => Some(Kind::Request),
        0x0103 => Some(Kind::Allocated),
        0x0113 => Some(Kind::Refused),
        0x0104 | 0x0114 | 0x0108 | 0x0118 | 0x0109 | 0x0119 => Some(Kind::Answer),
        0x0016 | 0x0017 => Some(Kind::Data),
        _ => None,
    }
}

/// The id of a STUN message; `None` for ChannelData.
pub(crate) fn transaction(message: &[u8]) -> Option<TransactionId> {
    match message {
        [0x00..=0x3f, ..] => message.get(8..HEADER)?.try_into().ok(),
        _ => None,
    }
}

/// A message for a server's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Of requests; those are sent once, since a stream loses nothing.
    pub(super) request: Option<TransactionId>,
    /// With the padding that streams need (RFC 8656 §12.5).
    pub(super) bytes: Vec<u8>,
}

/// The frame of an outgoing datagram; `None` when a server has no use for it.
pub(super) fn outgoing(datagram: &[u8]) -> Option<Frame> {
    let kind = kind(datagram)?;
    if !matches!(kind, Kind::Allocate | Kind::Request | Kind::Data) || datagram[..2] == [0x00, 0x17] {
        return None;
    }
    let padded = frame_length(datagram).ok()??;
    let message = unpadded(datagram)?;
    let mut bytes = Vec::with_capacity(padded);
    bytes.extend_from_slice(message);
    bytes.resize(padded, 0);
    let request = transaction(datagram).filter(|_| kind != Kind::Data);
    Some(Frame { kind, request, bytes })
}

/// How many bytes at the start of what came are one whole frame; `None` while it is not whole.
pub(super) fn whole(buffered: &[u8]) -> Result<Option<usize>, FramingError> {
    Ok(frame_length(buffered)?.filter(|&length| length <= buffered.len()))
}

/// The datagram in a whole frame of a server; `None` when it is nothing that a server says.
pub(super) fn incoming(frame: &[u8]) -> Option<(Kind, &[u8])> {
    let kind = kind(frame)?;
    if matches!(kind, Kind::Allocate | Kind::Request) || frame[..2] == [0x00, 0x16] {
        return None;
    }
    Some((kind, unpadded(frame)?))
}

/// Exactly the message, when all of it is there.
fn unpadded(message: &[u8]) -> Option<&[u8]> {
    let &[first, _, high, low] = message.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    match first {
        0x40..=0x4f => message.get(..4 + length),
        // A datagram holds one message and nothing behind it.
        _ => (message.len() == HEADER + length).then_some(message),
    }
}

/// Whether a request is signed with a credential.
pub(super) fn is_signed(message: &[u8]) -> bool {
    attribute(message, USERNAME).is_some()
}

/// The code of an error answer, 300 to 699.
pub(super) fn error_code(message: &[u8]) -> Option<u16> {
    let &[_, _, class, number] = attribute(message, ERROR_CODE)?.first_chunk()?;
    let code = u16::from(class & 0x07) * 100 + u16::from(number);
    (300..700).contains(&code).then_some(code)
}

/// The value of the first attribute of this type (RFC 8489 §14).
pub(crate) fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(HEADER..)?;
    while let Some(&[kind_high, kind_low, high, low]) = rest.first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(4..4 + length)?;
        if u16::from_be_bytes([kind_high, kind_low]) == wanted {
            return Some(value);
        }
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stun(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let mut message = [kind, attributes.len() as u16].map(u16::to_be_bytes).concat();
        message.extend_from_slice(&MAGIC_COOKIE);
        message.extend_from_slice(&[7; 12]);
        message.extend_from_slice(attributes);
        message
    }

    #[test]
    fn requests_go_out_as_they_are_and_once() {
        let allocate = stun(0x0003, &[]);
        let frame = outgoing(&allocate).unwrap();
        assert_eq!((frame.kind, frame.request, &frame.bytes), (Kind::Allocate, Some([7; 12]), &allocate));
        assert_eq!(outgoing(&stun(0x0008, &[])).unwrap().kind, Kind::Request);
        assert_eq!(outgoing(&stun(0x0016, &[])).unwrap().request, None);
    }

    #[test]
    fn channel_data_is_padded_on_the_way_out_and_cut_on_the_way_in() {
        let datagram = [0x40, 1, 0, 5, 1, 2, 3, 4, 5];
        let frame = outgoing(&datagram).unwrap();
        assert_eq!(frame.bytes, [0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]);
        assert_eq!(incoming(&frame.bytes), Some((Kind::Data, &datagram[..])));
        // A datagram may bring its padding along.
        assert_eq!(outgoing(&frame.bytes), Some(frame));
    }

    #[test]
    fn what_a_server_has_no_use_for_stays_here() {
        let check = stun(0x0001, &[]);
        let mut old = stun(0x0003, &[]);
        old[4] = 0;
        let long = [stun(0x0003, &[]), vec![0; 4]].concat();
        let short = stun(0x0003, &[0; 8])[..24].to_vec();
        for other in [check, old, long, short, vec![0x40, 0, 0, 9, 1], vec![0x80; 40], stun(0x0103, &[])] {
            assert_eq!(outgoing(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_server_cannot_pretend_to_be_a_participant() {
        for other in [0x0001, 0x0003, 0x0008, 0x0016, 0x0101] {
            assert_eq!(incoming(&stun(other, &[])), None, "{other:#x}");
        }
        assert_eq!(incoming(&stun(0x0103, &[])).map(|(kind, _)| kind), Some(Kind::Allocated));
    }

    #[test]
    fn error_codes_and_names_are_found_among_other_attributes() {
        let refusal = stun(0x0113, &[0x80, 0x22, 0, 1, b'x', 0, 0, 0, 0, 9, 0, 4, 0, 0, 4, 1]);
        assert_eq!((error_code(&refusal), is_signed(&refusal)), (Some(401), false));
        assert!(is_signed(&stun(0x0003, &[0, 6, 0, 1, b'u', 0, 0, 0])));
        assert_eq!(error_code(&stun(0x0113, &[0, 9, 0xff, 0xff])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..64), first in 0_u8..0x50) {
            let mut bytes = bytes;
            for cookie in [false, true] {
                if let Some(start) = bytes.first_mut() {
                    *start = first;
                }
                if cookie && bytes.len() >= 8 {
                    bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
                }
                if let Some(frame) = outgoing(&bytes) {
                    prop_assert_eq!(whole(&frame.bytes), Ok(Some(frame.bytes.len())));
                    prop_assert!(frame.bytes.len() <= bytes.len() + 3);
                }
                if let Ok(Some(length)) = whole(&bytes) {
                    prop_assert!(length <= bytes.len());
                    let _ = incoming(&bytes[..length]);
                }
                let _ = (incoming(&bytes), error_code(&bytes), is_signed(&bytes), transaction(&bytes));
            }
        }
    }
}
