//! STUN and TURN as a client speaks them (RFC 8489, RFC 8656): the few messages that the doctor needs, by `stun-types` and `turn-types`.
//! It sends nothing itself.

use std::net::SocketAddr;

use stun_types::attribute::{ErrorCode, Nonce, Realm, Username, XorMappedAddress};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, TransactionId,
};
use turn_types::attribute::{Data, Lifetime, RequestedTransport, XorPeerAddress, XorRelayedAddress};
use turn_types::message::{ALLOCATE, CREATE_PERMISSION, DATA, REFRESH, SEND};

/// UDP, as RFC 8656 §18.7 numbers it.
const UDP: u8 = 17;

/// Names one request; answers repeat it.
pub(super) type Transaction = u128;

/// What a server wants to see in every request.
#[derive(Clone, Default)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
    /// Told by the server's first refusal.
    pub(super) realm: String,
    pub(super) nonce: String,
}

/// A request or indication with what is in it.
pub(super) enum Ask<'a> {
    Binding,
    Allocate,
    Permission(SocketAddr),
    /// Ends the allocation.
    Release,
    /// An indication: nobody answers.
    Send(SocketAddr, &'a [u8]),
}

impl Ask<'_> {
    /// Its bytes. `None` when the server's realm or nonce cannot be repeated.
    pub(super) fn encode(&self, transaction: Transaction, login: Option<&Login>) -> Option<Vec<u8>> {
        let (class, method) = match self {
            Self::Binding => (MessageClass::Request, BINDING),
            Self::Allocate => (MessageClass::Request, ALLOCATE),
            Self::Permission(_) => (MessageClass::Request, CREATE_PERMISSION),
            Self::Release => (MessageClass::Request, REFRESH),
            Self::Send(..) => (MessageClass::Indication, SEND),
        };
        let id = TransactionId::from(transaction);
        let kind = MessageType::from_class_method(class, method);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        match self {
            Self::Binding => {}
            Self::Allocate => message.add_attribute(&RequestedTransport::new(UDP)).ok()?,
            Self::Permission(peer) => message.add_attribute(&XorPeerAddress::new(*peer, id)).ok()?,
            Self::Release => message.add_attribute(&Lifetime::new(0)).ok()?,
            Self::Send(peer, data) => {
                message.add_attribute(&XorPeerAddress::new(*peer, id)).ok()?;
                message.add_attribute(&Data::new(data)).ok()?;
            }
        }
        if let Some(Login { username, password, realm, nonce }) = login {
            message.add_attribute(&Username::new(username).ok()?).ok()?;
            message.add_attribute(&Realm::new(realm).ok()?).ok()?;
            message.add_attribute(&Nonce::new(nonce).ok()?).ok()?;
            let key = LongTermKeyCredentials::new(username.clone(), password.clone(), realm.clone());
            let key = MessageIntegrityCredentials::LongTerm(key);
            message.add_message_integrity(&key, IntegrityAlgorithm::Sha1).ok()?;
        }
        Some(message.finish())
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// A request was carried out.
    Done { transaction: Transaction, mapped: Option<SocketAddr>, relayed: Option<SocketAddr> },
    /// A request was refused.
    Refused { transaction: Transaction, code: u16, realm: Option<String>, nonce: Option<String> },
    /// A peer sent this.
    Data { peer: SocketAddr, data: Vec<u8> },
}

