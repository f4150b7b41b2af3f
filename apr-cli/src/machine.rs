//! What Linux says about this machine and this process. Elsewhere, or where `/proc` and
//! `/sys` are hidden, the answers are missing and nothing depends on them.

use std::{collections::BTreeSet, fs, path::Path};

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    /// What programs may still take, page cache that can be dropped included.
    pub(crate) available: u64,
    /// The least limit of the control groups the process is in.
    pub(crate) cgroup_limit: Option<u64>,
}

/// What this process has in memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) anonymous: u64,
    /// The most it ever had, mapped files included.
    pub(crate) peak_resident: u64,
    /// Mapped files in pages of 2 MiB.
    pub(crate) file_huge: u64,
}

/// Returns memory of machine and control group.
pub(crate) fn memory() -> Option<Memory> {
    let about = fs::read_to_string("/proc/meminfo").ok()?;
    let total = kib_field(&about, "MemTotal")?;
    let available = kib_field(&about, "MemAvailable")?;
    let cgroup_limit = cgroup_values("memory.max")
        .iter()
        .filter_map(|text| number(text))
        .min();
    let available = cgroup_limit.map_or(available, |limit| available.min(limit));
    Some(Memory {
        total,
        available,
        cgroup_limit,
    })
}

/// Returns what this process has in memory.
pub(crate) fn footprint() -> Option<Footprint> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    Some(Footprint {
        anonymous: kib_field(&status, "RssAnon")?,
        peak_resident: kib_field(&status, "VmHWM")?,
        file_huge: kib_field(&rollup, "FilePmdMapped").unwrap_or_default(),
    })
}

/// Returns how often this process waited for a page to be read from a disk.
pub(crate) fn major_faults() -> Option<u64> {
    parse_major_faults(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// Finds the twelfth field; the second is the program's name in brackets, spaces and all.
fn parse_major_faults(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    number(fields.split(' ').nth(9)?)
}

/// Returns the processor's name.
pub(crate) fn cpu_name() -> Option<String> {
    let about = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = about.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the number of processors that are switched on.
pub(crate) fn n_online() -> Option<usize> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    Some(cpu_list(&list).len())
}

/// Returns the number of cores behind these processors: two threads may share one.
pub(crate) fn n_cores() -> Option<usize> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let siblings = cpu_list(&list).into_iter().map(|cpu| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        fs::read_to_string(path).ok()
    });
    let cores: Option<BTreeSet<String>> = siblings.collect();
    cores.map(|cores| cores.len())
}

/// Returns the number of processors that the process is bound to.
pub(crate) fn n_allowed() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(cpu_list(line).len())
}

/// Returns how many processors' time the control groups grant.
pub(crate) fn cgroup_cpus() -> Option<f64> {
    let quota = |text: &String| {
        let (quota, period) = text.trim().split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    };
    cgroup_values("cpu.max")
        .iter()
        .filter_map(quota)
        .min_by(f64::total_cmp)
}

/// Returns the chosen one of the system's settings for transparent huge pages.
pub(crate) fn huge_pages() -> Option<String> {
    let modes = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    let chosen = modes.split_once('[')?.1.split_once(']')?.0;
    Some(chosen.to_owned())
}

/// Returns the contents of a file in every control group (version 2) the process is in.
fn cgroup_values(file: &str) -> Vec<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let root = Path::new("/sys/fs/cgroup");
    let folder = root.join(group);
    let folders = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root));
    folders
        .filter_map(|folder| fs::read_to_string(folder.join(file)).ok())
        .collect()
}

/// Reads a line like `MemTotal:  123 kB`, in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(number(line.trim().strip_suffix(" kB")?)? * 1024)
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Reads a list like `0-3,8,10-11`.
fn cpu_list(text: &str) -> Vec<usize> {
    let parts = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse().ok()?)
    });
    parts.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_ranges_and_numbers() {
        assert_eq!(cpu_list("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(cpu_list(" 5"), [5]);
        assert!(cpu_list("").is_empty());
    }

    #[test]
    fn major_faults_are_found_behind_any_name() {
        let stat = "7 (a) b (c) R 1 7 1 0 -1 4194304 120 0 33 0 5 6 0 0 20 0 1 0";
        assert_eq!(parse_major_faults(stat), Some(33));
        assert_eq!(parse_major_faults("7 (apr) R 1"), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotalX: 1 kB\nMemTotal:      16384 kB\n";
        assert_eq!(kib_field(text, "MemTotal"), Some(16384 * 1024));
        assert_eq!(kib_field(text, "MemFree"), None);
    }
}
