//! A UDP relay between a client and a server that can hold back what the server sends.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Relays as long as it lives.
pub(crate) struct Relay {
    address: SocketAddr,
    gate: Arc<Gate>,
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// Whether what the server sends passes.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    /// Whether something waits for it to open.
    holds: bool,
}

impl Relay {
    /// A relay for one client at a time, with its gate open.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let outer = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let inner = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        inner.connect(server).unwrap();
        for socket in [&outer, &inner] {
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        }
        let (gate, over) = (Arc::<Gate>::default(), Arc::<AtomicBool>::default());
        let client = Arc::<Mutex<Option<SocketAddr>>>::default();
        let address = outer.local_addr().unwrap();
        let forth = {
            let (outer, inner, client, over) = (outer.clone(), inner.clone(), client.clone(), over.clone());
            move || {
                let mut datagram = [0; 2048];
                while !over.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = outer.recv_from(&mut datagram) {
                        *client.lock().unwrap() = Some(from);
                        let _ = inner.send(&datagram[..length]);
                    }
                }
            }
        };
        let back = {
            let (gate, over) = (gate.clone(), over.clone());
            move || {
                let mut datagram = [0; 2048];
                while !over.load(Ordering::Relaxed) {
                    if let Ok(length) = inner.recv(&mut datagram) {
                        gate.pass();
                        if let Some(client) = *client.lock().unwrap() {
                            let _ = outer.send_to(&datagram[..length], client);
                        }
                    }
                }
            }
        };
        let threads = vec![thread::spawn(forth), thread::spawn(back)];
        Self { address, gate, over, threads }
    }

    /// Where the client is to connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds back what the server sends from now on.
    pub(crate) fn close_gate(&self) {
        self.gate.state.lock().unwrap().closed = true;
    }

    /// Lets through what the server sent, and sends.
    pub(crate) fn open_gate(&self) {
        *self.gate.state.lock().unwrap() = GateState::default();
        self.gate.changed.notify_all();
    }

    /// Waits until the server has sent something that the closed gate holds back.
    pub(crate) fn wait_until_held(&self) {
        let state = self.gate.state.lock().unwrap();
        drop(self.gate.changed.wait_while(state, |state| !state.holds).unwrap());
    }
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.holds = state.closed;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.closed).unwrap());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.open_gate();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