/// Reads one message; `None` for what is none, or nothing that was waited for.
pub(super) fn read(bytes: &[u8]) -> Option<Said> {
    let message = Message::from_bytes(bytes).ok()?;
    let id = message.transaction_id();
    let transaction = Transaction::from(id);
    match message.class() {
        MessageClass::Success => Some(Said::Done {
            transaction,
            mapped: message.attribute::<XorMappedAddress>().ok().map(|mapped| mapped.addr(id)),
            relayed: message.attribute::<XorRelayedAddress>().ok().map(|relayed| relayed.addr(id)),
        }),
        MessageClass::Error => Some(Said::Refused {
            transaction,
            code: message.attribute::<ErrorCode>().ok()?.code(),
            realm: message.attribute::<Realm>().ok().map(|realm| realm.realm().to_owned()),
            nonce: message.attribute::<Nonce>().ok().map(|nonce| nonce.nonce().to_owned()),
        }),
        MessageClass::Indication if message.has_method(DATA) => Some(Said::Data {
            peer: message.attribute::<XorPeerAddress>().ok()?.addr(id),
            data: message.attribute::<Data>().ok()?.data().to_vec(),
        }),
        _ => None,
    }
}

/// Bytes of the first message in a stream, once its length is known. Answers with nothing else than STUN are asked for, so that the two
/// bits in front, which would mark other things, are not looked at here.
pub(super) fn message_length(buffered: &[u8]) -> Option<usize> {
    let length = buffered.get(2..4)?;
    Some(20 + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

/// Where a server is (RFC 7064, RFC 7065).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerUrl {
    pub(super) kind: Kind,
    pub(super) host: String,
    pub(super) port: u16,
}

/// What is spoken there, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Stun,
    TurnUdp,
    TurnTcp,
    TurnTls,
}

impl ServerUrl {
    /// Reads a URL of an ICE server; `None` for what a call would not use either.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, default_port) = match (scheme, query) {
            ("stun", _) => (Kind::Stun, 3478),
            ("turn", "" | "transport=udp") => (Kind::TurnUdp, 3478),
            ("turn", "transport=tcp") => (Kind::TurnTcp, 3478),
            ("turns", "" | "transport=tcp") => (Kind::TurnTls, 5349),
            _ => return None,
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, port.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
        (!host.is_empty()).then(|| Self { kind, host: host.to_owned(), port })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_are_read_as_calls_read_them() {
        let url = |kind, host: &str, port| Some(ServerUrl { kind, host: host.into(), port });
        assert_eq!(ServerUrl::parse("stun:a.example"), url(Kind::Stun, "a.example", 3478));
        assert_eq!(ServerUrl::parse("turn:a.example:80?transport=tcp"), url(Kind::TurnTcp, "a.example", 80));
        assert_eq!(ServerUrl::parse("turn:[::1]:9?transport=udp"), url(Kind::TurnUdp, "::1", 9));
        assert_eq!(ServerUrl::parse("turns:a.example"), url(Kind::TurnTls, "a.example", 5349));
        for bad in ["", "stun", "http://a", "turn:a:b", "turn::1", "turn:[::1", "turns:a?transport=udp"] {
            assert_eq!(ServerUrl::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_meant() {
        let peer: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let id = TransactionId::from(5);
        let kind = MessageType::from_class_method(MessageClass::Success, ALLOCATE);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        message.add_attribute(&XorRelayedAddress::new(peer, id)).unwrap();
        let bytes = message.finish();
        assert_eq!(message_length(&bytes), Some(bytes.len()));
        assert_eq!(read(&bytes), Some(Said::Done { transaction: 5, mapped: None, relayed: Some(peer) }));
        let kind = MessageType::from_class_method(MessageClass::Indication, DATA);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        message.add_attribute(&XorPeerAddress::new(peer, id)).unwrap();
        message.add_attribute(&Data::new(b"hello")).unwrap();
        assert_eq!(read(&message.finish()), Some(Said::Data { peer, data: b"hello".to_vec() }));
    }

    #[test]
    fn what_is_no_message_is_nothing() {
        let login =
            Login { username: "u".into(), password: "p".into(), realm: "r".into(), nonce: "n".into() };
        let good = Ask::Send("[::1]:1".parse().unwrap(), b"x").encode(1, Some(&login)).unwrap();
        for length in 0..good.len() {
            assert_eq!(read(&good[..length]), None);
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let _ = read(&bad);
        }
    }
}
