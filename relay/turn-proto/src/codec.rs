//! STUN messages, by `stun-types` and `turn-types`: what of a message counts, and what an answer looks like.
//! It decides nothing.
//!
//! What counts: an attribute's first occurrence; nothing behind MESSAGE-INTEGRITY but MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 §14.5);
//! nothing in a message whose length is not that of its packet.

use std::net::SocketAddr;

use stun_types::AddressFamily;
use stun_types::attribute::{
    Attribute, AttributeFromRaw, AttributeStaticType, AttributeType, AttributeWrite, ErrorCode, Fingerprint,
    MessageIntegrity, MessageIntegritySha256, Nonce, PasswordAlgorithm, PasswordAlgorithmValue,
    PasswordAlgorithms, RawAttribute, Realm, UnknownAttributes, Username, XorMappedAddress,
};
use stun_types::message::{
    Message, MessageClass, MessageType, MessageWrite, MessageWriteMutSlice, MessageWriteVec, Method,
    TransactionId,
};
use subtle::ConstantTimeEq;
use turn_types::attribute::{
    AdditionalAddressFamily, AddressErrorCode, ChannelNumber, Data, EvenPort, Lifetime,
    RequestedAddressFamily, RequestedTransport, ReservationToken, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::DATA;

use crate::address::Family;
use crate::credential::{self, Integrity, Key};
use crate::io::Head;

pub(crate) use stun_types::message::{BINDING, MessageClass as Class};
pub(crate) use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};

const HEADER: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;
/// DONT-FRAGMENT, USERHASH and the rest are not here: who sends them is told that they are not understood.
const UNDERSTOOD: [AttributeType; 17] = [
    Username::TYPE,
    MessageIntegrity::TYPE,
    MessageIntegritySha256::TYPE,
    Realm::TYPE,
    Nonce::TYPE,
    PasswordAlgorithm::TYPE,
    Fingerprint::TYPE,
    ChannelNumber::TYPE,
    Lifetime::TYPE,
    XorPeerAddress::TYPE,
    Data::TYPE,
    XorRelayedAddress::TYPE,
    RequestedAddressFamily::TYPE,
    EvenPort::TYPE,
    RequestedTransport::TYPE,
    ReservationToken::TYPE,
    XorMappedAddress::TYPE,
];
/// A CreatePermission with as many peers as there may be, and twice what a request has besides.
const MOST_ATTRIBUTES: usize = 64;
/// Bytes of a request with all of that. What is longer carries a payload, and that is an indication.
const MOST_OF_A_REQUEST: usize = 2048;
/// Unknown attributes that are named in an answer; an answer must not grow with its request.
const UNKNOWN_NAMED: usize = 8;

/// An attribute is there, but makes no sense.
#[derive(Debug)]
pub(crate) struct Malformed;

/// A message that came in.
pub(crate) struct Received<'a> {
    packet: &'a [u8],
    message: Message<'a>,
}

impl<'a> Received<'a> {
    /// Reads a packet that holds one STUN message and nothing else. `None` when it does not.
    pub(crate) fn parse(packet: &'a [u8]) -> Option<Self> {
        let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        // The codec reads attributes to the end of what it is given, wherever the message ends.
        if packet.len() != HEADER + length || !length.is_multiple_of(4) {
            return None;
        }
        // Each attribute is looked at several times, and strangers choose how many there are.
        let mut rest = &packet[HEADER..];
        for _ in 0..MOST_ATTRIBUTES {
            let Some(&[_, _, high, low]) = rest.first_chunk() else { break };
            let length = usize::from(u16::from_be_bytes([high, low])).next_multiple_of(4);
            rest = rest.get(ATTRIBUTE_HEADER + length..)?;
        }
        if !rest.is_empty() {
            return None;
        }
        let message = Message::from_bytes(packet).ok()?;
        let is_request = message.class() == MessageClass::Request;
        (!is_request || packet.len() <= MOST_OF_A_REQUEST).then_some(Self { packet, message })
    }

