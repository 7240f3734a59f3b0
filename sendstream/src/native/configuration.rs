//! A configuration: the ALPN list, transport settings and TLS credential that connections are
//! started with.

use std::{mem, net::SocketAddr, ptr, sync::Arc};

use sendstream_sys as sys;

use super::{
    address::Address,
    api::{self, call},
    background,
    given::GivenSocket,
    parameter,
    registration::Registration,
    ticket,
};
use crate::types::{
    config::{ConfigError, TransportConfig},
    error::NativeError,
    resumption::{Resumption, TicketKey},
    socket::SocketRefusal,
    stats::CipherSuite,
    tls::{ClientAuth, Identity, IdentityError, Trust},
};

/// An open configuration with its credential loaded, ready for `ConnectionStart` or
/// `ConnectionSetConfiguration`.
///
/// Connections hold references of their own, so it may be dropped before them.
#[derive(Debug)]
pub(crate) struct Configuration {
    handle: sys::HQUIC,
    /// Stays open until the configuration is closed.
    registration: Registration,
    /// Whether it has a socket, or may get one.
    shares_socket: bool,
}

// SAFETY: MsQuic lets any thread use a configuration handle; it counts its references atomically.
unsafe impl Send for Configuration {}
// SAFETY: as for `Send`; `&Configuration` gives out nothing but the handle.
unsafe impl Sync for Configuration {}

impl Configuration {
    /// Opens a configuration below `registration` and loads its credential (`ConfigurationOpen`,
    /// `ConfigurationLoadCredential`).
    ///
    /// It may read the system's root certificates from disk, the first time that [`Trust::system`]
    /// needs them.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: a setting out of its range, an identity that AWS-LC refuses, system roots
    /// that cannot be read, or MsQuic's status when the library cannot start.
    pub(crate) fn open(
        registration: &Registration,
        alpn: &Alpn,
        transport: &TransportConfig,
        cipher_suites: Option<&[CipherSuite]>,
        credential: Credential<'_>,
    ) -> Result<Self, ConfigError> {
        let suites = cipher_suites.map(allowed_suites).transpose()?;
        let mut settings = transport.to_settings()?;
        credential.set_resumption(&mut settings);
        credential.trust().map_or(Ok(()), Trust::load)?;
        let mut handle: sys::HQUIC = ptr::null_mut();
        let status = alpn.with_buffers(|buffers| {
            // SAFETY: the buffers, their bytes and `settings` outlive the call, which copies them,
            // and the lengths are theirs; `handle` has room for the one pointer that is written.
            unsafe {
                call!(ConfigurationOpen(
                    registration.handle(),
                    buffers.as_ptr(),
                    buffers.len() as u32,
                    &settings,
                    mem::size_of_val(&settings) as u32,
                    ptr::null_mut(),
                    &mut handle,
                ))
            }
        });
        NativeError::check(status)?;
        let configuration = Self { handle, registration: registration.clone(), shares_socket: false };
        configuration.load_credential(&credential, suites)?;
        if let Some(keys) = credential.ticket_keys() {
            // SAFETY: the handle was opened above, has its credential, and nobody else knows it
            // yet.
            unsafe { ticket::set_keys(handle, keys)? };
        }
        Ok(configuration)
    }

    /// Has the connections that start with it share a socket for each address family, which lives as
    /// long as they and the configuration. Without it, or where MsQuic [cannot](api::Abilities), each
    /// connection has a socket of its own.
    pub(crate) fn share_socket(&mut self) -> Result<(), NativeError> {
        if !api::abilities().shares_sockets {
            return Ok(());
        }
        // SAFETY: the handle is open and a configuration's. The parameter is one byte, which the
        // call copies.
        unsafe { parameter::set(self.handle, sys::QUIC_PARAM_CONFIGURATION_SHARED_SOCKET, &1_u8)? };
        self.shares_socket = true;
        Ok(())
    }

