//! Memory that nothing uses any more goes back to the system. A look at a node
//! with thousands of devices, or at a cluster with thousands of VMs, makes
//! megabytes of garbage, and the C library keeps what was freed: in one heap
//! for each thread, and for ever.

/// Has one heap for all threads. For a program, before it starts threads.
#[expect(unsafe_code, reason = "the C library's settings")]
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number, under the allocator's lock; a number that is
    // not taken changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what is free.
#[expect(unsafe_code, reason = "the C library's allocator")]
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory alone, under the allocator's lock.
    unsafe {
        libc::malloc_trim(0);
    }
}
