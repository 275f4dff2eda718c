//! The STUN and TURN messages that the generator says and hears (RFC 8489, RFC 8656).
//! It builds requests and reads answers, and never holds a socket.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use stun_types::attribute::{ErrorCode, Nonce, Realm, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass,
    MessageWriteVec, Method, TransactionId,
};
use stun_types::prelude::*;
use turn_types::attribute::{
    ChannelNumber, Data, Lifetime, RequestedTransport, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, REFRESH, SEND};

const UDP: u8 = 17;

/// Who somebody is to a TURN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
}

/// A request and the transaction that its answer will name.
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    transaction: TransactionId,
    answered: bool,
}

/// What a server said to a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// With the relayed address when it answers an Allocate.
    Success(Option<SocketAddr>),
    /// With realm and nonce when it asks who is there.
    Refused { code: u16, challenge: Option<(String, String)> },
}

/// A login made ready for one realm, and the nonce that the server wants to see.
pub(super) struct Session {
    username: Username,
    realm: Realm,
    nonce: Nonce,
    key: IntegrityKey,
}

impl Session {
    pub(super) fn new(login: &Login, realm: &str, nonce: &str) -> Result<Self> {
        let long_term =
            LongTermKeyCredentials::new(login.username.clone(), login.password.clone(), realm.to_owned());
        Ok(Self {
            username: Username::new(&login.username)?,
            realm: Realm::new(realm)?,
            nonce: Nonce::new(nonce)?,
            key: long_term.make_key(IntegrityAlgorithm::Sha1),
        })
    }

    pub(super) fn allocate(&self) -> Result<Request> {
        self.request(ALLOCATE, |message| Ok(message.add_attribute(&RequestedTransport::new(UDP))?))
    }

    /// A lifetime of 0 gives the allocation back.
    pub(super) fn refresh(&self, seconds: u32) -> Result<Request> {
        self.request(REFRESH, |message| Ok(message.add_attribute(&Lifetime::new(seconds))?))
    }

    pub(super) fn bind(&self, channel: u16, peer: SocketAddr) -> Result<Request> {
        self.request(CHANNEL_BIND, |message| {
            message.add_attribute(&ChannelNumber::new(channel))?;
            let transaction = message.transaction_id();
            Ok(message.add_attribute(&XorPeerAddress::new(peer, transaction))?)
        })
    }

    fn request(
        &self,
        method: Method,
        fill: impl FnOnce(&mut MessageWriteVec) -> Result<()>,
    ) -> Result<Request> {
        let mut message = Message::builder_request(method, MessageWriteVec::with_capacity(256));
        fill(&mut message)?;
        message.add_attribute(&self.username)?;
        message.add_attribute(&self.realm)?;
        message.add_attribute(&self.nonce)?;
        message.add_message_integrity_with_key(&self.key, IntegrityAlgorithm::Sha1)?;
        Ok(Request::of(message))
    }
}

impl Request {
    fn of(message: MessageWriteVec) -> Self {
        let transaction = message.transaction_id();
        Self { bytes: message.finish(), transaction, answered: false }
    }

    fn plain(method: Method) -> Self {
        Self::of(Message::builder_request(method, MessageWriteVec::new()))
    }

    pub(super) fn binding() -> Self {
        Self::plain(BINDING)
    }

    /// An Allocate with nothing in it: 20 bytes, the smallest request that a server has to refuse.
    pub(super) fn bare_allocate() -> Self {
        Self::plain(ALLOCATE)
    }

    /// The first Allocate of an honest client, which does not know realm and nonce yet.
    pub(super) fn first_allocate() -> Result<Self> {
        let mut message = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        message.add_attribute(&RequestedTransport::new(UDP))?;
        Ok(Self::of(message))
    }

    /// A Refresh of somebody without an allocation and without a name.
    pub(super) fn bare_refresh() -> Self {
        Self::plain(REFRESH)
    }

    /// A method that no document describes.
    pub(super) fn of_unknown_method() -> Self {
        Self::plain(Method::new(0x00fe))
    }

    /// A Send indication of a stranger; nobody may answer an indication.
    pub(super) fn send_of_a_stranger(peer: SocketAddr) -> Result<Self> {
        let mut message = Message::builder_indication(SEND, MessageWriteVec::new());
        let transaction = message.transaction_id();
        message.add_attribute(&XorPeerAddress::new(peer, transaction))?;
        message.add_attribute(&Data::new(b"let me out"))?;
        Ok(Self::of(message))
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    pub(super) fn set_answered(&mut self) {
        self.answered = true;
    }

    /// What `bytes` says about this request; `None` when it answers another one or none.
    pub(super) fn answer(&self, bytes: &[u8]) -> Result<Option<Answer>> {
        let Ok(message) = Message::from_bytes(bytes) else { return Ok(None) };
        if message.transaction_id() != self.transaction {
            return Ok(None);
        }
        match message.class() {
            MessageClass::Success => {
                let relayed = message.attribute::<XorRelayedAddress>().ok();
                Ok(Some(Answer::Success(relayed.map(|address| address.addr(self.transaction)))))
            }
            MessageClass::Error => {
                let code =
                    message.attribute::<ErrorCode>().context("an error answer without ERROR-CODE")?.code();
                let challenge = match (message.attribute::<Realm>(), message.attribute::<Nonce>()) {
                    (Ok(realm), Ok(nonce)) => Some((realm.realm().to_owned(), nonce.nonce().to_owned())),
                    _ => None,
                };
                Ok(Some(Answer::Refused { code, challenge }))
            }
            class => {
                ensure!(!class.is_response(), "an answer that is neither success nor error");
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use stun_types::message::{LongTermCredentials, MessageIntegrityCredentials};

    use super::*;

    fn login() -> Login {
        Login { username: "1764003600:room-one.somebody".into(), password: "secret".into() }
    }

    #[test]
    fn a_signed_request_is_what_a_server_would_accept() {
        let session = Session::new(&login(), "snug", "a-nonce").expect("short texts");
        let peer = "127.0.0.1:9".parse().expect("an address");
        let request = session.bind(0x4000, peer).expect("it fits");
        let message = Message::from_bytes(&request.bytes).expect("well formed");
        let key = LongTermCredentials::new(login().username, login().password).to_key("snug".to_owned());
        let key = MessageIntegrityCredentials::LongTerm(key);
        assert!(message.validate_integrity(&key).is_ok());
        let named = message.attribute::<XorPeerAddress>().expect("a peer").addr(request.transaction);
        assert_eq!(named, peer);
    }

    #[test]
    fn a_challenge_is_read_and_an_answer_to_somebody_else_is_not() {
        let request = Request::first_allocate().expect("it fits");
        let asked = Message::from_bytes(&request.bytes).expect("well formed");
        let mut told = Message::builder_error(&asked, MessageWriteVec::new());
        told.add_attribute(&ErrorCode::new(401, "Unauthorized").expect("a code")).expect("room");
        told.add_attribute(&Realm::new("snug").expect("short")).expect("room");
        told.add_attribute(&Nonce::new("a-nonce").expect("short")).expect("room");
        let told = told.finish();
        let Ok(Some(Answer::Refused { code: 401, challenge: Some((realm, nonce)) })) = request.answer(&told)
        else {
            panic!("the challenge was not understood")
        };
        assert_eq!((realm.as_str(), nonce.as_str()), ("snug", "a-nonce"));
        assert!(Request::binding().answer(&told).expect("well formed").is_none());
    }
}
