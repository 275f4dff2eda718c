//! What reaches the thread "turn" from others, and how it is woken.
//! It never wakes a thread that is about to look anyway.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mio::{Registry, Token, Waker};
use snug_turn_proto::{Account, TurnStats};
use tokio::sync::oneshot;

use crate::machine::Interfaces;

/// What the relay says.
pub(super) enum Control {
    Admit(Account),
    Revoke(Account),
    Drain,
    OwnAddresses(Interfaces),
    /// The rules' figures, and how many streams there are.
    Stats(oneshot::Sender<(TurnStats, usize)>),
    Stop,
}

/// Held by everybody who speaks to the thread.
pub(super) struct Mailbox {
    /// Bounded by what participants do between two rounds of the thread: each entry is one who came or went, and the hub limits those.
    /// `None` when the thread has ended, so that nobody waits for an answer.
    letters: Mutex<Option<Vec<Control>>>,
    waker: Waker,
    /// Somebody has rung and the thread has not looked since.
    rung: AtomicBool,
}

impl Mailbox {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self {
            letters: Mutex::new(Some(Vec::new())),
            waker: Waker::new(registry, token)?,
            rung: AtomicBool::new(false),
        })
    }

    fn letters(&self) -> MutexGuard<'_, Option<Vec<Control>>> {
        // Only whole letters are ever in it.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn post(&self, control: Control) {
        if let Some(letters) = &mut *self.letters() {
            letters.push(control);
        }
        self.ring();
    }

    /// Something waits for the thread, here or in the channel of frames.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // It fails only when the thread is gone with its poll.
            let _ = self.waker.wake();
        }
    }

    /// Whether anybody has rung. Asked before looking, so that whoever comes later rings again.
    pub(super) fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take(&self) -> Vec<Control> {
        self.letters().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Nobody reads any more.
    pub(super) fn close(&self) {
        *self.letters() = None;
    }
}