    pub(crate) fn class(&self) -> MessageClass {
        self.message.class()
    }

    pub(crate) fn method(&self) -> Method {
        self.message.method()
    }

    pub(crate) fn transaction(&self) -> u128 {
        self.message.transaction_id().into()
    }

    /// Bytes on the wire.
    pub(crate) fn length(&self) -> usize {
        self.packet.len()
    }

    fn attributes(&self) -> impl Iterator<Item = (AttributeType, usize)> {
        self.message.iter_attributes().map(|(offset, attribute)| (attribute.get_type(), offset))
    }

    fn value_at(&self, offset: usize) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([self.packet[offset + 2], self.packet[offset + 3]]));
        &self.packet[offset + ATTRIBUTE_HEADER..offset + ATTRIBUTE_HEADER + length]
    }

    fn raw<A: AttributeStaticType>(&self) -> Option<&'a [u8]> {
        let found = self.attributes().find(|(kind, _)| *kind == A::TYPE);
        found.map(|(_, offset)| self.value_at(offset))
    }

    fn decoded<A: AttributeStaticType + AttributeFromRaw<'a>>(&self) -> Result<Option<A>, Malformed> {
        self.raw::<A>()
            .map(|value| A::from_raw(RawAttribute::new(A::TYPE, value)).map_err(|_| Malformed))
            .transpose()
    }

    pub(crate) fn username(&self) -> Option<&'a [u8]> {
        self.raw::<Username>()
    }

    pub(crate) fn realm(&self) -> Option<&'a [u8]> {
        self.raw::<Realm>()
    }

    pub(crate) fn nonce(&self) -> Option<&'a [u8]> {
        self.raw::<Nonce>()
    }

    /// The strongest proof that is there; whether it is good is for [`Received::is_signed_by`].
    pub(crate) fn integrity(&self) -> Option<Integrity> {
        let mut weaker = None;
        for (kind, _) in self.attributes() {
            match kind {
                MessageIntegritySha256::TYPE => return Some(Integrity::Sha256),
                MessageIntegrity::TYPE => weaker = Some(Integrity::Sha1),
                _ => {}
            }
        }
        weaker
    }

    /// Compares in constant time (RFC 8489 §14.5, §14.6). A shortened SHA-256 is not taken: TURN does not define one.
    pub(crate) fn is_signed_by(&self, key: &Key, integrity: Integrity) -> bool {
        let (wanted, length) = match integrity {
            Integrity::Sha1 => (MessageIntegrity::TYPE, 20),
            Integrity::Sha256 => (MessageIntegritySha256::TYPE, 32),
        };
        let Some((_, offset)) = self.attributes().find(|(kind, _)| *kind == wanted) else { return false };
        let sent = self.value_at(offset);
        if sent.len() != length {
            return false;
        }
        // The length in the signed header is that of a message that ends with this attribute.
        let counted = ((offset + ATTRIBUTE_HEADER + length - HEADER) as u16).to_be_bytes();
        let computed = key.sign(integrity, &[&self.packet[..2], &counted, &self.packet[4..offset]]);
        computed.ct_eq(sent).into()
    }

    /// Which key the client made. `None` without PASSWORD-ALGORITHM.
    ///
    /// # Errors
    /// When the list it was offered came back changed (RFC 8489 §9.2.4), or only one of the two attributes came.
    pub(crate) fn password_algorithm(&self) -> Result<Option<credential::PasswordAlgorithm>, Malformed> {
        let chosen = self.decoded::<PasswordAlgorithm>()?;
        let offered = self.decoded::<PasswordAlgorithms>()?;
        match (chosen, offered) {
            (None, None) => Ok(None),
            (Some(chosen), Some(offered)) if offered.algorithms() == OFFERED => {
                Ok(Some(match chosen.algorithm() {
                    PasswordAlgorithmValue::MD5 => credential::PasswordAlgorithm::Md5,
                    PasswordAlgorithmValue::SHA256 => credential::PasswordAlgorithm::Sha256,
                }))
            }
            _ => Err(Malformed),
        }
    }

    /// Attributes that must be understood and are not (RFC 8489 §6.3).
    pub(crate) fn unknown(&self) -> Vec<AttributeType> {
        let mut unknown = Vec::new();
        for (kind, _) in self.attributes() {
            if kind.comprehension_required() && !UNDERSTOOD.contains(&kind) && unknown.len() < UNKNOWN_NAMED {
                unknown.push(kind);
            }
        }
        unknown
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = Result<SocketAddr, Malformed>> {
        let id = self.message.transaction_id();
        self.attributes().filter(|(kind, _)| *kind == XorPeerAddress::TYPE).map(move |(_, offset)| {
            let raw = RawAttribute::new(XorPeerAddress::TYPE, self.value_at(offset));
            XorPeerAddress::from_raw_ref(&raw).map(|peer| peer.addr(id)).map_err(|_| Malformed)
        })
    }

    /// The payload of DATA, as a part of the packet.
    pub(crate) fn data(&self) -> Option<std::ops::Range<usize>> {
        let (_, offset) = self.attributes().find(|(kind, _)| *kind == Data::TYPE)?;
        let from = offset + ATTRIBUTE_HEADER;
        Some(from..from + self.value_at(offset).len())
    }

    pub(crate) fn channel_number(&self) -> Result<Option<u16>, Malformed> {
        Ok(self.decoded::<ChannelNumber>()?.map(|number| number.channel()))
    }

    pub(crate) fn lifetime(&self) -> Result<Option<u32>, Malformed> {
        Ok(self.decoded::<Lifetime>()?.map(|lifetime| lifetime.seconds()))
    }

    /// The protocol number; 17 is UDP.
    pub(crate) fn requested_transport(&self) -> Result<Option<u8>, Malformed> {
        Ok(self.decoded::<RequestedTransport>()?.map(|transport| transport.protocol()))
    }

    /// `Ok(Err(..))` is a family that nobody knows.
    pub(crate) fn requested_family(&self) -> Result<Option<Family>, UnknownFamily> {
        let Some(value) = self.raw::<RequestedAddressFamily>() else { return Ok(None) };
        family(value).map(Some)
    }

    pub(crate) fn additional_family(&self) -> Result<Option<Family>, UnknownFamily> {
        let Some(value) = self.raw::<AdditionalAddressFamily>() else { return Ok(None) };
        family(value).map(Some)
    }

    pub(crate) fn has_even_port(&self) -> bool {
        self.raw::<EvenPort>().is_some()
    }

    pub(crate) fn has_reservation_token(&self) -> bool {
        self.raw::<ReservationToken>().is_some()
    }
}

