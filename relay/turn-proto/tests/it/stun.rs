//! STUN messages for tests, byte by byte from RFC 8489 and RFC 8656. Written apart from the crate under test and from the codec that it uses, so that
//! a mistake of theirs is not made here as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Methods.
pub const BINDING: u16 = 1;
pub const ALLOCATE: u16 = 3;
pub const REFRESH: u16 = 4;
pub const SEND: u16 = 6;
pub const DATA_INDICATION: u16 = 7;
pub const CREATE_PERMISSION: u16 = 8;
pub const CHANNEL_BIND: u16 = 9;

/// Classes.
pub const REQUEST: u16 = 0;
pub const INDICATION: u16 = 1;
pub const SUCCESS: u16 = 2;
pub const ERROR: u16 = 3;

/// Attributes.
pub mod attribute {
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const CHANNEL_NUMBER: u16 = 0x000c;
    pub const LIFETIME: u16 = 0x000d;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub const EVEN_PORT: u16 = 0x0018;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const DONT_FRAGMENT: u16 = 0x001a;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const PASSWORD_ALGORITHM: u16 = 0x001d;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const RESERVATION_TOKEN: u16 = 0x0022;
    pub const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
    pub const ADDRESS_ERROR_CODE: u16 = 0x8001;
    pub const PASSWORD_ALGORITHMS: u16 = 0x8002;
    pub const SOFTWARE: u16 = 0x8022;
    pub const FINGERPRINT: u16 = 0x8028;
}
use attribute as a;

/// How a message is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    Sha1,
    Sha256,
}

/// A message under construction.
#[derive(Debug, Clone)]
pub struct Builder {
    bytes: Vec<u8>,
}

/// The two bytes that a class and a method make (RFC 8489 §5).
pub fn message_type(class: u16, method: u16) -> u16 {
    (method & 0xf)
        | ((method & 0x70) << 1)
        | ((method & 0xf80) << 2)
        | ((class & 1) << 4)
        | ((class & 2) << 7)
}

impl Builder {
    pub fn new(class: u16, method: u16, transaction: [u8; 12]) -> Self {
        let mut bytes = message_type(class, method).to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(COOKIE);
        bytes.extend(transaction);
        Self { bytes }
    }

    pub fn put(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend((value.len() as u16).to_be_bytes());
        self.bytes.extend(value);
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        self
    }

    pub fn address(self, kind: u16, address: SocketAddr) -> Self {
        let value = xor_address(address, &self.bytes[4..20]);
        self.put(kind, &value)
    }

    pub fn peer(self, peer: SocketAddr) -> Self {
        self.address(a::XOR_PEER_ADDRESS, peer)
    }

    pub fn lifetime(self, seconds: u32) -> Self {
        self.put(a::LIFETIME, &seconds.to_be_bytes())
    }

    pub fn channel(self, number: u16) -> Self {
        let [x, y] = number.to_be_bytes();
        self.put(a::CHANNEL_NUMBER, &[x, y, 0, 0])
    }

    /// 17 is UDP.
    pub fn transport(self, protocol: u8) -> Self {
        self.put(a::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0])
    }

    /// 1 is IPv4, 2 is IPv6.
    pub fn family(self, family: u8) -> Self {
        self.put(a::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0])
    }

    pub fn additional(self, family: u8) -> Self {
        self.put(a::ADDITIONAL_ADDRESS_FAMILY, &[family, 0, 0, 0])
    }

    /// Appends the MAC over everything so far.
    pub fn sign(self, key: &[u8], integrity: Integrity) -> Self {
        let (kind, length) = match integrity {
            Integrity::Sha1 => (a::MESSAGE_INTEGRITY, 20),
            Integrity::Sha256 => (a::MESSAGE_INTEGRITY_SHA256, 32),
        };
        let mut covered = self.bytes.clone();
        let counted = (covered.len() - 20 + 4 + length) as u16;
        covered[2..4].copy_from_slice(&counted.to_be_bytes());
        let mac = mac(key, integrity, &covered);
        self.put(kind, &mac)
    }

    pub fn fingerprint(self) -> Self {
        let mut covered = self.bytes.clone();
        let counted = (covered.len() - 20 + 8) as u16;
        covered[2..4].copy_from_slice(&counted.to_be_bytes());
        let value = (crc32(&covered) ^ 0x5354_554e).to_be_bytes();
        self.put(a::FINGERPRINT, &value)
    }

    /// With the right length in its header.
    pub fn finish(mut self) -> Vec<u8> {
        let counted = (self.bytes.len() - 20) as u16;
        self.bytes[2..4].copy_from_slice(&counted.to_be_bytes());
        self.bytes
    }
}

