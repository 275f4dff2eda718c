//! What a lying relay, or a lying member, may try with payloads, one scenario a test.

use std::sync::LazyLock;

use proptest::prelude::*;
use snug_wire::link::RoomSecret;
use snug_wire::seal::{Kind, Opened, Run, SealError, Sealer};
use snug_wire::{JoinNonce, Payload, RoomId, SigningIdentity, UserId};

fn identity(byte: u8) -> SigningIdentity {
    SigningIdentity::from_bytes(&[byte; 32]).expect("a small number is a private key")
}

fn ana() -> UserId {
    identity(1).user_id()
}

fn bo() -> UserId {
    identity(2).user_id()
}

fn run(started: u64) -> Run {
    Run::new(started, [7; 8])
}

fn room(name: &str) -> RoomId {
    name.parse().expect("a valid slug")
}

fn sealer_of(secret: Option<u8>, name: &str, own: u8, started: u64) -> Sealer {
    let secret = secret.map(|byte| RoomSecret::from_bytes([byte; 16]));
    let mut sealer = Sealer::new(secret, room(name), identity(own), run(started));
    for other in (1..=3).filter(|other| *other != own) {
        let other = identity(other);
        sealer.introduce(other.user_id(), Some(other.public_key())).expect("its own key");
    }
    sealer
}

fn sealer(secret: Option<u8>, name: &str, own: u8) -> Sealer {
    sealer_of(secret, name, own, 1)
}

fn pair() -> (Sealer, Sealer) {
    (sealer(Some(9), "room-1", 1), sealer(Some(9), "room-1", 2))
}

fn said(text: &str) -> Result<Opened, SealError> {
    Ok(Opened { text: text.to_owned(), restarted: false })
}

#[test]
fn an_offer_opens_for_whom_it_was_sealed() {
    let (mut a, mut b) = pair();
    let offer = a.seal(Kind::Offer, Some(bo()), "v=0");
    assert_eq!(b.open(Kind::Offer, ana(), false, &offer), said("v=0"));
}

#[test]
fn the_same_offer_twice_is_refused() {
    let (mut a, mut b) = pair();
    let offer = a.seal(Kind::Offer, Some(bo()), "v=0");
    assert!(b.open(Kind::Offer, ana(), false, &offer).is_ok());
    assert_eq!(b.open(Kind::Offer, ana(), false, &offer), Err(SealError::Replayed));
}

#[test]
fn the_same_name_twice_is_fine_and_an_older_one_is_not() {
    let (mut a, mut b) = pair();
    let old = a.seal(Kind::Name, None, "Ana");
    let new = a.seal(Kind::Name, None, "Ana B.");
    for _ in 0..2 {
        assert_eq!(b.open(Kind::Name, ana(), true, &new), said("Ana B."));
    }
    assert_eq!(b.open(Kind::Name, ana(), true, &old), Err(SealError::Replayed));
}

#[test]
fn our_own_payload_sent_back_is_refused() {
    let (mut a, _) = pair();
    let offer = a.seal(Kind::Offer, Some(bo()), "v=0");
    assert_eq!(a.open(Kind::Offer, ana(), false, &offer), Err(SealError::Reflected));
    assert_eq!(a.open(Kind::Offer, bo(), false, &offer), Err(SealError::Tampered));
}

#[test]
fn a_member_cannot_speak_as_another_although_it_has_the_secret() {
    // A program that seals with Ana's sender key, which every holder of the link can derive, and signs with its own key.
    for secret in [Some(9), None] {
        let mut b = sealer(secret, "room-1", 2);
        let mut liar = sealer(secret, "room-1", 3);
        let offer = liar.seal(Kind::Offer, Some(bo()), "v=0");
        let refused = b.open(Kind::Offer, ana(), false, &offer);
        assert!(matches!(refused, Err(SealError::Tampered | SealError::NotSigned)), "{refused:?}");
        assert_eq!(b.open(Kind::Offer, identity(3).user_id(), false, &offer), said("v=0"));
    }
}

