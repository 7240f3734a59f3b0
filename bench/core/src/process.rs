//! Time, CPU and memory of this process, and which CPUs its threads may use.

use std::{fs, mem, time::Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::stack::Cost;

/// A running measurement.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    cpu_seconds: f64,
}

impl Meter {
    /// Starts it. First, if there is to be one CPU, every thread that has come into being is moved
    /// there.
    pub fn start(cpu: Option<usize>) -> Result<Self> {
        if let Some(cpu) = cpu {
            move_threads_to(cpu)?;
        }
        Ok(Self { cpu_seconds: cpu_seconds()?, start: Instant::now() })
    }

    /// What has passed since.
    pub fn stop(self) -> Result<Cost> {
        let seconds = self.start.elapsed().as_secs_f64();
        Ok(Cost { seconds, cpu_seconds: cpu_seconds()? - self.cpu_seconds })
    }
}

/// Moves every thread of this process to one CPU. Threads that they make stay there, unless they
/// are made with a mask of their own as MsQuic's workers are: call it again when those run, and
/// [`check_threads_on`] at the end.
pub fn move_threads_to(cpu: usize) -> Result<()> {
    for thread in threads()? {
        // SAFETY: the set is plain bits, for which zero is a valid value.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        ensure!(cpu < libc::CPU_SETSIZE as usize, "there is no CPU {cpu}");
        // SAFETY: `cpu` is below the set's size.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        // SAFETY: the set outlives the call and has the size that is given.
        if unsafe { libc::sched_setaffinity(thread, mem::size_of_val(&set), &set) } != 0 {
            let error = std::io::Error::last_os_error();
            // The thread may have ended meanwhile.
            if error.raw_os_error() != Some(libc::ESRCH) {
                return Err(error).with_context(|| format!("cannot move thread {thread} to CPU {cpu}"));
            }
        }
    }
    Ok(())
}

/// Fails if a thread of this process may run anywhere else than on `cpu`.
pub fn check_threads_on(cpu: usize) -> Result<()> {
    for thread in threads()? {
        let Ok(status) = fs::read_to_string(format!("/proc/self/task/{thread}/status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let allowed = field("Cpus_allowed_list:");
        if allowed != cpu.to_string() {
            bail!("thread {:?} may run on CPUs {allowed}, not on {cpu} alone: the figures are void", field("Name:"));
        }
    }
    Ok(())
}

/// The resident memory of this process in KiB, exactly: `/proc/self/statm` lags behind.
pub fn resident_kib() -> Result<u64> {
    kib_field("/proc/self/smaps_rollup", "Rss:")
}

/// The most that was ever resident, in KiB. `getrusage` would give the parent's if that was larger.
pub fn peak_resident_kib() -> Result<u64> {
    kib_field("/proc/self/status", "VmHWM:")
}

/// Lets the process have as many files open as the system allows, or no more than `most`, and gives
/// their number: each connection may have a socket.
pub fn set_file_limit(most: Option<u64>) -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the place is valid for the write.
    ensure!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0, "cannot read the limit of open files");
    limit.rlim_max = most.unwrap_or(limit.rlim_max).min(limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the value is only read.
    ensure!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } == 0, "cannot set the limit of open files");
    Ok(limit.rlim_max)
}

/// Has the system kill this process when the thread that started it ends.
pub fn end_with_parent() -> Result<()> {
    // SAFETY: this option takes a signal and touches no memory.
    ensure!(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == 0, "cannot ask to end with the parent");
    Ok(())
}

/// User and system time of all threads.
fn cpu_seconds() -> Result<f64> {
    // SAFETY: the structure is integers throughout, for which zero is a valid value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the place is valid for the write.
    ensure!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) } == 0, "cannot read the CPU time");
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

fn threads() -> Result<Vec<libc::pid_t>> {
    fs::read_dir("/proc/self/task")?
        .map(|entry| {
            entry?.file_name().to_str().and_then(|name| name.parse().ok()).context("a thread without a number")
        })
        .collect()
}

fn kib_field(file: &str, field: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field} in {file}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}