/// Neither IPv4 nor IPv6.
#[derive(Debug)]
pub(crate) struct UnknownFamily;

fn family(value: &[u8]) -> Result<Family, UnknownFamily> {
    match value {
        [1, _, _, _] => Ok(Family::V4),
        [2, _, _, _] => Ok(Family::V6),
        _ => Err(UnknownFamily),
    }
}

/// What PASSWORD-ALGORITHMS offers.
const OFFERED: &[PasswordAlgorithmValue] = &[PasswordAlgorithmValue::SHA256, PasswordAlgorithmValue::MD5];

/// A message on its way out.
pub(crate) struct Answer {
    message: MessageWriteVec,
    id: TransactionId,
}

impl Answer {
    pub(crate) fn success(request: &Received<'_>) -> Self {
        Self::new(request, MessageClass::Success)
    }

    /// Without a reason phrase: programs read the code, and every byte counts where the request may be forged.
    pub(crate) fn error(request: &Received<'_>, code: u16) -> Self {
        let mut answer = Self::new(request, MessageClass::Error);
        answer.put(
            &ErrorCode::builder(code).reason("").build().expect("the codes of RFC 8489 and 8656 are valid"),
        );
        answer
    }

    fn new(request: &Received<'_>, class: MessageClass) -> Self {
        let id = request.message.transaction_id();
        let kind = MessageType::from_class_method(class, request.method());
        Self { message: Message::builder(kind, id, MessageWriteVec::new()), id }
    }

