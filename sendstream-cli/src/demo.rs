//! `sendstream demo`: both ends as two processes on loopback, with a file made for it.
//!
//! The processes are this same program, run as a user would run it. What is reported is what they
//! report, except for the comparison: the received file is read back from the disk and hashed here.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    pin::pin,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use futures::{
    channel::oneshot,
    executor::block_on,
    future::{Either, select},
};
use indicatif::BinaryBytes;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cli::DemoArgs,
    error::Failure,
    progress::{Bar, Progress},
    signal::Interrupt,
    summary::{mib_per_s, print_json, print_line},
};

/// Runs the demonstration and prints what happened.
pub(crate) fn run(args: DemoArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let children = Arc::new(Children::default());
    let (done, result) = oneshot::channel();
    let json = args.output.json;
    let work = {
        let children = Arc::clone(&children);
        move || drop(done.send(demonstrate(&args, &children)))
    };
    let worker = thread::Builder::new().name("demo".to_owned()).spawn(work);
    worker.map_err(|error| Failure::new(format!("cannot start: {error}")))?;

    let outcome = match block_on(select(pin!(result), interrupt.wait())) {
        Either::Left((outcome, _)) => outcome,
        Either::Right((_, result)) => {
            // The work ends when its processes do, and removes its directory.
            children.kill();
            let _ = block_on(result);
            return Err(Failure::interrupted());
        }
    };
    let outcome = outcome.map_err(|oneshot::Canceled| Failure::new("the demonstration failed; please report it"))??;
    if json {
        print_json(&outcome)?
    } else {
        print_line(&outcome.to_text())?
    }
    if outcome.digest_match {
        Ok(())
    } else {
        Err(Failure::new("the received file differs from the one that was sent"))
    }
}

/// What happened.
#[derive(Debug, Serialize)]
struct Outcome {
    bytes: u64,
    seconds: f64,
    mib_per_s: f64,
    /// Whether the file that was made, what the two ends say they hashed, and the file on the disk
    /// at the end agree.
    digest_match: bool,
    digest: String,
    sender: Party,
    receiver: Party,
}

/// What one end reported.
#[derive(Debug, Serialize)]
struct Party {
    pid: u32,
    bytes: u64,
    seconds: f64,
    digest: String,
}

impl Outcome {
    fn to_text(&self) -> String {
        let line = |verb: &str, party: &Party| {
            let size = BinaryBytes(party.bytes).to_string();
            let rate = mib_per_s(party.bytes, party.seconds);
            format!("{verb:<9} {size} in {:.2} s, {rate:.1} MiB/s (process {})\n", party.seconds, party.pid)
        };
        let verdict = if self.digest_match { "equal" } else { "DIFFERENT" };
        line("sent", &self.sender)
            + &line("received", &self.receiver)
            + &format!("digests   {verdict}, blake3 {}", self.digest)
    }
}

fn demonstrate(args: &DemoArgs, children: &Children) -> Result<Outcome, Failure> {
    let progress = Progress::new(args.output.quiet);
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = TempDir::with_prefix_in("sendstream-demo-", &parent)
        .map_err(|error| Failure::new(format!("cannot make a directory in {}: {error}", parent.display())))?;
    let source = dir.path().join("demo.bin");
    let inbox = dir.path().join("received");

    let bar = progress.transfer("making", args.size);
    let digest = make_file(&source, args.size, children, &bar);
    bar.clear();
    let digest = digest.map_err(|error| {
        Failure::new(format!("cannot make a file of {} bytes in {}: {error}", args.size, parent.display()))
            .todo("choose a smaller one with `--size`, or another place with `--dir`")
    })?;

    let receiver = ["recv", "--once", "--json", "--quiet", "--listen", "127.0.0.1:0", "--"].map(OsStr::new);
    let mut receiver = children.spawn(receiver.into_iter().chain([inbox.as_os_str()]), "")?;
    let ticket = receiver.next_object()?;
    let Some(ticket) = ticket["ticket"].as_str() else { return Err(Failure::new("the receiver printed no ticket")) };

    // The receiver counts the same bytes, so only the sender shows its progress.
    let quiet = args.output.quiet.then_some(OsStr::new("--quiet"));
    let sender = ["send", "--json"].map(OsStr::new).into_iter().chain(quiet);
    let mut sender = children.spawn(sender.chain([source.as_os_str()]), ticket)?;
    let sender = sender.party()?;
    let receiver = receiver.party()?;

    let bar = progress.transfer("checking", args.size);
    let stored = hash_file(&inbox.join("demo.bin"), children, &bar);
    bar.clear();
    let stored = stored.map_err(|error| Failure::new(format!("cannot read the received file: {error}")))?;
    let digest = digest.to_string();
    Ok(Outcome {
        bytes: sender.bytes,
        seconds: sender.seconds,
        mib_per_s: mib_per_s(sender.bytes, sender.seconds),
        digest_match: [&stored.to_string(), &sender.digest, &receiver.digest].iter().all(|it| **it == digest),
        digest,
        sender,
        receiver,
    })
}

