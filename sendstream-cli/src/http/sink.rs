//! Where content goes.
//!
//! A file gets its name when it is complete. Until then it is a hidden `.sendstream-*.part` file
//! beside it, which is removed if nothing comes of it. A terminal gets content without what could
//! steer it.

use std::{
    fs::{self, Permissions},
    io::{self, IsTerminal as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sendstream::Printable;
use tempfile::TempPath;
use tokio::{
    fs::File,
    io::{AsyncWrite, AsyncWriteExt as _, Stdout, stdout},
    task::spawn_blocking,
};

/// Where the content of one URL is to go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    Stdout,
    File(PathBuf),
}

impl Output {
    /// Whether it is a terminal that somebody looks at.
    pub(crate) fn is_terminal(&self) -> bool {
        *self == Self::Stdout && io::stdout().is_terminal()
    }
}

/// An [`Output`] that content is being written to. Dropping it leaves nothing of a file.
pub(crate) enum Sink {
    Stdout(Stdout),
    Terminal(Stdout, Guard),
    /// A file that gets its name at the end.
    Part {
        file: File,
        part: TempPath,
        target: PathBuf,
    },
    /// Something that is there and is not replaced, such as `/dev/null`.
    Device(File),
}

impl Sink {
    pub(crate) async fn open(output: &Output) -> io::Result<Self> {
        match output {
            Output::Stdout if output.is_terminal() => Ok(Self::Terminal(stdout(), Guard::default())),
            Output::Stdout => Ok(Self::Stdout(stdout())),
            Output::File(target) => {
                let target = target.clone();
                blocking(move || Self::open_file(target)).await
            }
        }
    }

    fn open_file(target: PathBuf) -> io::Result<Self> {
        if target.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if stays(&target) {
            return Ok(Self::Device(fs::OpenOptions::new().append(true).open(target)?.into()));
        }
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (file, part) = tempfile::Builder::new()
            .prefix(".sendstream-")
            .suffix(".part")
            // It becomes an ordinary file, with what the umask leaves.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?
            .into_parts();
        Ok(Self::Part { file: file.into(), part, target })
    }

    pub(crate) async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(out) => write_all(out, chunk).await,
            Self::Terminal(out, guard) => write_all(out, guard.filter(chunk).as_bytes()).await,
            Self::Part { file, .. } | Self::Device(file) => file.write_all(chunk).await,
        }
    }

    /// The content is complete.
    pub(crate) async fn finish(self) -> io::Result<()> {
        match self {
            Self::Stdout(mut out) => unless_gone(out.flush().await),
            Self::Terminal(mut out, mut guard) => {
                write_all(&mut out, guard.end().as_bytes()).await?;
                unless_gone(out.flush().await)
            }
            Self::Device(mut file) => file.flush().await,
            Self::Part { mut file, part, target } => {
                file.flush().await?;
                drop(file);
                blocking(move || part.persist(target).map_err(|error| error.error)).await
            }
        }
    }
}

/// Whether what has this name is written to, and not replaced: it is no file, or the name is one of
/// the system's for a descriptor, which leads to a file where standard output goes to one.
pub(crate) fn stays(path: &Path) -> bool {
    let is_descriptor = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"].iter().any(|name| path.starts_with(name));
    is_descriptor || fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

/// Text on its way to a terminal, whose pieces may end in the middle of a character.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// The beginning of a character: three bytes at most.
    begun: Vec<u8>,
}

impl Guard {
    /// The piece as [`Printable`] shows it, but for new lines and tabs.
    fn filter(&mut self, chunk: &[u8]) -> String {
        let mut text = std::mem::take(&mut self.begun);
        text.extend_from_slice(chunk);
        let is_begun = |bytes: &[u8]| {
            str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        };
        if let Some(begin) = (text.len().saturating_sub(3)..text.len()).find(|&begin| is_begun(&text[begin..])) {
            self.begun = text.split_off(begin);
        }
        show(&text)
    }

    fn end(&mut self) -> String {
        show(&std::mem::take(&mut self.begun))
    }
}

fn show(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(|byte| matches!(byte, b'\n' | b'\t')) {
        match part.split_last() {
            Some((last @ (b'\n' | b'\t'), rest)) => {
                shown.push_str(&Printable::new(rest.strip_suffix(b"\r").unwrap_or(rest)).to_string());
                shown.push(char::from(*last));
            }
            _ => shown.push_str(&Printable::new(part).to_string()),
        }
    }
    shown
}

async fn write_all(out: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    unless_gone(out.write_all(bytes).await)
}

/// A reader that went away, as `head` does, wants no more, which is no failure.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_systems_is_written_to_and_stays() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        // As `/dev/stdout` where standard output goes to a file.
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file.as_file()));
        assert!(stays(Path::new("/dev/stdout")) && stays(Path::new("/dev/null")));
        assert!(!stays(file.path()) && !stays(Path::new("/dev/shm/x")) && !stays(Path::new("/dev/stdout-too")));
        runtime.block_on(async {
            let mut sink = Sink::open(&Output::File(name.clone().into())).await.unwrap();
            sink.write(b"content").await.unwrap();
            sink.finish().await.unwrap();
        });
        assert_eq!(fs::read(file.path()).unwrap(), b"content");
        assert!(fs::symlink_metadata(name).unwrap().is_symlink());
    }

    #[test]
    fn a_file_is_replaced_when_the_new_one_is_complete() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        runtime.block_on(async {
            let output = Output::File(link.clone());
            let mut given_up = Sink::open(&output).await.unwrap();
            given_up.write(b"half").await.unwrap();
            drop(given_up);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left of it");
            let mut sink = Sink::open(&output).await.unwrap();
            sink.write(b"new").await.unwrap();
            assert_eq!(fs::read(&link).unwrap(), b"old");
            sink.finish().await.unwrap();
        });
        assert_eq!((fs::read(&link).unwrap(), fs::read(&file).unwrap()), (b"new".to_vec(), b"old".to_vec()));
        assert!(fs::symlink_metadata(&link).unwrap().is_file(), "the link is replaced, and not what it leads to");
    }

    #[test]
    fn a_terminal_gets_text_and_nothing_that_steers_it() {
        let mut guard = Guard::default();
        assert_eq!(guard.filter(b"a\tb\r\nc\x1b[2J\rd\n"), "a\tb\nc\\u{1b}[2J\\rd\n");
        assert_eq!(guard.filter("ä日🦀".as_bytes()), "ä日🦀");
        assert_eq!(guard.filter(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(guard.end(), "");
    }

    #[test]
    fn a_character_may_come_in_pieces() {
        let text = "aä日🦀\u{202e}b\n".as_bytes();
        for size in 1..text.len() {
            let mut guard = Guard::default();
            let mut shown: String = text.chunks(size).map(|chunk| guard.filter(chunk)).collect();
            shown.push_str(&guard.end());
            assert_eq!(shown, "aä日🦀\\u{202e}b\n", "pieces of {size}");
        }
        let mut guard = Guard::default();
        assert_eq!(guard.filter(b"x\xe6\x97"), "x");
        assert_eq!(guard.end(), "\\xe6\\x97", "the end of it never came");
    }
}
