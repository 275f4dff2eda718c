//! Which candidates of the other side are taken: those for UDP, and of one generation of ICE no more than the protocol has.
//! Each one taken makes this side send checks to an address that the other side chose.

use std::collections::BTreeSet;

use rtc::sdp::SessionDescription;

/// Candidates of one generation, of the description and after it.
pub(crate) const MOST: usize = snug_wire::limits::CANDIDATES as usize;

/// What becomes of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    /// Of no use, and nobody's fault: browsers name candidates for TCP too.
    Skip,
    Surplus,
}

/// The candidates of one connection.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// User fragment and password: with others the library begins anew, without the candidates it had.
    generation: [Option<String>; 2],
    taken: BTreeSet<String>,
    /// What the library holds is not known for sure.
    closed: bool,
}

impl Candidates {
    /// After a description that the library refused, maybe half way: nothing more is taken.
    pub(crate) fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }

    /// Takes one that came after its description.
    pub(crate) fn take(&mut self, candidate: &str) -> Verdict {
        if candidate.is_empty() {
            // The end of candidates.
            return Verdict::Take;
        }
        if self.taken.contains(bare(candidate)) { Verdict::Skip } else { self.judge(candidate) }
    }

    /// The account once `description` holds, and whether candidates were taken out of it for that.
    pub(crate) fn described(&self, description: &mut SessionDescription) -> (Self, bool) {
        let mut next = Self { generation: generation(description), ..Self::default() };
        next.closed = self.closed;
        if next.generation == self.generation {
            next.taken.clone_from(&self.taken);
        }
        let (mut seen, mut changed) = (BTreeSet::new(), false);
        for section in &mut description.media_descriptions {
            // The library reads no candidates there.
            if section.has_attribute("inactive") {
                continue;
            }
            section.attributes.retain(|attribute| {
                let candidate = attribute.value.as_deref().filter(|_| attribute.is_ice_candidate());
                let Some(candidate) = candidate else { return true };
                let first = seen.insert(bare(candidate).to_owned());
                let keep = first && next.judge(candidate) == Verdict::Take;
                changed |= !keep;
                keep
            });
        }
        (next, changed)
    }

    fn judge(&mut self, candidate: &str) -> Verdict {
        let candidate = bare(candidate);
        let transport = candidate.split_whitespace().nth(2);
        if transport.is_some_and(|transport| !transport.eq_ignore_ascii_case("udp")) {
            return Verdict::Skip;
        }
        if self.closed || (self.taken.len() >= MOST && !self.taken.contains(candidate)) {
            return Verdict::Surplus;
        }
        self.taken.insert(candidate.to_owned());
        Verdict::Take
    }
}

fn bare(candidate: &str) -> &str {
    candidate.strip_prefix("candidate:").unwrap_or(candidate)
}

/// As the library reads it: from the session, else from the first section that is in use, else from any.
pub(crate) fn generation(description: &SessionDescription) -> [Option<String>; 2] {
    ["ice-ufrag", "ice-pwd"].map(|key| {
        let of = |inactive| {
            let mut sections = description.media_descriptions.iter();
            sections.find_map(|section| {
                (section.has_attribute("inactive") == inactive).then(|| section.attribute(key).flatten())?
            })
        };
        let session = description.attribute(key).map(String::as_str);
        session.or_else(|| of(false)).or_else(|| of(true)).map(str::to_owned)
    })
}

/// The candidates of a description.
pub(crate) fn lines(description: &SessionDescription) -> impl Iterator<Item = &str> {
    let attributes = description.media_descriptions.iter().flat_map(|section| &section.attributes);
    attributes
        .filter(|attribute| attribute.is_ice_candidate())
        .filter_map(|attribute| attribute.value.as_deref())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn line(number: usize) -> String {
        format!("{number} 1 udp 2130706431 192.0.2.{} 5000 typ host", number % 250)
    }

    fn description(ufrag: &str, candidates: &[String]) -> SessionDescription {
        let mut sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned();
        for mid in 0..2 {
            sdp += &format!("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n");
            sdp += &format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:word\r\n");
            for candidate in candidates {
                sdp += &format!("a= candidate:{candidate}\r\n");
            }
        }
        SessionDescription::unmarshal(&mut Cursor::new(sdp)).unwrap()
    }

    fn count(description: &SessionDescription) -> usize {
        let sections = description.media_descriptions.iter();
        sections.flat_map(|section| &section.attributes).filter(|line| line.is_ice_candidate()).count()
    }

    #[test]
    fn only_udp_is_taken_and_names_for_mdns_are() {
        let mut candidates = Candidates::default();
        for other in ["tcp", "TCP", "tls", "udpx"] {
            let passive = format!("candidate:1 1 {other} 1 192.0.2.1 22 typ host tcptype passive");
            assert_eq!(candidates.take(&passive), Verdict::Skip, "{passive}");
        }
        assert_eq!(candidates.take("candidate:1 1 UDP 1 0a1b.local 5000 typ host"), Verdict::Take);
        assert_eq!(candidates.take(""), Verdict::Take, "the end of candidates");
        let tcp = "1 1 tcp 1 192.0.2.1 22 typ host tcptype passive".to_owned();
        let mut described = description("a", &[tcp, line(1)]);
        assert!(candidates.described(&mut described).1);
        assert_eq!(count(&described), 1);
    }

    #[test]
    fn a_generation_has_room_for_sixty_four_and_the_next_one_again() {
        let lines: Vec<String> = (0..MOST + 20).map(line).collect();
        let mut described = description("a", &lines[..MOST - 1]);
        let (mut candidates, _) = Candidates::default().described(&mut described);
        assert_eq!(count(&described), MOST - 1);
        assert_eq!(candidates.take(&lines[0]), Verdict::Skip, "it is there already");
        assert_eq!(candidates.take(&lines[MOST]), Verdict::Take);
        assert_eq!(candidates.take(&lines[MOST + 1]), Verdict::Surplus);
        let mut again = description("a", &lines);
        let (mut candidates, changed) = candidates.described(&mut again);
        assert!(changed && count(&again) == MOST, "the same ones and no more");
        assert_eq!(candidates.take(&lines[MOST + 1]), Verdict::Surplus);
        let mut restarted = description("b", &lines);
        candidates.described(&mut restarted);
        assert_eq!(count(&restarted), MOST);
        let (mut candidates, _) = candidates.described(&mut description("c", &[]));
        assert_eq!(candidates.take(&lines[MOST + 1]), Verdict::Take);
    }

    #[test]
    fn after_a_description_that_was_refused_nothing_is_taken() {
        let (mut candidates, changed) = Candidates::closed().described(&mut description("a", &[line(1)]));
        assert!(changed);
        assert_eq!(candidates.take(&line(2)), Verdict::Surplus);
    }
}
