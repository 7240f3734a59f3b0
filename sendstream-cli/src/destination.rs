//! Where `send` and `get` get their ticket from: its last arguments, the known peers, the environment, standard
//! input or a prompt.

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead, IsTerminal as _},
    path::PathBuf,
};

use crate::{
    code::ShortCode,
    error::{Failure, Kind},
    neighbours,
    peers::Peers,
    progress,
    store::Store,
    ticket::{self, Ticket, TicketError},
};

/// Tells the files from the tickets among the arguments of `send`. Without a ticket there, the last one
/// may be a known peer; else it comes from [`VARIABLE`], or from standard input, which is asked if it is a
/// terminal.
pub(crate) fn split(arguments: &[OsString]) -> Result<(Vec<PathBuf>, Vec<Ticket>), Failure> {
    let first = arguments.iter().position(|argument| argument.to_str().is_some_and(ticket::begins_ticket));
    let (files, words) = arguments.split_at(first.unwrap_or(arguments.len()));
    if files.is_empty() {
        return Err(Failure::usage("nothing to send: the files come before the ticket").todo(USAGE));
    }
    let mut files: Vec<_> = files.iter().map(PathBuf::from).collect();
    let tickets = match (words, by_name(&files)?) {
        ([], Some(ticket)) => {
            files.pop();
            vec![ticket]
        }
        ([], None) => vec![ask(&files)?],
        _ => join(words)?,
    };
    Ok((files, tickets))
}

/// The one ticket that these words are, or that comes from elsewhere if there are none.
pub(crate) fn one(words: &[OsString]) -> Result<Ticket, Failure> {
    if words.is_empty() {
        return ask(&[]);
    }
    if let [word] = words
        && let Some(code) = word.to_str().filter(|word| ShortCode::is_meant(word))
    {
        return by_code(code);
    }
    join(words).and_then(single)
}

/// The ticket among the arguments of `get`, and the word for where the files go, if there is one.
pub(crate) fn source(arguments: &[OsString]) -> Result<(Ticket, Option<OsString>), Failure> {
    let text = |word: &OsString| word.to_str().map(str::to_owned);
    let several = || Failure::usage("too many words: a ticket comes first, and then one directory").todo(GET_USAGE);
    match arguments {
        [] => ask_with(&[], GET_USAGE).map(|ticket| (ticket, None)),
        [first, ..] if text(first).is_some_and(|word| ticket::begins_ticket(&word)) => {
            // The shell may have made several words of the ticket; its checksum tells where it ends.
            if let [words @ .., last] = arguments
                && !words.is_empty()
                && let Ok(ticket) = join(words).and_then(single)
            {
                return Ok((ticket, Some(last.clone())));
            }
            join(arguments).and_then(single).map(|ticket| (ticket, None))
        }
        [first, rest @ ..] if text(first).is_some_and(|word| ShortCode::is_meant(&word)) => {
            let ([] | [_]) = rest else { return Err(several()) };
            by_code(&text(first).unwrap_or_default()).map(|ticket| (ticket, rest.first().cloned()))
        }
        // With a colon it may be a ticket with a typo.
        [dir] if !text(dir).is_some_and(|word| word.contains(':')) => {
            ask_with(&[], GET_USAGE).map(|ticket| (ticket, Some(dir.clone())))
        }
        [_] => Err(wrong(TicketError::Scheme)),
        _ => Err(several()),
    }
}

fn single(tickets: Vec<Ticket>) -> Result<Ticket, Failure> {
    match <[Ticket; 1]>::try_from(tickets) {
        Ok([ticket]) => Ok(ticket),
        Err(_) => Err(Failure::usage("these are several tickets").kind(Kind::Ticket)),
    }
}

/// The ticket of the known peer, or of the neighbour with the code, that the last of several words names.
fn by_name(words: &[PathBuf]) -> Result<Option<Ticket>, Failure> {
    let [_, .., last] = words else { return Ok(None) };
    let Some(name) = last.to_str() else { return Ok(None) };
    // Without a place for peers there are none.
    let peer = Store::of_user().map_or(Ok(None), |store| Peers::new(store).ticket(name))?;
    if peer.is_none() && !ShortCode::is_meant(name) {
        return Ok(None);
    }
    if last.exists() {
        let what = if peer.is_some() { "a known peer" } else { "a code" };
        return Err(Failure::usage(format!("{name} is both a file here and {what}"))
            .todo(format!("type ./{name} for the file, or go elsewhere for the other")));
    }
    match peer {
        None => by_code(name).map(Some),
        peer => Ok(peer),
    }
}

/// Asks on this network for the ticket that a code stands for.
fn by_code(text: &str) -> Result<Ticket, Failure> {
    let code = text.parse().map_err(|error: String| Failure::usage(error).kind(Kind::Ticket))?;
    neighbours::find(code)
}

