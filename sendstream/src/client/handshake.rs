//! A client's handshake, from the call to the connection.
//!
//! 1. [`Client::begin`] checks what it was given, opens a connection and sets its [`Deadline`].
//! 2. Where the client keeps sessions, it looks for a ticket and has the connection begin with it.
//! 3. `ConnectionStart` puts the first packet on the wire: in place, where nothing of it waits for
//!    the worker.
//! 4. MsQuic brings PEER_CERTIFICATE_RECEIVED, where [`Trust`](crate::Trust) judges, and then
//!    CONNECTED; or it brings what ended the attempt. Both settle [`Client::connected`].

use std::{
    ffi::CString,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::pin,
    task::Poll,
    time::Instant,
};

use crate::{
    client::{Client, ConnectError, socket::Origin},
    driver::connection::{
        deadline::Deadline,
        hold::User,
        owner::ConnectionInstance,
        shared::{ConnectionInnerShared, Resuming, Verify},
    },
    native::{
        address::{Address, plain},
        api, background, fork,
    },
    types::{
        error::{ConnectionError, NativeError},
        resumption::ticket::Ticket,
        server_name::ServerName,
        system::SystemError,
    },
};

/// A connection that is being made. Dropping it gives the connection up.
pub(super) struct Begun {
    pub(super) user: User,
    /// Ends it when the handshake takes too long.
    pub(super) deadline: Deadline,
    /// Whether early data may follow.
    pub(super) early_data: bool,
}

impl Client {
    /// Starts a connection, with the ticket for it if there is one.
    pub(super) async fn begin(&self, address: SocketAddr, server_name: &str) -> Result<Begun, ConnectError> {
        fork::check()?;
        let name = ServerName::parse(server_name).map_err(|_| ConnectError::InvalidServerName)?;
        let address = plain(address);
        let from = self.socket.towards(address)?;
        if self.configuration.shares_socket() {
            ask_for_way(&from, address)?;
        }
        let deadline = Instant::now() + self.transport.handshake_timeout;
        let mut begun = self.open(address, name.as_str(), deadline)?;
        // The parameter for a log waits for the worker.
        let mut in_place = api::abilities().starts_in_place && !self.logs.have_packets();
        if let Some(sessions) = &self.sessions
            && let Some(ticket) =
                begun.unless_over(sessions.find(name.as_str(), &self.trust, begun.user.inner().span())).await?
        {
            let early_data = ticket.early_data && sessions.may_be_early();
            match begun.show(ticket).await {
                Ok(()) => {
                    begun.early_data = early_data;
                    in_place = false;
                }
                Err(error) => {
                    tracing::debug!(parent: begun.user.inner().span(), %error, "MsQuic does not take the session ticket");
                    begun = self.open(address, name.as_str(), deadline)?;
                }
            }
        }
        self.start(&begun, self.socket.to_bind(from.local), address, name.indication(), in_place).await?;
        Ok(begun)
    }

    /// Opens a connection, not started, that ends at `deadline` unless its handshake is done.
    fn open(&self, address: SocketAddr, server_name: &str, deadline: Instant) -> Result<Begun, ConnectError> {
        let verify = Verify::Server { trust: self.trust.clone(), server_name: server_name.to_owned() };
        let keep = self.sessions.as_ref().map(|sessions| Resuming::KeepTickets(sessions.keep(server_name)));
        let shared = ConnectionInnerShared {
            resuming: keep.unwrap_or_default(),
            ..ConnectionInnerShared::new(self.alpn.clone(), Some(verify), &self.transport)
        };
        let registration = self.live.registration().handle();
        let instance = ConnectionInstance::open(registration, shared, self.logs.clone(), self.live.enter())?;
        instance.inner().name_client(address, server_name);
        let deadline = Deadline::set(&instance, deadline);
        Ok(Begun { user: User::new(instance), deadline, early_data: false })
    }

    /// Starts it here if that waits for nothing, and on the background thread otherwise.
    async fn start(
        &self,
        begun: &Begun,
        local: Option<SocketAddr>,
        address: SocketAddr,
        name: Option<CString>,
        in_place: bool,
    ) -> Result<(), NativeError> {
        let (instance, configuration) = ((*begun.user).clone(), self.configuration.clone());
        let start = move || {
            instance.start(
                configuration.handle(),
                local.map(Address::from).as_ref(),
                &Address::from(address),
                name.as_deref(),
            );
        };
        if in_place {
            start();
            return Ok(());
        }
        let started = background::ask(move || {
            start();
            Ok(())
        });
        // What is sent early must come behind the start.
        if begun.early_data { started.await } else { Ok(()) }
    }

    /// Waits for the end of the handshake.
    pub(super) async fn connected(&self, begun: &Begun) -> Result<(), ConnectError> {
        let connected = poll_fn(|cx| begun.user.inner().lock().poll_connected(cx)).await;
        connected.map_err(|error| ConnectError::from_handshake(error, self.socket.asked()))
    }
}

/// Fails if the system knows that nothing can be sent to `address` from there. A connection's own
/// socket is connected, and tells; the shared one is not. Of one that has ways of its own, no other
/// can tell.
fn ask_for_way(from: &Origin, address: SocketAddr) -> Result<(), ConnectionError> {
    if address.port() == 0 {
        return Err(SystemError::InvalidAddress.into());
    }
    if !from.is_as_others {
        return Ok(());
    }
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut local = from.local.unwrap_or(SocketAddr::new(any, 0));
    local.set_port(0);
    // What is wrong with the local address, or with this process, the shared socket tells.
    let Ok(socket) = UdpSocket::bind(local) else { return Ok(()) };
    let Err(error) = socket.connect(address) else { return Ok(()) };
    match SystemError::from_io(&error) {
        Some(error) => Err(error.into()),
        None if error.kind() == io::ErrorKind::HostUnreachable => Err(ConnectionError::Unreachable),
        None => Ok(()),
    }
}

impl Begun {
    /// Has the connection begin with `ticket`, which blocks.
    async fn show(&self, ticket: Ticket) -> Result<(), NativeError> {
        let instance = (*self.user).clone();
        background::ask(move || instance.show_ticket(ticket)).await
    }

    /// What `future` gives, unless the connection ends before: its time may be over.
    async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Result<T, ConnectionError> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => match self.user.inner().lock().poll_connected(cx) {
                Poll::Ready(Err(cause)) => Poll::Ready(Err(cause)),
                _ => Poll::Pending,
            },
        })
        .await
    }
}
