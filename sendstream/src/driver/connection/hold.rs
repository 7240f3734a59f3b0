//! The counts that keep a connection up: its [users](User), and the users that can accept streams
//! ([`Holder`]).

use std::{ops::Deref, sync::Arc};

use crate::driver::connection::owner::ConnectionInstance;

/// One user of a connection. When the last goes, the connection closes with code 0.
#[derive(Debug)]
pub(crate) struct User(Arc<ConnectionInstance>);

impl User {
    /// The first user of a new connection, or one more: by somebody who is one.
    pub(crate) fn new(connection: Arc<ConnectionInstance>) -> Self {
        connection.enter_user();
        Self(connection)
    }
}

impl Deref for User {
    type Target = Arc<ConnectionInstance>;

    fn deref(&self) -> &Arc<ConnectionInstance> {
        &self.0
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.leave_user();
    }
}

/// What a `Connection` value is: a user that can also accept the peer's streams.
#[derive(Debug)]
pub(crate) struct Holder(Arc<ConnectionInstance>);

impl From<User> for Holder {
    fn from(user: User) -> Self {
        user.enter_acceptor();
        user.enter_user();
        Self(user.0.clone())
    }
}

impl Clone for Holder {
    fn clone(&self) -> Self {
        self.0.enter_user();
        self.0.enter_acceptor();
        Self(self.0.clone())
    }
}

impl Deref for Holder {
    type Target = Arc<ConnectionInstance>;

    fn deref(&self) -> &Arc<ConnectionInstance> {
        &self.0
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // In this order: where the connection ends with its last user, that ends the streams that
        // wait, too.
        self.0.leave_user();
        self.0.leave_acceptor();
    }
}
