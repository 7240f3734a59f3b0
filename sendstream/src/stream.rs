//! The stream's protocol. (written below)
pub(crate) mod buffer;
pub(crate) mod inner;
pub(crate) mod instance;
pub(crate) mod recv_state;
pub(crate) mod state;
#[cfg(test)]
mod testing;
