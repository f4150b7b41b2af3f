//! Memory that is free and that the C library keeps.
//!
//! glibc gives nearly every thread a heap of its own. What is free at the end of one stays there
//! up to 64 MB, and a few bytes that are in use hold all pages of a large body before them; the
//! next one may come to another thread and another heap. So a server has one heap for all of its
//! threads, which ask for little while they compute, and hands back what is free in it after a
//! large body: 10 MB are left of 340 then, and 430 otherwise.
#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(
        unsafe_code,
        reason = "functions of the C library that set a number and hand memory back"
    )
)]

/// Has all threads share one heap. It has to be called before there are others.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn share_one() {
    // SAFETY: `mallopt` takes two numbers, of which the first is one that glibc names, and sets
    // how many heaps it makes from now on; what it does not like it leaves as it is.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Hands all pages that are free back to the system, which takes some milliseconds.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn give_back() {
    // SAFETY: `malloc_trim` may be called at any time by any thread: it takes the locks of heaps
    // as `malloc` and `free` do, and touches free memory alone.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries do not have this to set.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn share_one() {}

/// Other C libraries hand back what is free by themselves, or have no means to.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
