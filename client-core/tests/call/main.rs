//! Whole calls: engines of this process in rooms of a real relay.

mod owner;
mod pictures;
#[path = "../relay_binary/mod.rs"]
mod relay_binary;
mod stage;

use snug_core::{Command, Event};
use stage::{Person, Relay, With};
use tokio::net::TcpListener;

#[tokio::test]
async fn two_people_meet_and_see_hear_and_write_to_each_other() {
    let relay = Relay::start();
    let link = relay.link("two-people");
    let mut ana = Person::join("Ana", &link, With { camera: true, ..With::default() });
    ana.joined().await;
    let mut bo = Person::join("Bo", &link, With { camera: true, ..With::default() });
    bo.joined().await;
    assert_eq!(ana.meets(1).await.into_keys().collect::<Vec<_>>(), ["Bo"]);
    assert_eq!(bo.meets(1).await.into_keys().collect::<Vec<_>>(), ["Ana"]);
    for (someone, other) in [(&mut ana, "Bo"), (&mut bo, "Ana")] {
        someone.told("a picture", |event| matches!(event, Event::FirstPicture { .. }).then_some(())).await;
        let heard = someone.shows("somebody speaking", |snapshot| {
            Person::sees(snapshot, other).is_some_and(|one| one.level_db > -40.0 && one.pictures > 5)
        });
        heard.await;
    }

    ana.ask(Command::SetMicrophone { enabled: false });
    ana.ask(Command::SetHand { raised: true });
    let changed = bo.shows("her hand and no sound", |snapshot| {
        Person::sees(snapshot, "Ana").is_some_and(|ana| ana.sources.hand && !ana.sources.audio)
    });
    changed.await;
    bo.ask(Command::SetCamera { enabled: false });
    ana.shows("no picture of him", |snapshot| {
        Person::sees(snapshot, "Bo").is_some_and(|bo| !bo.sources.video)
    })
    .await;

    bo.ask(Command::SendChat { text: "häh?".to_owned() });
    let said = ana.told("a message", |event| match event {
        Event::Chat { name, text, .. } => Some((name.clone(), text.clone())),
        _ => None,
    });
    assert_eq!(said.await, ("Bo".to_owned(), "häh?".to_owned()));

    bo.ask(Command::Leave);
    assert_eq!(bo.ended().await, "left");
    ana.told("his leaving", |event| {
        matches!(event, Event::ParticipantLeft { kicked: false, .. }).then_some(())
    })
    .await;
    assert!(ana.engine.snapshot().participants.is_empty());
}

#[tokio::test]
async fn the_owner_closes_the_room_and_removes_somebody_and_nobody_else_can() {
    let relay = Relay::start();
    let link = relay.link("the-owner");
    let mut ana = Person::join("Ana", &link, With::default());
    ana.told("her token", |event| matches!(event, Event::OwnerToken { .. }).then_some(())).await;
    let mut bo = Person::join("Bo", &link, With::default());
    bo.joined().await;
    bo.ask(Command::Lock { locked: true });
    assert_eq!(bo.problem().await, "not_owner");
    ana.ask(Command::Lock { locked: true });
    bo.shows("a closed room", |snapshot| snapshot.locked).await;
    let mut chidi = Person::join("Chidi", &link, With::default());
    assert_eq!(chidi.ended().await, "room_locked");

    ana.ask(Command::Kick { user: "nobody".to_owned() });
    assert_eq!(ana.problem().await, "unknown_user");
    let user = ana.meets(1).await["Bo"].user.clone();
    ana.ask(Command::Kick { user });
    assert_eq!(bo.ended().await, "kicked");
    ana.told("his end", |event| matches!(event, Event::ParticipantLeft { kicked: true, .. }).then_some(()))
        .await;
}

#[tokio::test]
async fn a_wrong_password_is_asked_for_again_and_the_right_one_opens() {
    let relay = Relay::start();
    owner::set_password(&relay, "with-password", "rex", "the dog").await;
    let link = format!("http://127.0.0.1:{}/room/with-password", relay.port);
    let mut ana = Person::join("Ana", &link, With::default());
    let asked = ana.told("the question", |event| match event {
        Event::PasswordNeeded { hint, wrong } => Some((hint.clone(), *wrong)),
        _ => None,
    });
    assert_eq!(asked.await, (None, false));
    ana.ask(Command::SupplyPassword { password: "tom".to_owned() });
    let again = ana.told("that it is wrong", |event| match event {
        Event::PasswordNeeded { hint, wrong: true } => Some(hint.clone()),
        _ => None,
    });
    assert_eq!(again.await.as_deref(), Some("the dog"));
    ana.ask(Command::SupplyPassword { password: "rex".to_owned() });
    ana.joined().await;
    let mut bo = Person::join("Bo", &link, With { password: Some("rex"), ..With::default() });
    bo.joined().await;
}

#[tokio::test]
async fn an_engine_that_is_dropped_while_it_joins_ends() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let ana = Person::join("Ana", &format!("http://127.0.0.1:{port}/room/silence"), With::default());
    let _connection = silent.accept().await.expect("it tries");
    let ended = tokio::task::spawn_blocking(move || drop(ana.engine));
    tokio::time::timeout(stage::PATIENCE, ended).await.expect("in time").expect("without a panic");
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_told_at_once_in_words_with_a_way_out() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = nobody.local_addr().expect("bound").port();
    drop(nobody);
    let mut ana = Person::join("Ana", &format!("http://127.0.0.1:{port}/room/nobody"), With::default());
    let told = ana.told("why", |event| match event {
        Event::Problem { code, message } => Some((code.clone(), message.clone())),
        _ => None,
    });
    let (code, message) = told.await;
    assert_eq!(code, "refused");
    assert_eq!(
        message,
        format!("127.0.0.1:{port} refused the connection; check the port, and whether the relay runs.")
    );
    drop(ana);
}

#[tokio::test]
async fn who_reads_no_events_holds_nobody_up() {
    /// More than the queue of events holds.
    const MESSAGES: usize = 1200;
    const AT_ONCE: usize = 50;
    let relay = Relay::start();
    let link = relay.link("a-deaf-one");
    let mut people =
        ["Ana", "Bo", "Deaf"].map(|name| Person::join(name, &link, With { muted: true, ..With::default() }));
    for someone in &people {
        someone.meets(2).await;
    }
    let [ana, bo, deaf] = &mut people;
    for batch in 0..MESSAGES / AT_ONCE {
        for _ in 0..AT_ONCE {
            ana.ask(Command::SendChat { text: format!("message of batch {batch}") });
        }
        for _ in 0..AT_ONCE {
            bo.told("a message", |event| matches!(event, Event::Chat { .. }).then_some(())).await;
        }
    }
    ana.ask(Command::SetHand { raised: true });
    let hand =
        deaf.shows("her hand", |snapshot| Person::sees(snapshot, "Ana").is_some_and(|ana| ana.sources.hand));
    hand.await;
    assert!(deaf.engine.missed_events() > 0);
    assert!(deaf.events.len() < MESSAGES, "the queue is bounded");
    deaf.ask(Command::Leave);
    assert_eq!(deaf.ended().await, "left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_people_are_all_connected_with_each_other() {
    const NAMES: [&str; 10] = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"];
    let relay = Relay::start();
    let link = relay.link("ten-people");
    let people = NAMES.map(|name| Person::join(name, &link, With { muted: true, ..With::default() }));
    for someone in &people {
        assert_eq!(someone.meets(9).await.len(), 9);
    }
    let mut eleventh = Person::join("K", &link, With::default());
    assert_eq!(eleventh.ended().await, "room_full");
}
