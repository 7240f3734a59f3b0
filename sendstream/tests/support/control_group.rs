//! A control group of Linux that limits memory, of either version.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// A group below the one that this process is in. Dropping it takes it away, once its processes
/// have ended.
pub(crate) struct MemoryGroup {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl MemoryGroup {
    /// Its processes together get `limit` bytes, and nothing is swapped out. The error says why
    /// there can be none.
    pub(crate) fn new(limit: usize) -> Result<Self, String> {
        let (parent, version) = parent()?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("sendstream-{}-{number}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let group = Self { folder, version };
        let (memory, swap) = match version {
            Version::One => ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", limit.to_string())),
            Version::Two => ("memory.max", ("memory.swap.max", "0".to_owned())),
        };
        write(&group.folder.join(memory), &limit.to_string())?;
        // Not every kernel counts swap.
        let _ = write(&group.folder.join(swap.0), &swap.1);
        Ok(group)
    }

    /// A command that starts `program` in this group.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        // 0 is whoever writes.
        command.args(["-c", r#"echo 0 >"$0" && exec "$@""#]).arg(self.folder.join("cgroup.procs")).arg(program);
        command
    }

    /// The most that was in use at once, files in the kernel's cache among it; `None` where the
    /// kernel does not say.
    pub(crate) fn peak(&self) -> Option<usize> {
        let file = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The last process is reaped a moment before it has left.
        let begin = Instant::now();
        while fs::remove_dir(&self.folder).is_err() && begin.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether the group of this process itself has a limit of memory.
pub(crate) fn limits_memory() -> bool {
    let own =
        |kind, option, path, file| mounted(kind, option, path).and_then(|(_, group)| read(&group.join(file)).ok());
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    groups.lines().any(|line| {
        let path = line.splitn(3, ':').last().unwrap_or_default();
        [("cgroup", "memory", "memory.limit_in_bytes"), ("cgroup2", "", "memory.max")].into_iter().any(
            |(kind, option, file)| {
                // Without a limit version 1 has a number that is more than any memory, and version 2 a word.
                let limit = own(kind, option, path, file).and_then(|limit| limit.trim().parse::<u64>().ok());
                limit.is_some_and(|limit| limit < 1 << 60)
            },
        )
    })
}

/// A group in which this process may make groups that limit memory.
fn parent() -> Result<(PathBuf, Version), String> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    for line in groups.lines() {
        // Number, controllers, path.
        let [number, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        if controllers.split(',').any(|controller| controller == "memory")
            && let Some((_, group)) = mounted("cgroup", "memory", path)
        {
            return Ok((group, Version::One));
        }
        if number == "0"
            && let Some((root, group)) = mounted("cgroup2", "", path)
            && let Some(parent) =
                group.ancestors().take_while(|group| group.starts_with(&root)).find(|group| hands_on(group))
        {
            return Ok((parent.to_owned(), Version::Two));
        }
    }
    Err("no control group here limits memory".to_owned())
}

/// Whether groups below `group`, of version 2, can limit memory. With processes of its own only the
/// root can have such.
fn hands_on(group: &Path) -> bool {
    let file = group.join("cgroup.subtree_control");
    let limits = || read(&file).is_ok_and(|controllers| controllers.split_whitespace().any(|name| name == "memory"));
    limits() || (write(&file, "+memory").is_ok() && limits())
}

/// Where the hierarchy with `option` is mounted, and where the group `path` of it is.
fn mounted(kind: &str, option: &str, path: &str) -> Option<(PathBuf, PathBuf)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let [_, _, _, root, point, ..] = mount.split(' ').collect::<Vec<_>>()[..] else { return None };
        let [found, _, options] = source.splitn(3, ' ').collect::<Vec<_>>()[..] else { return None };
        let is_it = found == kind && (option.is_empty() || options.split(',').any(|has| has == option));
        // In a container the mount may begin at the group itself.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        is_it.then(|| (PathBuf::from(point), Path::new(point).join(below)))
    })
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
