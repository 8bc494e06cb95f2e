//! Name services in a statically linked program.
//!
//! A static glibc loads the host's name service modules, built for another glibc, at run time,
//! and may crash in them. The two services that are built in, `files` and `dns`, are enough.

/// Restricts look-ups of hosts and users to what is built in. To be called before the first
/// look-up and before any thread is started; does nothing in a dynamically linked program.
pub fn use_built_in_services() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    built_in();
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[allow(unsafe_code)]
fn built_in() {
    use std::ffi::{c_char, c_int};
    unsafe extern "C" {
        /// Replaces the line of `database` in `/etc/nsswitch.conf`; `nss.h`.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    let lines = [
        (c"hosts", c"files dns"),
        (c"passwd", c"files"),
        (c"group", c"files"),
        (c"services", c"files"),
    ];
    for (database, services) in lines {
        // SAFETY: both arguments are strings that live for ever, which glibc keeps.
        unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    }
}
