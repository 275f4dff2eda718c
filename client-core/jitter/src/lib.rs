//! Audio jitter buffer with concealment and time stretch: pure.
