//! What lies between a client and a server, for tests of what may happen there.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Stands between one client at a time and a server, and passes their packets on.
pub(crate) struct Forwarder {
    front: Arc<UdpSocket>,
    clients: Arc<Mutex<Clients>>,
    manner: Arc<Mutex<Manner>>,
    stop: Arc<AtomicBool>,
    ways: Vec<JoinHandle<()>>,
}

/// Whose packets are passed on.
#[derive(Default)]
struct Clients {
    /// Who has sent something since the last change.
    present: Option<SocketAddr>,
    /// Those whose packets are passed on no more.
    former: Vec<SocketAddr>,
}

/// How the client's packets are passed on.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Manner {
    /// At once, and from one port.
    #[default]
    Plain,
    /// In bursts, each packet of which comes from another port.
    Scattered,
    /// The next comes behind the one after it, and from another port.
    Late,
    /// Not at all.
    Silent,
}

impl Forwarder {
    /// The ports that the client's packets may come from.
    const PORTS: usize = 8;
    /// The packets of one burst.
    const BURST: usize = 16;

    /// `forge` sees each packet of the client, and may answer it in the server's place, before it
    /// is passed on.
    pub(crate) fn start(server: SocketAddr, mut forge: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let front = Arc::new(socket());
        let backs: Vec<_> = (0..Self::PORTS).map(|_| Arc::new(socket())).collect();
        let (stop, manner) = <(Arc<AtomicBool>, Arc<Mutex<Manner>>)>::default();
        let clients: Arc<Mutex<Clients>> = Arc::default();

        let mut ways = Vec::new();
        for back in &backs {
            let (front, clients) = (Arc::clone(&front), Arc::clone(&clients));
            ways.push(pass(Arc::clone(back), Arc::clone(&stop), move |packet| {
                if let (Some((packet, _)), Some(client)) = (packet, clients.lock().unwrap().present) {
                    let _ = front.send_to(packet, client);
                }
            }));
        }
        let mut held: Vec<Vec<u8>> = Vec::new();
        let manner_now = Arc::clone(&manner);
        let (front_now, clients_now) = (Arc::clone(&front), Arc::clone(&clients));
        ways.push(pass(Arc::clone(&front), Arc::clone(&stop), move |packet| {
            let packet = packet.filter(|(_, from)| clients_now.lock().unwrap().admit(*from));
            if let Some((packet, from)) = packet {
                if let Some(answer) = forge(packet) {
                    let _ = front_now.send_to(&answer, from);
                }
                held.push(packet.to_vec());
            }
            let send = |packet: &[u8], port: usize| {
                let _ = backs[port].send_to(packet, server);
            };
            let mut manner = manner_now.lock().unwrap();
            match *manner {
                Manner::Plain => held.drain(..).for_each(|packet| send(&packet, 0)),
                Manner::Scattered if packet.is_some() && held.len() < Self::BURST => {}
                Manner::Scattered => {
                    held.drain(..).enumerate().for_each(|(number, packet)| send(&packet, number % Self::PORTS));
                }
                Manner::Late => {
                    if let [late, next, ..] = &held[..] {
                        send(next, 0);
                        send(late, 1);
                        *manner = Manner::Silent;
                    }
                }
                Manner::Silent => held.clear(),
            }
        }));
        Self { front, clients, manner, stop, ways }
    }

    /// Where the client connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.front.local_addr().unwrap()
    }

    /// From now on collects the client's packets, and sends each of a burst from another port.
    pub(crate) fn scatter(&self) {
        *self.manner.lock().unwrap() = Manner::Scattered;
    }

    /// The client's next packet comes behind the one after it, and from another port. Then none
    /// comes any more.
    pub(crate) fn fall_silent(&self) {
        *self.manner.lock().unwrap() = Manner::Late;
    }

    /// Whether the last packet has been passed on after [`Self::fall_silent`].
    pub(crate) fn is_silent(&self) -> bool {
        *self.manner.lock().unwrap() == Manner::Silent
    }

    /// From now on passes nothing of the present client's on, and gives its port to whoever comes
    /// next.
    pub(crate) fn change_clients(&self) {
        let mut clients = self.clients.lock().unwrap();
        let present = clients.present.take();
        clients.former.extend(present);
    }

    /// Sends `datagram` to the client from where it believes the server to be.
    pub(crate) fn send_to_client(&self, datagram: &[u8]) {
        let client = self.clients.lock().unwrap().present.expect("the client has sent something");
        self.front.send_to(datagram, client).unwrap();
    }
}

impl Clients {
    /// Whether `client` is the present one, or becomes it.
    fn admit(&mut self, client: SocketAddr) -> bool {
        !self.former.contains(&client) && *self.present.get_or_insert(client) == client
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for way in self.ways.drain(..) {
            let _ = way.join();
        }
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    socket
}

/// Gives what `socket` receives to `to` until `stop`, and `None` while it receives nothing. What
/// cannot be sent is lost, as on any network.
fn pass(
    socket: Arc<UdpSocket>,
    stop: Arc<AtomicBool>,
    mut to: impl FnMut(Option<(&[u8], SocketAddr)>) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut packet = [0; 1 << 16];
        while !stop.load(Ordering::Relaxed) {
            match socket.recv_from(&mut packet) {
                Ok((length, from)) => to(Some((&packet[..length], from))),
                Err(_) => to(None),
            }
        }
    })
}
