//! What a lying relay may try with sealed payloads, one scenario a test.

use proptest::prelude::*;
use snug_wire::link::RoomSecret;
use snug_wire::seal::{Kind, SealError, Sealer};
use snug_wire::{Payload, RoomId, UserId};

const ANA: UserId = UserId::from_bytes([1; 16]);
const BO: UserId = UserId::from_bytes([2; 16]);

fn sealer(secret: Option<u8>, room: &str, own: UserId) -> Sealer {
    let secret = secret.map(|byte| RoomSecret::from_bytes([byte; 16]));
    Sealer::new(secret, room.parse::<RoomId>().expect("a valid slug"), own)
}

fn pair() -> (Sealer, Sealer) {
    (sealer(Some(9), "room-1", ANA), sealer(Some(9), "room-1", BO))
}

#[test]
fn an_offer_opens_for_whom_it_was_sealed() {
    let (mut ana, mut bo) = pair();
    let offer = ana.seal(Kind::Offer, Some(BO), "v=0");
    assert_eq!(bo.open(Kind::Offer, ANA, false, &offer), Ok("v=0".into()));
}

#[test]
fn the_same_offer_twice_is_refused() {
    let (mut ana, mut bo) = pair();
    let offer = ana.seal(Kind::Offer, Some(BO), "v=0");
    assert!(bo.open(Kind::Offer, ANA, false, &offer).is_ok());
    assert_eq!(bo.open(Kind::Offer, ANA, false, &offer), Err(SealError::Replayed));
}

#[test]
fn the_same_name_twice_is_fine_and_an_older_one_is_not() {
    let (mut ana, mut bo) = pair();
    let old = ana.seal(Kind::Name, None, "Ana");
    let new = ana.seal(Kind::Name, None, "Ana B.");
    for _ in 0..2 {
        assert_eq!(bo.open(Kind::Name, ANA, true, &new), Ok("Ana B.".into()));
    }
    assert_eq!(bo.open(Kind::Name, ANA, true, &old), Err(SealError::Replayed));
}

#[test]
fn our_own_payload_sent_back_is_refused() {
    let (mut ana, _) = pair();
    let offer = ana.seal(Kind::Offer, Some(BO), "v=0");
    assert_eq!(ana.open(Kind::Offer, ANA, false, &offer), Err(SealError::Reflected));
    assert_eq!(ana.open(Kind::Offer, BO, false, &offer), Err(SealError::Tampered));
}

#[test]
fn a_plain_payload_in_a_sealed_room_is_refused() {
    let (_, mut bo) = pair();
    let plain = Payload::Plain("v=0".into());
    assert_eq!(bo.open(Kind::Offer, ANA, false, &plain), Err(SealError::NotSealed));
}

#[test]
fn a_link_without_secret_sends_plain_and_cannot_read_sealed() {
    let mut ana = sealer(None, "room-1", ANA);
    assert_eq!(ana.seal(Kind::Offer, Some(BO), "v=0"), Payload::Plain("v=0".into()));
    let (_, mut bo) = pair();
    let sealed = bo.seal(Kind::Offer, Some(ANA), "v=0");
    assert_eq!(ana.open(Kind::Offer, BO, false, &sealed), Err(SealError::NoSecret));
}

#[test]
fn another_room_or_secret_does_not_open() {
    let (mut ana, _) = pair();
    let offer = ana.seal(Kind::Offer, Some(BO), "v=0");
    for mut other in [sealer(Some(9), "room-2", BO), sealer(Some(8), "room-1", BO)] {
        assert_eq!(other.open(Kind::Offer, ANA, false, &offer), Err(SealError::Tampered));
    }
}

#[test]
fn payloads_may_overtake_each_other_within_the_window() {
    let (mut ana, mut bo) = pair();
    let sent: Vec<Payload> = (0..1026).map(|_| ana.seal(Kind::Chat, None, "hi")).collect();
    assert!(bo.open(Kind::Chat, ANA, true, &sent[1024]).is_ok());
    assert_eq!(bo.open(Kind::Chat, ANA, true, &sent[0]), Err(SealError::Replayed), "1,024 below the highest");
    assert!(bo.open(Kind::Chat, ANA, true, &sent[1]).is_ok(), "1,023 below the highest");
    assert!(bo.open(Kind::Chat, ANA, true, &sent[1025]).is_ok());
    assert_eq!(bo.open(Kind::Chat, ANA, true, &sent[1024]), Err(SealError::Replayed));
}

#[test]
fn a_refused_payload_does_not_move_the_window() {
    let (mut ana, mut bo) = pair();
    let offer = ana.seal(Kind::Offer, Some(BO), "v=0");
    let Payload::Sealed(text) = &offer else { panic!("sealed") };
    // The counter of a forged payload is as high as it can be.
    let forged = Payload::Sealed(format!("__________8{}", &text[11..]));
    assert_eq!(bo.open(Kind::Offer, ANA, false, &forged), Err(SealError::Tampered));
    assert!(bo.open(Kind::Offer, ANA, false, &offer).is_ok());
}

proptest! {
    #[test]
    fn whatever_was_sealed_opens(text in ".{0,200}") {
        let (mut ana, mut bo) = pair();
        let payload = ana.seal(Kind::Chat, None, &text);
        prop_assert_eq!(bo.open(Kind::Chat, ANA, true, &payload), Ok(text));
    }

    #[test]
    fn a_changed_payload_never_opens(at in 0usize..39, with in "[A-Za-z0-9_-]") {
        let (mut ana, mut bo) = pair();
        let Payload::Sealed(text) = ana.seal(Kind::Chat, None, "hello") else { panic!("sealed") };
        let mut changed = text.clone();
        changed.replace_range(at..=at, &with);
        prop_assume!(changed != text);
        prop_assert_eq!(bo.open(Kind::Chat, ANA, true, &Payload::Sealed(changed)), Err(SealError::Tampered));
    }

    #[test]
    fn any_order_of_any_counters_is_accepted_once(order in proptest::collection::vec(0usize..1500, 1..300)) {
        let (mut ana, mut bo) = pair();
        let sent: Vec<Payload> = (0..1500).map(|_| ana.seal(Kind::Chat, None, "")).collect();
        let mut accepted = std::collections::HashSet::new();
        for index in order {
            if bo.open(Kind::Chat, ANA, true, &sent[index]).is_ok() {
                prop_assert!(accepted.insert(index), "{} was accepted twice", index);
            }
        }
    }
}
