//! How many clients one process may have: each takes a file descriptor, at the gateway and here.

use anyhow::{Context, Result, ensure};

/// What a process needs besides its clients.
const SPARE: usize = 2_000;

/// Raises the limit of open files of this process, and so of those that it starts, as far as it may.
/// Returns how many clients fit, and what to say if that is less than `wanted`.
///
/// # Errors
/// When the limit is far too low.
pub fn clients_max(wanted: usize) -> Result<(usize, Option<String>)> {
    let hard = raise()?;
    ensure!(
        hard > 2 * SPARE,
        "at most {hard} open files are too few: raise `ulimit -Hn`"
    );
    let fit = hard - SPARE;
    if fit >= wanted {
        return Ok((wanted, None));
    }
    let text = format!(
        "this machine allows a process {hard} open files: {fit} clients instead of {wanted}; with \
         `ulimit -Hn {}` it would be all",
        wanted + SPARE
    );
    Ok((fit, Some(text)))
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