#[test]
fn a_key_that_is_not_the_ids_is_refused_and_changes_nothing() {
    let (mut a, mut b) = pair();
    assert_eq!(b.introduce(ana(), Some(identity(3).public_key())), Err(SealError::NotSigned));
    let offer = a.seal(Kind::Offer, Some(bo()), "v=0");
    assert_eq!(b.open(Kind::Offer, ana(), false, &offer), said("v=0"));
}

#[test]
fn nobody_without_a_key_speaks_in_a_sealed_room() {
    let (_, mut b) = pair();
    let keyless = UserId::from_bytes([5; 16]);
    assert_eq!(b.introduce(keyless, None), Err(SealError::NotSigned));
    assert_eq!(b.introduce(ana(), None), Err(SealError::NotSigned), "a key cannot be taken away");
    assert!(b.is_verified(ana()));
}

#[test]
fn a_room_without_a_secret_takes_unsigned_payloads_of_participants_without_a_key_only() {
    let mut b = sealer(None, "room-1", 2);
    let keyless = UserId::from_bytes([5; 16]);
    assert_eq!(b.introduce(keyless, None), Ok(()));
    assert!(!b.is_verified(keyless));
    let unsigned = Payload::Plain { text: "v=0".into(), proof: None };
    assert_eq!(b.open(Kind::Offer, keyless, false, &unsigned), said("v=0"));
    assert_eq!(b.open(Kind::Offer, ana(), false, &unsigned), Err(SealError::NotSigned));
    assert_eq!(b.introduce(ana(), None), Err(SealError::NotSigned));
}

#[test]
fn a_plain_payload_that_was_changed_or_moved_is_refused() {
    let mut a = sealer(None, "room-1", 1);
    let mut b = sealer(None, "room-1", 2);
    let Payload::Plain { proof, .. } = a.seal(Kind::Offer, Some(bo()), "v=0") else { panic!("plain") };
    let changed = Payload::Plain { text: "v=1".into(), proof: proof.clone() };
    assert_eq!(b.open(Kind::Offer, ana(), false, &changed), Err(SealError::NotSigned));
    let moved = Payload::Plain { text: "v=0".into(), proof };
    assert_eq!(b.open(Kind::Answer, ana(), false, &moved), Err(SealError::NotSigned));
    assert_eq!(b.open(Kind::Offer, ana(), true, &moved), Err(SealError::NotSigned));
    assert_eq!(b.open(Kind::Offer, ana(), false, &moved), said("v=0"));
    assert_eq!(b.open(Kind::Offer, ana(), false, &moved), Err(SealError::Replayed));
}

#[test]
fn somebody_who_starts_anew_is_heard_and_their_earlier_run_is_not() {
    for secret in [Some(9), None] {
        let mut b = sealer(secret, "room-1", 2);
        let mut before = sealer_of(secret, "room-1", 1, 1000);
        let mut after = sealer_of(secret, "room-1", 1, 1001);
        let old = before.seal(Kind::Offer, Some(bo()), "old");
        let late = before.seal(Kind::Offer, Some(bo()), "late");
        let new = after.seal(Kind::Offer, Some(bo()), "new");
        assert_eq!(b.open(Kind::Offer, ana(), false, &old), said("old"));
        let restarted = Opened { text: "new".into(), restarted: true };
        assert_eq!(b.open(Kind::Offer, ana(), false, &new), Ok(restarted), "counter 1 of another run");
        assert_eq!(b.open(Kind::Offer, ana(), false, &late), Err(SealError::EarlierRun));
        assert_eq!(b.open(Kind::Offer, ana(), false, &new), Err(SealError::Replayed));
    }
}

