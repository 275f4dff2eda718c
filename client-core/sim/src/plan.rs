//! What is to happen in a simulated call: who comes from where, and what goes wrong when. All of it can be drawn from a seed.

use std::time::Duration;

use crate::dice::Dice;
use crate::nat::NatKind;

/// One participant and the line it calls by.
#[derive(Debug, Clone)]
pub struct Person {
    /// What stands between it and the Internet.
    pub nat: NatKind,
    /// Whose NAT and LAN it shares: an earlier person's index.
    pub household: Option<usize>,
    /// One way, without jitter.
    pub delay: Duration,
    /// Most that is added to the delay.
    pub jitter: Duration,
    /// Part of the datagrams that are lost on this line, 0 to 1.
    pub loss: f64,
    /// What its uplink carries, in bit/s.
    pub uplink_bps: u64,
    /// Signaling by QUIC, which survives a change of address; else by WebSocket.
    pub quic: bool,
    /// When it joins.
    pub joins: Duration,
}

impl Person {
    /// On a good line behind a common NAT, there from the start.
    #[must_use]
    pub fn ordinary() -> Self {
        Self {
            nat: NatKind::PortRestricted,
            household: None,
            delay: Duration::from_millis(15),
            jitter: Duration::from_millis(2),
            loss: 0.0,
            uplink_bps: 20_000_000,
            quic: false,
            joins: Duration::ZERO,
        }
    }
}

/// Something that goes wrong, or that a person does. Numbers of people are indices into [`Plan::people`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Ends its call.
    Leave(usize),
    /// Its process is killed: its system closes the WebSocket.
    Kill(usize),
    /// Its process is killed and started again.
    Crash {
        /// Who.
        who: usize,
        /// How long it is away.
        away: Duration,
        /// Whether its signing key survived; the ticket does.
        key_kept: bool,
    },
    /// Its machine is gone without a word.
    PowerOff(usize),
    /// Its line is down for a while.
    Outage(usize, Duration),
    /// It gets another address behind another NAT.
    Move {
        /// Who.
        who: usize,
        /// Behind what.
        nat: NatKind,
        /// Whether its system tells it.
        noticed: bool,
    },
    /// Its machine sleeps.
    Sleep(usize, Duration),
    /// Its connection to the relay is cut; everything else goes on.
    Cut(usize),
    /// Its NAT forgets all mappings.
    NatForgets(usize),
    /// The relay is killed and comes back.
    RelayKilled(Duration),
    /// The relay's machine is gone without a word and comes back.
    RelayVanishes(Duration),
    /// The relay is stopped with a warning and comes back.
    RelayDrained(Duration),
    /// The owner removes somebody.
    Kick(usize),
    /// The owner locks or opens the room.
    Lock(bool),
    /// The owner sets the password.
    SetPassword,
    /// It switches its camera.
    ToggleCamera(usize),
    /// It writes to everybody.
    Chat(usize),
    /// It is impatient.
    Retry(usize),
}

/// A whole call.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides everything that the plan does not say.
    pub seed: u64,
    /// Who takes part, in no order.
    pub people: Vec<Person>,
    /// What happens, in the order of time.
    pub faults: Vec<(Duration, Fault)>,
    /// Whether the relay offers TURN.
    pub turn: bool,
    /// Whether the room's link has a secret.
    pub sealed: bool,
    /// When it is over.
    pub length: Duration,
}

/// For how long everything is left alone at the end: everything has to be well by then.
pub const CALM: Duration = Duration::from_secs(45);

impl Plan {
    /// `count` people on good lines and nothing that goes wrong, for a minute.
    #[must_use]
    pub fn quiet(seed: u64, count: usize) -> Self {
        Self {
            seed,
            people: vec![Person::ordinary(); count],
            faults: Vec::new(),
            turn: true,
            sealed: true,
            length: Duration::from_secs(60),
        }
    }

    /// Adds what happens at a second of the call, and makes the call long enough to get over it.
    #[must_use]
    pub fn with(mut self, second: u64, fault: Fault) -> Self {
        let at = Duration::from_secs(second);
        self.length = self.length.max(at + lasts(&fault) + CALM);
        self.faults.push((at, fault));
        self.faults.sort_by_key(|(at, _)| *at);
        self
    }

    /// A call of two to ten people on lines of all kinds, with up to six faults.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let count = dice.pick(&[2, 2, 2, 3, 3, 4, 4, 5, 6, 10]);
        let turn = dice.chance(0.8);
        let people = (0..count).map(|index| person(&mut dice, index)).collect();
        let mut faults = Vec::new();
        let mut length = Duration::from_secs(20);
        for _ in 0..dice.below(7) {
            let at = dice.between(Duration::from_secs(2), Duration::from_secs(60));
            let fault = fault(&mut dice, count);
            length = length.max(at + lasts(&fault));
            faults.push((at, fault));
        }
        faults.sort_by_key(|(at, _)| *at);
        Self { seed, people, faults, turn, sealed: dice.chance(0.7), length: length + CALM }
    }
}

fn person(dice: &mut Dice, index: usize) -> Person {
    let household = (index > 0 && dice.chance(0.15)).then(|| dice.below(index as u64) as usize);
    Person {
        nat: dice.pick(&NatKind::ALL),
        household,
        delay: dice.between(Duration::from_millis(2), Duration::from_millis(90)),
        jitter: dice.between(Duration::ZERO, Duration::from_millis(30)),
        loss: dice.pick(&[0.0, 0.0, 0.01, 0.03]),
        uplink_bps: dice.pick(&[3_000_000, 10_000_000, 50_000_000]),
        quic: dice.chance(0.5),
        joins: dice.between(Duration::ZERO, Duration::from_secs(10)),
    }
}

fn fault(dice: &mut Dice, count: usize) -> Fault {
    let who = dice.below(count as u64) as usize;
    let short = dice.between(Duration::from_secs(1), Duration::from_secs(10));
    let long = dice.pick(&[short, Duration::from_secs(20), Duration::from_secs(30), Duration::from_secs(40)]);
    match dice.below(22) {
        0 => Fault::Leave(who),
        1 => Fault::Kill(who),
        2 => Fault::PowerOff(who),
        3 | 4 => Fault::Outage(who, long),
        5 | 6 => Fault::Move { who, nat: dice.pick(&NatKind::ALL), noticed: dice.chance(0.7) },
        7 => Fault::Sleep(who, long),
        8 => Fault::Cut(who),
        9 => Fault::NatForgets(who),
        10 | 11 => Fault::RelayKilled(long),
        12 => Fault::RelayVanishes(long),
        13 => Fault::RelayDrained(short),
        14 => Fault::Kick(who),
        15 => Fault::Lock(dice.chance(0.5)),
        16 => Fault::SetPassword,
        17 => Fault::ToggleCamera(who),
        18 => Fault::Chat(who),
        19 | 20 => Fault::Crash { who, away: short, key_kept: dice.chance(0.7) },
        _ => Fault::Retry(who),
    }
}

fn lasts(fault: &Fault) -> Duration {
    match fault {
        Fault::Crash { away: time, .. }
        | Fault::Outage(_, time)
        | Fault::Sleep(_, time)
        | Fault::RelayKilled(time)
        | Fault::RelayVanishes(time)
        | Fault::RelayDrained(time) => *time,
        _ => Duration::ZERO,
    }
}
