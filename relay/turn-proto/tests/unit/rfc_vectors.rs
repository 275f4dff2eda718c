//! The test vectors of RFC 5769 and RFC 8489 appendix B.1, against what the server reads and signs messages with.

use data_encoding::HEXLOWER;
use md5::{Digest, Md5};
use sha2::Sha256;

use super::{Answer, BINDING, Class, Received};
use crate::credential::{Integrity, Key};

/// RFC 5769 §2.1: a request of ICE, short-term credential, fingerprint.
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff\
     80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249\
     c1b571a280280004e57a3bcf";
/// §2.2: its answer over IPv4.
const IPV4_RESPONSE: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643\
     000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
/// §2.3: its answer over IPv6.
const IPV6_RESPONSE: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9fa\
     a5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";
/// §2.4: a request with a long-term credential, without fingerprint.
const LONG_TERM: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b900000015001c\
     662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f72670000080014\
     f67024656dd64a3e02b8e0712e85c9a28ca89666";
/// RFC 8489, appendix B.1 with erratum 6268: a long-term credential with SHA-256 and USERHASH.
const SHA256: &str = "000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b2\
     05c46e41407f1704001500296f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c3946535476\
     79363473410000000014000b6578616d706c652e6f726700001d000400020000001c0020b5c7bf005b6c52a21c51c5e8\
     92f81924136296cb927c43149309278cc6518e65";

const SHORT_TERM_PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
/// As SASLprep leaves them.
const LONG_TERM_TEXT: &str = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}:example.org:TheMatrIX";

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal")
}

fn short_term() -> Key {
    Key::from_bytes(SHORT_TERM_PASSWORD)
}

/// Every bit that a MAC covers changes it.
fn assert_signed(packet: &[u8], key: &Key, integrity: Integrity, covered: usize) {
    let received = Received::parse(packet).expect("a message");
    assert_eq!(received.integrity(), Some(integrity));
    assert!(received.is_signed_by(key, integrity));
    assert!(!received.is_signed_by(&Key::from_bytes(b"another"), integrity));
    for bit in 0..covered * 8 {
        let mut damaged = packet.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Some(received) = Received::parse(&damaged) {
            assert!(!received.is_signed_by(key, integrity), "bit {bit}");
        }
    }
}

#[test]
fn the_request_with_a_short_term_credential() {
    let packet = bytes(REQUEST);
    let received = Received::parse(&packet).expect("a message");
    assert_eq!((received.class(), received.method()), (Class::Request, BINDING));
    assert_eq!(received.transaction(), 0xb7e7_a701_bc34_d686_fa87_dfae);
    assert_eq!(received.username(), Some(&b"evtj:h6vY"[..]));
    // PRIORITY has to be understood, by an ICE agent; ICE-CONTROLLED has not.
    assert_eq!(received.unknown(), [0x24.into()]);
    let end = packet.len() - 8;
    assert!(received.is_signed_by(&short_term(), Integrity::Sha1));
    let unprinted = [&packet[..2], &(end as u16 - 20).to_be_bytes(), &packet[4..end]].concat();
    assert_signed(&unprinted, &short_term(), Integrity::Sha1, end);
    for bit in 0..packet.len() * 8 {
        let mut damaged = packet.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let good =
            Received::parse(&damaged).is_some_and(|one| one.is_signed_by(&short_term(), Integrity::Sha1));
        // The type of FINGERPRINT may become that of an attribute behind the MAC, which is ignored.
        assert!(!good || (end * 8..(end + 4) * 8).contains(&bit), "bit {bit}");
    }
}

#[test]
fn the_answers_over_ipv4_and_ipv6() {
    for (hex, address) in
        [(IPV4_RESPONSE, "192.0.2.1:32853"), (IPV6_RESPONSE, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let packet = bytes(hex);
        let received = Received::parse(&packet).expect("a message");
        assert_eq!((received.class(), received.method()), (Class::Success, BINDING));
        assert!(received.is_signed_by(&short_term(), Integrity::Sha1));
        // What this server writes has the same XOR-MAPPED-ADDRESS.
        let request = bytes(REQUEST);
        let request = Received::parse(&request).expect("a message");
        let address = address.parse().expect("an address");
        let written = Answer::success(&request).mapped(address).finish();
        assert_eq!(written[..2], packet[..2]);
        assert_eq!(written[4..20], packet[4..20]);
        assert_eq!(written[20..], packet[36..36 + written.len() - 20]);
        // And the same MAC, when the rest is the same.
        let covered = packet.len() - 8 - 24;
        let length = ((covered + 24 - 20) as u16).to_be_bytes();
        let mac = short_term().sign(Integrity::Sha1, &[&packet[..2], &length, &packet[4..covered]]);
        assert_eq!(mac, packet[covered + 4..covered + 24]);
    }
}

#[test]
fn the_request_with_a_long_term_credential() {
    let packet = bytes(LONG_TERM);
    let key = Key::from_bytes(&Md5::digest(LONG_TERM_TEXT));
    let received = Received::parse(&packet).expect("a message");
    assert_eq!(received.realm(), Some(&b"example.org"[..]));
    assert_eq!(received.nonce(), Some(&b"f//499k954d6OL34oL9FSTvy64sA"[..]));
    assert!(received.unknown().is_empty());
    assert_signed(&packet, &key, Integrity::Sha1, packet.len());
}

#[test]
fn the_request_with_sha_256() {
    let packet = bytes(SHA256);
    let key = Key::from_bytes(&Sha256::digest(LONG_TERM_TEXT));
    let received = Received::parse(&packet).expect("a message");
    assert_eq!(received.nonce(), Some(&b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"[..]));
    // USERHASH hides who asks, and is not offered.
    assert_eq!(received.unknown(), [0x1e.into()]);
    assert_signed(&packet, &key, Integrity::Sha256, packet.len());
}

#[test]
fn what_this_server_signs_it_can_verify() {
    let packet = bytes(REQUEST);
    let request = Received::parse(&packet).expect("a message");
    for integrity in [Integrity::Sha1, Integrity::Sha256] {
        let signed = Answer::success(&request).lifetime(600).signed(&short_term(), integrity);
        assert_signed(&signed, &short_term(), integrity, signed.len());
    }
}
