//! Faults on real files: cut off, overwritten, killed while writing, no space, no permission.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, TableDefinition};

use super::keeper::{Job, Reserve};
use super::record::Record;
use super::{Entry, Failure, MAX_RECORD_BYTES, QUEUE_LENGTH, RecoveredFrom, Store, StoreError, StoreState};
use crate::needs;

const MAIN: &str = "rooms.redb";
const MIRROR: &str = "rooms.mirror.redb";
const PATIENCE: Duration = Duration::from_secs(30);

fn save(store: &Store, key: &str, bytes: &[u8]) -> Result<(), Failure> {
    let (reply, answer) = mpsc::channel();
    store.save(key, bytes.to_vec(), move |result| reply.send(result).expect("the test waits"));
    answer.recv_timeout(PATIENCE).expect("every save is answered")
}

fn load(store: &Store, key: &str) -> Result<Option<Vec<u8>>, Failure> {
    let (reply, answer) = mpsc::channel();
    store.load(key, move |result| reply.send(result).expect("the test waits"));
    answer.recv_timeout(PATIENCE).expect("every load is answered")
}

fn open(dir: &Path) -> Store {
    Store::open(dir).expect("nobody else has the directory")
}

fn close(store: Store) {
    store.close(PATIENCE);
}

fn scan(store: &Store, after: &str, limit: usize) -> Result<Vec<Entry>, Failure> {
    let (reply, answer) = mpsc::channel();
    store.scan(after, limit, move |result| reply.send(result).expect("the test waits"));
    answer.recv_timeout(PATIENCE).expect("every scan is answered")
}

fn remove(store: &Store, entries: Vec<Entry>) -> Result<usize, Failure> {
    let (reply, answer) = mpsc::channel();
    store.remove(entries, move |result| reply.send(result).expect("the test waits"));
    answer.recv_timeout(PATIENCE).expect("every removal is answered")
}

/// The state once the files were looked at.
fn settled(store: &Store) -> StoreState {
    // The queue is served only once the files are open.
    let _ = load(store, "nobody");
    store.status().state
}

fn key(n: usize) -> String {
    format!("sunny-mountain-{n}")
}

fn value(n: usize) -> Vec<u8> {
    let mut value = format!("room {n} ").into_bytes();
    value.resize(300, n as u8);
    value
}

/// A directory with `rooms` rooms, closed cleanly.
fn filled(rooms: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    fill(dir.path(), rooms);
    dir
}

fn fill(dir: &Path, rooms: usize) {
    let store = open(dir);
    let (reply, answers) = mpsc::channel();
    for n in 0..rooms {
        let reply = reply.clone();
        store.save(key(n), value(n), move |result| reply.send(result).expect("the test waits"));
        if n % 200 == 199 {
            (0..200).for_each(|_| answers.recv().expect("answer").expect("saved"));
        }
    }
    (0..rooms % 200).for_each(|_| answers.recv().expect("answer").expect("saved"));
    close(store);
}

fn assert_all_there(store: &Store, rooms: usize, context: &str) {
    for n in 0..rooms {
        assert_eq!(load(store, &key(n)), Ok(Some(value(n))), "room {n}, {context}");
    }
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).expect("open");
    file.seek(SeekFrom::Start(offset)).expect("seek");
    file.write_all(bytes).expect("write");
}

/// Bytes that look like nothing, the same for each seed.
fn garbage(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

fn damaged_files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| name.contains(".damaged-"));
    names.sort();
    names
}

#[test]
fn what_was_saved_is_there_after_a_restart() {
    let dir = filled(40);
    let store = open(dir.path());
    assert_all_there(&store, 40, "after a restart");
    assert_eq!(load(&store, "somebody-else-1"), Ok(None));
    assert_eq!(store.status().state, StoreState::Ok);
    assert_eq!(store.status().rooms, 40);
    assert!(store.status().state.is_healthy());
}

