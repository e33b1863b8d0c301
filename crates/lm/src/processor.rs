//! What the processor of this machine is called, and what it has used: for figures that say where they were measured.

use std::fs;
use std::path::Path;

/// Its name, as the system tells it; `None` where it does not.
pub fn name() -> Option<String> {
    name_under(Path::new("/"))
}

/// What the processor's packages have used since some time, in microjoules; `None` where that is not counted, or not told to us.
/// It begins again from 0 now and then.
pub fn energy_uj() -> Option<u64> {
    energy_under(Path::new("/"))
}

fn name_under(root: &Path) -> Option<String> {
    let info = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let field = |name: &str| {
        let (_, value) =
            info.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name))?;
        Some(value.trim().to_owned())
    };
    // Arm's systems tell no model there; boards have a name of their own.
    let board = || {
        let text = fs::read_to_string(root.join("proc/device-tree/model")).ok()?;
        Some(text.trim_end_matches('\0').trim().to_owned())
    };
    field("model name").or_else(board).or_else(|| field("Hardware")).filter(|name| !name.is_empty())
}

fn energy_under(root: &Path) -> Option<u64> {
    let zones = fs::read_dir(root.join("sys/class/powercap")).ok()?;
    let packages = zones.filter_map(Result::ok).filter(|zone| {
        // Zones within a package, `intel-rapl:0:1`, are counted by it.
        let name = zone.file_name().to_string_lossy().into_owned();
        name.starts_with("intel-rapl:") && name.matches(':').count() == 1
    });
    let read = |zone: fs::DirEntry| {
        fs::read_to_string(zone.path().join("energy_uj")).ok()?.trim().parse::<u64>().ok()
    };
    packages.map(read).try_fold(None, |sum: Option<u64>, uj| Some(Some(sum.unwrap_or(0) + uj?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_processor_is_called_what_the_system_calls_it() {
        let check = |files: &[(&str, &str)], expected: Option<&str>| {
            assert_eq!(name_under(root(files).path()).as_deref(), expected, "{files:?}");
        };
        check(
            &[("proc/cpuinfo", "processor\t: 0\nmodel name\t: A 7 with: colon\n")],
            Some("A 7 with: colon"),
        );
        check(
            &[("proc/cpuinfo", "processor\t: 0\n"), ("proc/device-tree/model", "Board 5\0")],
            Some("Board 5"),
        );
        check(&[("proc/cpuinfo", "Hardware : BCM2835\n")], Some("BCM2835"));
        check(&[("proc/cpuinfo", "")], None);
        check(&[], None);
    }

    #[test]
    fn packages_are_added_and_their_parts_are_not() {
        let zone = "sys/class/powercap/intel-rapl";
        let names =
            [format!("{zone}:0/energy_uj"), format!("{zone}:1/energy_uj"), format!("{zone}:0:0/energy_uj")];
        let files: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(["5\n", "7\n", "3\n"]).collect();
        assert_eq!(energy_under(root(&files).path()), Some(12));
        assert_eq!(energy_under(root(&[("sys/class/powercap/x", "")]).path()), None);
        let unreadable = [(names[0].as_str(), "nothing")];
        assert_eq!(energy_under(root(&unreadable).path()), None, "part of the sum is none");
    }
}
