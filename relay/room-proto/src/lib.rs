//! The pure room state machine.
