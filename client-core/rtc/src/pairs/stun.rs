//! The messages of connectivity checks (RFC 8445 §7), and media inside the messages of TURN.
//! Everything comes from outside: what does not parse is none. Pure.

use std::net::SocketAddr;

use rtc::crypto::RTCCrypto;
use rtc::stun::attributes::{ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};

use super::is_usable;
use crate::stats::CandidateKind;
use crate::tunnel::frame::{attribute, transaction};

const USERNAME: u16 = 0x0006;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const USE_CANDIDATE: u16 = 0x0025;
const CONTROLLED: u16 = 0x8029;
const CONTROLLING: u16 = 0x802a;
/// Of a candidate found by a check (RFC 8445 §5.1.2): type preference 110, component 1.
const PEER_REFLEXIVE_PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// Tells a request and its answer from others.
pub(super) type Id = [u8; 12];

/// The messages that checks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    Request,
    Success,
    Error,
}

/// Which message of a check this is.
pub(super) fn binding(datagram: &[u8]) -> Option<(Binding, Id)> {
    if datagram.get(4..8)? != [0x21, 0x12, 0xa4, 0x42] {
        return None;
    }
    let kind = match datagram.first_chunk()? {
        [0x00, 0x01] => Binding::Request,
        [0x01, 0x01] => Binding::Success,
        [0x01, 0x11] => Binding::Error,
        _ => return None,
    };
    Some((kind, transaction(datagram)?))
}

/// A quick look: whether it is worth a longer one.
pub(super) fn is_binding(datagram: &[u8]) -> bool {
    matches!(datagram, [0x00 | 0x01, 0x01 | 0x11, ..])
}

/// Whether a request nominates its pair.
pub(super) fn nominates(request: &[u8]) -> bool {
    attribute(request, USE_CANDIDATE).is_some()
}

/// The names of both sides, and the role of who sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) username: Vec<u8>,
    pub(super) is_controlling: bool,
    pub(super) tie_breaker: [u8; 8],
}

/// How the agent signs its requests.
pub(super) fn signature(request: &[u8]) -> Option<Signature> {
    let username = attribute(request, USERNAME)?.to_vec();
    let role = |kind| attribute(request, kind).and_then(|value| value.try_into().ok());
    let (is_controlling, tie_breaker) = match (role(CONTROLLING), role(CONTROLLED)) {
        (Some(tie_breaker), _) => (true, tie_breaker),
        (None, tie_breaker) => (false, tie_breaker?),
    };
    Some(Signature { username, is_controlling, tie_breaker })
}

/// A check. `nominate` asks the other side to use the pair.
pub(super) fn request(
    id: Id,
    signature: &Signature,
    password: &str,
    nominate: bool,
    crypto: &dyn RTCCrypto,
) -> Option<Vec<u8>> {
    let mut message = Message::new();
    message.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId(id))]).ok()?;
    message.add(ATTR_USERNAME, &signature.username);
    if nominate {
        message.add(ATTR_USE_CANDIDATE, &[]);
    }
    let role = if signature.is_controlling { CONTROLLING } else { CONTROLLED };
    message.add(AttrType(role), &signature.tie_breaker);
    message.add(ATTR_PRIORITY, &PEER_REFLEXIVE_PRIORITY.to_be_bytes());
    MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)
        .add_to(&mut message)
        .ok()?;
    FINGERPRINT.add_to(&mut message).ok()?;
    Some(message.raw)
}

/// Whether a message is signed with this password.
pub(super) fn is_signed_with(datagram: &[u8], password: &str, crypto: &dyn RTCCrypto) -> bool {
    let mut message = Message { raw: datagram.to_vec(), ..Message::default() };
    message.decode().is_ok() && MessageIntegrity::check(&mut message, password.as_bytes(), crypto).is_ok()
}

/// Whether a TURN server passes on what is inside: ChannelData, a Send or a Data indication.
pub(super) fn is_wrapped(datagram: &[u8]) -> bool {
    matches!(datagram, [0x40..=0x4f, ..] | [0x00, 0x16 | 0x17, _, _, 0x21, 0x12, 0xa4, 0x42, ..])
}

/// What a TURN server passes on (RFC 8656 §11.1, §11.4, §12.4).
pub(super) fn unwrapped(datagram: &[u8]) -> Option<&[u8]> {
    match datagram {
        [0x40..=0x4f, _, high, low, rest @ ..] => rest.get(..usize::from(u16::from_be_bytes([*high, *low]))),
        _ if is_wrapped(datagram) => attribute(datagram, DATA),
        _ => None,
    }
}

/// An answer to what `sent` carries, as if it had come the same way.
pub(super) fn answered(sent: &[u8], answer: &[u8]) -> Option<Vec<u8>> {
    let length = |bytes: usize| u16::try_from(bytes).map(u16::to_be_bytes).ok();
    if !is_wrapped(sent) {
        return Some(answer.to_vec());
    }
    if let [first @ 0x40..=0x4f, second, ..] = sent {
        return Some([&[*first, *second][..], &length(answer.len())?, answer].concat());
    }
    // With the same transaction id, which addresses of IPv6 are masked with.
    let peer = attribute(sent, XOR_PEER_ADDRESS)?;
    let mut attributes = Vec::new();
    for (kind, value) in [(XOR_PEER_ADDRESS, peer), (DATA, answer)] {
        attributes.extend(kind.to_be_bytes());
        attributes.extend(length(value.len())?);
        attributes.extend(value);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
    }
    Some([&[0x00, 0x17][..], &length(attributes.len())?, sent.get(4..20)?, &attributes].concat())
}