#[test]
fn the_last_save_of_a_room_wins_and_counts_once() {
    let dir = filled(0);
    let store = open(dir.path());
    for n in 0..5 {
        assert_eq!(save(&store, "a-b", &value(n)), Ok(()));
    }
    assert_eq!(load(&store, "a-b"), Ok(Some(value(4))));
    assert_eq!(store.status().rooms, 1);
    assert_eq!(store.status().saves, 5);
}

#[test]
fn a_load_sees_the_save_that_was_queued_before_it() {
    let dir = filled(0);
    let store = open(dir.path());
    // All of it is queued while the files are still being opened, so it is one batch.
    let (reply, answers) = mpsc::channel();
    for n in 0..20 {
        store.save(key(n), value(n), |result| assert_eq!(result, Ok(())));
        let reply = reply.clone();
        store.load(key(n), move |result| reply.send((n, result)).expect("the test waits"));
    }
    for _ in 0..20 {
        let (n, result) = answers.recv_timeout(PATIENCE).expect("answer");
        assert_eq!(result, Ok(Some(value(n))));
    }
    assert!(store.status().commits < 20, "saves are grouped");
}

#[test]
fn too_large_a_record_is_refused_and_harms_nobody() {
    let dir = filled(1);
    let store = open(dir.path());
    assert_eq!(save(&store, "a-b", &vec![0; MAX_RECORD_BYTES + 1]), Err(Failure::Unavailable));
    assert_eq!(save(&store, &"a".repeat(129), b""), Err(Failure::Unavailable));
    assert_eq!(load(&store, &"a".repeat(129)), Ok(None));
    assert_eq!(save(&store, "a-b", &vec![0; MAX_RECORD_BYTES]), Ok(()));
    assert_all_there(&store, 1, "beside a refused one");
}

#[test]
fn a_full_queue_refuses_at_once() {
    let dir = filled(0);
    let store = open(dir.path());
    assert_eq!(settled(&store), StoreState::Ok);
    let (held, hold) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    store.load("a-b", move |_| {
        entered.send(()).expect("the test waits");
        let _ = hold.recv();
    });
    inside.recv().expect("the thread is held up");
    for n in 0..QUEUE_LENGTH {
        store.save(key(n), value(n), |_| {});
    }
    assert_eq!(save(&store, "one-more", b"x"), Err(Failure::Unavailable));
    assert_eq!(load(&store, "one-more"), Err(Failure::Unavailable));
    drop(held);
    assert_eq!(once_drained(&store), Ok(None));
}

/// The queue drains in its own time.
fn once_drained(store: &Store) -> Result<Option<Vec<u8>>, Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        match load(store, "a-b") {
            Err(Failure::Unavailable) if Instant::now() < end => std::thread::yield_now(),
            other => return other,
        }
    }
}

#[test]
fn a_second_relay_on_the_directory_is_told_so() {
    let dir = filled(1);
    let first = open(dir.path());
    let Err(error) = Store::open(dir.path()) else { panic!("two relays on one directory") };
    assert!(matches!(&error, StoreError::Locked(path) if path == dir.path()));
    assert!(error.to_string().contains("--data-dir"));
    close(first);
    assert_all_there(&open(dir.path()), 1, "after the first has gone");
}

#[test]
fn after_closing_jobs_are_refused_and_not_lost_in_silence() {
    let dir = filled(1);
    let store = open(dir.path());
    store.close(PATIENCE);
    assert_eq!(save(&store, "a-b", b"x"), Err(Failure::Unavailable));
    assert_eq!(load(&store, &key(0)), Err(Failure::Unavailable));
}

