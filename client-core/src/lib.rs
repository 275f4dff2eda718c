//! The engine that every native shell embeds.
