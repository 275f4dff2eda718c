//! The few facts that are read from session descriptions: which stream and which payload type belongs to what.
//! Descriptions come from outside: whatever does not parse is left out.

use std::collections::BTreeMap;

use snug_media_proto::section::Section;

use crate::event::PayloadKind;

/// Streams that one description may name; a description of ours has six.
pub(crate) const MOST_STREAMS: usize = 64;

/// The description with the remark that candidates follow (RFC 8840 §4.1.1), which the library leaves out.
pub(crate) fn with_trickle(sdp: &str) -> String {
    let Some(end) = sdp.find("\r\nm=").filter(|_| !sdp.contains("a=ice-options:")) else {
        return sdp.to_owned();
    };
    let (session, media) = sdp.split_at(end);
    format!("{session}\r\na=ice-options:trickle{media}")
}

/// What one description says about its sender.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// SSRC → section, RTX streams included.
    pub(crate) streams: BTreeMap<u32, Section>,
    /// The stream that each section names first: its media, not its repairs.
    pub(crate) media: [Option<u32>; 4],
    /// Identification tag (`a=mid`) → section.
    pub(crate) mids: BTreeMap<String, Section>,
    /// Payload type → what it carries; the same in all sections, which share one transport.
    pub(crate) payloads: BTreeMap<u8, PayloadKind>,
}

impl Described {
    pub(crate) fn read(sdp: &str) -> Self {
        let mut found = Self::default();
        let mut sections = 0;
        let mut section = None;
        for line in sdp.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                // The position counts, but not for sections of another kind than the protocol has there.
                section = Section::from_index(sections)
                    .filter(|section| media.starts_with(if section.is_video() { "video" } else { "audio" }));
                sections += 1;
            } else if let Some(section) = section {
                found.read_line(line, section);
            }
        }
        found
    }

    fn read_line(&mut self, line: &str, section: Section) {
        if let Some(mid) = line.strip_prefix("a=mid:") {
            self.mids.insert(mid.trim().to_owned(), section);
        } else if let Some(stream) = line.strip_prefix("a=ssrc:") {
            let ssrc = stream.split_once(' ').and_then(|(ssrc, _)| ssrc.parse().ok());
            if let Some(ssrc) = ssrc.filter(|_| self.streams.len() < MOST_STREAMS) {
                self.media[section.index()].get_or_insert(ssrc);
                self.streams.insert(ssrc, section);
            }
        } else if let Some((payload_type, codec)) =
            line.strip_prefix("a=rtpmap:").and_then(|map| map.trim().split_once(' '))
        {
            let kind = match codec.to_ascii_lowercase().as_str() {
                "opus/48000/2" => PayloadKind::Opus,
                "red/48000/2" => PayloadKind::Red,
                "vp8/90000" => PayloadKind::Vp8,
                _ => return,
            };
            if let Ok(payload_type) = payload_type.parse() {
                self.payloads.entry(payload_type).or_insert(kind);
            }
        }
    }

    /// The payload type for a kind of payload, the first one named.
    pub(crate) fn payload_type(&self, kind: PayloadKind) -> Option<u8> {
        self.payloads.iter().find(|&(_, &named)| named == kind).map(|(&payload_type, _)| payload_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\na=ssrc:7 cname:x\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:cam\r\na=rtpmap:96 VP8/90000\r\na=ssrc-group:FID 8 9\r\na=ssrc:8 cname:x\r\na=ssrc:9 cname:x\r\n";

    #[test]
    fn streams_belong_to_the_section_that_names_them() {
        let found = Described::read(OFFER);
        assert_eq!(found.streams.get(&7), Some(&Section::Microphone));
        assert_eq!(found.streams.get(&9), Some(&Section::Camera));
        assert_eq!(found.media, [Some(7), Some(8), None, None]);
        assert_eq!(found.mids.get("cam"), Some(&Section::Camera));
        assert_eq!(found.payload_type(PayloadKind::Red), Some(63));
        assert_eq!(found.payload_type(PayloadKind::Vp8), Some(96));
    }

    #[test]
    fn trickling_is_announced_once_before_the_first_section() {
        let announced = with_trickle(OFFER);
        assert!(announced.starts_with("v=0\r\na=ice-options:trickle\r\nm=audio "), "{announced}");
        assert_eq!(with_trickle(&announced), announced);
        assert_eq!(with_trickle("v=0"), "v=0");
    }

    #[test]
    fn nonsense_is_left_out() {
        let found = Described::read(
            "m=video\na=ssrc:\na=ssrc:x y\na=rtpmap:300 opus/48000/2\na=rtpmap:\na=mid:\nm=\nm",
        );
        assert!(found.streams.is_empty() && found.payloads.is_empty());
    }
}