#[test]
fn what_is_handed_over_while_the_store_closes_is_answered() {
    let dir = filled(1);
    let store = open(dir.path());
    assert_eq!(settled(&store), StoreState::Ok);
    let (held, hold) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    store.load("a-b", move |_| {
        entered.send(()).expect("the test waits");
        let _ = hold.recv();
    });
    inside.recv().expect("the thread is held up");
    let (done, closed) = mpsc::channel();
    store.jobs.send(Job::Close { done }).expect("the thread takes jobs");
    let (reply, saved) = mpsc::channel();
    store.save("a-b", b"x".to_vec(), move |result| reply.send(result).expect("the test waits"));
    let (reply, loaded) = mpsc::channel();
    store.load(key(0), move |result| reply.send(result).expect("the test waits"));
    drop(held);
    assert_eq!(saved.recv_timeout(PATIENCE), Ok(Err(Failure::Unavailable)));
    assert_eq!(loaded.recv_timeout(PATIENCE), Ok(Err(Failure::Unavailable)));
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(()));
    assert_eq!(load(&open(dir.path()), "a-b"), Ok(None), "refused means not stored");
}

#[test]
fn a_file_cut_off_anywhere_is_made_anew_from_the_other() {
    let rooms = 60;
    let original = filled(rooms);
    let length = fs::metadata(original.path().join(MAIN)).expect("main").len();
    let cuts: Vec<u64> = [0, 1, 63, 64, 319, 320, 4095, 4096, 8192]
        .into_iter()
        .chain((1..12).map(|n| length * n / 12))
        .chain([length - 4096, length - 1])
        .collect();
    for cut in cuts {
        for (victim, from) in [(MAIN, RecoveredFrom::Mirror), (MIRROR, RecoveredFrom::Main)] {
            let dir = copy_of(original.path());
            let file = OpenOptions::new().write(true).open(dir.path().join(victim)).expect("open");
            file.set_len(cut).expect("cut");
            let store = open(dir.path());
            let state = settled(&store);
            assert_all_there(&store, rooms, &format!("{victim} cut at {cut}"));
            let StoreState::Recovered { quarantined, from: source } = &state else {
                panic!("{victim} cut at {cut} of {length} went unnoticed: {state:?}")
            };
            assert_eq!((quarantined.len(), *source), (1, from), "{victim} cut at {cut}");
            assert_eq!(damaged_files(dir.path()), *quarantined);
            assert_eq!(save(&store, "still-works", b"x"), Ok(()));
            close(store);
            assert_eq!(settled(&open(dir.path())), StoreState::Ok, "mended for good");
        }
    }
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("temporary directory");
    for name in [MAIN, MIRROR] {
        fs::copy(dir.join(name), copy.path().join(name)).expect("copy");
    }
    copy
}

#[test]
fn garbage_anywhere_in_one_file_loses_no_room() {
    let rooms = 60;
    let original = filled(rooms);
    let length = fs::metadata(original.path().join(MAIN)).expect("main").len();
    let mut noticed = 0;
    let places = (0..24).map(|n| (length * n / 24) & !511).chain([0, 8, 64, 192, 4096]);
    for (seed, place) in places.enumerate() {
        for victim in [MAIN, MIRROR] {
            let dir = copy_of(original.path());
            let room_left = (length - place) as usize;
            overwrite(&dir.path().join(victim), place, &garbage(seed as u64 + 1, room_left.min(4096)));
            let store = open(dir.path());
            noticed += usize::from(settled(&store) != StoreState::Ok);
            assert_all_there(&store, rooms, &format!("garbage in {victim} at {place}"));
            assert_eq!(save(&store, "still-works", b"x"), Ok(()));
        }
    }
    assert!(noticed > 8, "garbage in used pages is noticed, only {noticed} were");
}

#[test]
fn a_missing_file_is_made_anew() {
    for (victim, from) in [(MAIN, RecoveredFrom::Mirror), (MIRROR, RecoveredFrom::Main)] {
        let dir = filled(5);
        fs::remove_file(dir.path().join(victim)).expect("remove");
        let store = open(dir.path());
        assert_eq!(settled(&store), StoreState::Recovered { quarantined: Vec::new(), from });
        assert_all_there(&store, 5, victim);
    }
}

