//! What operators write, and what they are told.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use snug_room_proto::{IceServerSource as _, RateLimit, RoomCreation};
use snug_wire::UserId;

use crate::ice::IceServers;
use crate::quic::QuicListen;

use super::{Config, ConfigError, Listen, Log, LogFormat, LogLevel, Options, resolve};

/// Resolves flags (and a file) with nothing but HOME in the environment.
fn config(flags: &[&str]) -> Result<Config, ConfigError> {
    config_with(flags, &[("HOME", "/home/op")], Some(20_000))
}

pub(super) fn config_with(
    flags: &[&str],
    variables: &[(&str, &str)],
    files: Option<u64>,
) -> Result<Config, ConfigError> {
    let variables: HashMap<&str, OsString> =
        variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
    let options =
        Options::try_parse_from(std::iter::once(&"snug-relay").chain(flags)).expect("clap takes it");
    resolve(options, &|name| variables.get(name).cloned(), files)
}

pub(super) fn good(flags: &[&str]) -> Config {
    config(flags).unwrap_or_else(|error| panic!("{flags:?}: {error}"))
}

pub(super) fn error(flags: &[&str]) -> String {
    match config(flags) {
        Ok(_) => panic!("{flags:?} must be refused"),
        Err(error) => error.to_string(),
    }
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("snug.toml");
    std::fs::write(&path, text).expect("write");
    let path = path.to_str().expect("UTF-8").to_owned();
    (dir, path)
}

#[test]
fn without_options_it_is_a_relay_on_loopback() {
    let config = good(&[]);
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().expect("an address")]);
    assert_eq!(config.metrics_listen, Some("127.0.0.1:9464".parse().expect("an address")));
    assert!(config.tls.is_none() && config.public_url.is_none());
    assert_eq!(config.data_dir, Path::new("/home/op/.local/share/snug-relay"));
    assert!(config.ice.urls.is_empty(), "no third party is asked unless the operator says so");
    assert_eq!(config.ice.ttl, Duration::from_secs(3600));
    assert_eq!(config.max_rooms, 100_000);
    assert_eq!(
        config.admission.max_connections, 9936,
        "half of the files that are left, which relayed traffic needs too"
    );
    assert_eq!(config.admission.per_block, 256);
    assert_eq!(config.joins, RateLimit { burst: 30.0, per_second: 0.5 });
    assert_eq!(config.creations, RateLimit { burst: 20.0, per_second: 1.0 / 60.0 });
    assert_eq!(config.messages, RateLimit { burst: 240.0, per_second: 60.0 });
    assert_eq!(config.log, Log { format: LogFormat::Text, level: LogLevel::Info });
    assert_eq!(config.drain, Duration::from_secs(5));
    assert!(!config.quiet && config.qr);
}

#[test]
fn a_flag_counts_before_the_file_and_the_file_before_the_default() {
    let (_dir, path) = file(
        "listen = [\"127.0.0.1:1\", \"[::1]:2\"]\nmax-rooms = 7\ndrain-seconds = 9\nno-qr = true\n\
         log-format = \"json\"\nlog-level = \"debug\"\n",
    );
    let config = good(&["--config", &path, "--max-rooms", "8", "--no-qr=no"]);
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.max_rooms, 8);
    assert_eq!(config.drain, Duration::from_secs(9));
    assert!(config.qr, "a flag can switch off what the file switches on");
    assert_eq!(config.log, Log { format: LogFormat::Json, level: LogLevel::Debug });
    let config = good(&["--config", &path, "--listen", "127.0.0.1:3"]);
    assert_eq!(
        config.listen,
        ["127.0.0.1:3".parse().expect("an address")],
        "a list is not mixed from two sources"
    );
}

