//! The check of a join's signature by ring, which takes a quarter of the time of the one in `snug-wire`. It never signs.

use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use snug_wire::PublicKey;
use snug_wire::identity::Signature;

/// Whether `signature` of `text` is this key's.
pub(crate) fn verify(key: &PublicKey, text: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.to_bytes())
        .verify(text, signature.as_bytes())
        .is_ok()
}

#[cfg(test)]
mod tests {
    use snug_wire::identity::join_text;
    use snug_wire::{JoinNonce, RoomId, SigningIdentity};

    use super::verify;

    #[test]
    fn both_checks_agree_on_what_a_key_signed() {
        let identity =
            |byte| SigningIdentity::from_bytes(&[byte; 32]).expect("a small number is a private key");
        let nonce = |byte| JoinNonce::from_bytes([byte; 32]);
        let room: RoomId = "sunny-hill".parse().expect("a slug");
        for signer in 1..20 {
            for (key, shown) in [(signer, 5), (signer + 1, 5), (signer, 6)] {
                let proof = identity(signer).prove(&nonce(5), &room);
                let key = identity(key);
                let expected = key.public_key().proves(&proof, &nonce(shown), &room);
                let text = join_text(&nonce(shown), &room);
                assert_eq!(verify(key.public_key(), &text, &proof), expected);
                assert_eq!(expected, key.user_id() == identity(signer).user_id() && shown == 5);
            }
        }
    }
}