    /// Has the connections that start with it use the socket of the listeners at `address`, which
    /// lives as long as they and the configuration. Where there are several, each address family
    /// gets the first that has it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotListening`], [`ConfigError::NotTheServersThreads`], or
    /// [`ConfigError::CannotShareServersSocket`].
    pub(crate) fn use_listeners_socket(&mut self, address: SocketAddr) -> Result<(), ConfigError> {
        if !api::abilities().dials_from_servers {
            return Err(ConfigError::CannotShareServersSocket);
        }
        let address = Address::from(address);
        // SAFETY: the handle is open and a configuration's. The parameter is an address, which the
        // call copies.
        let set =
            unsafe { parameter::set(self.handle, sys::QUIC_PARAM_CONFIGURATION_LISTENERS_SOCKET, address.native()) };
        match set {
            Err(NativeError::NOT_FOUND) => return Err(ConfigError::NotListening),
            Err(NativeError::INVALID_STATE) => return Err(ConfigError::NotTheServersThreads),
            set => set?,
        }
        self.shares_socket = true;
        Ok(())
    }

    /// Has the connections that start with it use `socket`, of which MsQuic keeps a duplicate as long
    /// as it keeps them and the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Socket`] if a server or client has the socket already, or what the system says.
    pub(crate) fn use_socket(&mut self, socket: &GivenSocket<'_>) -> Result<(), ConfigError> {
        // SAFETY: the handle is open and a configuration's. The parameter is a descriptor, which is
        // open, and which the call duplicates.
        let set = unsafe { parameter::set(self.handle, sys::QUIC_PARAM_CONFIGURATION_SOCKET, &socket.descriptor()) };
        match set {
            Err(NativeError::ADDRESS_IN_USE) => return Err(SocketRefusal::InUse(socket.address()).into()),
            set => set?,
        }
        self.shares_socket = true;
        Ok(())
    }

    /// Whether its connections use a socket that is not one's own.
    pub(crate) fn shares_socket(&self) -> bool {
        self.shares_socket
    }

    /// The native handle, valid as long as `self`.
    pub(crate) fn handle(&self) -> sys::HQUIC {
        self.handle
    }

    fn load_credential(
        &self,
        credential: &Credential<'_>,
        suites: Option<sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS>,
    ) -> Result<(), ConfigError> {
        let identity = credential.identity();
        let mut pkcs12 = sys::QUIC_CERTIFICATE_PKCS12 {
            Asn1Blob: identity.map_or(ptr::null(), |identity| identity.pkcs12().as_ptr()),
            Asn1BlobLength: identity.map_or(0, |identity| identity.pkcs12().len() as u32),
            // The archive is not encrypted, see `tls/pkcs12.rs`.
            PrivateKeyPassword: ptr::null(),
        };
        let config = sys::QUIC_CREDENTIAL_CONFIG {
            Type: match identity {
                Some(_) => sys::QUIC_CREDENTIAL_TYPE_QUIC_CREDENTIAL_TYPE_CERTIFICATE_PKCS12,
                None => sys::QUIC_CREDENTIAL_TYPE_QUIC_CREDENTIAL_TYPE_NONE,
            },
            Flags: credential.flags()
                | suites.map_or(0, |_| sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_SET_ALLOWED_CIPHER_SUITES),
            __bindgen_anon_1: sys::QUIC_CREDENTIAL_CONFIG__bindgen_ty_1 { CertificatePkcs12: &mut pkcs12 },
            Principal: ptr::null(),
            Reserved: ptr::null_mut(),
            AsyncHandler: None,
            AllowedCipherSuites: suites.unwrap_or_default(),
            CaCertificateFile: ptr::null(),
        };
        // SAFETY: `config`, `pkcs12` and the identity's bytes outlive the call, which is
        // synchronous without QUIC_CREDENTIAL_FLAG_LOAD_ASYNCHRONOUS and keeps none of them.
        let status = unsafe { call!(ConfigurationLoadCredential(self.handle, &config)) };
        NativeError::check(status).map_err(|status| match identity {
            // With an identity, all that AWS-LC can object to is that identity.
            Some(_) if status == NativeError::TLS_ERROR => IdentityError::Rejected { status }.into(),
            _ => status.into(),
        })
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        let open = Open { handle: self.handle, _registration: self.registration.clone() };
        if self.shares_socket {
            // Its socket closes once the workers are done with what they received there.
            background::run(move || drop(open));
        }
    }
}