#[test]
fn two_runs_of_one_key_never_share_a_sealing_key() {
    let mut before = sealer_of(Some(9), "room-1", 1, 1000);
    let mut after = sealer_of(Some(9), "room-1", 1, 1001);
    let sealed = |sealer: &mut Sealer| match sealer.seal(Kind::Name, None, "Ana") {
        Payload::Sealed(text) => text,
        Payload::Plain { .. } => panic!("sealed"),
    };
    // 24 bytes of run and counter are 32 characters; the first bytes of a signature would be the same under one key.
    assert_ne!(sealed(&mut before)[32..60], sealed(&mut after)[32..60]);
}

#[test]
fn a_plain_payload_in_a_sealed_room_is_refused() {
    let (_, mut b) = pair();
    let plain = sealer(None, "room-1", 1).seal(Kind::Offer, Some(bo()), "v=0");
    assert_eq!(b.open(Kind::Offer, ana(), false, &plain), Err(SealError::NotSealed));
}

#[test]
fn a_link_without_secret_sends_plain_and_cannot_read_sealed() {
    let mut a = sealer(None, "room-1", 1);
    assert!(matches!(a.seal(Kind::Offer, Some(bo()), "v=0"), Payload::Plain { proof: Some(_), .. }));
    let (_, mut b) = pair();
    let sealed = b.seal(Kind::Offer, Some(ana()), "v=0");
    assert_eq!(a.open(Kind::Offer, bo(), false, &sealed), Err(SealError::NoSecret));
}

#[test]
fn another_room_or_secret_does_not_open() {
    let (mut a, _) = pair();
    let offer = a.seal(Kind::Offer, Some(bo()), "v=0");
    for mut other in [sealer(Some(9), "room-2", 2), sealer(Some(8), "room-1", 2)] {
        assert_eq!(other.open(Kind::Offer, ana(), false, &offer), Err(SealError::Tampered));
    }
}

#[test]
fn payloads_may_overtake_each_other_within_the_window() {
    let (mut a, mut b) = pair();
    let sent: Vec<Payload> = (0..1026).map(|_| a.seal(Kind::Chat, None, "hi")).collect();
    assert!(b.open(Kind::Chat, ana(), true, &sent[1024]).is_ok());
    assert_eq!(
        b.open(Kind::Chat, ana(), true, &sent[0]),
        Err(SealError::Replayed),
        "1,024 below the highest"
    );
    assert!(b.open(Kind::Chat, ana(), true, &sent[1]).is_ok(), "1,023 below the highest");
    assert!(b.open(Kind::Chat, ana(), true, &sent[1025]).is_ok());
    assert_eq!(b.open(Kind::Chat, ana(), true, &sent[1024]), Err(SealError::Replayed));
}

#[test]
fn a_refused_payload_does_not_move_the_window() {
    let (mut a, mut b) = pair();
    let offer = a.seal(Kind::Offer, Some(bo()), "v=0");
    let Payload::Sealed(text) = &offer else { panic!("sealed") };
    // The run of a forged payload is as high as it can be.
    let forged = Payload::Sealed(format!("__________8{}", &text[11..]));
    assert_eq!(b.open(Kind::Offer, ana(), false, &forged), Err(SealError::Tampered));
    assert!(b.open(Kind::Offer, ana(), false, &offer).is_ok());
}

#[test]
fn a_relay_that_makes_people_up_does_not_keep_newcomers_out() {
    let mut b = sealer(None, "room-1", 2);
    for number in 0..5000u32 {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        b.introduce(UserId::from_bytes(bytes), None).expect("a room without a secret");
    }
    let newcomer = identity(9);
    b.introduce(newcomer.user_id(), Some(newcomer.public_key())).expect("its own key");
    let mut sealer = Sealer::new(None, room("room-1"), newcomer.clone(), run(1));
    let offer = sealer.seal(Kind::Offer, Some(bo()), "v=0");
    assert_eq!(b.open(Kind::Offer, newcomer.user_id(), false, &offer), said("v=0"));
}

