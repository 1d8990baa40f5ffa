//! Whether a node could listen where it is to.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;

use mofka_net::limits::SOCKET_PATH_BYTES_MAX;
use rustix::fs::Access;

use crate::commands::doctor::facts::{PlaceFacts, PlaceTrouble, Wanted};

/// Ports after the first that are tried: one for each shard.
const SHARDS_MAX: usize = 256;

/// Each address, with what is in the way.
pub(crate) fn look(wanted: &Wanted, shards: usize) -> Vec<PlaceFacts> {
    wanted
        .listen
        .iter()
        .map(|address| PlaceFacts {
            address: address.clone(),
            trouble: trouble(address, &wanted.data_dir, shards.min(SHARDS_MAX)),
        })
        .collect()
}

fn trouble(address: &str, data_dir: &Path, shards: usize) -> Option<PlaceTrouble> {
    let refused = |text: String| Some(PlaceTrouble::Refused(text));
    if let Some(place) = address.strip_prefix("tcp://") {
        return tcp(place, shards);
    }
    if let Some(path) = address.strip_prefix("unix://") {
        return unix(Path::new(path));
    }
    if address == "auto" {
        return trouble("na+sm", data_dir, shards).or_else(|| trouble("tcp://127.0.0.1:0", data_dir, shards));
    }
    if address == "na+sm" {
        let dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_path_buf());
        let inside = dir.join("mofka.sock");
        // One whose path is too long stands in the directory for temporary files, under a name that only the node knows.
        let is_short = inside.as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
        return match is_short && inside.exists() {
            true => unix(&inside),
            false => None,
        };
    }
    refused("an address is tcp://HOST:PORT, unix:///PATH, na+sm or auto".to_owned())
}

fn tcp(place: &str, shards: usize) -> Option<PlaceTrouble> {
    let refused = |text: String| Some(PlaceTrouble::Refused(text));
    let Some((host, port)) = place.rsplit_once(':') else {
        return refused("HOST:PORT is wanted".to_owned());
    };
    let Ok(first) = port.parse::<u16>() else {
        return refused(format!("\"{port}\" is no port"));
    };
    if first == 0 {
        return bind(host, 0);
    }
    for shard in 0..shards {
        let port = u16::try_from(shard)
            .ok()
            .and_then(|shard| first.checked_add(shard));
        let Some(port) = port else {
            return refused(format!("there is no port {first} + {shard} for shard {shard}"));
        };
        if let Some(trouble) = bind(host, port) {
            return Some(trouble);
        }
    }
    None
}

fn bind(host: &str, port: u16) -> Option<PlaceTrouble> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // Closed again at once, before anybody can connect.
    let error = TcpListener::bind((host, port)).err()?;
    let text = format!("port {port} of {host}: {error}");
    Some(match error.kind() {
        io::ErrorKind::AddrInUse => PlaceTrouble::Taken(text),
        _ => PlaceTrouble::Refused(text),
    })
}

fn unix(path: &Path) -> Option<PlaceTrouble> {
    let refused = |text: String| Some(PlaceTrouble::Refused(text));
    if !path.is_absolute() || path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return refused(format!(
            "the path must be absolute and have at most {SOCKET_PATH_BYTES_MAX} bytes"
        ));
    }
    if UnixStream::connect(path).is_ok() {
        return Some(PlaceTrouble::Taken(format!(
            "another program answers at {}",
            path.display()
        )));
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    match rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => None,
        Err(error) => refused(format!("no socket can be made in {}: {error}", dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn of(address: &str, shards: usize) -> Option<PlaceTrouble> {
        trouble(address, Path::new("/nowhere"), shards)
    }

    #[test]
    fn ports_that_are_taken_are_found_those_of_later_shards_too() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(matches!(
            of(&format!("tcp://127.0.0.1:{port}"), 1),
            Some(PlaceTrouble::Taken(_))
        ));
        assert!(matches!(
            of(&format!("tcp://127.0.0.1:{}", port - 1), 2),
            Some(PlaceTrouble::Taken(_))
        ));
        assert_eq!(of("tcp://127.0.0.1:0", 4), None);
        assert!(of("tcp://127.0.0.1:65535", 2).is_some());
        assert!(
            matches!(of("tcp://192.0.2.1:0", 1), Some(PlaceTrouble::Refused(_))),
            "not ours"
        );
        assert!(matches!(
            of("tcp://127.0.0.1:x", 1),
            Some(PlaceTrouble::Refused(_))
        ));
    }

    #[test]
    fn sockets_need_a_directory_and_nobody_else_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = format!("unix://{}", path.display());
        assert_eq!(of(&address, 1), None);
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(of(&address, 1), Some(PlaceTrouble::Taken(_))));
        drop(listener);
        assert_eq!(of(&address, 1), None, "left from a node that was killed");
        assert!(matches!(
            of("unix:///not/there/s", 1),
            Some(PlaceTrouble::Refused(_))
        ));
        let long = format!("unix:///{}", "x".repeat(120));
        assert!(matches!(of(&long, 1), Some(PlaceTrouble::Refused(_))));
        assert!(matches!(of("udp://x", 1), Some(PlaceTrouble::Refused(_))));
        assert_eq!((of("na+sm", 1), of("auto", 1)), (None, None));
        let _listener = UnixListener::bind(dir.path().join("mofka.sock")).unwrap();
        let running = trouble("na+sm", dir.path(), 1);
        assert!(matches!(running, Some(PlaceTrouble::Taken(_))), "{running:?}");
        assert_eq!(trouble("auto", dir.path(), 1), running);
    }
}