/// Not a test by itself: prints what a process with its variables sees, for the next one.
#[test]
fn child_that_prints_its_configuration() {
    if std::env::var_os("SNUG_TEST_CONFIG_CHILD").is_none() {
        return;
    }
    let file = std::env::var("SNUG_CONFIG").expect("set by the parent");
    let options = Options::try_parse_from(["snug-relay", "--max-rooms", "3"]).expect("parses");
    let config = resolve(options, &|name| std::env::var_os(name), None).expect("valid");
    eprintln!(
        "seen {} {:?} {} {:?} {} {file}",
        config.max_rooms,
        config.listen,
        config.quiet,
        config.drain,
        config.ice.urls.len()
    );
}

#[test]
fn a_variable_counts_before_the_file_and_after_the_flag() {
    let (_dir, path) = file("max-rooms = 1\nlisten = [\"127.0.0.1:1\"]\ndrain-seconds = 7\n");
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "config::tests::child_that_prints_its_configuration", "--nocapture"])
        .env("SNUG_TEST_CONFIG_CHILD", "1")
        .env("SNUG_CONFIG", &path)
        .env("SNUG_MAX_ROOMS", "2")
        .env("SNUG_LISTEN", "127.0.0.1:5,[::1]:6")
        .env("SNUG_QUIET", "yes")
        .env("SNUG_TURN_SECRET", "north")
        .env("SNUG_ICE_SERVER", "turn:a.example")
        .env("HOME", "/home/op")
        .stdout(Stdio::null())
        .output()
        .expect("the child runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("seen 3 [127.0.0.1:5, [::1]:6] true 7s 1 {path}")), "{text}");
}

#[test]
fn every_option_has_a_flag_a_variable_a_key_and_a_help_text() {
    Options::command().debug_assert();
    let command = Options::command();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        // Something to do once, and nothing that is set.
        if id == "print_link" {
            continue;
        }
        let variable = argument.get_env().unwrap_or_else(|| panic!("{id} has no variable"));
        assert_eq!(variable.to_str(), Some(format!("SNUG_{}", id.to_uppercase()).as_str()));
        assert!(argument.get_help().is_some_and(|help| help.to_string().len() > 15), "{id}");
        assert!(id == "config" || argument.get_help_heading().is_some(), "{id} stands in no group");
    }
    let help = Options::command().render_long_help().to_string();
    for said in
        ["learns the addresses of all participants", "Examples:", "max-rooms = 500", "SNUG_TURN_SECRET"]
    {
        assert!(help.contains(said), "{said}");
    }
    assert!(!help.contains("--turn-secret "), "a secret on the command line is seen by everybody");
}

