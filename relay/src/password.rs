//! Room passwords: argon2id on threads of its own, a bounded queue, one cost for every answer.
//! Never keeps, prints or logs a password, and never runs on a thread that serves anything else.
//! The hub asks and goes on; the answer comes back through a callback.
//!
//! The scheme: argon2id, version 19, 19 MiB, two passes, one lane (OWASP's smallest setting for argon2id), 16 random bytes
//! of salt, 32 bytes out, kept as a PHC string. A string with other parameters still verifies, so the cost can be
//! raised later without locking anybody out.
//!
//! Security considerations:
//! - "No such room" must cost what "wrong password" costs. [`PasswordPool::verify`] with no hash does the same work against
//!   [`DECOY`] and answers no.
//! - A flood of guesses must not starve a call. One core is left alone, the threads run at a low priority, a bounded number of jobs
//!   waits, and the next is refused at once with a time after which to come back.
//! - A flood from one network must not make others wait: address blocks take turns (`password/turns.rs`).
//! - The 19 MiB of a thread are given back to the system as soon as nothing waits.

mod turns;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use snug_room_proto::AddressBlock;
use zeroize::Zeroizing;

use turns::Turns;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const HASH_BYTES: usize = 32;
/// A stored hash that asks for more is refused: it would take the relay down.
const MAX_MEMORY_KIB: u32 = 64 * 1024;
const MAX_PASSES: u32 = 16;
/// Allocations above 32 MiB are always mapped by glibc and unmapped when freed; smaller ones may stay with the process
/// for good. Only the part that is used is ever touched, so the rest costs no memory.
const RESERVED_BLOCKS: usize = 33 * 1024;
/// A well-formed string with the parameters above, for which nobody knows a password; if somebody did, the answer
/// would still be no.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// What a job is taken to cost until one was measured.
const FIRST_GUESS: Duration = Duration::from_millis(50);

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy {
    /// When it should be half empty.
    pub(crate) retry_after: Duration,
}

/// What a shortage of memory or randomness is answered with: it passes, or the relay has worse worries.
const AFTER_TROUBLE: Busy = Busy { retry_after: Duration::from_secs(2) };

impl Busy {
    fn because(self, trouble: &Trouble) -> Self {
        tracing::error!(%trouble, "a password could not be checked");
        self
    }
}

/// A password as it waits for its turn: wiped when dropped, and without `Debug`.
struct Password(Zeroizing<Vec<u8>>);

impl Password {
    fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

/// Why a hash could not be computed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Trouble {
    #[error("the stored password hash cannot be read; the owner has to set the password again")]
    BadHash,
    #[error("the system refused {0}")]
    System(&'static str),
}

type HashReply = Box<dyn FnOnce(Result<String, Busy>) + Send>;
type VerifyReply = Box<dyn FnOnce(Result<bool, Busy>) + Send>;

enum Job {
    Hash { password: Password, reply: HashReply },
    Verify { password: Password, hash: Option<String>, reply: VerifyReply },
}

impl Job {
    fn refuse(self, busy: Busy) {
        match self {
            Self::Hash { reply, .. } => reply(Err(busy)),
            Self::Verify { reply, .. } => reply(Err(busy)),
        }
    }
}

struct Queue {
    jobs: Turns<AddressBlock, Job>,
    /// Threads at work.
    running: usize,
    /// A moving average.
    cost: Duration,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    threads: usize,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the threads when the last handle goes.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.wake.notify_all();
    }
}

/// The handle. Clones share the threads.
#[derive(Clone)]
pub(crate) struct PasswordPool {
    handle: Arc<Handle>,
}

