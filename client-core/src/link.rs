//! One link: a task that owns a peer connection and carries out what the call asks of it, one thing after the other.

use std::sync::Arc;
use std::time::Duration;

use snug_call_proto::{Candidate, JobId, LinkId};
use snug_rtc::{Factory, Peer, PeerEvent, peer_channels};
use snug_wire::IceServer;
use tokio::sync::mpsc;

use crate::candidates::Found;
use crate::fanout::Fanout;
use crate::receive::{self, SenderClock, Sinks};

/// Jobs that wait; a link that is so far behind has lost its connection.
const JOBS: usize = 512;

/// Sender reports that wait.
const REPORTS: usize = 16;
/// How often a link's counters are read.
const COUNT: Duration = Duration::from_secs(1);

/// What a link is asked to do, in order.
pub(crate) enum Job {
    CreateOffer { job: JobId, ice_restart: bool, rollback: bool },
    AcceptOffer { job: JobId, sdp: String, rollback: bool },
    AcceptAnswer { job: JobId, sdp: String },
    AddCandidate(Candidate),
    SetIceServers(Vec<IceServer>),
    SendChannel(String),
}

/// What a link tells the session.
pub(crate) enum LinkEvent {
    Described { job: JobId, sdp: String },
    Failed { job: JobId },
    Peer(PeerEvent),
    MediaSeen,
}

/// The session's end of a link. Dropping it closes the connection.
pub(crate) struct Link {
    jobs: mpsc::Sender<Job>,
}

impl Link {
    /// Builds the connection. What happens to it is told by `tell`, from several tasks.
    pub(crate) fn open(
        id: LinkId,
        factory: Factory,
        ice_servers: Vec<IceServer>,
        fanout: Fanout,
        sinks: Sinks,
        tell: mpsc::Sender<(LinkId, LinkEvent)>,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(JOBS);
        tokio::spawn(run(id, factory, ice_servers, fanout, sinks, waiting, tell));
        Self { jobs }
    }

    /// Says whether there was room: a link without is to be given up.
    pub(crate) fn ask(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}

async fn run(
    id: LinkId,
    factory: Factory,
    ice_servers: Vec<IceServer>,
    fanout: Fanout,
    sinks: Sinks,
    mut jobs: mpsc::Receiver<Job>,
    tell: mpsc::Sender<(LinkId, LinkEvent)>,
) {
    let (events, mut reported, media) = peer_channels();
    let peer = match Peer::new(&factory, &ice_servers, events).await {
        Ok(peer) => Arc::new(peer),
        Err(error) => {
            tracing::error!(link = %id, %error, "no peer connection");
            // Every description fails, so the call tries again in its own time.
            while let Some(job) = jobs.recv().await {
                if let Job::CreateOffer { job, .. }
                | Job::AcceptOffer { job, .. }
                | Job::AcceptAnswer { job, .. } = job
                {
                    let _ = tell.send((id, LinkEvent::Failed { job })).await;
                }
            }
            return;
        }
    };
    fanout.add(id, sinks.user, Arc::clone(&peer), sinks.remote.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (reports, clocks) = mpsc::channel(REPORTS);
    let receiving = tokio::spawn(receive::run(media, clocks, Arc::clone(&peer), sinks));
    let found = Arc::new(Found::default());
    let (told, finding) = (tell.clone(), Arc::clone(&found));
    let reporting = tokio::spawn(async move {
        while let Some(event) = reported.next().await {
            if let PeerEvent::SenderReport { section, ntp, rtp } = event {
                // One is as good as the next: a receiver that is behind does without.
                let _ = reports.try_send(SenderClock { section, ntp, rtp });
                continue;
            }
            let Some(event) = keep_candidate(&finding, event) else { continue };
            if told.send((id, LinkEvent::Peer(event))).await.is_err() {
                return;
            }
        }
    });
    let mut count = tokio::time::interval(COUNT);
    count.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let job = tokio::select! {
            job = jobs.recv() => job,
            _ = count.tick() => {
                fanout.set_stats(id, peer.stats().await);
                continue;
            }
        };
        let Some(job) = job else { break };
        if let Some(answer) = carry_out(&peer, &found, job).await
            && tell.send((id, answer)).await.is_err()
        {
            break;
        }
    }
    fanout.remove(id);
    peer.close().await;
    receiving.abort();
    reporting.abort();
}

/// A candidate that goes into the description which is being made is not told by itself.
fn keep_candidate(found: &Found, event: PeerEvent) -> Option<PeerEvent> {
    let PeerEvent::Candidate { candidate, mid, mline } = event else { return Some(event) };
    let Candidate { candidate, sdp_mid, sdp_mline_index } =
        found.put(Candidate { candidate, sdp_mid: mid, sdp_mline_index: mline })?;
    Some(PeerEvent::Candidate { candidate, mid: sdp_mid, mline: sdp_mline_index })
}

async fn carry_out(peer: &Peer, found: &Found, job: Job) -> Option<LinkEvent> {
    if matches!(job, Job::CreateOffer { .. } | Job::AcceptOffer { .. }) {
        found.begin();
    }
    let (job, described) = match job {
        Job::CreateOffer { job, ice_restart, rollback } => {
            if rollback && let Err(error) = peer.rollback().await {
                (job, Err(error))
            } else {
                (job, peer.create_offer(ice_restart).await.map(Some))
            }
        }
        Job::AcceptOffer { job, sdp, rollback } => (job, peer.accept_offer(&sdp, rollback).await.map(Some)),
        Job::AcceptAnswer { job, sdp } => (job, peer.accept_answer(&sdp).await.map(|()| None)),
        Job::AddCandidate(Candidate { candidate, sdp_mid, sdp_mline_index }) => {
            // One that does not fit belongs to a description that was given up.
            if let Err(error) = peer.add_candidate(&candidate, sdp_mid, sdp_mline_index).await {
                tracing::debug!(%error, "a candidate was left out");
            }
            return None;
        }
        Job::SetIceServers(servers) => {
            if let Err(error) = peer.set_ice_servers(&servers).await {
                tracing::debug!(%error, "the servers stay as they are");
            }
            return None;
        }
        Job::SendChannel(text) => {
            if let Err(error) = peer.send_channel(&text).await {
                tracing::debug!(%error, "a message was not sent");
            }
            return None;
        }
    };
    match described {
        Ok(Some(sdp)) => Some(LinkEvent::Described { job, sdp: found.finish(sdp).await }),
        Ok(None) => None,
        Err(error) => {
            found.give_up();
            tracing::debug!(%error, "a description failed");
            Some(LinkEvent::Failed { job })
        }
    }
}
