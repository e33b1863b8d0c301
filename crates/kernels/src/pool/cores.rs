//! How many threads make sense here: what the scheduler, the container and the silicon give this process.

use std::collections::HashSet;
use std::fs;
use std::num::NonZeroUsize;

/// Threads that arithmetic should use: the physical cores, but no more than this process may run on (affinity and the
/// quotas of cgroup v1 and v2, rounded up, both of which the standard library reads).
pub fn default_threads() -> NonZeroUsize {
    let allowed = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    physical_cores().map_or(allowed, |cores| cores.min(allowed))
}

/// Physical cores of the machine, where the system tells (Linux): two hyper-threads of a core share its arithmetic units,
/// so that a second one adds nothing to this work.
pub fn physical_cores() -> Option<NonZeroUsize> {
    let mut cores = HashSet::new();
    for entry in fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let siblings = entry.path().join("topology/thread_siblings_list");
        if let Ok(siblings) = fs::read_to_string(siblings) {
            cores.insert(siblings);
        }
    }
    NonZeroUsize::new(cores.len())
}

#[cfg(test)]
mod tests {
    use super::{default_threads, physical_cores};

    #[test]
    fn no_more_threads_than_the_process_may_run() {
        let allowed = std::thread::available_parallelism().unwrap();
        assert!(default_threads() <= allowed);
        if let Some(cores) = physical_cores() {
            assert!(default_threads() <= cores);
        }
    }
}
