//! [`Socket`]: where a client's connections send from.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use crate::{
    client::ConnectError,
    native::{
        address::{is_of_many, towards},
        configuration::Configuration,
        given::{GivenSocket, Place, Reach},
    },
    types::config::ConfigError,
};

/// Where a client's connections send from.
#[derive(Debug, Clone)]
pub(crate) enum Socket {
    /// Sockets of the client's: one for all of its connections, or one for each.
    Own {
        /// Where it binds them; the system chooses unless this is set.
        local: Option<SocketAddr>,
        per_connection: bool,
    },
    /// One of the application's, which is not in use yet.
    Given(Arc<UdpSocket>),
    /// Those that are bound there: a server's, or the application's.
    Bound(Vec<Place>),
}

/// Where a connection sends from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The address, if one is said.
    pub(super) local: Option<SocketAddr>,
    /// Whether another socket of this process reaches the same peers from there.
    pub(super) is_as_others: bool,
}

impl Default for Socket {
    fn default() -> Self {
        Self::Own { local: None, per_connection: false }
    }
}

impl Socket {
    pub(super) fn set_local(&mut self, local: SocketAddr) {
        let per_connection = matches!(self, Self::Own { per_connection: true, .. });
        *self = Self::Own { local: Some(local), per_connection };
    }

    pub(super) fn set_per_connection(&mut self, per_connection: bool) {
        let local = match self {
            Self::Own { local, .. } => *local,
            Self::Given(_) | Self::Bound(_) => None,
        };
        *self = Self::Own { local, per_connection };
    }

    /// Has the connections that start with `configuration` use it. One of the application's is not
    /// needed any more then: MsQuic has a duplicate.
    pub(super) fn configure(&mut self, configuration: &mut Configuration) -> Result<(), ConfigError> {
        match self {
            Self::Own { per_connection: true, .. } => Ok(()),
            Self::Own { per_connection: false, .. } => Ok(configuration.share_socket()?),
            Self::Bound(places) if places.is_empty() => Err(ConfigError::NotListening),
            Self::Bound(places) => {
                places.iter().try_for_each(|place| configuration.use_listeners_socket(place.address))
            }
            Self::Given(socket) => {
                let given = GivenSocket::check(socket)?;
                configuration.use_socket(&given)?;
                let place = given.place();
                *self = Self::Bound(vec![place]);
                Ok(())
            }
        }
    }

    /// Where a connection to `remote` is.
    pub(super) fn towards(&self, remote: SocketAddr) -> Result<Origin, ConnectError> {
        let own;
        let all = match self {
            Self::Own { local: None, .. } | Self::Given(_) => return Ok(Origin { local: None, is_as_others: true }),
            Self::Own { local: Some(local), .. } => {
                own = Place::of_process(*local);
                std::slice::from_ref(&own)
            }
            Self::Bound(places) => places,
        };
        let reaches = |place: &Place| match place.reach {
            Reach::Given { is_ipv6_alone: true } if remote.is_ipv4() => None,
            Reach::Given { .. } | Reach::Process => Some((*place, towards(place.address, remote)?)),
        };
        let Some((place, local)) = all.iter().find_map(reaches) else {
            return Err(ConnectError::FamilyMismatch { local: all[0].address, remote });
        };
        if is_of_many(local.ip()) {
            return Err(ConnectError::AddressNotAvailable(place.address));
        }
        Ok(Origin { local: Some(local), is_as_others: place.reach == Reach::Process })
    }

    /// What a connection asks for that is to be at `local`. A bound socket is there already.
    pub(super) fn to_bind(&self, local: Option<SocketAddr>) -> Option<SocketAddr> {
        match self {
            Self::Own { .. } => local,
            Self::Given(_) | Self::Bound(_) => None,
        }
    }

    /// The address to bind as the application gave it, for errors to name.
    pub(super) fn asked(&self) -> Option<SocketAddr> {
        match self {
            Self::Own { local, .. } => *local,
            Self::Given(_) => None,
            Self::Bound(places) => places.first().map(|place| place.address),
        }
    }

    /// Whether a port is bound that one connection has for itself.
    pub(super) fn is_for_one(&self) -> bool {
        matches!(self, Self::Own { local: Some(local), per_connection: true } if local.port() != 0)
    }
}
