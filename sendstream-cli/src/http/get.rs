//! `sendstream http get`: fetches URLs, those of one server at once on one connection.

use std::{collections::HashSet, path::Path, sync::Arc};

use futures::{
    StreamExt as _,
    future::{self, Either},
    stream,
};
use percent_encoding::percent_decode_str;
use sendstream::{Client, Printable, Trust};
use serde::Serialize;
use url::Url;

use super::{
    fetch::{Fetched, Fetcher},
    origins::{Origins, settings},
    runtime,
    sink::{Output, stays},
};
use crate::{
    cli::HttpGetArgs,
    error::{Failure, FailureJson, chain},
    name::SafeName,
    progress::Progress,
    sessions::Sessions,
    signal::Interrupt,
    summary::print_json,
};

/// Fetches the URLs and says what became of each.
pub(crate) fn run(args: HttpGetArgs) -> Result<(), Failure> {
    let outputs = outputs(&args)?;
    if let Some(dir) = &args.output_dir {
        std::fs::create_dir_all(dir)
            .map_err(|error| Failure::new(format!("cannot make {}: {error}", dir.display())))?;
    }
    let interrupt = Interrupt::install()?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        // Bars and content do not share a terminal.
        let bars = Progress::new(args.output.quiet || outputs.iter().any(Output::is_terminal));
        let fetcher = Fetcher {
            // In the runtime, which then does the work of the connections.
            origins: Origins::new(client(&args)?),
            redirects: if args.location { MAX_REDIRECTS } else { 0 },
            verbose: args.verbose,
            bar: bars.transfer("receiving", 0),
            progress: if outputs.iter().any(Output::is_terminal) { Progress::new(args.output.quiet) } else { bars },
        };
        let work = Box::pin(fetch_all(&fetcher, &args, &outputs));
        let result = match future::select(work, interrupt.wait()).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(Failure::interrupted()),
        };
        fetcher.bar.clear();
        fetcher.origins.close().await;
        result
    });
    // What was interrupted may be waiting for a reader of the content, who may never read.
    runtime.shutdown_background();
    result
}

async fn fetch_all(fetcher: &Fetcher, args: &HttpGetArgs, outputs: &[Output]) -> Result<(), Failure> {
    let fetch = |(url, output): (&Url, &Output)| {
        let (url, output) = (url.clone(), output.clone());
        async move {
            let fetched = fetcher.fetch(url, &output).await;
            (fetched, output)
        }
    };
    let mut all = stream::iter(args.urls.iter().zip(outputs).map(fetch)).buffer_unordered(MAX_AT_ONCE);
    let (mut failed, mut last) = (0, None);
    while let Some((fetched, output)) = all.next().await {
        report(fetcher, &fetched, &output, args)?;
        if let Err(problem) = fetched.result {
            failed += 1;
            let failure = Failure::new(format!("{}: {}", fetched.url, problem.what));
            last = Some(match problem.todo {
                Some(todo) => failure.todo(todo),
                None => failure,
            });
        }
    }
    match last {
        None => Ok(()),
        // It is the last word of the process.
        Some(failure) if args.urls.len() == 1 => Err(failure),
        Some(_) => Err(Failure::new(format!("{failed} of {} URLs could not be fetched", args.urls.len()))),
    }
}

/// Says what became of one URL.
fn report(fetcher: &Fetcher, fetched: &Fetched, output: &Output, args: &HttpGetArgs) -> Result<(), Failure> {
    let progress = &fetcher.progress;
    match &fetched.result {
        Err(problem) if args.urls.len() > 1 => {
            progress.warn(format_args!("{}: {}", fetched.url, Printable::new(&problem.what)))
        }
        Ok(()) if !args.output.json => {
            if let Output::File(path) = output {
                progress.note(format_args!(
                    "{}: {} bytes in {:.2} s, as {}",
                    fetched.url,
                    fetched.bytes,
                    fetched.seconds,
                    Printable::new(path.as_os_str().as_encoded_bytes()),
                ))
            }
        }
        _ => {}
    }
    if !args.output.json {
        return Ok(());
    }
    let file = match output {
        Output::Stdout => None,
        Output::File(path) => Some(path.as_path()),
    };
    let object = FetchedJson {
        ok: fetched.result.is_ok(),
        url: fetched.url.as_str(),
        status: fetched.status.map(|status| status.as_u16()),
        bytes: fetched.bytes,
        seconds: fetched.seconds,
        protocol: fetched.status.map(|_| "h3"),
        resumed: fetched.resumed,
        file: file.map(Path::to_string_lossy),
        failure: fetched.result.as_ref().err().map(|problem| FailureJson {
            error: &problem.what,
            kind: problem.kind,
            hint: problem.todo.as_deref(),
        }),
    };
    progress.suspend(|| print_json(&object))
}

