//! Candidates as the other side is to see them: a relayed one ranks by how its server is reached, and with nothing but relayed ones
//! allowed, none tells of an own address. Pure.

use std::net::SocketAddr;

use crate::stats::RelayProtocol;

/// A step of the local preference (RFC 8445 §5.1.2.1), large enough to stand above differences between interfaces.
const STEP: u32 = 1 << 20;

/// Fields of a candidate (RFC 8839 §5.1).
const PRIORITY: usize = 3;
const ADDRESS: usize = 4;
const PORT: usize = 5;
const KIND: usize = 7;

/// The line to show; `None` for one that is not to be shown.
pub(super) fn candidate(
    line: &str,
    relay_only: bool,
    protocol_of: impl Fn(SocketAddr) -> Option<RelayProtocol>,
) -> Option<String> {
    let mut fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if fields.get(KIND).is_none_or(|kind| kind != "relay") {
        return (!relay_only).then(|| line.to_owned());
    }
    let address = fields[ADDRESS].parse().ok().zip(fields[PORT].parse().ok());
    let protocol = address.and_then(|(ip, port)| protocol_of(SocketAddr::new(ip, port)));
    let steps = match protocol.unwrap_or(RelayProtocol::Udp) {
        RelayProtocol::Udp => 0,
        RelayProtocol::Tcp => 1,
        RelayProtocol::Tls => 2,
    };
    if let Ok(priority) = fields[PRIORITY].parse::<u32>() {
        fields[PRIORITY] = priority.saturating_sub(steps * STEP).max(1).to_string();
    }
    if relay_only {
        let own = |name: &str| fields.iter().position(|field| field == name).map(|index| index + 1);
        let (address, port) = (own("raddr"), own("rport"));
        let nothing = if fields[ADDRESS].contains(':') { "::" } else { "0.0.0.0" };
        for (index, text) in [(address, nothing), (port, "0")] {
            if let Some(field) = index.and_then(|index| fields.get_mut(index)) {
                text.clone_into(field);
            }
        }
    }
    Some(fields.join(" "))
}

/// A description with its candidates shown by `candidate`.
pub(super) fn description(sdp: &str, candidate: impl Fn(&str) -> Option<String>) -> String {
    let mut shown = String::with_capacity(sdp.len());
    for line in sdp.split_inclusive('\n') {
        let text = line.trim_end_matches(['\r', '\n']);
        let Some(value) = text.strip_prefix("a=").filter(|value| value.starts_with("candidate:")) else {
            shown.push_str(line);
            continue;
        };
        if let Some(value) = candidate(value) {
            shown.push_str("a=");
            shown.push_str(&value);
            shown.push_str(&line[text.len()..]);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = "candidate:1 1 udp 16777215 198.51.100.1 4000 typ relay raddr 192.0.2.7 rport 5000";
    const HOST: &str = "candidate:2 1 udp 2130706431 192.0.2.7 5000 typ host";

    #[test]
    fn relays_rank_by_how_their_server_is_reached() {
        let priority = |protocol| {
            let shown = candidate(RELAY, false, |_| Some(protocol)).unwrap();
            shown.split(' ').nth(PRIORITY).unwrap().parse::<u32>().unwrap()
        };
        let ranks = [RelayProtocol::Udp, RelayProtocol::Tcp, RelayProtocol::Tls].map(priority);
        assert_eq!(ranks[0], 16_777_215);
        assert!(ranks.is_sorted_by(|better, worse| better > worse && *worse > 0), "{ranks:?}");
        assert_eq!(candidate(HOST, false, |_| None).as_deref(), Some(HOST));
    }

    #[test]
    fn with_relays_alone_no_own_address_is_shown() {
        let shown = candidate(RELAY, true, |_| None).unwrap();
        assert_eq!(shown, "candidate:1 1 udp 16777215 198.51.100.1 4000 typ relay raddr 0.0.0.0 rport 0");
        assert_eq!(candidate(HOST, true, |_| None), None);
    }

    #[test]
    fn a_description_loses_what_is_not_to_be_seen_and_nothing_else() {
        let sdp = format!("v=0\r\na={HOST}\r\na={RELAY}\r\na=end-of-candidates\r\nm=");
        let shown = description(&sdp, |line| candidate(line, true, |_| None));
        assert!(!shown.contains("192.0.2.7") && shown.contains("198.51.100.1"));
        assert!(
            shown.starts_with("v=0\r\na=candidate:1") && shown.ends_with("\r\na=end-of-candidates\r\nm=")
        );
        assert_eq!(description(&sdp, |line| Some(line.to_owned())), sdp);
    }

    #[test]
    fn broken_lines_are_taken_without_harm() {
        for line in ["", "candidate:", "candidate:1 1 udp x y z typ relay", "a b c d e f g relay raddr"] {
            let _ = candidate(line, true, |_| None);
        }
    }
}
