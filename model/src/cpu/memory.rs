//! The memory of this machine that this process may take.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Bytes of memory that this process may still take: the least of what the system has available, of what its
/// control group and every group above it leave (cgroup v1 and v2), and of the limits of its address space
/// and its data segment (`ulimit -v`, `ulimit -d`).
pub fn available() -> u64 {
    // a process stays in its group, and the list of mounts is long
    static GROUPS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let root = Path::new("/");
    available_in(root, GROUPS.get_or_init(|| groups(root)))
}

/// The same for a file system that begins at `root`, in these control groups.
fn available_in(root: &Path, groups: &[PathBuf]) -> u64 {
    let system = field(&read(root, "proc/meminfo"), "MemAvailable:").map(|kib| kib * 1024);
    // where nothing can be read (other systems), a size that every machine of the last decade has
    let system = system.unwrap_or(4 << 30);
    let groups = groups.iter().filter_map(|folder| left_in(folder));
    groups.chain(left_of_limits(root)).fold(system, u64::min)
}

fn read(root: &Path, file: &str) -> String {
    std::fs::read_to_string(root.join(file)).unwrap_or_default()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|l| l.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The folders of the control groups that hold this process' memory, each group and all above it.
fn groups(root: &Path) -> Vec<PathBuf> {
    let own = read(root, "proc/self/cgroup");
    let mounts = read(root, "proc/self/mountinfo");
    let mut folders = Vec::new();
    for line in own.lines() {
        // "4:memory:/jobs/7" of version 1, "0::/jobs/7" of version 2
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let first = controllers.is_empty();
        if !first && !controllers.split(',').any(|c| c == "memory") {
            continue;
        }
        for (mounted, at) in mounts.lines().filter_map(|mount| group_mount(mount, first)) {
            // within a container the mount begins at the container's own group
            let below = Path::new(path).strip_prefix(&mounted).unwrap_or(Path::new(""));
            let inside = !below.components().any(|c| c == std::path::Component::ParentDir);
            let below = if inside { below } else { Path::new("") };
            let mount = root.join(at.trim_start_matches('/'));
            folders.extend(below.ancestors().map(|part| mount.join(part)));
        }
    }
    if folders.is_empty() {
        folders.extend(["sys/fs/cgroup", "sys/fs/cgroup/memory"].map(|at| root.join(at)));
    }
    folders
}

/// The group that a line of mountinfo mounts and where, if it is a mount of the second version (`unified`) or
/// of the first version's memory controller.
fn group_mount(line: &str, unified: bool) -> Option<(String, String)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let wanted = match kind.next()? {
        "cgroup2" => unified,
        "cgroup" => !unified && kind.nth(1)?.split(',').any(|option| option == "memory"),
        _ => false,
    };
    let mut fields = mount.split(' ').skip(3);
    let (group, at) = (fields.next()?, fields.next()?);
    wanted.then(|| (unescaped(group), unescaped(at)))
}

/// A path of mountinfo, in which blanks, tabs, line ends and backslashes are octal.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |text, (code, character)| {
            text.replace(code, character)
        })
}

