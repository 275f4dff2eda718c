//! Microphone, speaker, echo cancelling, mixing.
