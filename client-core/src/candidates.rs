//! Candidates that are found together with a description travel inside it. A path that is checked before its candidate's own message has come
//! is taken for one of unknown worth, and waits for better ones: that would make many joins a fifth of a second longer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use snug_call_proto::Candidate;
use tokio::sync::Notify;

/// Longest wait for the first one. Addresses of this machine are found within a millisecond or two.
const FIRST: Duration = Duration::from_millis(10);
/// And so long for those that come with it.
const REST: Duration = Duration::from_millis(2);
/// More than these are sent one by one.
const MOST: usize = 16;

/// What was found since a description was begun.
#[derive(Default)]
pub(crate) struct Found {
    /// `None` while no description is being made.
    list: Mutex<Option<Vec<Candidate>>>,
    first: Notify,
}

impl Found {
    /// A description is begun: what is found belongs to it.
    pub(crate) fn begin(&self) {
        *self.lock() = Some(Vec::new());
    }

    /// Takes a candidate into the description, or hands it back to be sent by itself.
    pub(crate) fn put(&self, candidate: Candidate) -> Option<Candidate> {
        match &mut *self.lock() {
            Some(list) if list.len() < MOST && candidate.sdp_mline_index == Some(0) => list.push(candidate),
            _ => return Some(candidate),
        }
        self.first.notify_one();
        None
    }

    /// No description came about; what was found for it is of no use.
    pub(crate) fn give_up(&self) {
        *self.lock() = None;
    }

    /// The description with what was found at once. What is found later is sent by itself.
    pub(crate) async fn finish(&self, sdp: String) -> String {
        let first = async {
            while self.lock().as_ref().is_none_or(Vec::is_empty) {
                self.first.notified().await;
            }
        };
        if tokio::time::timeout(FIRST, first).await.is_ok() {
            tokio::time::sleep(REST).await;
        }
        let list = self.lock().take().unwrap_or_default();
        with(&sdp, &list)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Candidate>>> {
        // Whole lists are exchanged, and one candidate more or less only costs time.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes candidates behind the first media section, which carries all others.
fn with(sdp: &str, candidates: &[Candidate]) -> String {
    let section = |from: usize| sdp[from..].find("\r\nm=").map(|at| from + at + 2);
    let Some(first) = section(0) else { return sdp.to_owned() };
    let end = section(first).unwrap_or(sdp.len());
    let lines: String = candidates.iter().map(|one| format!("a={}\r\n", one.candidate)).collect();
    format!("{}{lines}{}", &sdp[..end], &sdp[end..])
}

#[cfg(test)]
mod tests {
    use snug_call_proto::Candidate;

    use super::{Found, with};

    fn candidate(name: &str, mline: u16) -> Candidate {
        Candidate { candidate: format!("candidate:{name}"), sdp_mid: None, sdp_mline_index: Some(mline) }
    }

    #[test]
    fn candidates_stand_at_the_end_of_the_first_section() {
        let sdp = "v=0\r\nm=audio\r\na=mid:0\r\nm=video\r\na=mid:1\r\n";
        let all = [candidate("1", 0), candidate("2", 0)];
        let expected =
            "v=0\r\nm=audio\r\na=mid:0\r\na=candidate:1\r\na=candidate:2\r\nm=video\r\na=mid:1\r\n";
        assert_eq!(with(sdp, &all), expected);
        assert_eq!(with("v=0\r\nm=audio\r\n", &all[..1]), "v=0\r\nm=audio\r\na=candidate:1\r\n");
        assert_eq!(with("v=0\r\n", &all), "v=0\r\n", "without a section there is no place");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_before_or_after_a_description_goes_by_itself() {
        let found = Found::default();
        assert!(found.put(candidate("early", 0)).is_some());
        found.begin();
        assert!(found.put(candidate("1", 0)).is_none());
        assert!(found.put(candidate("elsewhere", 1)).is_some());
        assert!(found.finish("v=0\r\nm=audio\r\n".to_owned()).await.contains("a=candidate:1\r\n"));
        assert!(found.put(candidate("late", 0)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_candidates_that_do_not_come() {
        let found = Found::default();
        found.begin();
        let start = tokio::time::Instant::now();
        assert_eq!(found.finish("v=0\r\n".to_owned()).await, "v=0\r\n");
        assert!(start.elapsed().as_millis() <= 11);
    }
}
