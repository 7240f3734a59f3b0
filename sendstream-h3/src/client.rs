//! [`Connector`]: connections for h3's clients, made anew where one has ended.

use std::{fmt, net::SocketAddr, sync::Arc};

use sendstream::{Client, ConnectError};

use crate::connection::Connection;

/// Connects to one server over and over: what clients that keep a connection themselves want.
///
/// h3's own client needs nothing but a connection:
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::future::poll_fn;
///
/// use bytes::{Buf as _, Bytes};
/// use sendstream::{Client, Trust};
/// use sendstream_h3::Connector;
///
/// let client = Client::builder().alpn([sendstream_h3::ALPN]).trust(Trust::system()?).build()?;
/// let server = Connector::to_host(client, "example.org", 443);
/// let (mut driver, mut requests) = h3::client::new::<_, _, Bytes>(server.connect().await?).await?;
/// let driving = tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
/// let mut exchange = requests.send_request(http::Request::get("https://example.org/").body(())?).await?;
/// exchange.finish().await?;
/// let response = exchange.recv_response().await?;
/// while let Some(data) = exchange.recv_data().await? {
///     println!("{} more bytes of {}", data.remaining(), response.status());
/// }
/// # drop((requests, driving));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connector {
    client: Arc<Client>,
    server: Target,
}

#[derive(Debug, Clone)]
enum Target {
    Host(Arc<str>, u16),
    Address(SocketAddr, Arc<str>),
}

impl Connector {
    /// Looks `host` up each time, as [`Client::connect_host`] does. `client` must speak
    /// [`ALPN`](crate::ALPN).
    pub fn to_host(client: impl Into<Arc<Client>>, host: &str, port: u16) -> Self {
        Self { client: client.into(), server: Target::Host(host.into(), port) }
    }

    /// Connects to `address`, where the server is called `server_name`, as [`Client::connect`] does.
    pub fn to_address(client: impl Into<Arc<Client>>, address: SocketAddr, server_name: &str) -> Self {
        Self { client: client.into(), server: Target::Address(address, server_name.into()) }
    }

    /// The server's name in requests.
    #[cfg(feature = "tonic")]
    pub(crate) fn authority(&self) -> String {
        let (name, port) = match &self.server {
            Target::Host(host, port) => (host, *port),
            Target::Address(address, name) => (name, address.port()),
        };
        // An IPv6 address needs brackets there, and may have them here.
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") }
    }

    /// A new connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the name cannot be used, or what ended the handshake.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let connection = match &self.server {
            Target::Host(host, port) => self.client.connect_host(host, *port).await?,
            Target::Address(address, server_name) => self.client.connect(*address, server_name).await?,
        };
        Ok(Connection::new(connection))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("server", &self.server).finish_non_exhaustive()
    }
}
