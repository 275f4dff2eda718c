//! What lets a relay that was restarted tell its clients so at once: packets of connections that it does not know are answered with a reset
//! that only it can make (RFC 9000 §10.3). Never more than a hint: a relay without the kept key works, and clients notice later.

use std::path::Path;
use std::sync::Arc;

use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;

use crate::kept_key;

/// The key's file in the data folder.
const FILE: &str = "quic-reset.key";
const BYTES: usize = 64;
const WITHOUT: &str = "after a restart QUIC clients take some seconds longer to come back";

/// The same at every start of the relay that has this data folder.
///
/// # Errors
/// When the system has no random source.
pub(crate) fn endpoint_config(data_dir: &Path) -> Result<EndpointConfig, getrandom::Error> {
    let key: [u8; BYTES] = kept_key::load(&data_dir.join(FILE), WITHOUT)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    // A connection id carries a mark, too, by which the endpoint knows its own.
    let mark = hmac::sign(&key, b"connection ids");
    let mark = mark.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes);
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(mark)));
    Ok(config)
}
