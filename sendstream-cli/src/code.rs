//! A code short enough to say aloud, `7-copper-lantern`, which stands for a ticket on the same network.
//!
//! The number names the receiver among those of the network ([`crate::neighbours`]); the two words are a
//! password of 16 bits. SPAKE2 makes a strong key of it: who does not know the words learns nothing by
//! watching, and gets one guess by taking part, after which the code is void.
//!
//! ```text
//! asker                                             holder of the ticket
//! magic "sendstream-code/1" (17) · SPAKE2 (33)  →
//!                                               ←   SPAKE2 (33)
//! proof (32): BLAKE3 of the key                 →   one wrong proof ends the code
//!                                               ←   length (2) · ticket, by ChaCha20-Poly1305
//! ```

use std::{
    fmt,
    io::{self, Read, Write},
    str::FromStr,
};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use spake2::{Ed25519Group, Identity, Password, Spake2};

use crate::ticket::{MAX_TEXT_LEN, Ticket};

/// A number and two words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortCode {
    pub(crate) number: u8,
    words: [u8; 2],
}

impl ShortCode {
    /// Draws the words for a number.
    pub(crate) fn random(number: u8) -> Result<Self, getrandom::Error> {
        let mut words = [0; 2];
        getrandom::fill(&mut words)?;
        Ok(Self { number, words })
    }

    /// Whether somebody who typed this meant a code.
    pub(crate) fn is_meant(text: &str) -> bool {
        let mut parts = text.split('-');
        let number = parts.next().is_some_and(|number| (1..=2).contains(&number.len()) && is_number(number));
        let mut words = 0;
        let only_words =
            parts.inspect(|_| words += 1).all(|word| !word.is_empty() && word.chars().all(char::is_alphabetic));
        number && only_words && words == 2
    }

    fn password(self) -> Password {
        Password::new(self.to_string())
    }
}

impl fmt::Display for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.words.map(|word| WORDS[usize::from(word)]);
        write!(f, "{}-{first}-{second}", self.number)
    }
}

impl fmt::Debug for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}, ..)", self.number)
    }
}

impl FromStr for ShortCode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().to_lowercase();
        let wrong = || "a code is a number and two words, as in 7-copper-lantern".to_owned();
        let parts: Vec<_> = text.split('-').collect();
        let [number, first, second] = parts[..] else { return Err(wrong()) };
        let number = Some(number).filter(|number| is_number(number)).and_then(|number| number.parse().ok());
        let word = |word: &str| {
            let place = WORDS.iter().position(|known| *known == word);
            place.and_then(|place| u8::try_from(place).ok()).ok_or_else(|| format!("no code has the word {word:?}"))
        };
        let number = number.filter(|number| (1..=MAX_NUMBER).contains(number)).ok_or_else(wrong)?;
        Ok(Self { number, words: [word(first)?, word(second)?] })
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A conversation with somebody who wants the ticket, as far as it needs no proof.
pub(crate) struct Asked {
    key: Key,
    proof: [u8; PROOF_LEN],
}

impl Asked {
    /// Hears the question of somebody who may know the code, and how it proves that it does.
    pub(crate) fn hear(stream: &mut (impl Read + Write), code: ShortCode) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        let mut theirs = [0; SPAKE_LEN];
        stream.read_exact(&mut magic)?;
        stream.read_exact(&mut theirs)?;
        if magic != *MAGIC {
            return Err(garbled());
        }
        let (spake, ours) = Spake2::<Ed25519Group>::start_b(&code.password(), &asker(), &holder());
        let secret = spake.finish(&theirs).map_err(|_| garbled())?;
        stream.write_all(&ours)?;
        let mut proof = [0; PROOF_LEN];
        stream.read_exact(&mut proof)?;
        Ok(Self { key: Key::new(&secret)?, proof })
    }

    /// Whether it knows the code. This is a guess if it does not.
    pub(crate) fn is_right(&self) -> bool {
        constant_time_eq::constant_time_eq_32(&self.proof, &self.key.proof)
    }

    /// Hands the ticket over.
    pub(crate) fn answer(self, stream: &mut impl Write, ticket: &Ticket) -> io::Result<()> {
        let mut message = ticket.to_string().into_bytes();
        self.key.seal.seal_in_place_append_tag(nonce(), Aad::empty(), &mut message).map_err(|_| garbled())?;
        let len = u16::try_from(message.len()).map_err(|_| garbled())?;
        stream.write_all(&[&len.to_be_bytes(), message.as_slice()].concat())
    }
}

