//! A file of TLS secrets in the NSS key log format, with which Wireshark decrypts a capture.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::Write as _,
    path::PathBuf,
    sync::Arc,
};

use sendstream_sys as sys;

use crate::types::config::ConfigError;

/// An open key log, to which lines are appended.
#[derive(Debug, Clone)]
pub(crate) struct KeyLog(Arc<File>);

impl KeyLog {
    /// Opens `path` for appending; a file that is not there is made, for its owner only.
    ///
    /// # Errors
    ///
    /// [`ConfigError::KeyLog`].
    pub(crate) fn open(path: PathBuf) -> Result<Self, ConfigError> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(file) => Ok(Self(Arc::new(file))),
            Err(error) => Err(ConfigError::KeyLog { path, source: Arc::new(error) }),
        }
    }

    /// Appends what there is of one connection's secrets, in one write: other connections and
    /// processes may append to the same file.
    pub(crate) fn append(&self, secrets: &sys::QUIC_TLS_SECRETS) {
        if let Err(error) = (&*self.0).write_all(lines(secrets).as_bytes()) {
            tracing::warn!(%error, "the key log cannot be written");
        }
    }
}

/// The file that the environment asks for, if it does.
pub(crate) fn path_from_env() -> Option<PathBuf> {
    std::env::var_os("SSLKEYLOGFILE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The lines for `secrets`: a label, the client's random and the secret, in hexadecimal.
fn lines(secrets: &sys::QUIC_TLS_SECRETS) -> String {
    let mut lines = String::new();
    if secrets.IsSet.ClientRandom() == 0 {
        // The lines would belong to no connection.
        return lines;
    }
    let entries = [
        (secrets.IsSet.ClientEarlyTrafficSecret(), "CLIENT_EARLY_TRAFFIC_SECRET", &secrets.ClientEarlyTrafficSecret),
        (
            secrets.IsSet.ClientHandshakeTrafficSecret(),
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            &secrets.ClientHandshakeTrafficSecret,
        ),
        (
            secrets.IsSet.ServerHandshakeTrafficSecret(),
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            &secrets.ServerHandshakeTrafficSecret,
        ),
        (secrets.IsSet.ClientTrafficSecret0(), "CLIENT_TRAFFIC_SECRET_0", &secrets.ClientTrafficSecret0),
        (secrets.IsSet.ServerTrafficSecret0(), "SERVER_TRAFFIC_SECRET_0", &secrets.ServerTrafficSecret0),
    ];
    for (is_set, label, secret) in entries {
        if is_set != 0 {
            let length = secret.len().min(secrets.SecretLength.into());
            lines.push_str(label);
            lines.push(' ');
            push_hex(&mut lines, &secrets.ClientRandom);
            lines.push(' ');
            push_hex(&mut lines, &secret[..length]);
            lines.push('\n');
        }
    }
    lines
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
}
