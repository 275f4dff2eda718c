//! When to report the arrival of packets: often while pictures come, so that the other side sees a queue before it is long,
//! and seldom for sound alone. The library's reporter, which is inside, wakes up at its interval for ever.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rtc::interceptor::{
    Interceptor, Packet, StreamInfo, TaggedPacket, TwccReceiverBuilder, TwccReceiverInterceptor,
};
use rtc::sansio::Protocol;

use super::belt_types;

/// Arrivals of pictures are reported after this time at the latest.
const PICTURES: Duration = Duration::from_millis(30);
/// What comes this long after the first unreported packet reports them all at once and saves a wake-up.
const SAVED: Duration = Duration::from_millis(18);
/// Arrivals of sound alone are reported after this time at the latest.
const SOUND: Duration = Duration::from_millis(100);

pub(crate) struct Feedback {
    reporter: TwccReceiverInterceptor,
    sound: BTreeSet<u32>,
    /// When the first unreported packet came.
    since: Option<Instant>,
    due: Option<Instant>,
}

impl Feedback {
    pub(crate) fn new() -> Self {
        // It reports whenever it is woken; when that is, is decided here.
        let reporter = TwccReceiverBuilder::new().with_interval(Duration::ZERO).build();
        Self { reporter, sound: BTreeSet::new(), since: None, due: None }
    }

    fn report(&mut self, now: Instant) -> Result<(), rtc::shared::error::Error> {
        (self.since, self.due) = (None, None);
        self.reporter.handle_timeout(now)
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Feedback {
    belt_types!();

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        let now = tagged.now;
        let arrived = match &tagged.message.packet {
            Packet::Rtp(packet) => Some(self.sound.contains(&packet.header.ssrc)),
            _ => None,
        };
        self.reporter.handle_read(tagged)?;
        if let Some(is_sound) = arrived {
            let since = *self.since.get_or_insert(now);
            let latest = now + if is_sound { SOUND } else { PICTURES };
            let due = self.due.map_or(latest, |due| due.min(latest));
            self.due = Some(due);
            // Sound alone is not due for long; pictures that wait already are.
            let soon = due.saturating_duration_since(now) <= PICTURES;
            if soon && now.saturating_duration_since(since) >= SAVED {
                return self.report(now);
            }
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reporter.poll_read()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        self.reporter.handle_write(tagged)
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.reporter.poll_write()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error> {
        if self.due.is_some_and(|due| due <= now) { self.report(now) } else { Ok(()) }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.due
    }
}

impl Interceptor for Feedback {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.reporter.bind_local_stream(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.reporter.unbind_local_stream(info);
    }

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        if info.mime_type.to_ascii_lowercase().starts_with("audio/") {
            self.sound.insert(info.ssrc);
        }
        self.reporter.bind_remote_stream(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.sound.remove(&info.ssrc);
        self.reporter.unbind_remote_stream(info);
    }
}

#[cfg(test)]
mod tests {
    use rtc::interceptor::RTPHeaderExtension;

    use super::super::TWCC;
    use super::super::testing::{rtp, vp8};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn feedback() -> Feedback {
        let mut feedback = Feedback::new();
        for (ssrc, mime) in [(1, "video/VP8"), (5, "audio/opus")] {
            let mut info = vp8(ssrc, ssrc + 1);
            info.mime_type = mime.into();
            info.rtp_header_extensions = vec![RTPHeaderExtension { uri: TWCC.into(), id: 3 }];
            feedback.bind_remote_stream(&info);
        }
        feedback
    }

    /// Feeds a packet and says how many reports went out.
    fn come(feedback: &mut Feedback, now: Instant, ssrc: u32, number: u16) -> usize {
        let mut tagged = rtp(now, ssrc, 96, number, &[1]);
        if let Packet::Rtp(packet) = &mut tagged.message.packet {
            packet.header.set_extension(3, number.to_be_bytes().to_vec().into()).unwrap();
        }
        feedback.handle_read(tagged).unwrap();
        std::iter::from_fn(|| feedback.poll_write()).count()
    }

    #[test]
    fn pictures_are_reported_within_thirty_milliseconds_and_nothing_wakes_up_after() {
        let (mut feedback, start) = (feedback(), Instant::now());
        assert_eq!(come(&mut feedback, start, 1, 1), 0);
        assert_eq!(feedback.poll_timeout(), Some(start + 30 * MS));
        assert_eq!(come(&mut feedback, start + 5 * MS, 1, 2), 0);
        feedback.handle_timeout(start + 30 * MS).unwrap();
        assert_eq!(std::iter::from_fn(|| feedback.poll_write()).count(), 1);
        assert_eq!(feedback.poll_timeout(), None);
        assert_eq!(come(&mut feedback, start + 50 * MS, 1, 3), 0);
        assert_eq!(come(&mut feedback, start + 70 * MS, 1, 4), 1, "reported on the way");
        assert_eq!(feedback.poll_timeout(), None);
    }

    #[test]
    fn sound_alone_is_reported_every_hundred_milliseconds_by_its_own_packets() {
        let (mut feedback, start) = (feedback(), Instant::now());
        let reports: usize = (0..50).map(|n| come(&mut feedback, start + n * 20 * MS, 5, n as u16)).sum();
        assert!((10..=12).contains(&reports), "{reports} reports");
    }
}