/// Asks somebody for the ticket that the code stands for. `None` if it does not know the code either, or
/// has seen a wrong guess before.
pub(crate) fn ask(stream: &mut (impl Read + Write), code: ShortCode) -> io::Result<Option<Ticket>> {
    let (spake, ours) = Spake2::<Ed25519Group>::start_a(&code.password(), &asker(), &holder());
    stream.write_all(&[MAGIC.as_slice(), &ours].concat())?;
    let mut theirs = [0; SPAKE_LEN];
    stream.read_exact(&mut theirs)?;
    let key = Key::new(&spake.finish(&theirs).map_err(|_| garbled())?)?;
    stream.write_all(&key.proof)?;
    let mut len = [0; 2];
    if stream.read_exact(&mut len).is_err() {
        return Ok(None);
    }
    let len = usize::from(u16::from_be_bytes(len));
    if len > MAX_TEXT_LEN + MAX_TAG_LEN {
        return Err(garbled());
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message)?;
    let Ok(text) = key.seal.open_in_place(nonce(), Aad::empty(), &mut message) else { return Ok(None) };
    let text = str::from_utf8(text).map_err(|_| garbled())?;
    text.parse().map(Some).map_err(|_| garbled())
}

/// What both have in common if both know the code.
struct Key {
    proof: [u8; PROOF_LEN],
    seal: LessSafeKey,
}

impl Key {
    fn new(secret: &[u8]) -> io::Result<Self> {
        let key = blake3::derive_key("sendstream code 1: the ticket", secret);
        let seal = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| garbled())?;
        Ok(Self {
            proof: blake3::derive_key("sendstream code 1: the asker's proof", secret),
            seal: LessSafeKey::new(seal),
        })
    }
}

/// A key seals one message, so its nonce need not change.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn asker() -> Identity {
    Identity::new(b"sendstream code 1: asker")
}

fn holder() -> Identity {
    Identity::new(b"sendstream code 1: holder")
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not what a code is asked for with")
}

/// The largest number of a code.
pub(crate) const MAX_NUMBER: u8 = 99;
const MAGIC: &[u8; 17] = b"sendstream-code/1";
const SPAKE_LEN: usize = 33;
const PROOF_LEN: usize = 32;

