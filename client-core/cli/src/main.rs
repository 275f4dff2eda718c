//! Headless native client.
fn main() {}
