//! Counters that wrap, made endless.

/// Extends 16-bit sequence numbers to 64 bits by the shortest way round.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unwrapper16 {
    last: Option<i64>,
}

impl Unwrapper16 {
    pub(crate) fn unwrap(&mut self, value: u16) -> i64 {
        // Starts above zero, so that packets from before the first one stay positive.
        let last = *self.last.get_or_insert(i64::from(value) + 0x1_0000);
        let extended = last + i64::from(value.wrapping_sub(last as u16) as i16);
        self.last = Some(last.max(extended));
        extended
    }
}

/// Extends 32-bit timestamps to 64 bits by the shortest way round.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unwrapper32 {
    last: Option<i64>,
}

impl Unwrapper32 {
    pub(crate) fn unwrap(&mut self, value: u32) -> i64 {
        let last = *self.last.get_or_insert(i64::from(value));
        let extended = last + i64::from(value.wrapping_sub(last as u32) as i32);
        self.last = Some(last.max(extended));
        extended
    }
}