/// Words that are short, and that nobody takes for one another when they are said.
const WORDS: [&str; 256] = [
    "acorn", "actor", "album", "alley", "almanac", "almond", "amber", "anchor", "angle", "ankle", "anthem", "anvil",
    "apple", "apron", "arena", "arrow", "atlas", "attic", "autumn", "badge", "bagel", "balcony", "bamboo", "banana",
    "banjo", "barrel", "basket", "beaver", "bicycle", "biscuit", "blanket", "blossom", "bonfire", "bottle", "branch",
    "bridge", "bronze", "bucket", "buffalo", "button", "cabin", "cactus", "camel", "candle", "canyon", "captain",
    "caramel", "carpet", "castle", "cellar", "chapel", "cherry", "chimney", "circus", "cobra", "coconut", "comet",
    "copper", "corner", "cotton", "cricket", "crystal", "cushion", "dancer", "desert", "diamond", "dolphin", "donkey",
    "dragon", "drummer", "eagle", "echo", "elbow", "elephant", "ember", "engine", "envelope", "fabric", "falcon",
    "feather", "fiddle", "finger", "flamingo", "flute", "forest", "fossil", "fountain", "galaxy", "garden", "garlic",
    "giant", "ginger", "giraffe", "glacier", "goblin", "gorilla", "granite", "guitar", "hammer", "harbor", "harvest",
    "hazel", "helmet", "hermit", "hockey", "honey", "hotel", "igloo", "insect", "island", "ivory", "jacket", "jaguar",
    "jasmine", "jelly", "jigsaw", "jungle", "kayak", "kennel", "kettle", "kingdom", "kitchen", "kitten", "koala",
    "ladder", "lagoon", "lantern", "laser", "lemon", "leopard", "letter", "lizard", "lobster", "locket", "magnet",
    "mango", "marble", "market", "meadow", "melon", "mermaid", "meteor", "mirror", "mitten", "monkey", "mosaic",
    "muffin", "museum", "mustard", "napkin", "needle", "nickel", "nutmeg", "oasis", "ocean", "octopus", "olive",
    "onion", "opera", "orange", "orbit", "orchid", "oyster", "paddle", "palace", "panda", "paper", "parrot", "pebble",
    "pelican", "pencil", "penguin", "pepper", "piano", "picnic", "pigeon", "pillow", "pirate", "planet", "pocket",
    "polar", "potato", "prairie", "puzzle", "python", "quartz", "rabbit", "raccoon", "radio", "rainbow", "raven",
    "ribbon", "river", "robin", "rocket", "ruby", "saddle", "salad", "salmon", "sandal", "satin", "scarlet", "scooter",
    "shadow", "shovel", "silver", "sister", "skeleton", "snowman", "sofa", "spider", "spinach", "squirrel", "stadium",
    "statue", "summer", "sunset", "swallow", "tablet", "tango", "teapot", "temple", "thunder", "ticket", "tiger",
    "timber", "tomato", "tornado", "tractor", "trumpet", "tulip", "tunnel", "turtle", "tuxedo", "umbrella", "uncle",
    "unicorn", "valley", "vanilla", "velvet", "village", "violin", "volcano", "wagon", "walnut", "walrus", "whisper",
    "willow", "window", "winter", "wizard", "yellow", "yogurt", "zebra", "zeppelin", "zigzag",
];

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, os::unix::net::UnixStream, thread, time::Duration};

    use super::*;
    use crate::ticket;

    /// Lets two who know these codes talk. Says whether the holder heard the right proof, and what the
    /// asker got.
    fn meet(held: &str, asked: &str) -> (bool, Option<Ticket>) {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let (held, asked): (ShortCode, ShortCode) = (held.parse().unwrap(), asked.parse().unwrap());
        let holder = thread::spawn(move || {
            let hearing = Asked::hear(&mut there, held).unwrap();
            let is_right = hearing.is_right();
            if is_right {
                hearing.answer(&mut there, &ticket::example()).unwrap();
            }
            is_right
        });
        here.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let got = ask(&mut here, asked).unwrap();
        (holder.join().unwrap(), got)
    }

    #[test]
    fn who_knows_the_code_gets_the_ticket_and_nobody_else_does() {
        assert_eq!(meet("7-copper-lantern", "7-Copper-LANTERN"), (true, Some(ticket::example())));
        for guess in ["7-copper-acorn", "7-lantern-copper", "8-copper-lantern"] {
            assert_eq!(meet("7-copper-lantern", guess), (false, None), "{guess}");
        }
    }

    #[test]
    fn what_is_no_question_is_refused() {
        for question in [&[0; 50][..], b"sendstream-code/1", &[b"sendstream-code/1".as_slice(), &[0xff; 33]].concat()] {
            let (mut here, mut there) = UnixStream::pair().unwrap();
            here.write_all(question).unwrap();
            here.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(Asked::hear(&mut there, "7-copper-lantern".parse().unwrap()).is_err());
        }
    }

    #[test]
    fn every_word_is_another_one_and_short() {
        assert_eq!(WORDS.iter().collect::<HashSet<_>>().len(), WORDS.len());
        assert!(WORDS.is_sorted());
        assert!(
            WORDS
                .iter()
                .all(|word| (4..=8).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()))
        );
    }

    #[test]
    fn codes_read_back_and_typing_errors_are_named() {
        for _ in 0..100 {
            let code = ShortCode::random(42).unwrap();
            assert_eq!(code.to_string().parse(), Ok(code));
            assert!(ShortCode::is_meant(&code.to_string()));
        }
        for text in
            ["", "7", "7-copper", "copper-lantern", "0-copper-lantern", "100-copper-lantern", "+7-copper-lantern"]
        {
            assert!(text.parse::<ShortCode>().is_err(), "{text}");
        }
        assert_eq!("7-coper-lantern".parse::<ShortCode>().unwrap_err(), "no code has the word \"coper\"");
        assert!(ShortCode::is_meant("7-coper-lantern"));
        for text in ["photo.jpg", "2024-01-02", "7-copper", "notes-of-mine", "7-a-b.txt", "123-copper-lantern"] {
            assert!(!ShortCode::is_meant(text), "{text}");
        }
        assert_eq!(format!("{:?}", ShortCode::random(7).unwrap()), "Code(7, ..)");
    }
}
