//! How many clients one process may have: each takes a file descriptor, at the gateway and here.

use anyhow::{Context, Result, ensure};

/// What a process needs besides its clients. A gateway keeps 2,200 for nodes, callers and itself, and 4
/// more for each shard.
const SPARE: usize = 2_500;

/// Raises the limit of open files of this process, and so of those that it starts, as far as it may.
/// Returns how many clients with sockets fit.
///
/// # Errors
/// When the limit can neither be read nor raised.
pub fn sockets_max() -> Result<usize> {
    Ok(raise()?.saturating_sub(SPARE))
}

/// The limit of open files that so many clients with sockets need.
#[must_use]
pub const fn files_for(clients: usize) -> usize {
    clients + SPARE
}

fn raise() -> Result<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    #[allow(
        unsafe_code,
        reason = "getrlimit writes into the struct that it is given and setrlimit reads it; both outlive \
                  the calls"
    )]
    let done = unsafe {
        let mut done = libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        if done == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            done = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
        done
    };
    ensure!(
        done == 0,
        "the limit of open files can neither be read nor raised"
    );
    usize::try_from(limit.rlim_cur).context("the limit of open files is no number")
}
