//! Where a shard listens.

use std::path::PathBuf;
use std::str::FromStr;

use crate::limits::{ADDRESS_BYTES_MAX, SOCKET_PATH_BYTES_MAX};

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Longer than any address.
    #[error("an address has at most {ADDRESS_BYTES_MAX} bytes, not {bytes}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// No `://`, or something unknown before it.
    #[error("\"{text}\" does not begin with tcp://, unix://, na+sm:// or ofi+tcp://")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// Something other than `host:port`.
    #[error("\"{text}\" does not name a host and a port, as in tcp://10.0.0.1:7420")]
    HostPort {
        /// What was given.
        text: String,
    },
    /// Not a path for a socket.
    #[error(
        "\"{text}\" does not name an absolute path of at most {SOCKET_PATH_BYTES_MAX} bytes, as in unix:///run/mofka.sock"
    )]
    Path {
        /// What was given.
        text: String,
    },
}

/// Where a shard listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// `tcp://host:port`, or the original's `ofi+tcp://host:port`.
    Tcp {
        /// Name or number; IPv6 numbers without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// `unix:///path`, or the original's `na+sm:///path`: only on this node.
    Unix(PathBuf),
}

impl Address {
    /// Where shard `shard` listens when the first one listens here: on the port that many further, or on the path with the
    /// number behind it. `None`: there is no such port. (Ports that the system chose follow no rule.)
    pub fn of_shard(&self, shard: u32) -> Option<Self> {
        match self {
            Self::Tcp { host, port } => Some(Self::Tcp {
                host: host.clone(),
                port: port.checked_add(u16::try_from(shard).ok()?)?,
            }),
            Self::Unix(path) if shard == 0 => Some(Self::Unix(path.clone())),
            Self::Unix(path) => {
                let mut path = path.clone();
                path.as_mut_os_string().push(format!(".{shard}"));
                Some(Self::Unix(path))
            }
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong { bytes: text.len() });
        }
        match text.split_once("://") {
            Some(("tcp" | "ofi+tcp", rest)) => host_port(rest, text),
            Some(("unix" | "na+sm", path)) => {
                let fits =
                    path.len() <= SOCKET_PATH_BYTES_MAX && path.starts_with('/') && !path.contains('\0');
                if fits {
                    Ok(Self::Unix(PathBuf::from(path)))
                } else {
                    Err(AddressError::Path {
                        text: text.to_owned(),
                    })
                }
            }
            _ => Err(AddressError::Scheme {
                text: text.to_owned(),
            }),
        }
    }
}

fn host_port(rest: &str, text: &str) -> Result<Address, AddressError> {
    let wrong = || AddressError::HostPort {
        text: text.to_owned(),
    };
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(host) if host.contains(['[', ']']) => return Err(wrong()),
        Some(host) => host,
        None if host.contains([':', '[', ']']) => return Err(wrong()),
        None => host,
    };
    let is_plain =
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
    let digits_only = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if is_plain && digits_only => Ok(Address::Tcp {
            host: host.to_owned(),
            port,
        }),
        _ => Err(wrong()),
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_forms_are_read() {
        let tcp = |host: &str, port| Address::Tcp {
            host: host.to_owned(),
            port,
        };
        assert_eq!("tcp://a.b:1".parse(), Ok(tcp("a.b", 1)));
        assert_eq!("ofi+tcp://10.0.0.1:7420".parse(), Ok(tcp("10.0.0.1", 7420)));
        assert_eq!("tcp://[::1]:0".parse(), Ok(tcp("::1", 0)));
        assert_eq!("unix:///a/b c".parse(), Ok(Address::Unix("/a/b c".into())));
        assert_eq!("na+sm:///a".parse(), Ok(Address::Unix("/a".into())));
    }

    #[test]
    fn what_is_none_is_told() {
        for text in [
            "",
            "a:1",
            "http://a:1",
            "na+sm:123-0",
            "tcp://a",
            "tcp://:1",
            "tcp://a:70000",
            "tcp://a:+1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        for text in [
            "tcp://::1:5",
            "tcp://a/b:1",
            "tcp://[a]b]:1",
            "tcp://[[a]:1",
            "unix://relative",
            "unix:///a\0b",
            "tcp://a:",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!(format!("unix:///{}", "x".repeat(107)).parse::<Address>().is_err());
    }

    #[test]
    fn shards_follow_the_first_one() {
        let of = |text: &str, shard| {
            let address: Address = text.parse().unwrap();
            address.of_shard(shard).map(|address| address.to_string())
        };
        assert_eq!(of("tcp://h:7420", 0).unwrap(), "tcp://h:7420");
        assert_eq!(of("tcp://h:7420", 3).unwrap(), "tcp://h:7423");
        assert_eq!(of("tcp://h:65535", 1), None);
        assert_eq!(of("tcp://h:1", u32::MAX), None);
        assert_eq!(of("na+sm:///r/m.sock", 0).unwrap(), "unix:///r/m.sock");
        assert_eq!(of("unix:///r/m.sock", 12).unwrap(), "unix:///r/m.sock.12");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(host in "[a-z0-9.-]{1,20}|::[0-9a-f]{1,4}", port: u16, path in "/[a-z/]{0,30}") {
            for address in [Address::Tcp { host, port }, Address::Unix(path.into())] {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }

        #[test]
        fn parse_never_panics(text: String) {
            text.parse::<Address>().ok();
        }
    }
}