#[test]
fn every_key_of_the_file_is_read() {
    let text = "listen = [\"127.0.0.1:1\"]\nquic-listen = [\"127.0.0.1:2\"]\npublic-url = \"https://a.example\"\nallowed-origin = [\"tauri://localhost\"]\nallowed-host = [\"Meet.lan\"]\n\
        metrics-listen = \"off\"\ntls-cert = \"c\"\ntls-key = \"k\"\nallow-plain-http = true\ntrusted-proxy = [\"::1\"]\n\
        data-dir = \"/d\"\nroom-expiry = 7\nroom-creation = \"closed\"\nno-turn = false\nturn-listen = [\"127.0.0.1:0\"]\nturn-tls-listen = [\"127.0.0.1:0\"]\n\
        turn-ports = \"2000-3000\"\nexternal-address = [\"203.0.113.7\"]\nturn-host = \"turn.a.example\"\n\
        turn-allow-peer = [\"10.0.0.0/8\"]\nturn-participant-mbps = 11\nturn-room-mbps = 12\nturn-source-mbps = 13\n\
        turn-total-mbps = 14\nturn-participant-allocations = 15\nturn-room-allocations = 16\n\
        turn-source-allocations = 17\nice-server = [\"stun:a.example\"]\nturn-ttl-seconds = 600\npublic-stun = true\nmax-rooms = 1\n\
        max-connections = 2\nconnections-per-block = 3\njoins-burst = 4\njoins-per-minute = 60\ncreations-burst = 6\n\
        creations-per-minute = 120\nmessages-burst = 8\nmessages-per-second = 9\ndrain-seconds = 10\nlog-format = \"json\"\n\
        log-level = \"trace\"\nno-qr = true\nquiet = true\n";
    let named: Vec<&str> = text.lines().filter_map(|line| line.split(" = ").next()).collect();
    let missing: Vec<String> = Options::keys()
        .into_iter()
        .filter(|key| !named.contains(&key.as_str()) && !key.ends_with("-file"))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let (_dir, path) = file(text);
    let config = good(&["--config", &path]);
    assert_eq!(config.public_url.as_ref().map(|url| url.0.as_str()), Some("https://a.example"));
    assert!(matches!(&config.quic, QuicListen::At(at) if at[0].port() == 2));
    assert_eq!(config.allowed_origins[0], "tauri://localhost");
    assert_eq!(config.allowed_hosts.iter().map(crate::ice::Host::as_str).collect::<Vec<_>>(), ["meet.lan"]);
    assert_eq!(config.metrics_listen, None);
    assert_eq!(config.tls, Some(super::TlsFiles { cert: "c".into(), key: "k".into() }));
    assert!(config.trusted_proxies.contain("::1".parse().expect("an address")));
    assert!(config.admission.trusted_proxies.contain("::1".parse().expect("an address")));
    assert_eq!(config.data_dir, PathBuf::from("/d"));
    let turn = config.turn.as_ref().expect("on");
    let free = Listen { addresses: vec!["127.0.0.1:0".parse().expect("an address")], given: true };
    assert_eq!((&turn.listen, &turn.tls_listen), (&free, &free));
    assert_eq!(turn.relay_ports, 2000..=3000);
    assert_eq!(turn.external, ["203.0.113.7".parse::<std::net::IpAddr>().expect("an address")]);
    assert_eq!(turn.allow_peers, ["10.0.0.0/8".parse().expect("a network")]);
    let megabits = [turn.quotas.per_owner, turn.quotas.per_group, turn.quotas.per_source, turn.quotas.server];
    assert_eq!(megabits.map(|quota| quota.megabits), [11, 12, 13, 14]);
    assert_eq!(megabits.map(|quota| quota.allocations), [15, 16, 17, u32::MAX]);
    assert_eq!(config.ice.host.as_ref().map(crate::ice::Host::as_str), Some("turn.a.example"));
    assert_eq!(config.ice.urls.len(), 2);
    assert_eq!(config.ice.ttl, Duration::from_secs(600));
    assert_eq!((config.max_rooms, config.admission.max_connections), (1, 2));
    assert_eq!(config.room_expiry, 7);
    assert!(matches!(config.creation, RoomCreation::Closed));
    assert_eq!(config.admission.per_block, 3);
    assert_eq!(config.joins, RateLimit { burst: 4.0, per_second: 1.0 });
    assert_eq!(config.creations, RateLimit { burst: 6.0, per_second: 2.0 });
    assert_eq!(config.messages, RateLimit { burst: 8.0, per_second: 9.0 });
    assert_eq!(config.drain, Duration::from_secs(10));
    assert_eq!(config.log.level.as_str(), "trace");
    assert!(config.quiet && !config.qr);
}

#[test]
fn an_unknown_key_is_an_error_with_a_guess() {
    for (text, hint) in [
        ("lisen = []", "did you mean listen?"),
        ("max_rooms = 3", "did you mean max-rooms?"),
        ("publicurl = \"x\"", "did you mean public-url?"),
        ("colour = 3", "--help lists the keys"),
        ("turn-secret = \"x\"", "turn-secret-file"),
        ("turn-port = \"1-2\"", "did you mean turn-ports?"),
        ("config = \"x\"", "--help lists the keys"),
        ("[limits]\nmax-rooms = 3", "--help lists the keys"),
    ] {
        let (_dir, path) = file(text);
        let error = error(&["--config", &path]);
        assert!(error.contains(hint) && error.contains("snug.toml"), "{error}");
    }
}