impl PasswordPool {
    /// Starts one thread for each core but one, at least one.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Self::start_with(cores.saturating_sub(1).max(1))
    }

    fn start_with(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { jobs: Turns::new(), running: 0, cost: FIRST_GUESS, closed: false }),
            wake: Condvar::new(),
            threads,
        });
        // Ends the threads there are when a later one cannot be had.
        let handle = Arc::new(Handle(Arc::clone(&shared)));
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("password-{number}"));
            builder.spawn(move || work(&shared))?;
        }
        Ok(Self { handle })
    }

    /// Makes the PHC string to store, for somebody in `block`. `reply` runs on a password thread (or at once, when refused) and must
    /// not block.
    pub(crate) fn hash(
        &self,
        block: AddressBlock,
        password: &str,
        reply: impl FnOnce(Result<String, Busy>) + Send + 'static,
    ) {
        let password = Password::new(password);
        self.submit(block, Job::Hash { password, reply: Box::new(reply) });
    }

    /// Says whether `password` is the one behind `hash`; without a hash it says no, after the same work.
    /// `reply` runs as for [`PasswordPool::hash`].
    pub(crate) fn verify(
        &self,
        block: AddressBlock,
        password: &str,
        hash: Option<String>,
        reply: impl FnOnce(Result<bool, Busy>) + Send + 'static,
    ) {
        let password = Password::new(password);
        self.submit(block, Job::Verify { password, hash, reply: Box::new(reply) });
    }

    /// Jobs that wait or run.
    #[cfg(test)]
    fn depth(&self) -> usize {
        let queue = self.handle.0.queue();
        queue.jobs.len() + queue.running
    }

    fn submit(&self, block: AddressBlock, job: Job) {
        let shared = &self.handle.0;
        let mut queue = shared.queue();
        let refused = queue.jobs.push(block, job);
        // Half of what is ahead of it will do: by then there is room.
        let ahead = (queue.jobs.ahead_of(block) / 2 + queue.running) as u32;
        let wait = queue.cost * ahead / shared.threads as u32;
        drop(queue);
        if let Some(refused) = refused {
            let retry_after = wait.clamp(Duration::from_millis(250), Duration::from_secs(30));
            refused.refuse(Busy { retry_after });
        }
        shared.wake.notify_one();
    }
}

/// One thread: takes jobs until the last handle is gone.
fn work(shared: &Shared) {
    step_back();
    let mut memory = Memory::default();
    let mut queue = shared.queue();
    loop {
        let Some(job) = queue.jobs.pop() else {
            if queue.closed {
                return;
            }
            if memory.is_held() {
                // Not while others wait for the lock.
                drop(queue);
                memory.release();
                queue = shared.queue();
            } else {
                queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            continue;
        };
        queue.running += 1;
        drop(queue);
        let start = Instant::now();
        match job {
            Job::Hash { password, reply } => {
                reply(hash(&password, &mut memory).map_err(|trouble| AFTER_TROUBLE.because(&trouble)));
            }
            Job::Verify { password, hash, reply } => {
                let right = verify(&password, hash.as_deref(), &mut memory);
                if right == Err(Trouble::BadHash) {
                    tracing::error!(trouble = %Trouble::BadHash, "nobody can enter a room by its password");
                }
                reply(match right {
                    Err(Trouble::BadHash) => Ok(false),
                    right => right.map_err(|trouble| AFTER_TROUBLE.because(&trouble)),
                });
            }
        }
        let spent = start.elapsed();
        queue = shared.queue();
        queue.running -= 1;
        queue.cost = (queue.cost * 7 + spent) / 8;
    }
}

/// Lowers this thread's priority: calls and joins go first.
fn step_back() {
    // Linux alone lets a thread have a priority of its own by this call; elsewhere it would slow the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 10) {
        tracing::debug!(%error, "password threads keep the normal priority");
    }
}

/// A thread's working memory.
#[derive(Default)]
struct Memory(Vec<Block>);

impl Memory {
    fn of(&mut self, blocks: usize) -> Result<&mut [Block], Trouble> {
        if self.0.len() < blocks {
            let wanted = blocks.max(RESERVED_BLOCKS) - self.0.len();
            if self.0.try_reserve_exact(wanted).is_err() {
                return Err(Trouble::System("no memory"));
            }
            self.0.resize(blocks, Block::default());
        }
        Ok(&mut self.0[..blocks])
    }

    fn is_held(&self) -> bool {
        self.0.capacity() > 0
    }

    fn release(&mut self) {
        self.0 = Vec::new();
    }
}

fn parameters() -> Result<Params, Trouble> {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES)).map_err(|_| Trouble::System("bad parameters"))
}

fn hash(password: &Password, memory: &mut Memory) -> Result<String, Trouble> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| Trouble::System("no randomness"))?;
    let params = parameters()?;
    let output = run(Algorithm::Argon2id, Version::V0x13, &params, password, &salt, HASH_BYTES, memory)?;
    let (Ok(salt), Ok(params)) = (Salt::new(&salt), ParamsString::try_from(&params)) else {
        return Err(Trouble::System("bad parameters"));
    };
    let version = Some(Version::V0x13.into());
    let hash =
        PasswordHash { algorithm: ARGON2ID_IDENT, version, params, salt: Some(salt), hash: Some(output) };
    Ok(hash.to_string())
}

fn verify(password: &Password, hash: Option<&str>, memory: &mut Memory) -> Result<bool, Trouble> {
    let stored = hash.map(Stored::parse);
    // A hash that cannot be read costs what any other costs, so damage does not show in the time.
    let usable = matches!(&stored, Some(Some(_)));
    let Some(used) = stored.flatten().or_else(|| Stored::parse(DECOY)) else {
        return Err(Trouble::BadHash);
    };
    let length = used.output.len();
    let output = run(used.algorithm, used.version, &used.params, password, &used.salt, length, memory)?;
    match hash {
        // `Output` compares in constant time.
        Some(_) if usable => Ok(output == used.output),
        Some(_) => Err(Trouble::BadHash),
        None => Ok(false),
    }
}

