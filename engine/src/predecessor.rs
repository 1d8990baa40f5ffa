//! The node that the group file names before this one writes it: while that one runs, the file is not taken from it, because
//! clients find it by nothing else.
//!
//! A group file names one node. Its own node, started again, takes it; so does any other where nobody says to be the one that
//! is named: after a crash the file is left, and its address may be somebody else's by then.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mofka_net::control::{HelloRequest, HelloResponse, decode_any, encode};
use mofka_net::limits::{VERSION_MAX, VERSION_MIN};
use mofka_net::{Address, FRAME_HEADER_BYTES, FrameHeader, FrameKind, GroupFile, Opcode};
use uuid::Uuid;

use crate::home;

/// How long a node may take to answer. One that runs takes much less, and a start should not wait for others.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer to hello: addresses of many shards fit.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Looks whether another node than that of the data directory is named by the group file, and runs.
///
/// # Errors
/// Which one, and what to do.
pub fn check(group_file: &Path, data_dir: &Path) -> Result<(), String> {
    // What is no group file, or none yet, names nobody.
    let text = std::fs::read_to_string(group_file).unwrap_or_default();
    let Ok(group) = GroupFile::check(&text) else {
        return Ok(());
    };
    let own = home::identity_of(data_dir);
    for member in group.members {
        // That of the data directory itself is found by the directory's lock.
        let Some(named) = member.node.filter(|named| Some(*named) != own) else {
            continue;
        };
        for address in member.endpoints() {
            if hello(&address).is_ok_and(|node| node == named) {
                return Err(format!(
                    "{} names another node, which runs at {address}: stop that one, or give this one a group file of its own \
                     (--group-file)",
                    group_file.display()
                ));
            }
        }
    }
    Ok(())
}

/// Who listens there.
fn hello(address: &Address) -> io::Result<Uuid> {
    match address {
        Address::Tcp { host, port } => {
            let mut places = (host.as_str(), *port).to_socket_addrs()?;
            let place = places.next().ok_or(io::ErrorKind::NotFound)?;
            let stream = TcpStream::connect_timeout(&place, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(stream)
        }
    }
}

fn ask(mut stream: impl Read + Write) -> io::Result<Uuid> {
    let request = HelloRequest {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        client: format!("mofkad {}", std::process::id()),
        features: Vec::new(),
        token: None,
    };
    let body = encode("hello", &request).map_err(io::Error::other)?;
    stream.write_all(&FrameHeader::request(Opcode::Hello, 1, &body))?;
    stream.write_all(&body)?;
    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let header = FrameHeader::check(&header, ANSWER_BYTES_MAX).map_err(io::Error::other)?;
    let mut body = Vec::new();
    stream.take(header.body_bytes()).read_to_end(&mut body)?;
    header.check_body(&body).map_err(io::Error::other)?;
    match header.kind() {
        FrameKind::Response(Opcode::Hello) => {
            let answer: HelloResponse = decode_any("hello", &body).map_err(io::Error::other)?;
            Ok(answer.node)
        }
        other => Err(io::Error::other(format!("hello was answered by {other:?}"))),
    }
}
