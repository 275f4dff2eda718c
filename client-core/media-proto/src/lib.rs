//! Packetizing, repair, pacing and bandwidth estimation of a link: pure.