#[test]
fn a_join_proves_the_key_for_one_nonce_and_one_room() {
    let (nonce, other) = (JoinNonce::from_bytes([3; 32]), JoinNonce::from_bytes([4; 32]));
    let proof = identity(1).prove(&nonce, &room("room-1"));
    let key = identity(1).public_key().clone();
    assert!(key.proves(&proof, &nonce, &room("room-1")));
    assert!(!key.proves(&proof, &other, &room("room-1")));
    assert!(!key.proves(&proof, &nonce, &room("room-2")));
    assert!(!identity(2).public_key().proves(&proof, &nonce, &room("room-1")));
}

/// More than one window of payloads; signing them takes longer than everything else here.
static SENT: LazyLock<Vec<Payload>> = LazyLock::new(|| {
    let mut a = sealer(Some(9), "room-1", 1);
    (0..1500).map(|_| a.seal(Kind::Chat, None, "")).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_was_sealed_opens(text in ".{0,200}") {
        let (mut a, mut b) = pair();
        let payload = a.seal(Kind::Chat, None, &text);
        prop_assert_eq!(b.open(Kind::Chat, ana(), true, &payload), said(&text));
    }

    #[test]
    fn a_changed_payload_never_opens(at in 0usize..140, with in "[A-Za-z0-9_-]", sealed in any::<bool>()) {
        let secret = sealed.then_some(9);
        let (mut a, mut b) = (sealer(secret, "room-1", 1), sealer(secret, "room-1", 2));
        let change = |text: &str| {
            let mut changed = text.to_owned();
            let at = at % text.len();
            changed.replace_range(at..=at, &with);
            changed
        };
        let payload = a.seal(Kind::Chat, None, "hello");
        let changed = match &payload {
            Payload::Sealed(text) => Payload::Sealed(change(text)),
            Payload::Plain { text, proof } => {
                Payload::Plain { text: text.clone(), proof: proof.as_deref().map(change) }
            }
        };
        prop_assume!(changed != payload);
        let refused = b.open(Kind::Chat, ana(), true, &changed);
        prop_assert!(matches!(refused, Err(SealError::Tampered | SealError::NotSigned)), "{:?}", refused);
    }

    #[test]
    fn any_order_of_any_counters_is_accepted_once(order in proptest::collection::vec(0usize..1500, 1..100)) {
        let mut b = sealer(Some(9), "room-1", 2);
        let sent = &*SENT;
        let mut accepted = std::collections::HashSet::new();
        for index in order {
            if b.open(Kind::Chat, ana(), true, &sent[index]).is_ok() {
                prop_assert!(accepted.insert(index), "{} was accepted twice", index);
            }
        }
    }
}

#[test]
fn a_new_link_seals_at_once_and_what_was_sealed_before_opens_for_a_while() {
    let secret = |byte| RoomSecret::from_bytes([byte; 16]);
    let (mut a, mut b) = (sealer(Some(9), "room-1", 1), sealer(Some(9), "room-1", 2));
    let before = a.seal(Kind::Chat, None, "before");
    let late = a.seal(Kind::Chat, None, "late");
    a.seal_under(secret(10));
    let after = a.seal(Kind::Chat, None, "after");
    assert_eq!(
        b.open(Kind::Chat, ana(), true, &after),
        Err(SealError::Tampered),
        "a former member reads nothing"
    );
    b.also_open(Some(secret(10)));
    assert_eq!(
        b.open(Kind::Chat, ana(), true, &after),
        said("after"),
        "who has the new link before the others"
    );
    assert_eq!(b.open(Kind::Chat, ana(), true, &before), said("before"));
    b.seal_under(secret(10));
    assert_eq!(b.open(Kind::Chat, ana(), true, &late), said("late"));
    b.also_open(None);
    let mut old = sealer_of(Some(9), "room-1", 1, 5000);
    let sealed = old.seal(Kind::Chat, None, "old");
    assert_eq!(b.open(Kind::Chat, ana(), true, &sealed), Err(SealError::Tampered));
    // A room without a secret cannot get one.
    let mut plain = sealer(None, "room-1", 1);
    plain.seal_under(secret(10));
    assert!(matches!(plain.seal(Kind::Chat, None, "x"), snug_wire::Payload::Plain { .. }));
}
