//! What a server shows its clients: certificate and key, from files or made for this run.

use std::path::Path;

use sendstream::Identity;

use crate::error::{Failure, chain};

/// A certificate chain and its key, in PEM.
pub(crate) struct Certificate {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Certificate {
    /// Reads the files. The key's must not be in `served`, where everybody could read it.
    pub(crate) fn read(chain: &Path, key: &Path, served: &Path) -> Result<Self, Failure> {
        let failed = |path: &Path, error| Failure::new(format!("cannot read {}: {error}", path.display()));
        let read = |path: &Path| std::fs::read(path).map_err(|error| failed(path, error));
        let place = |path: &Path| path.canonicalize().map_err(|error| failed(path, error));
        if place(key)?.starts_with(place(served)?) {
            return Err(Failure::new(format!("the key {} is in the folder to be served", key.display()))
                .todo("move it out of there: whoever reads it can pose as this server"));
        }
        Ok(Self { chain: read(chain)?, key: read(key)? })
    }

    /// Makes a key, and a certificate of it for this machine and for `host`.
    pub(crate) fn self_signed(host: Option<String>) -> Result<Self, Failure> {
        let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.extend(host.filter(|host| !names.contains(host)));
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|error| Failure::new(format!("cannot make a certificate: {error}")))?;
        Ok(Self { chain: made.cert.pem().into_bytes(), key: made.signing_key.serialize_pem().into_bytes() })
    }

    /// The same for QUIC.
    pub(crate) fn identity(&self) -> Result<Identity, Failure> {
        Identity::from_pem(&self.chain, &self.key)
            .map_err(|error| Failure::new(format!("cannot use the certificate: {}", chain(&error))))
    }
}