#[test]
fn both_files_damaged_starts_empty_and_says_so() {
    let dir = filled(5);
    overwrite(&dir.path().join(MAIN), 0, &garbage(1, 4096));
    overwrite(&dir.path().join(MIRROR), 0, &garbage(2, 4096));
    let store = open(dir.path());
    let StoreState::Recovered { quarantined, from: RecoveredFrom::Nothing } = settled(&store) else {
        panic!("the loss must be told: {:?}", store.status())
    };
    assert_eq!(quarantined.len(), 2);
    assert_eq!(load(&store, &key(0)), Ok(None));
    assert_eq!(store.status().rooms, 0);
    assert_eq!(save(&store, &key(0), b"new"), Ok(()));
}

#[test]
fn at_most_three_damaged_files_of_a_kind_are_kept() {
    let dir = filled(3);
    for round in 0..5 {
        overwrite(&dir.path().join(MAIN), 0, &garbage(round, 4096));
        let store = open(dir.path());
        assert_all_there(&store, 3, "round");
        close(store);
    }
    assert_eq!(damaged_files(dir.path()).len(), 3);
}

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("rooms");

#[test]
fn a_kill_between_the_two_commits_is_settled_by_the_revision() {
    let dir = filled(3);
    for (file, name, revision) in
        [(MAIN, "only-main-1", 50), (MIRROR, "only-mirror-1", 51), (MAIN, &key(0), 52)]
    {
        let database = Database::open(dir.path().join(file)).expect("open");
        let transaction = database.begin_write().expect("begin");
        let record = Record { revision, bytes: b"late".to_vec() };
        let mut table = transaction.open_table(TABLE).expect("table");
        table.insert(name, record.encode(name).as_slice()).expect("insert");
        drop(table);
        transaction.commit().expect("commit");
    }
    let store = open(dir.path());
    for name in ["only-main-1", "only-mirror-1", &key(0)] {
        assert_eq!(load(&store, name), Ok(Some(b"late".to_vec())), "{name}");
    }
    assert_eq!(store.status().rooms, 5);
    assert_eq!(store.status().state, StoreState::Ok);
    assert_eq!(save(&store, "only-main-1", b"later"), Ok(()));
    close(store);
    for file in [MAIN, MIRROR] {
        let database = Database::open(dir.path().join(file)).expect("open");
        let table = database.begin_read().expect("begin").open_table(TABLE).expect("table");
        let value = table.get("only-main-1").expect("get").expect("there");
        let record = Record::decode("only-main-1", value.value()).expect("whole");
        assert_eq!((record.revision, record.bytes), (53, b"later".to_vec()), "{file}");
    }
}

#[test]
fn damage_while_running_never_turns_a_room_into_no_such_room() {
    let rooms = 8_000;
    let dir = filled(rooms);
    let path = dir.path().join(MAIN);
    let length = fs::metadata(&path).expect("main").len();
    for (seed, part) in [(1, 2), (2, 5)] {
        let store = open(dir.path());
        assert_eq!(load(&store, &key(0)), Ok(Some(value(0))));
        // Most of the file: more than redb has in its cache.
        overwrite(&path, length / part, &garbage(seed, (length / 3) as usize));
        for n in (0..rooms).step_by(7) {
            assert_eq!(load(&store, &key(n)), Ok(Some(value(n))), "room {n}");
        }
        assert!(matches!(store.status().state, StoreState::Recovered { from: RecoveredFrom::Mirror, .. }));
        assert_eq!(store.status().rooms, rooms as u64);
        close(store);
    }
}

const CHILD: &str = "SNUG_TEST_STORE_DIR";

