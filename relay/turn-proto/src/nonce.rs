//! Nonces (RFC 8489 §9.2) that the server need not remember: a time and a MAC over it and the 5-tuple.
//!
//! ```text
//! base64url( minutes since 1970: 3 bytes │ HMAC-SHA256(key, minutes │ kind │ 5-tuple): first 12 bytes )     20 characters
//! "obMatJos2" + base64( security features: 3 bytes ) + the above                                            33 characters
//! ```
//!
//! Security considerations: a nonce proves that its sender receives what is sent to its address, so whatever costs more than its answer (hashing,
//! state, long answers) comes after it. The long form promises PASSWORD-ALGORITHMS (§9.2.1); the MAC covers which form it is, so nobody on the way
//! can turn one into the other.

use std::net::IpAddr;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::address::FiveTuple;

/// How long a nonce is good, in minutes: short enough that a stolen one is soon worth nothing. A refresh with an older one costs a round trip.
const LIFETIME_MINUTES: u32 = 10;
/// The nonce cookie (§9.2.1) with the bit "password algorithms" set.
const COOKIE: &str = "obMatJos2gAAA";
const MINUTES: usize = 3;
const MAC: usize = 12;

/// What a nonce says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nonce {
    /// The short form, ours and fresh.
    Plain,
    /// The long form, ours and fresh.
    WithAlgorithms,
    /// Ours, but too old: its sender is real.
    Stale,
    /// Not ours, or another 5-tuple's.
    Unknown,
}

/// Makes and checks nonces.
pub(crate) struct Nonces {
    key: [u8; 32],
}

impl Nonces {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    pub(crate) fn make(&self, client: &FiveTuple, unix: u64, with_algorithms: bool) -> String {
        let minutes = minutes(unix);
        let mut bytes = [0; MINUTES + MAC];
        bytes[..MINUTES].copy_from_slice(&minutes);
        bytes[MINUTES..].copy_from_slice(&self.mac(minutes, with_algorithms, client));
        let text = BASE64URL_NOPAD.encode(&bytes);
        if with_algorithms { format!("{COOKIE}{text}") } else { text }
    }

    pub(crate) fn check(&self, nonce: &[u8], client: &FiveTuple, unix: u64) -> Nonce {
        let (with_algorithms, text) = match nonce.strip_prefix(COOKIE.as_bytes()) {
            Some(text) => (true, text),
            None => (false, nonce),
        };
        let mut bytes = [0; MINUTES + MAC];
        let decoded = text.len() == 20 && BASE64URL_NOPAD.decode_mut(text, &mut bytes).is_ok();
        let [a, b, c, mac @ ..] = &bytes;
        if !decoded || !bool::from(self.mac([*a, *b, *c], with_algorithms, client).ct_eq(mac)) {
            return Nonce::Unknown;
        }
        let [_, x, y, z] = ((unix / 60) as u32).to_be_bytes();
        // Both are 24 bits of a count of minutes; the difference survives its overflow.
        let age =
            u32::from_be_bytes([0, x, y, z]).wrapping_sub(u32::from_be_bytes([0, *a, *b, *c])) & 0xff_ffff;
        match (age < LIFETIME_MINUTES, with_algorithms) {
            (false, _) => Nonce::Stale,
            (true, true) => Nonce::WithAlgorithms,
            (true, false) => Nonce::Plain,
        }
    }

    fn mac(&self, minutes: [u8; MINUTES], with_algorithms: bool, client: &FiveTuple) -> [u8; MAC] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(&minutes);
        mac.update(&[u8::from(with_algorithms), client.transport as u8]);
        for address in [client.client, client.server] {
            match address.ip() {
                IpAddr::V4(v4) => mac.update(&v4.to_ipv6_mapped().octets()),
                IpAddr::V6(v6) => mac.update(&v6.octets()),
            }
            mac.update(&address.port().to_be_bytes());
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|n| whole[n])
    }
}

fn minutes(unix: u64) -> [u8; MINUTES] {
    let [.., a, b, c] = (unix / 60).to_be_bytes();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::{COOKIE, Nonce, Nonces};
    use crate::address::{FiveTuple, Transport};

    fn tuple(port: u16) -> FiveTuple {
        FiveTuple {
            transport: Transport::Udp,
            client: ([192, 0, 2, 1], port).into(),
            server: ([192, 0, 2, 9], 3478).into(),
        }
    }

    #[test]
    fn a_nonce_is_good_for_ten_minutes_and_one_five_tuple() {
        let nonces = Nonces::new([7; 32]);
        let nonce = nonces.make(&tuple(1), 6_000, false);
        assert_eq!(nonce.len(), 20);
        assert_eq!(nonces.check(nonce.as_bytes(), &tuple(1), 6_000), Nonce::Plain);
        assert_eq!(nonces.check(nonce.as_bytes(), &tuple(1), 6_599), Nonce::Plain);
        assert_eq!(nonces.check(nonce.as_bytes(), &tuple(1), 6_600), Nonce::Stale);
        assert_eq!(nonces.check(nonce.as_bytes(), &tuple(2), 6_000), Nonce::Unknown);
        let other = FiveTuple { transport: Transport::Tcp, ..tuple(1) };
        assert_eq!(nonces.check(nonce.as_bytes(), &other, 6_000), Nonce::Unknown);
        assert_eq!(Nonces::new([8; 32]).check(nonce.as_bytes(), &tuple(1), 6_000), Nonce::Unknown);
        // A nonce from the future is none.
        assert_eq!(nonces.check(nonce.as_bytes(), &tuple(1), 5_000), Nonce::Stale);
    }

    #[test]
    fn the_two_forms_cannot_be_turned_into_each_other() {
        let nonces = Nonces::new([7; 32]);
        let long = nonces.make(&tuple(1), 60, true);
        let short = nonces.make(&tuple(1), 60, false);
        assert_eq!(nonces.check(long.as_bytes(), &tuple(1), 60), Nonce::WithAlgorithms);
        assert_eq!(nonces.check(&long.as_bytes()[COOKIE.len()..], &tuple(1), 60), Nonce::Unknown);
        assert_eq!(nonces.check(format!("{COOKIE}{short}").as_bytes(), &tuple(1), 60), Nonce::Unknown);
    }

    #[test]
    fn the_count_of_minutes_may_overflow() {
        let nonces = Nonces::new([7; 32]);
        let last = (1_u64 << 24) * 60 - 1;
        let nonce = nonces.make(&tuple(1), last, false);
        assert_eq!(nonces.check(nonce.as_bytes(), &tuple(1), last + 120), Nonce::Plain);
    }

    #[test]
    fn other_texts_are_unknown() {
        let nonces = Nonces::new([7; 32]);
        for text in ["", "x", COOKIE, "aaaaaaaaaaaaaaaaaaaa", "!!!!!!!!!!!!!!!!!!!!", "aaaaaaaaaaaaaaaaaaaaa"]
        {
            assert_eq!(nonces.check(text.as_bytes(), &tuple(1), 60), Nonce::Unknown, "{text}");
        }
    }
}
