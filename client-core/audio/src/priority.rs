//! Sound comes before everything else on a busy machine, where the system allows it.

/// The nice value that sound servers give themselves.
#[cfg(target_os = "linux")]
const NICE: i32 = -11;

/// Lets the calling thread go before others. Most systems allow it to some users only; the rest is left to the larger
/// buffers of whoever comes too late.
#[cfg(target_os = "linux")]
pub(crate) fn raise_priority() {
    let thread = rustix::thread::gettid();
    // Not logged: device callbacks call this.
    let _ = rustix::process::setpriority_process(Some(thread), NICE);
}

/// Elsewhere the sound system raises its callbacks itself.
#[cfg(not(target_os = "linux"))]
pub(crate) fn raise_priority() {}
