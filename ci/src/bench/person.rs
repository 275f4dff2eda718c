//! Who joins in a bench: a signing key, and a join that is signed over the connection's nonce (PROTOCOL.md §6).

use anyhow::{Result, anyhow};
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

/// Started now, whenever that is: a run of one bench.
const RUN: [u8; 16] = [7; 16];

pub(crate) struct Person {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Person {
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn draw() -> Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document =
            EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| anyhow!("no key was drawn"))?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random)
            .map_err(|why| anyhow!("a key that was just drawn is refused: {why}"))?;
        Ok(Self { key, random })
    }

    fn sign(&self, parts: &[&[u8]]) -> Result<Vec<u8>> {
        let signature =
            self.key.sign(&self.random, &parts.concat()).map_err(|_| anyhow!("nothing was signed"))?;
        Ok(signature.as_ref().to_vec())
    }

    /// The fields of a `join_room`, but for its `type`.
    ///
    /// # Errors
    /// When the nonce is not base64url.
    pub(crate) fn join(&self, room: &str, nonce: &str) -> Result<String> {
        let nonce = BASE64URL_NOPAD.decode(nonce.as_bytes())?;
        let proof = self.sign(&[b"snug/2\0join\0", &nonce, room.as_bytes()])?;
        let public_key = self.key.public_key().as_ref();
        let id =
            ring::digest::digest(&ring::digest::SHA256, &[b"snug/2\0user\0".as_slice(), public_key].concat());
        let id = BASE64URL_NOPAD.encode(&id.as_ref()[..16]);
        let header = [RUN.as_slice(), &1_u64.to_be_bytes()].concat();
        let bound = format!("snug/2\0plain\0name\0{room}\0{id}\0*\0");
        let signature = self.sign(&[bound.as_bytes(), &header, NAME.as_bytes()])?;
        Ok(format!(
            r#""roomId":"{room}","publicKey":"{}","keyProof":"{}","displayName":{{"plain":"{}","proof":"{}"}},"media":{{"audio":true,"video":true}}"#,
            BASE64URL_NOPAD.encode(public_key),
            BASE64URL_NOPAD.encode(&proof),
            NAME.replace('"', r#"\""#),
            BASE64URL_NOPAD.encode(&[header, signature].concat()),
        ))
    }
}

const NAME: &str = r#"{"name":"Bench"}"#;

/// The same fields for servers that take a user id for granted.
pub(crate) fn join_without_key(room: &str, number: usize) -> String {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&(number as u64).to_be_bytes());
    format!(
        r#""roomId":"{room}","userId":"{}","displayName":{{"plain":"{}"}},"media":{{"audio":true,"video":true}}"#,
        BASE64URL_NOPAD.encode(&id),
        NAME.replace('"', r#"\""#),
    )
}
