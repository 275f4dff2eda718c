//! How many of the last packets came, told by their sequence numbers.

/// Packets looked back on: 5 s of speech.
const SPAN: u64 = 250;
/// A jump of the sequence that is no loss but another stream.
const MAX_JUMP: u16 = 3_000;

/// A window over the sequence numbers.
#[derive(Debug, Default)]
pub(crate) struct LossWindow {
    highest: Option<u16>,
    /// Came or not, the newest in bit 0 of the first word.
    came: [u64; 4],
    length: u64,
}

impl LossWindow {
    /// Returns whether the packet came for the first time.
    pub(crate) fn note(&mut self, sequence: u16) -> bool {
        let Some(highest) = self.highest else {
            *self = Self { highest: Some(sequence), came: [1, 0, 0, 0], length: 1 };
            return true;
        };
        let ahead = sequence.wrapping_sub(highest);
        if ahead == 0 {
            return false;
        }
        if ahead < MAX_JUMP {
            for _ in 0..u64::from(ahead).min(SPAN) {
                self.shift();
            }
            self.length = (self.length + u64::from(ahead)).min(SPAN);
            self.highest = Some(sequence);
            self.came[0] |= 1;
            return true;
        }
        let behind = highest.wrapping_sub(sequence);
        if behind >= MAX_JUMP {
            *self = Self { highest: Some(sequence), came: [1, 0, 0, 0], length: 1 };
            return true;
        }
        if u64::from(behind) >= SPAN {
            return true;
        }
        // One from before the first counts as soon as it is there.
        self.length = self.length.max(u64::from(behind) + 1);
        let (word, bit) = (usize::from(behind / 64), 1 << (behind % 64));
        let fresh = self.came[word] & bit == 0;
        self.came[word] |= bit;
        fresh
    }

    /// At least one packet in a hundred is missing.
    pub(crate) fn is_lossy(&self) -> bool {
        let came: u64 = self.came.iter().map(|word| u64::from(word.count_ones())).sum();
        self.length.saturating_sub(came) * 100 >= self.length.max(50)
    }

    fn shift(&mut self) {
        let mut carry = 0;
        for word in &mut self.came {
            let out = *word >> 63;
            *word = (*word << 1) | carry;
            carry = out;
        }
        // What has left the window counts no more.
        self.came[3] &= (1 << (SPAN - 192)) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::LossWindow;

    fn window(sequences: impl IntoIterator<Item = u16>) -> LossWindow {
        let mut window = LossWindow::default();
        for sequence in sequences {
            window.note(sequence);
        }
        window
    }

    #[test]
    fn a_full_stream_is_not_lossy_even_across_the_wrap() {
        assert!(!window((0..1_000).map(|n| 65_000_u16.wrapping_add(n))).is_lossy());
    }

    #[test]
    fn one_in_fifty_missing_is_lossy() {
        assert!(window((0..1_000).filter(|n| n % 50 != 0)).is_lossy());
    }

    #[test]
    fn reordering_is_no_loss() {
        assert!(!window((0..500).map(|n: u16| n ^ 3)).is_lossy());
    }

    #[test]
    fn old_losses_are_forgotten() {
        assert!(!window((0..1_000).filter(|n| *n > 700 || n % 10 != 0)).is_lossy());
    }
}
