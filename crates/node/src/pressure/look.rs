//! Reads how the machine is: memory and its limits, who waits for it, the disk, the heat. Linux tells; elsewhere, and where a
//! file is missing or odd, the answer is that nobody tells.
//!
//! The tree below which it reads is a parameter, so that tests make machines of their own.

use std::fs;
use std::path::{Path, PathBuf};

use package::disk::Disk as _;
use package::disk::system::System;

/// The most bytes of such a file that are read: they are short.
const FILE_MAX_BYTES: usize = 64 << 10;

/// One look at the machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Memory; `None`: nobody tells.
    pub memory: Option<Memory>,
    /// Bytes free on the disk of the data folder.
    pub disk_free_bytes: Option<u64>,
    /// Heat.
    pub heat: Heat,
}

/// Memory that this process may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// Bytes: the machine's, or the least limit of the control groups above this process.
    pub bytes: u64,
    /// Whether it is such a limit.
    pub limited: bool,
    /// Bytes that are free, or would be if the system dropped its caches.
    pub free_bytes: Option<u64>,
    /// Percent of the last ten seconds in which some process waited for memory.
    pub some_percent: Option<f64>,
    /// Percent in which all did.
    pub full_percent: Option<f64>,
}

/// How warm it is, and whether that slows the processor down.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heat {
    /// The zone that is nearest to where the system slows down, or the hottest if none says where that is.
    pub hottest: Option<Zone>,
    /// How often the processor slowed itself down since it was switched on.
    pub throttles: Option<u64>,
    /// Whether the system holds the processor back now.
    pub cooling: bool,
}

/// A place whose temperature is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// What the system calls it.
    pub name: String,
    /// °C.
    pub celsius: f64,
    /// °C at which the system slows the processor down, if it says so.
    pub slows_at: Option<f64>,
}

impl Zone {
    /// Whether it is as hot as that.
    pub fn over(&self) -> bool {
        self.slows_at.is_some_and(|slows_at| self.celsius >= slows_at)
    }

    /// In words.
    pub fn words(&self) -> String {
        let at = self.slows_at.map_or_else(String::new, |at| format!(", slows down at {at:.0} °C"));
        format!("{} at {:.0} °C{at}", self.name, self.celsius)
    }

    /// °C to where the system slows down.
    fn margin(&self) -> f64 {
        self.slows_at.map_or(f64::INFINITY, |slows_at| slows_at - self.celsius)
    }
}

/// Looks at the machine whose `/proc` and `/sys` are under `root`, and at the disk that holds `data`.
pub fn look(root: &Path, data: &Path) -> Seen {
    Seen { memory: memory(root), disk_free_bytes: System.free_bytes(data), heat: heat(root) }
}

/// The memory of the machine under `root`; `None`: nobody tells.
pub fn memory(root: &Path) -> Option<Memory> {
    let info = text(&root.join("proc/meminfo"))?;
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1_024)
    };
    let whole = field("MemTotal")?;
    let groups = groups(root);
    let limits = groups.iter().flat_map(|group| {
        let max = ["memory.max", "memory.high"].into_iter().filter_map(|file| number(&group.join(file)));
        max.min().map(|limit| (limit, group))
    });
    let limit = limits.min_by_key(|(limit, _)| *limit).filter(|(limit, _)| *limit < whole);
    let free = field("MemAvailable");
    let free_bytes = match limit {
        // What a limited group has left, with what the system would take back from its files.
        Some((limit, group)) => {
            let used = number(&group.join("memory.current")).map(|used| {
                used.saturating_sub(keyed(&group.join("memory.stat"), "inactive_file").unwrap_or(0))
            });
            let left = used.map(|used| limit.saturating_sub(used));
            match (left, free) {
                (Some(left), Some(free)) => Some(left.min(free)),
                (left, free) => left.or(free.map(|free| free.min(limit))),
            }
        }
        None => free,
    };
    // Of its own group if that tells, else of the machine: what others wait for is no fault of a limit of ours.
    let stalls = groups.first().and_then(|group| text(&group.join("memory.pressure")));
    let stalls = stalls.or_else(|| text(&root.join("proc/pressure/memory")));
    let percent = |word: &str| {
        let line = stalls.as_deref()?.lines().find_map(|line| line.strip_prefix(word))?;
        let value = line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
        value.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))
    };
    Some(Memory {
        bytes: limit.map_or(whole, |(limit, _)| limit),
        limited: limit.is_some(),
        free_bytes,
        some_percent: percent("some "),
        full_percent: percent("full "),
    })
}