/// Whether it is media, its encryption's handshake or the data channel (RFC 7983 §7).
pub(super) fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=63 | 128..=191, ..])
}

/// A candidate of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: SocketAddr,
    pub(super) kind: CandidateKind,
    pub(super) priority: u32,
}

/// A `candidate:` line (RFC 8839 §5.1) with an address.
pub(super) fn candidate(line: &str) -> Option<Candidate> {
    let mut fields = line.split_ascii_whitespace();
    let (transport, priority) = (fields.nth(2)?, fields.next()?.parse().ok()?);
    let address = SocketAddr::new(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let kind = match (fields.next()?, fields.next()?) {
        ("typ", "host") => CandidateKind::Host,
        ("typ", "srflx") => CandidateKind::ServerReflexive,
        ("typ", "prflx") => CandidateKind::PeerReflexive,
        ("typ", "relay") => CandidateKind::Relay,
        _ => return None,
    };
    let usable = transport.eq_ignore_ascii_case("udp") && is_usable(address);
    usable.then_some(Candidate { address, kind, priority })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signature_of(is_controlling: bool) -> Signature {
        Signature { username: b"them:us".to_vec(), is_controlling, tie_breaker: [3; 8] }
    }

    #[test]
    fn a_check_says_who_asks_and_is_signed() {
        let provider = rtc::crypto::default_provider().unwrap();
        for (nominate, is_controlling) in [(false, false), (true, true)] {
            let signed = signature_of(is_controlling);
            let check = request([7; 12], &signed, "password", nominate, provider.crypto()).unwrap();
            assert_eq!(binding(&check), Some((Binding::Request, [7; 12])));
            assert_eq!((nominates(&check), signature(&check)), (nominate, Some(signed)));
            assert!(is_signed_with(&check, "password", provider.crypto()));
            assert!(!is_signed_with(&check, "other", provider.crypto()));
        }
    }

    #[test]
    fn media_is_found_inside_both_messages_of_turn() {
        let channel = [0x40, 1, 0, 3, 0x80, 96, 0, 9];
        assert_eq!(unwrapped(&channel), Some(&[0x80, 96, 0][..]));
        let mut indication = vec![0, 0x16, 0, 8, 0x21, 0x12, 0xa4, 0x42];
        indication.extend([7; 12]);
        indication.extend([0, 0x13, 0, 3, 22, 254, 253, 0]);
        assert_eq!(unwrapped(&indication), Some(&[22, 254, 253][..]));
        assert!(is_wrapped(&channel) && is_wrapped(&indication) && !is_wrapped(&[0x80; 30]));
        assert_eq!(unwrapped(&[0x40, 1, 0, 9, 1]), None);
    }

    #[test]
    fn an_answer_comes_the_way_that_the_request_went() {
        assert_eq!(answered(&[0, 1, 2], &[7, 8]), Some(vec![7, 8]));
        assert_eq!(answered(&[0x40, 1, 0, 1, 9], &[7, 8]), Some(vec![0x40, 1, 0, 2, 7, 8]));
        let mut sent = vec![0, 0x16, 0, 20, 0x21, 0x12, 0xa4, 0x42];
        sent.extend([7; 12]);
        sent.extend([0, 0x12, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 0, 0x13, 0, 1, 9, 0, 0, 0]);
        let came = answered(&sent, &[7, 8]).unwrap();
        assert_eq!((came[..2].to_vec(), &came[4..20]), (vec![0, 0x17], &sent[4..20]));
        assert_eq!(unwrapped(&came), Some(&[7, 8][..]));
        assert_eq!(attribute(&came, XOR_PEER_ADDRESS), attribute(&sent, XOR_PEER_ADDRESS));
        assert_eq!(usize::from(came[3]), came.len() - 20);
    }

    #[test]
    fn candidates_are_read_where_they_have_an_address_for_udp() {
        let read = candidate("candidate:1 1 UDP 2130706431 192.0.2.7 5000 typ host generation 0").unwrap();
        assert_eq!((read.address, read.kind), (([192, 0, 2, 7], 5_000).into(), CandidateKind::Host));
        for other in [
            "candidate:1 1 udp 1 abc.local 5000 typ host",
            "candidate:1 1 tcp 1 192.0.2.7 9 typ host tcptype active",
            "candidate:1 1 udp 1 192.0.2.7 0 typ host",
            "candidate:1 1 udp 1 0.0.0.0 9 typ host",
            "candidate:1 1 udp 1 224.0.0.1 9 typ host",
            "candidate:1 1 udp 1 192.0.2.7 9 typ",
            "",
        ] {
            assert_eq!(candidate(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..80), cookie in any::<bool>()) {
            if cookie && bytes.len() >= 8 {
                bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            }
            let _ = (binding(&bytes), nominates(&bytes), signature(&bytes), unwrapped(&bytes));
            prop_assert!(!is_signed_with(&bytes, "password", rtc::crypto::default_provider().unwrap().crypto()));
        }
    }
}
