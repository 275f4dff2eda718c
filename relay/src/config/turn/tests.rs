//! What operators write about the relay's own server, and what they are told.

use crate::config::tests::{error, good};
use crate::config::{Config, TurnPlan};
use crate::ice::Host;

const TLS: [&str; 4] = ["--tls-cert", "c", "--tls-key", "k"];

fn plan(flags: &[&str]) -> TurnPlan {
    good(flags).turn.expect("it is on unless switched off")
}

fn listens(flags: &[&str]) -> (String, String) {
    let plan = plan(flags);
    let text = |addresses: &[std::net::SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    (text(&plan.listen.addresses), text(&plan.tls_listen.addresses))
}

#[test]
fn it_is_on_and_listens_where_the_page_is_for() {
    let pair = |plain: &str, tls: &str| (plain.to_owned(), tls.to_owned());
    assert_eq!(listens(&[]), pair("127.0.0.1:3478", ""));
    assert_eq!(
        listens(&["--listen", "[::1]:80", "--listen", "127.0.0.1:81", "--listen", "[::1]:82"]),
        pair("[::1]:3478 127.0.0.1:3478", "")
    );
    let all = pair("[::]:3478 0.0.0.0:3478", "");
    assert_eq!(listens(&["--listen", "127.0.0.1:80", "--listen", "192.0.2.1:80", "--allow-plain-http"]), all);
    assert_eq!(listens(&["--public-url", "https://meet.example.org"]), all, "a proxy stands before it");
    let public: Vec<&str> = ["--listen", "0.0.0.0:443"].into_iter().chain(TLS).collect();
    assert_eq!(listens(&public), pair("[::]:3478 0.0.0.0:3478", "[::]:5349 0.0.0.0:5349"));
    assert!(!plan(&public).listen.given && !plan(&public).tls_listen.given);
    assert!(good(&["--no-turn"]).turn.is_none() && good(&["--no-turn=no"]).turn.is_some());
}

#[test]
fn an_operator_chooses_addresses_and_ports() {
    let chosen = |more: &[&'static str]| -> (String, String) {
        listens(
            &["--turn-listen", "127.0.0.1:0"]
                .into_iter()
                .chain(TLS)
                .chain(more.iter().copied())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(chosen(&[]), ("127.0.0.1:0".into(), "127.0.0.1:0".into()), "both ports are free ones");
    assert_eq!(chosen(&["--turn-tls-listen", "off"]).1, "");
    assert_eq!(chosen(&["--turn-tls-listen", "192.0.2.1:443"]).1, "192.0.2.1:443");
    assert_eq!(chosen(&["--turn-listen", "127.0.0.1:0"]).0, "127.0.0.1:0 127.0.0.1:0");
    assert!(plan(&["--turn-listen", "127.0.0.1:0"]).listen.given);
    assert_eq!(plan(&["--turn-ports", "2000-2000"]).relay_ports, 2000..=2000);
    assert_eq!(plan(&[]).relay_ports, 10_000..=20_000);
    let external = plan(&["--external-address", "203.0.113.7", "--external-address", "2001:db8::7"]).external;
    assert_eq!(external.iter().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.7", "2001:db8::7"]);
    let allowed = plan(&["--turn-allow-peer", "192.168.1.0/24", "--turn-allow-peer", "fd00::1"]).allow_peers;
    assert_eq!(
        allowed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.168.1.0/24", "fd00::1/128"]
    );
}

#[test]
fn the_limits_are_those_of_a_room_of_ten() {
    let limits = |flags: &[&str]| {
        let quotas = plan(flags).quotas;
        [quotas.per_owner, quotas.per_group, quotas.per_source, quotas.server]
            .map(|quota| (quota.allocations, quota.megabits))
    };
    assert_eq!(limits(&[]), [(256, 100), (2000, 500), (2000, 500), (u32::MAX, 0)]);
    assert_eq!(limits(&["--turn-participant-mbps", "0"])[0], (256, 0), "no limit");
}

#[test]
fn streams_leave_files_for_relay_sockets() {
    let streams = |files, flags: &[&str]| {
        let config = crate::config::tests::config_with(flags, &[("HOME", "/")], files)
            .unwrap_or_else(|error| panic!("{error}"));
        config.turn.expect("on").max_streams
    };
    assert_eq!(
        (streams(None, &[]), streams(Some(100_000), &[]), streams(Some(20_000), &[])),
        (4096, 4096, 4096)
    );
    assert_eq!(streams(Some(1024), &[]), 224, "a quarter of what is left");
    assert_eq!(
        streams(Some(1024), &["--max-connections", "896"]),
        16,
        "who gives signaling all has few streams"
    );
}

#[test]
fn participants_are_told_one_host_or_the_one_they_used() {
    let host = |flags: &[&str]| good(flags).ice.host.map(|host: Host| host.to_string());
    assert_eq!(host(&[]), None);
    assert_eq!(host(&["--public-url", "https://Meet.example.org:8443"]).as_deref(), Some("meet.example.org"));
    assert_eq!(host(&["--public-url", "http://[2001:db8::1]:8080"]).as_deref(), Some("[2001:db8::1]"));
    let given = ["--public-url", "https://meet.example.org", "--turn-host", "2001:db8::2"];
    assert_eq!(host(&given).as_deref(), Some("[2001:db8::2]"));
}

#[test]
fn each_error_names_the_option_the_value_and_a_better_one() {
    for (flags, said) in [
        (
            ["--turn-listen", "3478"],
            "--turn-listen 3478: has no address before the port; write for example 0.0.0.0:3478",
        ),
        (["--turn-listen", "127.0.0.1:8080"], "meets --listen 127.0.0.1:8080"),
        (["--turn-listen", "0.0.0.0:8080"], "meets --listen 127.0.0.1:8080"),
        (["--turn-tls-listen", "127.0.0.1:5349"], "needs a certificate; give --tls-cert"),
        (
            ["--turn-ports", "10000"],
            "--turn-ports 10000: is not a range of ports; write for example 10000-20000",
        ),
        (["--turn-ports", "20000-10000"], "ends before it begins"),
        (["--turn-ports", "1000-2000"], "begins below 1024"),
        (
            ["--turn-ports", "3000-4000"],
            "holds the port of --turn-listen 127.0.0.1:3478; write for example a range without that port",
        ),
        (["--turn-ports", "10000-70000"], "is not a range of ports"),
        (
            ["--external-address", "meet.example.org"],
            "--external-address meet.example.org: is not an address",
        ),
        (["--external-address", "0.0.0.0"], "is no machine's address"),
        (["--external-address", "203.0.113.7,203.0.113.8"], "is a second one of its family"),
        (
            ["--turn-host", "https://meet.example.org"],
            "--turn-host https://meet.example.org: is not a name or an address",
        ),
        (["--turn-host", "meet.example.org:3478"], "the port is that of --turn-listen"),
        (["--turn-allow-peer", "lan"], "--turn-allow-peer lan: is not an address"),
        (["--turn-allow-peer", "192.168.1.1/24"], "192.168.1.0/24"),
        (["--turn-participant-mbps", "1000001"], "is not between 0 and 1000000"),
        (["--turn-room-allocations", "0"], "--turn-room-allocations 0: is not between 1 and 100000"),
    ] {
        let text = error(&flags);
        assert!(text.contains(said), "{flags:?}: {text}");
    }
    assert!(error(&["--turn-listen", "127.0.0.1:1,127.0.0.1:1"]).contains("is given twice"));
    let nine = "127.0.0.1:0,".repeat(9);
    assert!(error(&["--turn-listen", nine.trim_end_matches(',')]).contains("one more than 8"));
    let both: Vec<&str> = ["--turn-listen", "127.0.0.1:5349", "--turn-tls-listen", "127.0.0.1:5349"]
        .into_iter()
        .chain(TLS)
        .collect();
    assert!(error(&both).contains("meets --turn-listen 127.0.0.1:5349"));
}

#[test]
fn who_switches_it_off_need_not_clear_the_rest() {
    let config: Config = good(&["--no-turn", "--turn-listen", "127.0.0.1:0"]);
    assert!(config.turn.is_none());
}