/// The control groups (version 2) of this process, its own first.
fn groups(root: &Path) -> Vec<PathBuf> {
    let mount = root.join("sys/fs/cgroup");
    let text = text(&root.join("proc/self/cgroup")).unwrap_or_default();
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return Vec::new() };
    let path = Path::new(path.trim().trim_start_matches('/'));
    // In a container the path is often that of the host, where only the mount's own root can be seen.
    path.ancestors()
        .map(|part| mount.join(part))
        .filter(|group| group.join("memory.current").exists())
        .collect()
}

fn heat(root: &Path) -> Heat {
    let class = root.join("sys/class/thermal");
    let mut zones: Vec<Zone> =
        entries(&class, "thermal_zone").iter().filter_map(|zone| self::zone(zone)).collect();
    zones.sort_by(|one, other| {
        one.margin().total_cmp(&other.margin()).then(other.celsius.total_cmp(&one.celsius))
    });
    let cooling = entries(&class, "cooling_device").iter().any(|device| {
        let kind = text(&device.join("type")).unwrap_or_default().to_lowercase();
        // Fans cool as well, and cost nothing; these hold the processor back.
        let holds_back =
            ["processor", "cpufreq", "cpu-", "intel_powerclamp"].iter().any(|name| kind.contains(name));
        holds_back && number(&device.join("cur_state")).is_some_and(|state| state > 0)
    });
    let cpus = entries(&root.join("sys/devices/system/cpu"), "cpu");
    let counts = cpus.iter().filter_map(|cpu| number(&cpu.join("thermal_throttle/core_throttle_count")));
    let throttles = counts.reduce(u64::saturating_add);
    Heat { hottest: zones.into_iter().next(), throttles, cooling }
}

/// A zone with a temperature that can be.
fn zone(zone: &Path) -> Option<Zone> {
    let celsius = celsius_of(&zone.join("temp"))?;
    let name = text(&zone.join("type"))?.trim().to_owned();
    let trip = |at: u32| {
        let kind = text(&zone.join(format!("trip_point_{at}_type")))?;
        let slows = matches!(kind.trim(), "passive" | "hot");
        celsius_of(&zone.join(format!("trip_point_{at}_temp"))).filter(|_| slows)
    };
    let slows_at = (0..16).filter_map(trip).reduce(f64::min);
    Some(Zone { name, celsius, slows_at })
}

/// A temperature in thousandths of a degree; what no sensor measures is none.
fn celsius_of(file: &Path) -> Option<f64> {
    let thousandths: f64 = text(file)?.trim().parse().ok()?;
    Some(thousandths / 1_000.0).filter(|celsius| (-60.0..=200.0).contains(celsius) && *celsius != 0.0)
}

/// What stands in a folder whose name begins so and ends in a number.
fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(read) = fs::read_dir(folder) else { return Vec::new() };
    let names = read.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_one = |name: &String| name.strip_prefix(prefix).is_some_and(|rest| rest.parse::<u32>().is_ok());
    let mut names: Vec<String> = names.filter(is_one).take(1_024).collect();
    names.sort();
    names.iter().map(|name| folder.join(name)).collect()
}

fn number(file: &Path) -> Option<u64> {
    text(file)?.trim().parse().ok()
}

