//! A ticket as a QR code, for a machine with a camera.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

use crate::terminal;

/// The lines of a code that stands for `text`: light on dark, as most terminals are, so that a
/// camera sees it the right way round. `None` if it is too long.
pub(crate) fn lines(text: &str) -> Option<Vec<String>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let picture = if terminal::shows_unicode() {
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()
    } else {
        code.render::<&str>().dark_color("  ").light_color("##").build()
    };
    Some(picture.lines().map(str::to_owned).collect())
}