/// The handle, which is closed with it.
struct Open {
    handle: sys::HQUIC,
    /// Is dropped after the handle was closed.
    _registration: Registration,
}

// SAFETY: MsQuic lets any thread close a configuration.
unsafe impl Send for Open {}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the handle came from ConfigurationOpen and is closed only here. The call gives up
        // one reference and does not wait for those of connections.
        unsafe { call!(ConfigurationClose(self.handle)) };
    }
}

/// The suites as MsQuic takes them: a set.
fn allowed_suites(suites: &[CipherSuite]) -> Result<sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS, ConfigError> {
    if suites.is_empty() {
        return Err(ConfigError::NoCipherSuite);
    }
    Ok(suites.iter().fold(0, |flags, suite| flags | allowed_suite(*suite)))
}

/// The suite as one of `QUIC_ALLOWED_CIPHER_SUITE_FLAGS`.
fn allowed_suite(suite: CipherSuite) -> sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS {
    match suite {
        CipherSuite::Aes128GcmSha256 => {
            sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS_QUIC_ALLOWED_CIPHER_SUITE_AES_128_GCM_SHA256
        }
        CipherSuite::Aes256GcmSha384 => {
            sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS_QUIC_ALLOWED_CIPHER_SUITE_AES_256_GCM_SHA384
        }
        CipherSuite::ChaCha20Poly1305Sha256 => {
            sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS_QUIC_ALLOWED_CIPHER_SUITE_CHACHA20_POLY1305_SHA256
        }
    }
}

/// Who this side is, and whom it believes.
pub(crate) enum Credential<'a> {
    /// A server.
    Server {
        /// The certificate that it shows.
        identity: &'a Identity,
        /// What it asks of clients, and what the handler of PEER_CERTIFICATE_RECEIVED asks, with
        /// [`Trust::verify_client`].
        clients: &'a ClientAuth,
        /// Whether it resumes sessions.
        resumption: Resumption,
        /// The keys of its tickets, if it does; at most [`MAX_TICKET_KEYS`].
        ticket_keys: &'a [TicketKey],
    },
    /// A client: what makes it accept a server, and the certificate it shows to a server that asks
    /// for one.
    Client {
        /// What the handler of PEER_CERTIFICATE_RECEIVED asks, with [`Trust::verify_server`].
        trust: &'a Trust,
        /// The client's own certificate.
        identity: Option<&'a Identity>,
    },
}