/// A value in a file of `key value` lines.
fn keyed(file: &Path, key: &str) -> Option<u64> {
    text(file)?.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

fn text(file: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = fs::File::open(file).ok()?;
    file.take(FILE_MAX_BYTES as u64).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const INFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:  2048 kB\nMemFree:  1 kB\nMemAvailable:   1024 kB\n");

    #[test]
    fn memory_is_the_machine_s_or_the_tightest_group_s() {
        assert_eq!(memory(machine(&[]).path()), None);
        let seen = memory(machine(&[INFO]).path()).unwrap();
        assert_eq!((seen.bytes, seen.limited, seen.free_bytes), (2 << 20, false, Some(1 << 20)));
        assert_eq!((seen.some_percent, seen.full_percent), (None, None));
        let group = "sys/fs/cgroup/system.slice/selvedge-node.service";
        let files = [
            INFO,
            ("proc/self/cgroup", "0::/system.slice/selvedge-node.service\n"),
            ("proc/pressure/memory", "some avg10=99.00 avg60=0.00\nfull avg10=98.00 avg60=0.00\n"),
            (&format!("{group}/memory.max"), "max\n"),
            (&format!("{group}/memory.high"), "1000000\n"),
            (&format!("{group}/memory.current"), "900000\n"),
            (&format!("{group}/memory.stat"), "anon 1\ninactive_file 150000\nslab 2\n"),
            (
                &format!("{group}/memory.pressure"),
                "some avg10=12.50 avg60=0.00 total=1\nfull avg10=3.00 avg60=0\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "1500000\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "1\n"),
        ];
        let seen = memory(machine(&files).path()).unwrap();
        assert_eq!((seen.bytes, seen.limited, seen.free_bytes), (1_000_000, true, Some(250_000)));
        assert_eq!((seen.some_percent, seen.full_percent), (Some(12.5), Some(3.0)));
    }

    #[test]
    fn the_zone_nearest_to_its_limit_tells_the_heat() {
        let zone = "sys/class/thermal/thermal_zone";
        let device = "sys/class/thermal/cooling_device";
        let files: Vec<(String, &str)> = vec![
            (format!("{zone}0/type"), "acpitz\n"),
            (format!("{zone}0/temp"), "65000\n"),
            (format!("{zone}1/type"), "cpu-thermal\n"),
            (format!("{zone}1/temp"), "61500\n"),
            (format!("{zone}1/trip_point_0_type"), "critical\n"),
            (format!("{zone}1/trip_point_0_temp"), "110000\n"),
            (format!("{zone}1/trip_point_1_type"), "passive\n"),
            (format!("{zone}1/trip_point_1_temp"), "80000\n"),
            (format!("{zone}2/type"), "broken\n"),
            (format!("{zone}2/temp"), "-274000\n"),
            (format!("{device}0/type"), "Fan\n"),
            (format!("{device}0/cur_state"), "3\n"),
            (format!("{device}1/type"), "cpufreq-cpu0\n"),
            (format!("{device}1/cur_state"), "0\n"),
            ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count".into(), "2\n"),
            ("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count".into(), "5\n"),
            ("sys/devices/system/cpu/cpufreq/x".into(), ""),
        ];
        let borrowed: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let root = machine(&borrowed);
        let seen = heat(root.path());
        let zone = seen.hottest.clone().unwrap();
        assert_eq!((zone.name.as_str(), zone.celsius, zone.slows_at), ("cpu-thermal", 61.5, Some(80.0)));
        assert!(!zone.over() && !seen.cooling);
        assert_eq!(seen.throttles, Some(7));
        fs::write(root.path().join(format!("{device}1/cur_state")), "2\n").unwrap();
        assert!(heat(root.path()).cooling);
        assert_eq!(heat(machine(&[]).path()), Heat::default());
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let seen = look(Path::new("/"), Path::new("/"));
        if cfg!(target_os = "linux") {
            assert!(seen.memory.is_some_and(|memory| memory.bytes > 1 << 20));
            assert!(seen.disk_free_bytes.is_some());
        }
    }
}