/// Puts tickets together of the words that a shell made of them.
fn join(words: &[OsString]) -> Result<Vec<Ticket>, Failure> {
    let mut texts: Vec<String> = Vec::new();
    for word in words {
        match (word.to_str(), texts.last_mut()) {
            (Some(word), None) => texts.push(word.to_owned()),
            (Some(word), _) if ticket::begins_ticket(word) => texts.push(word.to_owned()),
            (Some(word), Some(text)) => text.push_str(word),
            _ => return Err(wrong(TicketError::Typo)),
        }
    }
    texts.iter().map(|text| text.parse().map_err(wrong)).collect()
}

fn ask(files: &[PathBuf]) -> Result<Ticket, Failure> {
    ask_with(files, USAGE)
}

/// Gets the ticket from elsewhere, where no list of processes shows it.
fn ask_with(files: &[PathBuf], usage: &str) -> Result<Ticket, Failure> {
    let missing = |why: &str| missing(why, usage);
    if let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
        let text = text.into_string().map_err(|_| wrong(TicketError::Typo))?;
        return text.parse().map_err(wrong);
    }
    if files.iter().any(|file| file.as_os_str() == OsStr::new("-")) {
        return Err(missing("standard input is what is sent"));
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        progress::prompt("ticket: ");
    }
    read(stdin.lock(), usage)
}

/// Reads the ticket, which may be wrapped: lines until it is complete, an empty one, or the end.
fn read(input: impl BufRead, usage: &str) -> Result<Ticket, Failure> {
    let missing = |why: &str| missing(why, usage);
    let mut input = input.take(MAX_INPUT);
    let mut text = String::new();
    loop {
        let before = text.len();
        let read = input.read_line(&mut text);
        read.map_err(|error| missing(&format!("standard input cannot be read: {error}")))?;
        let line = text[before..].trim();
        match text.parse() {
            Ok(ticket) => return Ok(ticket),
            // Blank lines may come before it.
            Err(_) if text.len() > before && (text.trim().is_empty() || !line.is_empty()) => {}
            Err(_) if text.trim().is_empty() => return Err(missing("standard input is empty")),
            Err(error) => return Err(wrong(error)),
        }
    }
}

fn wrong(error: TicketError) -> Failure {
    Failure::usage(error.to_string()).kind(Kind::Ticket)
}

fn missing(why: &str, usage: &str) -> Failure {
    Failure::usage(format!("there is no ticket, and {why}")).kind(Kind::Ticket).todo(usage)
}

/// The environment variable that may hold the ticket.
const VARIABLE: &str = "SENDSTREAM_TICKET";

const USAGE: &str = "type `sendstream send FILE... TICKET` with the line that `sendstream recv` printed; \
     it may also be in SENDSTREAM_TICKET or on standard input";

const GET_USAGE: &str = "type `sendstream get TICKET DIR` with the line that `sendstream share` printed; \
     it may also be in SENDSTREAM_TICKET or on standard input";

/// How many bytes are read before it is said that they are no ticket.
const MAX_INPUT: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_files_come_before_the_ticket_whatever_the_shell_made_of_it() {
        let text = ticket::example().to_string();
        let (begin, end) = text.split_at(40);
        for ticket in
            [&[text.as_str()][..], &[begin, end], &["sendstream:", &text[11..40], end], &[&format!("\n{text}\n")]]
        {
            let arguments = words(&[&["a", "b c"], ticket].concat());
            let (files, tickets) = split(&arguments).unwrap();
            assert_eq!(files, [PathBuf::from("a"), PathBuf::from("b c")]);
            assert_eq!(tickets, [ticket::example()], "{ticket:?}");
        }
        let (_, tickets) = split(&words(&["a", &text, begin, end])).unwrap();
        assert_eq!(tickets.len(), 2);
    }

    #[test]
    fn what_follows_a_ticket_is_no_file() {
        let text = ticket::example().to_string();
        assert!(split(&words(&["a", &text, "b"])).is_err());
        assert!(split(&words(&[&text])).is_err());
    }

    #[test]
    fn the_directory_comes_behind_the_ticket_whatever_the_shell_made_of_it() {
        let text = ticket::example().to_string();
        let (begin, end) = text.split_at(40);
        for ticket in [&[text.as_str()][..], &[begin, end], &["sendstream:", &text[11..40], end]] {
            assert_eq!(source(&words(ticket)).unwrap(), (ticket::example(), None), "{ticket:?}");
            let arguments = words(&[ticket, &["in box"]].concat());
            assert_eq!(source(&arguments).unwrap(), (ticket::example(), Some("in box".into())), "{ticket:?}");
        }
        for wrong in [&[text.as_str(), "a", "b"][..], &["sendstraem:x"], &["a", &text], &["7-copper-lantern", "a", "b"]]
        {
            assert!(source(&words(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_ticket_is_read_until_it_is_complete() {
        let text = ticket::example().to_string();
        let (begin, end) = text.split_at(40);
        for input in [text.clone(), format!("{text}\nmore"), format!("\n {begin}\n{end}\n"), format!("{begin}\n{end}")]
        {
            assert_eq!(read(input.as_bytes(), USAGE).unwrap(), ticket::example(), "{input:?}");
        }
        for input in ["", "\n", "photo.jpg\n", begin, &"x".repeat(1 << 20)] {
            assert!(read(input.as_bytes(), USAGE).is_err(), "{input:?}");
        }
    }
}
