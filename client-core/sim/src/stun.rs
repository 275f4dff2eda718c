//! The client's side of STUN and TURN messages (RFC 8489, RFC 8656), as far as a simulated participant needs it: IPv4, MESSAGE-INTEGRITY.
//! Written apart from the server under test. Reading answers `None` for what is no message.

use std::net::{Ipv4Addr, SocketAddrV4};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

pub(crate) const BINDING: u16 = 0x0001;
pub(crate) const ALLOCATE: u16 = 0x0003;
pub(crate) const CHANNEL_BIND: u16 = 0x0009;
pub(crate) const SEND_INDICATION: u16 = 0x0016;
const DATA_INDICATION: u16 = 0x0017;
const SUCCESS: u16 = 0x0100;
const ERROR: u16 = 0x0110;

pub(crate) const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
pub(crate) const CHANNEL_NUMBER: u16 = 0x000c;
pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
pub(crate) const DATA: u16 = 0x0013;
pub(crate) const REALM: u16 = 0x0014;
pub(crate) const NONCE: u16 = 0x0015;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
pub(crate) const REQUESTED_TRANSPORT: u16 = 0x0019;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

pub(crate) type Transaction = [u8; 12];

/// A message under construction.
pub(crate) struct Builder(Vec<u8>);

impl Builder {
    pub(crate) fn new(kind: u16, transaction: Transaction) -> Self {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(COOKIE);
        bytes.extend(transaction);
        Self(bytes)
    }

    pub(crate) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(kind.to_be_bytes());
        self.0.extend((value.len() as u16).to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn peer(self, peer: SocketAddrV4) -> Self {
        let mut value = vec![0, 1];
        value.extend((peer.port() ^ 0x2112).to_be_bytes());
        value.extend(peer.ip().octets().iter().zip(COOKIE).map(|(octet, key)| octet ^ key));
        self.put(XOR_PEER_ADDRESS, &value)
    }

    /// Appends the MAC over everything so far (RFC 8489 §14.5).
    pub(crate) fn sign(mut self, key: &[u8]) -> Self {
        let counted = (self.0.len() - 20 + 24) as u16;
        self.0[2..4].copy_from_slice(&counted.to_be_bytes());
        let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(&self.0);
        let mac = mac.finalize().into_bytes();
        self.put(MESSAGE_INTEGRITY, &mac)
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let counted = (self.0.len() - 20) as u16;
        self.0[2..4].copy_from_slice(&counted.to_be_bytes());
        self.0
    }
}

/// The key of a long-term credential (RFC 8489 §9.2.2).
pub(crate) fn key(username: &str, realm: &str, password: &str) -> Vec<u8> {
    Md5::digest(format!("{username}:{realm}:{password}")).to_vec()
}

/// A message that was read.
pub(crate) struct Message<'a> {
    kind: u16,
    pub(crate) transaction: Transaction,
    attributes: Vec<(u16, &'a [u8])>,
}

impl<'a> Message<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(20)?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let mut attributes = Vec::new();
        while let Some((&[a, b, c, d], value)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes([c, d]));
            attributes.push((u16::from_be_bytes([a, b]), value.get(..length)?));
            rest = value.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(Self { kind, transaction: head[8..20].try_into().ok()?, attributes })
    }

    pub(crate) fn is_success(&self) -> bool {
        self.kind & 0x0110 == SUCCESS
    }

    pub(crate) fn is_data(&self) -> bool {
        self.kind == DATA_INDICATION
    }

    pub(crate) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes.iter().find(|(other, _)| *other == kind).map(|(_, value)| *value)
    }

    pub(crate) fn text(&self, kind: u16) -> Option<String> {
        String::from_utf8(self.get(kind)?.to_vec()).ok()
    }

    /// The code of an error answer.
    pub(crate) fn error(&self) -> Option<u16> {
        let value = self.get(ERROR_CODE).filter(|_| self.kind & 0x0110 == ERROR)?;
        Some(u16::from(*value.get(2)?) * 100 + u16::from(*value.get(3)?))
    }

    fn address(&self, kind: u16) -> Option<SocketAddrV4> {
        let &[_, 1, x, y, a, b, c, d] = self.get(kind)? else { return None };
        let ip: Vec<u8> = [a, b, c, d].iter().zip(COOKIE).map(|(octet, key)| octet ^ key).collect();
        let ip = Ipv4Addr::new(*ip.first()?, *ip.get(1)?, *ip.get(2)?, *ip.get(3)?);
        Some(SocketAddrV4::new(ip, u16::from_be_bytes([x, y]) ^ 0x2112))
    }

    pub(crate) fn mapped(&self) -> Option<SocketAddrV4> {
        self.address(XOR_MAPPED_ADDRESS)
    }

    pub(crate) fn relayed(&self) -> Option<SocketAddrV4> {
        self.address(XOR_RELAYED_ADDRESS)
    }

    pub(crate) fn peer(&self) -> Option<SocketAddrV4> {
        self.address(XOR_PEER_ADDRESS)
    }
}

/// ChannelData without padding (RFC 8656 §12.4).
pub(crate) fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Number and payload of ChannelData.
pub(crate) fn read_channel_data(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (&[a, b, c, d], rest) = bytes.split_first_chunk()?;
    let number = u16::from_be_bytes([a, b]);
    let payload = rest.get(..usize::from(u16::from_be_bytes([c, d])))?;
    (0x4000..0x5000).contains(&number).then_some((number, payload))
}