impl<'a> Credential<'a> {
    fn identity(&self) -> Option<&'a Identity> {
        match self {
            Self::Server { identity, .. } => Some(identity),
            Self::Client { identity, .. } => *identity,
        }
    }

    fn ticket_keys(&self) -> Option<&'a [TicketKey]> {
        match self {
            Self::Server { resumption: Resumption::Off, .. } | Self::Client { .. } => None,
            Self::Server { ticket_keys, .. } => Some(ticket_keys),
        }
    }

    /// Says how a server resumes; a client's level is not looked at.
    fn set_resumption(&self, settings: &mut sys::QUIC_SETTINGS) {
        let Self::Server { resumption, .. } = self else { return };
        let level = match resumption {
            Resumption::Off => sys::QUIC_SERVER_RESUMPTION_LEVEL_QUIC_SERVER_NO_RESUME,
            Resumption::Resume => sys::QUIC_SERVER_RESUMPTION_LEVEL_QUIC_SERVER_RESUME_ONLY,
            Resumption::ResumeAndZeroRtt => sys::QUIC_SERVER_RESUMPTION_LEVEL_QUIC_SERVER_RESUME_AND_ZERORTT,
        };
        settings.set_ServerResumptionLevel(level as u8);
        // SAFETY: both members of the union are 64 bits of plain integer, so either may be written.
        unsafe { settings.__bindgen_anon_1.IsSet.set_ServerResumptionLevel(1) };
    }

    fn trust(&self) -> Option<&'a Trust> {
        match self {
            Self::Server { clients, .. } => clients.trust(),
            Self::Client { trust, .. } => Some(trust),
        }
    }

    /// The flags of `QUIC_CREDENTIAL_CONFIG`.
    ///
    /// MsQuic is told not to validate, because [`Trust`] does all of it; the module documentation
    /// of `tls.rs` says why. The certificate event must then be handled, or every peer would be
    /// believed. REQUIRE_CLIENT_AUTHENTICATION makes TLS ask; without MsQuic's validation it
    /// lets clients without a certificate pass, and the handler refuses them.
    fn flags(&self) -> sys::QUIC_CREDENTIAL_FLAGS {
        const ASK_US: sys::QUIC_CREDENTIAL_FLAGS =
            sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_NO_CERTIFICATE_VALIDATION
                | sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_INDICATE_CERTIFICATE_RECEIVED
                | sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_USE_PORTABLE_CERTIFICATES;
        match self {
            Self::Server { clients, .. } if clients.trust().is_none() => {
                sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_NONE
            }
            Self::Server { .. } => {
                ASK_US | sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_REQUIRE_CLIENT_AUTHENTICATION
            }
            Self::Client { .. } => ASK_US | sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_CLIENT,
        }
    }
}

/// The application protocols one side speaks, most wanted first (RFC 7301): at least one, each of 1
/// to 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alpn(Arc<[Vec<u8>]>);