pub fn mac(key: &[u8], integrity: Integrity, bytes: &[u8]) -> Vec<u8> {
    match integrity {
        Integrity::Sha1 => {
            let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("any length");
            mac.update(bytes);
            mac.finalize().into_bytes().to_vec()
        }
        Integrity::Sha256 => {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
            mac.update(bytes);
            mac.finalize().into_bytes().to_vec()
        }
    }
}

/// base64(HMAC-SHA1(secret, username)).
pub fn password(secret: &[u8], username: &str) -> String {
    BASE64.encode(&mac(secret, Integrity::Sha1, username.as_bytes()))
}

/// The key of a long-term credential; with SHA-256 if the client chose that from PASSWORD-ALGORITHMS.
pub fn long_term_key(username: &str, realm: &str, password: &str, sha256: bool) -> Vec<u8> {
    let text = format!("{username}:{realm}:{password}");
    if sha256 { Sha256::digest(text).to_vec() } else { Md5::digest(text).to_vec() }
}

fn xor_address(address: SocketAddr, cookie_and_transaction: &[u8]) -> Vec<u8> {
    let [x, y] = address.port().to_be_bytes();
    let octets = match address.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut value = vec![0, if octets.len() == 4 { 1 } else { 2 }, x ^ COOKIE[0], y ^ COOKIE[1]];
    value.extend(octets.iter().zip(cookie_and_transaction).map(|(octet, key)| octet ^ key));
    value
}

/// CRC-32 (ISO 3309), bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub class: u16,
    pub method: u16,
    pub transaction: [u8; 12],
    /// In their order: type, value, and where the attribute begins.
    pub attributes: Vec<(u16, Vec<u8>, usize)>,
    pub bytes: Vec<u8>,
}

impl Message {
    /// Strict: the length is right, every attribute ends inside, padding is there.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..20)?;
        if header[0] & 0xc0 != 0 || header[4..8] != COOKIE {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if bytes.len() != 20 + length || !length.is_multiple_of(4) {
            return None;
        }
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let mut attributes = Vec::new();
        let mut at = 20;
        while at < bytes.len() {
            let kind = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
            let value = bytes.get(at + 4..at + 4 + length)?.to_vec();
            attributes.push((kind, value, at));
            at += 4 + length.next_multiple_of(4);
        }
        Some(Self {
            class: ((kind >> 4) & 1) | ((kind >> 7) & 2),
            method: (kind & 0xf) | ((kind >> 1) & 0x70) | ((kind >> 2) & 0xf80),
            transaction: header[8..20].try_into().ok()?,
            attributes,
            bytes: bytes.to_vec(),
        })
    }

    pub fn get(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(other, ..)| *other == kind).map(|(_, value, _)| value.as_slice())
    }

    pub fn has(&self, kind: u16) -> bool {
        self.get(kind).is_some()
    }

    /// The code of an error answer.
    pub fn error(&self) -> Option<u16> {
        if self.class != ERROR {
            return None;
        }
        let value = self.get(a::ERROR_CODE)?;
        Some(u16::from(value[2]) * 100 + u16::from(value[3]))
    }

    pub fn text(&self, kind: u16) -> Option<String> {
        self.get(kind).and_then(|value| String::from_utf8(value.to_vec()).ok())
    }

    pub fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub fn addresses(&self, kind: u16) -> Vec<SocketAddr> {
        let of_kind = self.attributes.iter().filter(|(other, ..)| *other == kind);
        of_kind.filter_map(|(_, value, _)| read_xor_address(value, &self.bytes[4..20])).collect()
    }

    pub fn address(&self, kind: u16) -> Option<SocketAddr> {
        self.addresses(kind).first().copied()
    }

    /// Whether the MAC that is there is right.
    pub fn is_signed_by(&self, key: &[u8], integrity: Integrity) -> bool {
        let kind = match integrity {
            Integrity::Sha1 => a::MESSAGE_INTEGRITY,
            Integrity::Sha256 => a::MESSAGE_INTEGRITY_SHA256,
        };
        let Some((_, value, at)) = self.attributes.iter().find(|(other, ..)| *other == kind) else {
            return false;
        };
        let mut covered = self.bytes[..*at].to_vec();
        covered[2..4].copy_from_slice(&((at + 4 + value.len() - 20) as u16).to_be_bytes());
        mac(key, integrity, &covered) == *value
    }
}

fn read_xor_address(value: &[u8], cookie_and_transaction: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, x, y], octets) = value.split_first_chunk()?;
    let port = u16::from_be_bytes([x ^ COOKIE[0], y ^ COOKIE[1]]);
    let plain: Vec<u8> = octets.iter().zip(cookie_and_transaction).map(|(octet, key)| octet ^ key).collect();
    let ip: IpAddr = match (family, octets.len()) {
        (1, 4) => Ipv4Addr::from(<[u8; 4]>::try_from(plain).ok()?).into(),
        (2, 16) => Ipv6Addr::from(<[u8; 16]>::try_from(plain).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// ChannelData without padding.
pub fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend(payload);
    bytes
}
