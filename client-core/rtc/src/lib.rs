//! One peer connection: the only place that names the webrtc crates.
