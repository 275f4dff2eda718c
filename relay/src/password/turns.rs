//! Who is next for a password thread: address blocks take turns, so that one block's backlog makes
//! no other block wait. It holds jobs and knows nothing of passwords.
//!
//! A block with nothing waiting gets its turn after at most one job of each other block. Its own
//! line is bounded, and so is the whole; when that is full, the longest line gives up its newest
//! job for a block that has fewer.

use std::collections::{BTreeMap, VecDeque};

/// Jobs of one block that may wait: more than a room, and little more than the checks that
/// `snug-room-proto` lets one block have under way.
pub(super) const PER_BLOCK: usize = 16;
/// Jobs that may wait in all.
pub(super) const TOTAL: usize = 256;

/// Jobs by block.
pub(super) struct Turns<K, J> {
    lines: BTreeMap<K, VecDeque<J>>,
    /// Blocks with a line, the next one first.
    order: VecDeque<K>,
    count: usize,
}

impl<K: Copy + Ord, J> Turns<K, J> {
    pub(super) fn new() -> Self {
        Self { lines: BTreeMap::new(), order: VecDeque::new(), count: 0 }
    }

    /// Jobs that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many jobs are served before the next one of `block`.
    pub(super) fn ahead_of(&self, block: K) -> usize {
        let own = self.lines.get(&block).map_or(0, VecDeque::len);
        self.lines.values().map(|line| line.len().min(own + 1)).sum()
    }

    /// Adds a job. One that cannot wait comes back: this one, or that of another block which has
    /// more.
    pub(super) fn push(&mut self, block: K, job: J) -> Option<J> {
        let own = self.lines.get(&block).map_or(0, VecDeque::len);
        if own >= PER_BLOCK {
            return Some(job);
        }
        let mut displaced = None;
        if self.count >= TOTAL {
            let longest = self.lines.iter_mut().max_by_key(|(_, line)| line.len()).map(|(_, line)| line);
            // A line of one job is not emptied, so the order of turns stays as it is.
            match longest.filter(|line| line.len() > own + 1) {
                Some(line) => displaced = line.pop_back(),
                None => return Some(job),
            }
            self.count -= 1;
        }
        let line = self.lines.entry(block).or_default();
        if line.is_empty() {
            self.order.push_back(block);
        }
        line.push_back(job);
        self.count += 1;
        displaced
    }

    /// Takes the next job.
    pub(super) fn pop(&mut self) -> Option<J> {
        let block = self.order.pop_front()?;
        let line = self.lines.get_mut(&block)?;
        let job = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&block);
        } else {
            self.order.push_back(block);
        }
        self.count -= usize::from(job.is_some());
        job
    }
}

#[cfg(test)]
mod tests {
    use super::{PER_BLOCK, TOTAL, Turns};

    #[test]
    fn blocks_take_turns() {
        let mut turns = Turns::new();
        for job in ["a1", "a2", "a3", "b1", "c1", "c2"] {
            assert_eq!(turns.push(job.as_bytes()[0], job), None);
        }
        assert_eq!(turns.ahead_of(b'd'), 3, "one of each");
        let served: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(served, ["a1", "b1", "c1", "a2", "c2", "a3"]);
        assert_eq!(turns.len(), 0);
    }

    #[test]
    fn a_block_has_a_bounded_line_and_the_longest_makes_room() {
        let mut turns = Turns::new();
        let blocks = TOTAL / PER_BLOCK;
        for block in 0..blocks {
            for job in 0..PER_BLOCK {
                assert_eq!(turns.push(block, job), None);
            }
            assert_eq!(turns.push(block, 99), Some(99), "one more of the same block");
        }
        assert_eq!(turns.push(1_000, 7), Some(PER_BLOCK - 1), "the newest of a longest line goes");
        assert_eq!(turns.len(), TOTAL);
        let served: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(served.len(), TOTAL);
        assert_eq!(served.iter().position(|job| *job == 7), Some(blocks));
    }

    #[test]
    fn where_every_block_has_one_job_the_next_is_refused() {
        let mut turns = Turns::new();
        for block in 0..TOTAL {
            assert_eq!(turns.push(block, block), None);
        }
        assert_eq!(turns.push(TOTAL, TOTAL), Some(TOTAL));
        assert_eq!(turns.pop(), Some(0));
        assert_eq!(turns.push(TOTAL, TOTAL), None);
    }
}