/// Fills a file with bytes that nothing on the way can compress, and returns their digest.
fn make_file(path: &Path, size: u64, children: &Children, bar: &Bar) -> io::Result<blake3::Hash> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    // BLAKE3's output goes on for as long as one reads, at the speed of its hashing.
    let mut random = blake3::Hasher::new_keyed(&seed).finalize_xof();
    let mut file = File::create(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_LEN];
    let mut left = size;
    while left > 0 {
        children.check()?;
        let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let chunk = &mut buffer[..len];
        random.fill(chunk);
        hasher.update(chunk);
        file.write_all(chunk)?;
        left -= len as u64;
        bar.advance(len as u64);
    }
    Ok(hasher.finalize())
}

fn hash_file(path: &Path, children: &Children, bar: &Bar) -> io::Result<blake3::Hash> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        children.check()?;
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            len => {
                hasher.update(&buffer[..len]);
                bar.advance(len as u64);
            }
        }
    }
}

/// The processes that were started, so that none outlives the demonstration. `None` once they were
/// killed.
struct Children(Mutex<Option<Vec<Arc<Mutex<Child>>>>>);

impl Default for Children {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl Children {
    /// Starts this program with other arguments.
    fn spawn<'a>(&self, args: impl IntoIterator<Item = &'a OsStr>, ticket: &str) -> Result<Running, Failure> {
        let failed = |error| Failure::new(format!("cannot start the other end: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut children = lock(&self.0);
        let children = children.as_mut().ok_or_else(Failure::interrupted)?;
        let mut command = Command::new(program);
        // No list of processes shows it there.
        command.args(args).env("SENDSTREAM_TICKET", ticket);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let pid = child.id();
        let stdout = child.stdout.take().map(BufReader::new);
        let child = Arc::new(Mutex::new(child));
        children.push(Arc::clone(&child));
        Ok(Running { pid, stdout, child })
    }

    /// Fails once they were killed: then the work between them is to end, too.
    fn check(&self) -> io::Result<()> {
        if lock(&self.0).is_some() { Ok(()) } else { Err(io::Error::other("interrupted")) }
    }

    /// Ends all processes, and lets no other one start.
    fn kill(&self) {
        for child in lock(&self.0).take().into_iter().flatten() {
            // It may have ended already.
            let _ = lock(&child).kill();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that was started. Dropping it ends the process.
struct Running {
    pid: u32,
    stdout: Option<BufReader<ChildStdout>>,
    child: Arc<Mutex<Child>>,
}

impl Running {
    /// Reads the next JSON object that the process prints and that is no event.
    fn next_object(&mut self) -> Result<Value, Failure> {
        let Some(stdout) = &mut self.stdout else { return Err(Failure::new("one of the two ends has ended")) };
        loop {
            let mut line = String::new();
            stdout
                .read_line(&mut line)
                .map_err(|error| Failure::new(format!("cannot read from a process: {error}")))?;
            let object: Value = serde_json::from_str(&line)
                .map_err(|_| Failure::new("one of the two ends failed; it said why above"))?;
            if object.get("event").is_none() {
                return Ok(object);
            }
        }
    }

    /// Waits for the process's summary and its end.
    fn party(&mut self) -> Result<Party, Failure> {
        let summary = self.next_object()?;
        let failed = || Failure::new("one of the two ends failed; it said why above");
        // When its output is at its end the process is too, so nobody who wants to kill it waits
        // for this lock long.
        if let Some(mut stdout) = self.stdout.take() {
            io::copy(&mut stdout, &mut io::sink()).map_err(|_| failed())?;
        }
        let status = lock(&self.child).wait();
        if !status.is_ok_and(|status| status.success()) {
            return Err(failed());
        }
        let field = |name: &str| summary.get(name).ok_or_else(failed);
        Ok(Party {
            pid: self.pid,
            bytes: field("bytes")?.as_u64().ok_or_else(failed)?,
            seconds: field("seconds")?.as_f64().ok_or_else(failed)?,
            digest: field("digest")?.as_str().ok_or_else(failed)?.to_owned(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // A process that has ended already can be neither killed nor lost.
        let _ = child.kill();
        let _ = child.wait();
    }
}

const BUFFER_LEN: usize = 1 << 20;