/// What a group's limit leaves, if it has one. Pages of files that nobody has used lately are no loss.
fn left_in(folder: &Path) -> Option<u64> {
    let number = |file: &str| -> Option<u64> { read(folder, file).trim().parse().ok() };
    let limits = ["memory.max", "memory.high", "memory.limit_in_bytes"];
    let limit = limits.into_iter().filter_map(number).min()?;
    // version 1 writes that there is none as a number that no machine has
    if limit >> 50 > 0 {
        return None;
    }
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"));
    let stat = read(folder, "memory.stat");
    let idle = field(&stat, "total_inactive_file ").or_else(|| field(&stat, "inactive_file "));
    let used = used.unwrap_or(0).saturating_sub(idle.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

/// What the limits of the process leave.
fn left_of_limits(root: &Path) -> impl Iterator<Item = u64> {
    let limits = read(root, "proc/self/limits");
    let status = read(root, "proc/self/status");
    [("Max address space", "VmSize:"), ("Max data size", "VmData:")]
        .into_iter()
        .filter_map(move |(limit, used)| {
            let used = field(&status, used).unwrap_or(0) * 1024;
            Some(field(&limits, limit)?.saturating_sub(used))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn available_below(root: &Path) -> u64 {
        available_in(root, &groups(root))
    }

    /// A file system with these files and 16 GiB available.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let meminfo = (
            "proc/meminfo",
            "MemTotal: 33554432 kB\nMemAvailable:   16777216 kB\n",
        );
        for (file, text) in files.iter().chain([&meminfo]) {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn left(files: &[(&str, &str)]) -> u64 {
        available_below(machine(files).path())
    }

    const V1: &str = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      36 30 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n\
                      37 30 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
    const V2: &str = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn without_limits_the_system_counts() {
        assert_eq!(left(&[]), 16 * GIB);
        let none = "Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(left(&[("proc/self/limits", none)]), 16 * GIB);
        let unlimited = [
            ("proc/self/cgroup", "0::/user.slice\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
        ];
        assert_eq!(left(&unlimited), 16 * GIB);
        assert_eq!(available_below(Path::new("/nowhere")), 4 * GIB);
    }

    #[test]
    fn the_own_group_of_the_first_version_counts_with_all_above_it() {
        let at = |limit: &'static str, above: &'static str| {
            left(&[
                (
                    "proc/self/cgroup",
                    "5:cpu,cpuacct:/\n4:memory:/jobs/7\n0::/elsewhere\n",
                ),
                ("proc/self/mountinfo", V1),
                (
                    "sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                ("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", above),
                ("sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", limit),
                (
                    "sys/fs/cgroup/memory/jobs/7/memory.usage_in_bytes",
                    "1073741824\n",
                ),
                // a group of another controller, and one beside this
                ("sys/fs/cgroup/cpu/jobs/7/memory.limit_in_bytes", "1\n"),
                ("sys/fs/cgroup/memory/jobs/8/memory.limit_in_bytes", "1\n"),
            ])
        };
        assert_eq!(at("4294967296\n", "9223372036854771712\n"), 3 * GIB);
        assert_eq!(at("9223372036854771712\n", "2147483648\n"), 2 * GIB);
        assert_eq!(at("1\n", "2147483648\n"), 0, "more is used than may be");
    }

    #[test]
    fn the_own_group_of_the_second_version_counts_with_all_above_it() {
        let at = |own: &'static str, slice: &'static str, high: &'static str| {
            left(&[
                ("proc/self/cgroup", "0::/user.slice/run-1.scope\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/user.slice/memory.max", slice),
                ("sys/fs/cgroup/user.slice/run-1.scope/memory.max", own),
                ("sys/fs/cgroup/user.slice/run-1.scope/memory.high", high),
                (
                    "sys/fs/cgroup/user.slice/run-1.scope/memory.current",
                    "2147483648\n",
                ),
                (
                    "sys/fs/cgroup/user.slice/run-1.scope/memory.stat",
                    "anon 1073741824\ninactive_file 1073741824\n",
                ),
            ])
        };
        assert_eq!(at("8589934592\n", "max\n", "max\n"), 7 * GIB);
        assert_eq!(at("max\n", "3221225472\n", "max\n"), 3 * GIB);
        assert_eq!(at("8589934592\n", "max\n", "2147483648\n"), GIB);
    }

    #[test]
    fn a_container_sees_its_group_as_the_root_of_its_mount() {
        let inside = [
            ("proc/self/cgroup", "4:memory:/docker/abc\n"),
            (
                "proc/self/mountinfo",
                "36 30 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ];
        assert_eq!(left(&inside), GIB);
        // a mount of another name, with a blank in it, and a group outside of the mount
        let moved = [
            ("proc/self/cgroup", "0::/../other\n"),
            (
                "proc/self/mountinfo",
                "36 30 0:31 / /mnt/control\\040groups rw - cgroup2 none rw\n",
            ),
            ("mnt/control groups/memory.max", "2147483648\n"),
        ];
        assert_eq!(left(&moved), 2 * GIB);
        // nothing that names a group: the usual place
        let plain = [("sys/fs/cgroup/memory.max", "1073741824\n")];
        assert_eq!(left(&plain), GIB);
    }

    #[test]
    fn limits_of_the_process_count_less_what_it_has() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max data size             unlimited            unlimited            bytes     \n\
                      Max address space         3221225472           unlimited            bytes     \n";
        let status = "Name:\ttts\nVmSize:\t 1048576 kB\nVmData:\t  524288 kB\n";
        let of = |limits: &str| left(&[("proc/self/limits", limits), ("proc/self/status", status)]);
        assert_eq!(of(limits), 2 * GIB);
        assert_eq!(of(&limits.replace("3221225472", "1024")), 0);
        let data = limits.replacen("unlimited ", "1073741824", 1);
        assert_eq!(of(&data), GIB / 2);
    }
}