impl Alpn {
    /// Checks and takes a list of protocol names.
    ///
    /// # Errors
    ///
    /// [`ConfigError::EmptyAlpn`], [`ConfigError::AlpnLength`] or [`ConfigError::AlpnListTooLong`].
    pub(crate) fn new(protocols: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Result<Self, ConfigError> {
        let protocols: Vec<Vec<u8>> = protocols.into_iter().map(Into::into).collect();
        if protocols.is_empty() {
            return Err(ConfigError::EmptyAlpn);
        }
        if let Some(protocol) = protocols.iter().find(|protocol| !(1..=MAX_ALPN_LENGTH).contains(&protocol.len())) {
            return Err(ConfigError::AlpnLength { length: protocol.len() });
        }
        let length: usize = protocols.iter().map(|protocol| 1 + protocol.len()).sum();
        if length > MAX_ALPN_LIST_LENGTH {
            return Err(ConfigError::AlpnListTooLong { length });
        }
        Ok(Self(protocols.into()))
    }

    /// The protocols, the most wanted first.
    pub(crate) fn protocols(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// Lends the list to `use_buffers` in the shape that `ConfigurationOpen` and `ListenerStart`
    /// take.
    ///
    /// The buffers are only for reading and only valid during the call; both functions copy what
    /// they need.
    pub(crate) fn with_buffers<R>(&self, use_buffers: impl FnOnce(&[sys::QUIC_BUFFER]) -> R) -> R {
        let buffers: Vec<sys::QUIC_BUFFER> = self
            .0
            .iter()
            .map(|protocol| sys::QUIC_BUFFER { Length: protocol.len() as u32, Buffer: protocol.as_ptr().cast_mut() })
            .collect();
        use_buffers(&buffers)
    }
}

/// `QUIC_MAX_TICKET_KEY_COUNT`.
pub(crate) const MAX_TICKET_KEYS: usize = sys::QUIC_MAX_TICKET_KEY_COUNT as usize;

/// The longest protocol name; its length travels in one byte.
const MAX_ALPN_LENGTH: usize = 255;

/// The most of all names together, each with its length byte. Servers on AWS-LC take no more than 16 KiB
/// for all that a client begins with.
const MAX_ALPN_LIST_LENGTH: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alpn_list_needs_a_protocol() {
        assert!(matches!(Alpn::new(Vec::<&str>::new()), Err(ConfigError::EmptyAlpn)));
    }

    #[test]
    fn protocol_names_have_1_to_255_bytes() {
        assert!(matches!(Alpn::new([""]), Err(ConfigError::AlpnLength { length: 0 })));
        assert!(matches!(Alpn::new(["x".repeat(256)]), Err(ConfigError::AlpnLength { length: 256 })));
        assert!(Alpn::new(["x".repeat(255)]).is_ok());
    }

    #[test]
    fn an_alpn_list_past_8_kib_is_refused() {
        let longest = || vec![b'x'; MAX_ALPN_LENGTH];
        assert!(Alpn::new((0..32).map(|_| longest())).is_ok());
        let error = Alpn::new((0..33).map(|_| longest())).unwrap_err();
        assert!(matches!(error, ConfigError::AlpnListTooLong { length: 8448 }));
    }

    #[test]
    fn buffers_have_the_protocols_lengths_and_order() {
        let alpn = Alpn::new(["h3", "demo"]).unwrap();
        alpn.with_buffers(|buffers| assert_eq!(buffers.iter().map(|b| b.Length).collect::<Vec<_>>(), [2, 4]));
    }

    #[test]
    fn aws_lc_takes_keys_of_every_kind_that_can_be_made_here() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
            let identity = Identity::from_pem(certificate.pem(), pair.serialize_pem()).unwrap();
            open(server(&identity, &ClientAuth::None)).unwrap();
            open(Credential::Client { trust: &Trust::pinned([[0; 32]]), identity: Some(&identity) }).unwrap();
        }
    }

    #[test]
    fn a_client_needs_no_identity() {
        open(Credential::Client { trust: &Trust::dangerous_accept_any_certificate(), identity: None }).unwrap();
    }

    #[test]
    fn what_aws_lc_refuses_is_an_error_of_the_identity() {
        let damaged = Identity::unusable();
        let error = open(server(&damaged, &ClientAuth::None)).map(drop).unwrap_err();
        assert!(matches!(error, ConfigError::Identity(IdentityError::Rejected { .. })), "{error}");
    }

    #[test]
    fn a_bad_setting_is_found_before_anything_native_is_opened() {
        let transport = TransportConfig::default().stream_receive_window(1000);
        let credential = Credential::Client { trust: &Trust::system(), identity: None };
        let error = Configuration::open(
            &Registration::shared().unwrap(),
            &Alpn::new(["demo"]).unwrap(),
            &transport,
            None,
            credential,
        )
        .map(drop)
        .unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { field: "stream_receive_window", .. }));
    }

    fn server<'a>(identity: &'a Identity, clients: &'a ClientAuth) -> Credential<'a> {
        Credential::Server { identity, clients, resumption: Resumption::Off, ticket_keys: &[] }
    }

    fn open(credential: Credential<'_>) -> Result<Configuration, ConfigError> {
        Configuration::open(
            &Registration::shared().unwrap(),
            &Alpn::new(["demo"]).unwrap(),
            &TransportConfig::default(),
            None,
            credential,
        )
    }

    #[test]
    fn whoever_msquic_does_not_validate_is_shown_to_us() {
        const ASK: u32 = sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_REQUIRE_CLIENT_AUTHENTICATION;
        const UNCHECKED: u32 = sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_NO_CERTIFICATE_VALIDATION;
        const INDICATE: u32 = sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_INDICATE_CERTIFICATE_RECEIVED;
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let server = |clients: &ClientAuth| server(&identity, clients).flags();
        let client = |trust: &Trust| Credential::Client { trust, identity: None }.flags();
        assert_eq!(server(&ClientAuth::None), 0);
        for flags in [
            client(&Trust::system()),
            client(&Trust::dangerous_accept_any_certificate()),
            server(&ClientAuth::Optional(Trust::system())) & !ASK,
            server(&ClientAuth::Required(Trust::dangerous_accept_any_certificate())) & !ASK,
        ] {
            assert_eq!(flags & (UNCHECKED | INDICATE), UNCHECKED | INDICATE);
        }
        assert_ne!(server(&ClientAuth::Optional(Trust::system())) & ASK, 0);
    }
}