/// Not a test by itself: the process that `nothing_acknowledged_is_lost_to_a_kill` kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&dir));
    let mut out = std::io::stderr();
    // Eight rooms at a time, so that commits carry groups; the counter in the value grows.
    for round in 0u64.. {
        let (reply, answers) = mpsc::channel();
        for n in 0..8usize {
            let (reply, room) = (reply.clone(), (round as usize * 8 + n) % 64);
            let mut bytes = value(room);
            bytes[..8].copy_from_slice(&round.to_le_bytes());
            store.save(key(room), bytes, move |result| reply.send((room, result)).expect("the child waits"));
        }
        for (room, result) in answers.iter().take(8) {
            assert_eq!(result, Ok(()));
            writeln!(out, "acknowledged {room} {round}").expect("the parent listens");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for cycle in 0..6 {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "store::tests::child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let mut acknowledged = [None::<u64>; 64];
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut heard = 0;
        while let Some(Ok(line)) = lines.next() {
            let mut words = line.split(' ').skip_while(|word| *word != "acknowledged").skip(1);
            let (Some(room), Some(round)) = (words.next(), words.next()) else { continue };
            // The last line may be cut off in the middle of the number, which only makes it smaller.
            let (Ok(room), Ok(round)) = (room.parse::<usize>(), round.parse()) else { continue };
            acknowledged[room] = acknowledged[room].max(Some(round));
            heard += 1;
            // A different moment each time; then whatever was still in the pipe.
            if heard == 100 + cycle * 37 {
                child.kill().expect("kill");
            }
        }
        child.wait().expect("wait");
        assert!(heard >= 100, "the child wrote");
        let store = open(dir.path());
        assert_eq!(settled(&store), StoreState::Ok, "a kill is no damage");
        for (room, round) in
            acknowledged.iter().enumerate().filter_map(|(room, round)| Some((room, (*round)?)))
        {
            let bytes = load(&store, &key(room)).expect("readable").expect("acknowledged, so there");
            let stored = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            assert!(
                stored >= round,
                "cycle {cycle}, room {room}: {stored} is on disk, {round} was acknowledged"
            );
        }
        close(store);
        // The next cycle's child starts its rounds at 0 again.
        for name in [MAIN, MIRROR] {
            fs::remove_file(dir.path().join(name)).expect("remove");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_made_leaves_the_relay_running() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, b"in the way").expect("write");
    let store = open(&file.join("data"));
    assert!(matches!(settled(&store), StoreState::Unavailable { .. }), "{:?}", store.status());
    assert_eq!(load(&store, &key(0)), Err(Failure::Unavailable), "not: no such room");
    assert_eq!(save(&store, &key(0), b"x"), Err(Failure::Unavailable));
    fs::remove_file(&file).expect("remove");
    wait_until(&store, |state| *state == StoreState::Ok);
    assert_eq!(save(&store, &key(0), b"x"), Ok(()));
}

fn wait_until(store: &Store, reached: impl Fn(&StoreState) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !reached(&store.status().state) {
        assert!(Instant::now() < end, "still {:?}", store.status());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A small file system of its own; only root may make one.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(size: &str) -> Option<(tempfile::TempDir, Self)> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let made = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            needs::skip("it needs the right to mount a small tmpfs");
            return None;
        }
        let path = dir.path().to_owned();
        Some((dir, Self(path)))
    }

    fn remount(&self, mode: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(&self.0).status();
        assert!(status.expect("mount").success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn fill_disk(path: &Path) {
    let mut file = fs::File::create(path).expect("create");
    for size in [64 * 1024, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

#[test]
fn a_full_disk_refuses_saves_serves_loads_and_recovers() {
    let Some((dir, mount)) = Tmpfs::mount("8m") else { return };
    let data = dir.path().join("data");
    let store = open(&data);
    for n in 0..10 {
        assert_eq!(save(&store, &key(n), &value(n)), Ok(()));
    }
    let ballast = dir.path().join("ballast");
    fill_disk(&ballast);
    for _ in 0..3 {
        assert_eq!(save(&store, "new-room-1", b"x"), Err(Failure::Full));
        assert_eq!(save(&store, &key(0), b"changed"), Err(Failure::Full));
    }
    assert_eq!(store.status().state, StoreState::DiskFull);
    assert_all_there(&store, 10, "on a full disk");
    assert_eq!(load(&store, "new-room-1"), Ok(None), "refused means not stored");

    // A restart on the full disk reads as well.
    close(store);
    let store = open(&data);
    assert_all_there(&store, 10, "after a restart on a full disk");
    assert_eq!(save(&store, "new-room-1", b"x"), Err(Failure::Full));

    fs::remove_file(&ballast).expect("remove");
    wait_until(&store, |state| *state == StoreState::Ok);
    assert_eq!(save(&store, "new-room-1", b"x"), Ok(()));
    assert_all_there(&store, 10, "after the space came back");
    close(store);
    drop(mount);
}

#[test]
fn a_write_that_runs_out_of_space_half_way_is_taken_back() {
    let Some((dir, mount)) = Tmpfs::mount("6m") else { return };
    let data = dir.path().join("data");
    // Without the reserve redb meets the end of the disk itself, as it does under a quota.
    let store = Store::open_with(data.clone(), Reserve(None)).expect("open");
    for n in 0..10 {
        assert_eq!(save(&store, &key(n), &value(n)), Ok(()));
    }
    let ballast = dir.path().join("ballast");
    fill_disk(&ballast);
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    for n in 0..400 {
        let (name, bytes) = (format!("large-room-{n}"), garbage(n, MAX_RECORD_BYTES));
        match save(&store, &name, &bytes) {
            Ok(()) => kept.push((name, bytes)),
            Err(error) => {
                assert_eq!(error, Failure::Full, "save {n}, {:?}", store.status());
                refused.push(name);
            }
        }
        if refused.len() > 12 {
            break;
        }
    }
    assert!(!refused.is_empty(), "the disk was to be full");
    assert_all_there(&store, 10, "on a full disk");
    close(store);

    for again in ["full", "free"] {
        let store = Store::open_with(data.clone(), Reserve(None)).expect("open");
        assert_all_there(&store, 10, again);
        for (name, bytes) in &kept {
            assert_eq!(load(&store, name).as_ref(), Ok(&Some(bytes.clone())), "{again}");
        }
        for name in &refused {
            assert_eq!(load(&store, name), Ok(None), "{again}: refused means not stored");
        }
        close(store);
        if again == "full" {
            fs::remove_file(&ballast).expect("remove");
        }
    }
    let store = open(&data);
    assert_eq!(save(&store, "new-room-1", b"x"), Ok(()));
    close(store);
    drop(mount);
}

#[test]
fn a_save_that_reached_one_file_alone_is_taken_back() {
    let Some((dir, mount)) = Tmpfs::mount("4m") else { return };
    let data = filled(10);
    // The mirror on a small disk of its own, so that the main file is written and the mirror is not.
    let (own, elsewhere) = (data.path().join(MIRROR), dir.path().join(MIRROR));
    fs::copy(&own, &elsewhere).expect("copy");
    fs::remove_file(&own).expect("remove");
    std::os::unix::fs::symlink(&elsewhere, &own).expect("link");
    let ballast = dir.path().join("ballast");
    fill_disk(&ballast);

    let store = Store::open_with(data.path().to_owned(), Reserve(None)).expect("open");
    let mut refused = 0;
    for n in 0..100 {
        let result = save(&store, "new-room-1", &garbage(n, MAX_RECORD_BYTES));
        let other = save(&store, &key(3), &garbage(n, MAX_RECORD_BYTES));
        if result == Err(Failure::Full) && other == Err(Failure::Full) {
            refused += 1;
            break;
        }
        // Room that was left in the file: put it back as it was.
        assert_eq!(save(&store, &key(3), &value(3)), Ok(()));
    }
    assert_eq!(refused, 1, "the mirror's disk was to be full");
    let before = load(&store, "new-room-1").expect("readable");
    assert_all_there(&store, 10, "after a refused save");

    fs::remove_file(&ballast).expect("remove");
    wait_until(&store, |state| *state == StoreState::Ok);
    assert_all_there(&store, 10, "after the space came back");
    assert_eq!(load(&store, "new-room-1"), Ok(before.clone()));
    close(store);
    let expected = value(3);
    for file in [MAIN, MIRROR] {
        let database = Database::open(data.path().join(file)).expect("open");
        let table = database.begin_read().expect("begin").open_table(TABLE).expect("table");
        let value = table.get(key(3).as_str()).expect("get").expect("there");
        assert_eq!(Record::decode(&key(3), value.value()).expect("whole").bytes, expected, "{file}");
    }
    drop(mount);
}

#[test]
fn a_read_only_disk_serves_loads_and_refuses_saves() {
    let Some((dir, mount)) = Tmpfs::mount("8m") else { return };
    let data = dir.path().join("data");
    fill(&data, 10);
    mount.remount("ro");
    let store = open(&data);
    assert!(matches!(settled(&store), StoreState::ReadOnly { .. }), "{:?}", store.status());
    assert_all_there(&store, 10, "read-only");
    assert_eq!(store.status().rooms, 10);
    assert_eq!(save(&store, &key(0), b"x"), Err(Failure::Unavailable));
    mount.remount("rw");
    wait_until(&store, |state| *state == StoreState::Ok);
    assert_eq!(save(&store, "new-room-1", b"x"), Ok(()));
    assert_all_there(&store, 10, "writable again");
    close(store);
    drop(mount);
}

/// Prints figures; run with `--ignored --nocapture` and in release.
#[test]
#[ignore = "prints figures"]
fn figures() {
    for rooms in [1_000, 10_000, 100_000] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let start = Instant::now();
        fill(dir.path(), rooms);
        let wrote = start.elapsed();
        let start = Instant::now();
        let store = open(dir.path());
        let handle = start.elapsed();
        assert_eq!(settled(&store), StoreState::Ok);
        let opened = start.elapsed();
        let start = Instant::now();
        (0..1_000).for_each(|n| drop(load(&store, &key(n * (rooms / 1_000)))));
        let loads = start.elapsed();
        let start = Instant::now();
        (0..50).for_each(|n| save(&store, &key(n), &value(n)).expect("saved"));
        let single = start.elapsed();
        let size = fs::metadata(dir.path().join(MAIN)).expect("main").len();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let rss = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("").to_owned();
        eprintln!(
            "{rooms} rooms: filled at {:.0}/s in groups of 200, {:.1} ms a lone save; handle after {handle:?}, checked \
             and levelled after {opened:?}; {:.0} us a load; main file {} KiB; {rss}",
            rooms as f64 / wrote.as_secs_f64(),
            single.as_secs_f64() * 20.0,
            loads.as_secs_f64() * 1000.0,
            size / 1024,
        );
        close(store);
    }
}

#[test]
fn all_records_are_found_in_steps_in_the_order_of_their_keys() {
    let dir = filled(25);
    let store = open(dir.path());
    let mut found: Vec<Entry> = Vec::new();
    loop {
        let after = found.last().map_or("", |entry| entry.key.as_str()).to_owned();
        let step = scan(&store, &after, 10).expect("read");
        if step.is_empty() {
            break;
        }
        assert!(step.len() <= 10);
        found.extend(step);
    }
    let mut expected: Vec<Entry> = (0..25).map(|n| Entry { key: key(n), bytes: value(n) }).collect();
    expected.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(found, expected);
    close(store);
}

#[test]
fn only_what_did_not_change_meanwhile_is_removed_and_it_stays_removed() {
    let dir = filled(5);
    let store = open(dir.path());
    let found = scan(&store, "", 10).expect("read");
    save(&store, &key(2), b"somebody came").expect("saved");
    assert_eq!(remove(&store, found.clone()), Ok(4));
    assert_eq!(store.status().rooms, 1);
    assert_eq!(remove(&store, found), Ok(0), "they are gone");
    close(store);
    let store = open(dir.path());
    assert_eq!(settled(&store), StoreState::Ok);
    let left = scan(&store, "", 10).expect("read");
    assert_eq!(left, [Entry { key: key(2), bytes: b"somebody came".to_vec() }]);
    save(&store, &key(1), b"made anew").expect("saved");
    assert_eq!(load(&store, &key(1)), Ok(Some(b"made anew".to_vec())));
    assert_eq!(store.status().rooms, 2);
    close(store);
}
