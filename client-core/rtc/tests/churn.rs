//! Links that come and go leave nothing behind.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::time::Duration;

mod cycle;

/// Until pools, buffers and the allocator have found their size.
const WARM: usize = 50;
const CYCLES: usize = 150;

#[tokio::test]
async fn two_hundred_links_leave_no_memory_and_no_descriptors_behind() {
    cycle::run(WARM).await.unwrap();
    let (memory, descriptors) = settled().await;
    cycle::run(CYCLES).await.unwrap();
    let (after, descriptors_after) = settled().await;
    eprintln!(
        "{memory:.1} MiB after {WARM} links, {after:.1} MiB after {CYCLES} more, {} at a time",
        cycle::AT_ONCE
    );
    assert!(after - memory < 5.0, "{:.1} MiB were left behind", after - memory);
    assert_eq!(descriptors, descriptors_after);
}

/// Memory in MiB and open descriptors once what was closed is gone.
async fn settled() -> (f64, usize) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    (cycle::resident().unwrap(), std::fs::read_dir("/proc/self/fd").unwrap().count())
}