    fn put(&mut self, attribute: &dyn AttributeWrite) {
        self.message.push_attribute_unchecked(attribute);
    }

    pub(crate) fn challenge(mut self, realm: &str, nonce: &str, with_algorithms: bool) -> Self {
        self.put(&Realm::new(realm).expect("the realm is short"));
        self.put(&Nonce::new(nonce).expect("a nonce is short"));
        if with_algorithms {
            self.put(&PasswordAlgorithms::new(OFFERED));
        }
        self
    }

    pub(crate) fn unknown(mut self, unknown: &[AttributeType]) -> Self {
        self.put(&UnknownAttributes::new(unknown));
        self
    }

    pub(crate) fn mapped(mut self, address: SocketAddr) -> Self {
        let attribute = XorMappedAddress::new(address, self.id);
        self.put(&attribute);
        self
    }

    pub(crate) fn relayed(mut self, address: SocketAddr) -> Self {
        let attribute = XorRelayedAddress::new(address, self.id);
        self.put(&attribute);
        self
    }

    pub(crate) fn lifetime(mut self, seconds: u32) -> Self {
        self.put(&Lifetime::new(seconds));
        self
    }

    /// Why there is no relayed transport address of `family` beside the other (RFC 8656 §7.2).
    pub(crate) fn address_error(mut self, family: Family, code: u16) -> Self {
        let error = ErrorCode::builder(code).reason("").build().expect("the codes of RFC 8656 are valid");
        let family = match family {
            Family::V4 => AddressFamily::IPV4,
            Family::V6 => AddressFamily::IPV6,
        };
        self.put(&AddressErrorCode::new(family, error));
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.message.finish()
    }

    /// With the same proof as the request had (RFC 8489 §9.2.4).
    pub(crate) fn signed(mut self, key: &Key, integrity: Integrity) -> Vec<u8> {
        let length = match integrity {
            Integrity::Sha1 => {
                self.put(&MessageIntegrity::new([0; 20]));
                20
            }
            Integrity::Sha256 => {
                self.put(&MessageIntegritySha256::new(&[0; 32]).expect("32 bytes are allowed"));
                32
            }
        };
        let mut bytes = self.message.finish();
        let signed = bytes.len() - length - ATTRIBUTE_HEADER;
        let mac = key.sign(integrity, &[&bytes[..signed]]);
        let from = bytes.len() - length;
        bytes[from..].copy_from_slice(&mac);
        bytes
    }
}

/// What a Data indication (RFC 8656 §11.5) has in front of `length` bytes of payload.
pub(crate) fn data_indication(peer: SocketAddr, transaction: u128, length: u16) -> Head {
    let mut buffer = [0; Head::CAPACITY];
    let kind = MessageType::from_class_method(MessageClass::Indication, DATA);
    // The builder masks what is more than 96 bits.
    let id = TransactionId::from(transaction);
    let mut message = Message::builder(kind, id, MessageWriteMutSlice::new(&mut buffer));
    message.push_attribute_unchecked(&XorPeerAddress::new(peer, id));
    let written = message.len();
    let mut head = Head::EMPTY;
    let counted = (written - HEADER + ATTRIBUTE_HEADER) as u16 + length.next_multiple_of(4);
    buffer[2..4].copy_from_slice(&counted.to_be_bytes());
    head.push(&buffer[..written]);
    head.push(&Data::TYPE.value().to_be_bytes());
    head.push(&length.to_be_bytes());
    head
}

#[cfg(test)]
#[path = "../tests/unit/rfc_vectors.rs"]
mod tests;