#[test]
fn a_broken_file_is_named_with_the_line() {
    let (_dir, path) = file("quiet = true\nmax-rooms = \"many\"\n");
    let text = error(&["--config", &path]);
    assert!(text.contains("snug.toml") && text.contains("line 2"), "{text}");
    let (_dir, path) = file("listen = [\n");
    assert!(error(&["--config", &path]).contains("snug.toml"));
    assert!(error(&["--config", "/nowhere/snug.toml"]).contains("check --config"));
}

#[test]
fn plain_http_to_other_machines_has_to_be_asked_for() {
    let text = error(&["--listen", "0.0.0.0:8080"]);
    for said in ["0.0.0.0:8080", "--tls-cert", "--allow-plain-http"] {
        assert!(text.contains(said), "{text}");
    }
    assert!(error(&["--listen", "127.0.0.1:80", "--listen", "[::]:80"]).contains("[::]:80"));
    good(&["--listen", "0.0.0.0:8080", "--allow-plain-http"]);
    good(&["--listen", "0.0.0.0:8080", "--tls-cert", "c", "--tls-key", "k"]);
    good(&["--listen", "[::1]:8080", "--listen", "127.0.0.9:0", "--listen", "[::ffff:127.0.0.1]:8081"]);
}

#[test]
fn each_error_names_the_option_the_value_and_a_better_one() {
    for (flags, said) in [
        (
            ["--listen", "8080"],
            "--listen 8080: has no address before the port; write for example 127.0.0.1:8080",
        ),
        (["--listen", "127.0.0.1"], "has no port"),
        (["--listen", "localhost:80"], "is not an address and a port"),
        (["--metrics-listen", "no"], "127.0.0.1:9464, or off"),
        (["--public-url", "meet.example.org"], "has no scheme"),
        (["--public-url", "https://meet.example.org/snug"], "only scheme, host and port count"),
        (["--public-url", "tauri://localhost"], "is not a web address"),
        (["--public-url", "https://müller.example"], "xn--"),
        (["--allowed-origin", "localhost"], "--allowed-origin localhost: has no scheme"),
        (["--allowed-origin", "null"], "has no scheme"),
        (["--allowed-origin", "https://a:b"], "has no valid port"),
        (["--allowed-origin", "https://me@a.example"], "user name"),
        (["--allowed-host", "meet.lan:8080"], "--allowed-host meet.lan:8080: is not a name or an address"),
        (["--trusted-proxy", "proxy"], "--trusted-proxy proxy: is not an address"),
        (["--trusted-proxy", "10.0.0.1/8"], "10.0.0.0/8"),
        (["--ice-server", "https://a.example"], "does not begin with stun:"),
        (["--ice-server", "turn:a.example"], "SNUG_TURN_SECRET"),
        (["--turn-secret-file", "/nowhere"], "--turn-secret-file /nowhere"),
        (["--turn-ttl-seconds", "5"], "is not between 300 and 86400; write for example 3600"),
        (["--max-rooms", "0"], "--max-rooms 0"),
        (["--max-connections", "19999"], "LimitNOFILE"),
        (["--connections-per-block", "0"], "is not between"),
        (["--joins-per-minute", "0"], "--joins-per-minute 0"),
        (["--drain-seconds", "301"], "is not between 0 and 300"),
        (["--tls-cert", "c"], "--tls-key"),
        (["--tls-key", "k"], "--tls-cert"),
    ] {
        let text = error(&flags);
        assert!(text.contains(said), "{flags:?}: {text}");
    }
    assert!(error(&["--listen", "127.0.0.1:80", "--listen", "127.0.0.1:80"]).contains("twice"));
    let servers = "stun:a.example,".repeat(17);
    assert!(error(&["--ice-server", servers.trim_end_matches(',')]).contains("one more than 16"));
}

