//! A server for the files of a folder, and a client that shows how far it has come.
//!
//!     cargo run --example file_server serve FOLDER [ADDRESS]
//!     cargo run --example file_server get ADDRESS CERTIFICATE_HASH NAME OUTPUT
//!
//! A request is a name, the answer 8 bytes of length and then the file. The output gets its name when
//! it is complete, and never before.

use std::{
    error::Error,
    io::ErrorKind,
    path::{Component, Path, PathBuf},
};

use sendstream::{Bytes, CertificateHash, Client, Connection, Identity, RecvStream, SendStream, Server, Trust};
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncWriteExt},
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const PIECE: usize = 256 << 10;
const MAX_NAME: usize = 4096;
/// The code of a stream whose file is not there.
const NOT_FOUND: u64 = 1;

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", folder] => serve(folder.into(), "127.0.0.1:4433").await,
        ["serve", folder, address] => serve(folder.into(), address).await,
        ["get", address, hash, name, output] => get(address, hash, name, output.as_ref()).await,
        _ => Err("usage: file_server serve FOLDER [ADDRESS], or get ADDRESS CERTIFICATE_HASH NAME OUTPUT".into()),
    }
}

async fn serve(folder: PathBuf, address: &str) -> Result {
    let identity = Identity::self_signed(["localhost"])?;
    let hash = identity.certificate_sha256();
    let server = Server::builder().identity(identity).alpn(["files"]).bind(address.parse()?)?;
    println!("{} {hash}", server.local_addr()?);
    let mut connections = server.connections();
    while let Some(connection) = connections.next().await {
        tokio::spawn(serve_one(connection, folder.clone()));
    }
    Ok(())
}

async fn serve_one(connection: Connection, folder: PathBuf) -> Result {
    loop {
        let (send, recv) = connection.accept_bi().await?;
        let folder = folder.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(send, recv, &folder).await {
                eprintln!("a file was not sent: {error}");
            }
        });
    }
}

async fn answer(mut send: SendStream, mut recv: RecvStream, folder: &Path) -> Result {
    let name = PathBuf::from(String::from_utf8(recv.read_to_end(MAX_NAME).await?)?);
    // A name, and no way out of the folder. (Links in the folder are the owner's affair.)
    let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    let file = if is_plain { fs::File::open(folder.join(name)).await } else { Err(ErrorKind::NotFound.into()) };
    let Ok(mut file) = file else { return Ok(send.abort(NOT_FOUND)?) };
    let length = file.metadata().await?.len();
    send.write_all(&length.to_be_bytes()).await?;
    let mut sent = 0;
    while sent < length {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
        if read == 0 {
            return Err("the file has become shorter".into()); // the stream is reset
        }
        sent += read as u64;
        // Waits for room: a slow client makes the server hold a window and one piece, no more.
        send.write_chunk(Bytes::from(piece)).await?;
    }
    Ok(send.finished().await?)
}

async fn get(address: &str, hash: &str, name: &str, output: &Path) -> Result {
    let trust = Trust::pinned([hash.parse::<CertificateHash>()?]);
    let client = Client::builder().alpn(["files"]).trust(trust).build()?;
    let connection = client.connect(address.parse()?, "localhost").await?;
    let (mut send, mut recv) = connection.open_bi()?;
    drop(send.finish_with(name.to_owned()));

    let mut length = [0; 8];
    recv.read_exact(&mut length).await?;
    let (length, mut received, mut shown) = (u64::from_be_bytes(length), 0, 0);
    let mut unfinished = output.as_os_str().to_owned();
    unfinished.push(".part");
    let mut file = fs::File::create(&unfinished).await?;
    while let Some(chunk) = recv.read_chunk().await? {
        file.write_all(&chunk).await?;
        received += chunk.len() as u64;
        let percent = received * 100 / length.max(1);
        if percent > shown {
            shown = percent;
            eprint!("\r{percent}% of {length} bytes");
        }
    }
    file.sync_all().await?;
    if received != length {
        return Err(format!("{received} bytes came, not {length}").into());
    }
    fs::rename(&unfinished, output).await?;
    eprintln!();
    println!("{received} bytes");
    connection.close(0, "")?;
    client.wait_idle().await;
    Ok(())
}