#[derive(Serialize)]
struct FetchedJson<'a> {
    ok: bool,
    url: &'a str,
    status: Option<u16>,
    bytes: u64,
    seconds: f64,
    protocol: Option<&'static str>,
    resumed: Option<bool>,
    file: Option<std::borrow::Cow<'a, str>>,
    /// Why it failed: `error`, `kind`, `hint`.
    #[serde(flatten)]
    failure: Option<FailureJson<'a>>,
}

/// Where each URL's content goes.
fn outputs(args: &HttpGetArgs) -> Result<Vec<Output>, Failure> {
    let outputs: Vec<_> = match &args.output_dir {
        Some(dir) => {
            let output = |url| file_name(url).map(|name| Output::File(dir.join(name)));
            args.urls.iter().map(output).collect::<Result<_, _>>()?
        }
        None if args.files.is_empty() && args.urls.len() == 1 => vec![Output::Stdout],
        None if args.files.len() == args.urls.len() => args
            .files
            .iter()
            .map(|file| if file.as_os_str() == "-" { Output::Stdout } else { Output::File(file.clone()) })
            .collect(),
        None => {
            return Err(Failure::usage(format!("{} URLs and {} times `-o`", args.urls.len(), args.files.len()))
                .todo("give each URL its `-o FILE`, or all of them `--output-dir DIR`"));
        }
    };
    if args.output.json && outputs.contains(&Output::Stdout) {
        return Err(Failure::usage("standard output cannot have the content and JSON")
            .todo("give each URL its `-o FILE`, or all of them `--output-dir DIR`"));
    }
    let mut files = HashSet::new();
    for output in &outputs {
        if !files.insert(output) && !matches!(output, Output::File(path) if stays(path)) {
            return Err(match output {
                Output::Stdout => Failure::usage("two URLs would go to standard output"),
                Output::File(path) => Failure::usage(format!("two URLs would become {}", path.display())),
            });
        }
    }
    Ok(outputs)
}

/// The last name of the URL's path, as a file's name.
fn file_name(url: &Url) -> Result<String, Failure> {
    let last = url.path_segments().and_then(|mut names| names.next_back()).unwrap_or_default();
    if last.is_empty() {
        return Ok("index.html".to_owned());
    }
    let name = percent_decode_str(last).decode_utf8().ok();
    let is_safe = |name: &str| !name.chars().any(char::is_control) && SafeName::new(name.as_bytes()).is_ok();
    let name = name.filter(|name| !name.contains('/') && is_safe(name));
    name.map(String::from).ok_or_else(|| {
        Failure::usage(format!("the name in {url} is none for a file")).todo("choose one with `-o FILE`")
    })
}

fn client(args: &HttpGetArgs) -> Result<Client, Failure> {
    let trust = match &args.ca {
        Some(file) => {
            let failed = |error: String| Failure::new(format!("cannot read {}: {error}", file.display()));
            let pem = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
            Trust::ca_pem(pem).map_err(|error| failed(chain(&error)))?
        }
        None if args.pin.is_empty() => Trust::system(),
        None => Trust::pinned(args.pin.iter().copied()),
    };
    let mut client = Client::builder().alpn([sendstream_h3::ALPN]).trust(trust).transport(settings());
    if let Some(dir) = &args.sessions {
        client = client.session_cache(Arc::new(Sessions::open(dir, SESSIONS)?));
    }
    client.build().map_err(|error| Failure::setting_up(&error))
}

/// How many redirections of a URL are followed.
const MAX_REDIRECTS: usize = 10;
/// How many URLs are fetched at a time.
const MAX_AT_ONCE: usize = 100;
/// What the files of sessions begin with, which have the server's name as well.
const SESSIONS: &str = "https";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fetch::parse_url;

    #[test]
    fn a_file_has_the_last_name_of_the_path() {
        let name = |url: &str| file_name(&parse_url(url).unwrap()).ok();
        assert_eq!(name("https://example.org/a/b.txt?c").as_deref(), Some("b.txt"));
        assert_eq!(name("https://example.org/a/").as_deref(), Some("index.html"));
        assert_eq!(name("https://example.org").as_deref(), Some("index.html"));
        assert_eq!(name("https://example.org/%C3%A4%20b").as_deref(), Some("ä b"));
        for wrong in ["%2e%2e%2fx", "a%2fb", "%00", "a%0ab", "%ff"] {
            assert_eq!(name(&format!("https://example.org/{wrong}")), None, "{wrong}");
        }
    }
}