/// A PHC string taken apart, within limits.
struct Stored {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Salt,
    output: Output,
}

impl Stored {
    fn parse(text: &str) -> Option<Self> {
        let hash = PasswordHash::new(text).ok()?;
        let params = Params::try_from(&hash).ok()?;
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
            return None;
        }
        Some(Self {
            algorithm: Algorithm::try_from(hash.algorithm.as_str()).ok()?,
            // The format's own rule for strings without one.
            version: hash.version.map_or(Ok(Version::V0x10), Version::try_from).ok()?,
            params,
            salt: hash.salt?,
            output: hash.hash?,
        })
    }
}

fn run(
    algorithm: Algorithm,
    version: Version,
    params: &Params,
    password: &Password,
    salt: &[u8],
    length: usize,
    memory: &mut Memory,
) -> Result<Output, Trouble> {
    let argon2 = Argon2::new(algorithm, version, params.clone());
    let blocks = memory.of(params.block_count())?;
    let mut bytes = Zeroizing::new([0; Output::MAX_LENGTH]);
    let out = bytes.get_mut(..length).ok_or(Trouble::BadHash)?;
    argon2.hash_password_into_with_memory(&password.0, salt, out, blocks).map_err(|_| Trouble::BadHash)?;
    Output::new(out).map_err(|_| Trouble::BadHash)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use argon2::Params;

    use snug_room_proto::AddressBlock;

    use super::turns::PER_BLOCK;
    use super::{Busy, DECOY, Memory, PasswordPool, Stored};

    const PATIENCE: Duration = Duration::from_secs(60);
    const HERE: AddressBlock = AddressBlock::V4([192, 0, 2]);
    const ELSEWHERE: AddressBlock = AddressBlock::V4([198, 51, 100]);

    fn hash(passwords: &PasswordPool, text: &str) -> Result<String, Busy> {
        let (reply, answer) = mpsc::channel();
        passwords.hash(HERE, text, move |result| reply.send(result).expect("the test waits"));
        answer.recv_timeout(PATIENCE).expect("every job is answered")
    }

    fn verify(passwords: &PasswordPool, text: &str, hash: Option<&str>) -> Result<bool, Busy> {
        let (reply, answer) = mpsc::channel();
        let hash = hash.map(str::to_owned);
        passwords.verify(HERE, text, hash, move |result| reply.send(result).expect("the test waits"));
        answer.recv_timeout(PATIENCE).expect("every job is answered")
    }

    #[test]
    fn only_the_right_password_opens() {
        let passwords = PasswordPool::start().expect("threads");
        let stored = hash(&passwords, "correct horse").expect("hashed");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_eq!(verify(&passwords, "correct horse", Some(&stored)), Ok(true));
        assert_eq!(verify(&passwords, "correct horse ", Some(&stored)), Ok(false));
        assert_eq!(verify(&passwords, "", Some(&stored)), Ok(false));
        assert_ne!(hash(&passwords, "correct horse").expect("hashed"), stored, "salted");
    }

    #[test]
    fn a_hash_made_elsewhere_with_other_parameters_verifies() {
        let passwords = PasswordPool::start().expect("threads");
        // From the reference implementation's own tests (argon2/test.c): "password", "somesalt".
        for stored in [
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$T/XOJ2mh1/TIpJHfCdQan76Q5esCFVoT5MAeIM1Oq2E",
            "$argon2i$m=256,t=2,p=2$c29tZXNhbHQ$tsEVYKap1h6scGt5ovl9aLRGOqOth+AMB+KwHpDFZPs",
        ] {
            assert_eq!(verify(&passwords, "password", Some(stored)), Ok(true), "{stored}");
            assert_eq!(verify(&passwords, "passwore", Some(stored)), Ok(false), "{stored}");
        }
    }

    #[test]
    fn a_hash_that_cannot_be_used_lets_nobody_in() {
        let passwords = PasswordPool::start().expect("threads");
        for stored in [
            "",
            "secret",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=4000000,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        ] {
            assert_eq!(verify(&passwords, "secret", Some(stored)), Ok(false), "{stored}");
        }
    }

    #[test]
    fn without_a_hash_the_answer_is_no_after_the_same_work() {
        let decoy = Stored::parse(DECOY).expect("well-formed");
        let current = super::parameters().expect("valid");
        let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        assert_eq!(cost(&decoy.params), cost(&current));
        assert_eq!(decoy.output.len(), super::HASH_BYTES);
        assert_eq!(decoy.salt.len(), 16);
        let passwords = PasswordPool::start().expect("threads");
        assert_eq!(verify(&passwords, "anything", None), Ok(false));
    }

    /// A pool whose one thread is held up until the sender that comes back is dropped.
    fn held_up() -> (PasswordPool, mpsc::Sender<()>) {
        let passwords = PasswordPool::start_with(1).expect("threads");
        let (held, hold) = mpsc::channel::<()>();
        let (entered, inside) = mpsc::channel();
        passwords.verify(HERE, "x", None, move |_| {
            entered.send(()).expect("the test waits");
            let _ = hold.recv();
        });
        inside.recv().expect("the thread is held up");
        (passwords, held)
    }

    #[test]
    fn a_full_line_refuses_at_once_with_a_time_to_come_back() {
        let (passwords, held) = held_up();
        let (reply, answers) = mpsc::channel();
        for _ in 0..PER_BLOCK {
            let reply = reply.clone();
            passwords.verify(HERE, "x", Some("bad".into()), move |result| {
                reply.send(result).expect("the test waits");
            });
        }
        assert_eq!(passwords.depth(), PER_BLOCK + 1);
        let Err(Busy { retry_after }) = verify(&passwords, "x", None) else { panic!("the line is bounded") };
        assert!((Duration::from_millis(250)..=Duration::from_secs(30)).contains(&retry_after));
        drop(held);
        for _ in 0..PER_BLOCK {
            assert_eq!(answers.recv_timeout(PATIENCE), Ok(Ok(false)));
        }
    }

    #[test]
    fn a_flood_of_one_network_makes_no_other_network_wait() {
        let (passwords, held) = held_up();
        let (reply, answers) = mpsc::channel();
        for _ in 0..110 {
            let reply = reply.clone();
            // Refused past the network's line.
            passwords.hash(HERE, "x", move |result| {
                let _ = reply.send(("flood", result.is_ok()));
            });
        }
        let flood: Vec<_> = answers.try_iter().collect();
        assert_eq!(flood, vec![("flood", false); 110 - PER_BLOCK]);
        let other = reply.clone();
        passwords.verify(ELSEWHERE, "x", None, move |result| {
            let _ = other.send(("other", result.is_ok()));
        });
        drop(held);
        let served: Vec<_> = (0..2).map(|_| answers.recv_timeout(PATIENCE).expect("an answer")).collect();
        assert_eq!(served, [("flood", true), ("other", true)], "it was second, behind none of the backlog");
    }

    #[test]
    fn what_waits_is_answered_after_the_last_handle_is_gone() {
        let passwords = PasswordPool::start_with(1).expect("threads");
        let (reply, answers) = mpsc::channel();
        for _ in 0..3 {
            let reply = reply.clone();
            passwords.verify(HERE, "x", None, move |result| reply.send(result).expect("the test waits"));
        }
        drop((passwords, reply));
        assert_eq!(answers.iter().collect::<Vec<_>>(), vec![Ok(false); 3]);
    }

    #[test]
    fn memory_is_given_back_when_idle() {
        let mut memory = Memory::default();
        assert_eq!(memory.of(100).expect("memory").len(), 100);
        assert_eq!(memory.of(40_000).expect("memory").len(), 40_000);
        assert_eq!(memory.of(100).expect("memory").len(), 100);
        assert!(memory.is_held());
        memory.release();
        assert!(!memory.is_held());
    }

    /// Prints figures; run with `--ignored --nocapture` and in release.
    #[test]
    #[ignore = "prints figures"]
    fn figures() {
        let rss = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("").replace('\t', " ")
        };
        let passwords = PasswordPool::start().expect("threads");
        let stored = hash(&passwords, "x").expect("hashed");
        eprintln!("before: {}", rss());
        for (name, hash) in [("wrong password", Some(stored.as_str())), ("no such room", None)] {
            let mut times: Vec<f64> = Vec::new();
            for _ in 0..100 {
                let start = Instant::now();
                assert_eq!(verify(&passwords, "guess", hash), Ok(false));
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            eprintln!("{name}: median {:.2} ms, p90 {:.2} ms", times[50], times[90]);
        }
        let (reply, answers) = mpsc::channel();
        for _ in 0..500 {
            let reply = reply.clone();
            passwords.verify(HERE, "guess", None, move |result| reply.send(result).expect("the test waits"));
        }
        eprintln!("500 at once: {}", rss());
        drop(reply);
        let refused = answers.iter().filter(Result::is_err).count();
        std::thread::sleep(Duration::from_millis(200));
        eprintln!("{refused} refused; idle again: {}", rss());
    }
}
