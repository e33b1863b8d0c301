//! How much memory this machine, or the container around this process, has.

use std::fs;
use std::path::{Path, PathBuf};

/// What there is, and where the limit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that this process may use.
    pub bytes: u64,
    /// A container's limit rather than the machine's.
    pub limited: bool,
    /// Bytes that are free now, or would be if caches were dropped; `None`: nobody says.
    pub free_bytes: Option<u64>,
}

impl Memory {
    /// Of this machine; `None` where the system does not tell.
    pub fn of_this_machine() -> Option<Memory> {
        Memory::under(Path::new("/"))
    }

    /// Of the machine whose `/proc` and `/sys` are under `root`.
    fn under(root: &Path) -> Option<Memory> {
        let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib * 1_024)
        };
        let whole = field("MemTotal")?;
        let limit = cgroup_limit(root).filter(|limit| *limit < whole);
        let free_bytes = field("MemAvailable").map(|free| free.min(limit.unwrap_or(u64::MAX)));
        Some(Memory { bytes: limit.unwrap_or(whole), limited: limit.is_some(), free_bytes })
    }
}

/// The least limit of the control groups that this process is in: version 2 on the way up from its own, and version 1.
fn cgroup_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut limits = Vec::new();
    let mut look = |folder: PathBuf, file: &str| {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        limits.extend(text.trim().parse::<u64>().ok());
    };
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|one| one == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container the path is often that of the host, where only the mount's own root can be seen.
        let own = Path::new(path.trim_start_matches('/'));
        for part in own.ancestors() {
            look(root.join(mount).join(part), file);
        }
    }
    limits.into_iter().min()
}

/// The most memory that this process has had at a time since [`reset_peak`]; `None` where the system does not tell.
pub fn peak_bytes() -> Option<u64> {
    peak_in(Path::new("/proc/self/status"))
}

/// The most memory that another process, which still runs, has had at a time.
pub fn peak_bytes_of(process: u32) -> Option<u64> {
    peak_in(Path::new(&format!("/proc/{process}/status")))
}

fn peak_in(status: &Path) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// Lets [`peak_bytes`] begin anew; whether that worked.
pub fn reset_peak() -> bool {
    // proc(5): "5" resets the peak.
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<Memory> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Memory::under(root.path())
    }

    #[test]
    fn the_tightest_limit_holds() {
        let info = ("proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    800 kB\n");
        let check = |files: &[(&str, &str)], bytes, limited, free| {
            let files: Vec<_> = [info].into_iter().chain(files.iter().copied()).collect();
            let memory = Memory { bytes, limited, free_bytes: Some(free) };
            assert_eq!(machine(&files), Some(memory), "{files:?}");
        };
        check(&[], 1_024_000, false, 819_200);
        let v2 = ("proc/self/cgroup", "0::/a/b\n");
        check(&[v2, ("sys/fs/cgroup/a/b/memory.max", "max\n")], 1_024_000, false, 819_200);
        check(&[v2, ("sys/fs/cgroup/a/memory.max", "500000\n")], 500_000, true, 500_000);
        // A container that shows its own group as the root.
        check(&[v2, ("sys/fs/cgroup/memory.max", "900000\n")], 900_000, true, 819_200);
        let v1 = ("proc/self/cgroup", "5:cpu:/x\n4:memory:/x\n");
        check(&[v1, ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "600000\n")], 600_000, true, 600_000);
        check(
            &[v1, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")],
            1_024_000,
            false,
            819_200,
        );
        assert_eq!(machine(&[]), None);
    }

    #[test]
    fn this_process_has_had_some_memory() {
        if cfg!(target_os = "linux") {
            assert!(peak_bytes().is_some_and(|bytes| bytes > 100_000));
            assert!(peak_bytes_of(std::process::id()).is_some_and(|bytes| bytes > 100_000));
            assert!(Memory::of_this_machine().is_some_and(|memory| memory.bytes > 1 << 20));
        }
    }
}