#[test]
fn origins_are_written_as_browsers_send_them() {
    for (written, sent) in [
        ("https://Meet.Example.org/", "https://meet.example.org"),
        ("https://meet.example.org:443", "https://meet.example.org"),
        ("http://meet.example.org:80", "http://meet.example.org"),
        ("https://meet.example.org:8443", "https://meet.example.org:8443"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("TAURI://localhost", "tauri://localhost"),
    ] {
        assert_eq!(good(&["--allowed-origin", written]).allowed_origins[0], sent);
    }
}

#[test]
fn the_data_directory_is_where_the_system_wants_it() {
    let dir = |flags: &[&str], variables: &[(&str, &str)]| {
        config_with(flags, variables, None).map(|config| config.data_dir).map_err(|error| error.to_string())
    };
    let all = [("STATE_DIRECTORY", "/var/lib/snug:/other"), ("XDG_DATA_HOME", "/xdg"), ("HOME", "/home/op")];
    assert_eq!(dir(&["--data-dir", "/given"], &all), Ok("/given".into()));
    assert_eq!(dir(&[], &all), Ok("/var/lib/snug".into()));
    assert_eq!(dir(&[], &all[1..]), Ok("/xdg/snug-relay".into()));
    assert_eq!(dir(&[], &all[2..]), Ok("/home/op/.local/share/snug-relay".into()));
    assert_eq!(
        dir(&[], &[("XDG_DATA_HOME", "relative"), all[2]]),
        Ok("/home/op/.local/share/snug-relay".into())
    );
    assert!(dir(&[], &[]).is_err_and(|error| error.contains("--data-dir")));
}

#[test]
fn the_turn_secret_comes_from_a_variable_or_a_file_and_is_never_shown() {
    let turn = ["--ice-server", "turn:a.example"];
    let variables = |value| [("HOME", "/home/op"), ("SNUG_TURN_SECRET", value)];
    assert!(config_with(&turn, &variables("north"), None).is_ok_and(|config| config.ice.secret.is_some()));
    assert!(
        config_with(&turn, &variables(" "), None).is_err_and(|error| error.to_string().contains("no secret"))
    );

    let (_dir, path) = file("north\n");
    let flags = ["--ice-server", "turn:a.example", "--turn-secret-file", &path];
    let from_file = good(&flags);
    let from_variable = config_with(&turn, &variables("north"), None).expect("valid");
    let room = "room-one".parse().expect("a room id");
    let entries = |config: &Config| {
        let servers = IceServers::new(config.ice.clone(), Arc::default());
        servers.ice_servers(&room, UserId::from_bytes([0; 16]), None, 0)
    };
    assert!(entries(&from_file) == entries(&from_variable));
    let both = config_with(&flags, &variables("south"), None).err().expect("one of them").to_string();
    assert!(
        both.contains("give one of them") && !both.contains("south") && !both.contains("north"),
        "{both}"
    );
}

#[test]
fn public_stun_is_an_opt_in() {
    let urls =
        |flags: &[&str]| -> Vec<String> { good(flags).ice.urls.iter().map(ToString::to_string).collect() };
    assert!(urls(&["--ice-server", "stun:a.example"]).iter().all(|url| !url.contains("google")));
    assert_eq!(urls(&["--public-stun"]), [crate::ice::PUBLIC_STUN]);
}

#[test]
fn connections_leave_files_for_the_rest() {
    let most =
        |files| config_with(&[], &[("HOME", "/")], files).map(|config| config.admission.max_connections);
    assert_eq!(most(Some(1024)).ok(), Some(448), "as many are left for relayed traffic");
    assert_eq!(most(Some(20_000)).ok(), Some(9936));
    assert_eq!(most(Some(100_000)).ok(), Some(10_000));
    let alone = config_with(&["--no-turn"], &[("HOME", "/")], Some(1024)).expect("valid");
    assert_eq!(alone.admission.max_connections, 896);
    assert_eq!(most(None).ok(), Some(10_000));
    assert!(most(Some(100)).is_err_and(|error| error.to_string().contains("ulimit -n")));
    assert_eq!(good(&["--max-connections", "15000"]).admission.max_connections, 15_000);
}

#[test]
fn the_link_begins_with_an_address_that_can_be_opened() {
    let base = |flags: &[&str], addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        good(flags).base_url(&addresses)
    };
    let tls = ["--tls-cert", "c", "--tls-key", "k"];
    assert_eq!(base(&[], &["127.0.0.1:8080", "[::1]:8080"]), "http://127.0.0.1:8080");
    assert_eq!(base(&[], &["[::1]:8080"]), "http://[::1]:8080");
    assert_eq!(base(&tls, &["0.0.0.0:8443"]), "https://localhost:8443");
    assert_eq!(base(&tls, &["[::]:8443"]), "https://localhost:8443");
    assert_eq!(
        base(&["--public-url", "https://meet.example.org/"], &["127.0.0.1:1"]),
        "https://meet.example.org"
    );
    let url = good(&["--public-url", "https://meet.example.org:8443"]).public_url.expect("given");
    assert_eq!(url.authority(), "meet.example.org:8443");
}

