//! Safe wrappers of libvpx and libopus.