#[test]
fn no_flag_takes_the_secret() {
    assert!(Options::try_parse_from(["snug-relay", "--turn-secret", "north"]).is_err());
}

#[test]
fn a_packet_that_a_stranger_mangled_writes_no_line_at_any_level() {
    // A Binding request whose only attribute ends behind the packet.
    let mangled = [&[0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42], [7; 12].as_slice(), &[0, 6, 0, 9]].concat();
    let lines = |filter: String| {
        let path = tempfile::NamedTempFile::new().expect("a directory for them");
        let file = path.reopen().expect("it is there");
        let lines =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::sync::Mutex::new(file));
        tracing::subscriber::with_default(lines.finish(), || {
            assert!(stun_types::message::Message::from_bytes(&mangled).is_err());
            tracing::error!("of the relay itself");
        });
        std::fs::read_to_string(path.path()).expect("text").lines().count()
    };
    assert_eq!(lines("warn".into()), 2, "the codec would warn of it");
    for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
        assert_eq!(lines(level.filter()), 1, "{level:?}");
    }
}

#[test]
fn quic_is_where_https_is_unless_the_operator_says_otherwise() {
    let tls = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let with_tls = |more: &[&'static str]| [&tls[..], more].concat();
    assert_eq!(good(&[]).quic, QuicListen::Off);
    assert_eq!(good(&["--quic-listen", "off"]).quic, QuicListen::Off);
    assert_eq!(good(&tls).quic, QuicListen::LikeHttps);
    assert_eq!(good(&with_tls(&["--quic-listen", "off"])).quic, QuicListen::Off);
    let at = "127.0.0.1:9443".parse().expect("an address");
    assert_eq!(good(&with_tls(&["--quic-listen", "127.0.0.1:9443"])).quic, QuicListen::At(vec![at]));
    for (flags, part) in [
        (vec!["--quic-listen", "127.0.0.1:9443"], "needs a certificate"),
        (with_tls(&["--quic-listen", "9443"]), "has no address"),
        (with_tls(&["--quic-listen", "127.0.0.1:9443,off"]), "is not an address"),
        (with_tls(&["--quic-listen", "127.0.0.1:9443,127.0.0.1:9443"]), "given twice"),
        (with_tls(&["--quic-listen", "127.0.0.1:3478"]), "meets the STUN and TURN server's"),
        (with_tls(&["--turn-listen", "127.0.0.1:8080"]), "meets --listen"),
    ] {
        let error = error(&flags);
        assert!(error.contains(part), "{flags:?}: {error}");
    }
}
