//! The protocol of NATS: lines of text, and after a MSG or HMSG so many bytes.

/// A bound of what is sent to us: INFO at connecting, and answers of JetStream.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Info,
    Ping,
    Pong,
    Ok,
    Error(&'a str),
    /// A message of the subject that we subscribed to, its header (empty: none) and its payload.
    Msg {
        header: &'a str,
        payload: &'a [u8],
    },
}

/// The first message in `bytes` and its length; `None` when it is not all here.
pub(super) fn message(bytes: &[u8]) -> Result<Option<(Message<'_>, usize)>, String> {
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
        return Ok(None);
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| "a line that is not text".to_owned())?;
    let at = end + 2;
    let mut words = line.split_ascii_whitespace();
    let message = match words.next() {
        Some("INFO") => Message::Info,
        Some("PING") => Message::Ping,
        Some("PONG") => Message::Pong,
        Some("+OK") => Message::Ok,
        Some("-ERR") => Message::Error(line),
        // Before the lengths: subject, subscription, and sometimes a subject for answers.
        Some("MSG") => {
            let length = words.skip(2).last();
            return sized(bytes, at, "0", length, line);
        }
        Some("HMSG") => {
            let words: Vec<_> = words.skip(2).collect();
            let [.., header, total] = words[..] else {
                return Err(format!("no lengths: {line}"));
            };
            return sized(bytes, at, header, Some(total), line);
        }
        _ => return Err(format!("not a message: {line}")),
    };
    Ok(Some((message, at)))
}

/// A message whose header and payload begin at `at`; `total` counts both.
fn sized<'a>(
    bytes: &'a [u8],
    at: usize,
    header: &str,
    total: Option<&str>,
    line: &str,
) -> Result<Option<(Message<'a>, usize)>, String> {
    let length = |text: &str| text.parse().ok().filter(|n| *n <= PAYLOAD_BYTES_MAX);
    let (Some(header), Some(total)) = (length(header), total.and_then(length)) else {
        return Err(format!("no lengths: {line}"));
    };
    let Some(rest) = bytes.get(at..at + total + 2) else {
        return Ok(None);
    };
    let content = rest.strip_suffix(b"\r\n");
    let Some((header, payload)) = content.and_then(|content| content.split_at_checked(header)) else {
        return Err(format!("other lengths than it says: {line}"));
    };
    let header = std::str::from_utf8(header).map_err(|_| format!("a header that is not text: {line}"))?;
    Ok(Some((Message::Msg { header, payload }, at + total + 2)))
}

/// Appends a message to `subject`, to be answered to `reply` (empty: not at all), with a header (empty: none).
pub(super) fn publish(subject: &str, reply: &str, header: &str, payload: [&[u8]; 2], out: &mut Vec<u8>) {
    let bytes = payload.iter().map(|part| part.len()).sum::<usize>();
    let line = match header.len() {
        0 => format!("PUB {subject} {reply} {bytes}\r\n"),
        header => format!("HPUB {subject} {reply} {header} {}\r\n", header + bytes),
    };
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(header.as_bytes());
    payload.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood_to_their_last_byte() {
        let plain = |payload| Message::Msg { header: "", payload };
        let messages: [(&[u8], Message<'_>); 9] = [
            (b"INFO {\"port\":1}\r\n", Message::Info),
            (b"PING\r\n", Message::Ping),
            (b"PONG\r\n", Message::Pong),
            (b"+OK\r\n", Message::Ok),
            (
                b"-ERR 'Slow Consumer'\r\n",
                Message::Error("-ERR 'Slow Consumer'"),
            ),
            (b"MSG inbox 1 4\r\na\r\nb\r\n", plain(b"a\r\nb")),
            (b"MSG inbox 1 answers 1\r\na\r\n", plain(b"a")),
            (b"MSG inbox 1 0\r\n\r\n", plain(b"")),
            (
                b"HMSG inbox 1 12 13\r\nNATS/1.0\r\n\r\na\r\n",
                Message::Msg {
                    header: "NATS/1.0\r\n\r\n",
                    payload: b"a",
                },
            ),
        ];
        for (bytes, expected) in messages {
            for end in 0..bytes.len() {
                assert_eq!(message(&bytes[..end]), Ok(None), "{:?}", &bytes[..end]);
            }
            let more = [bytes, b"PING"].concat();
            assert_eq!(message(&more), Ok(Some((expected, bytes.len()))));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let messages: [&[u8]; 8] = [
            b"\r\n",
            b"HELLO\r\n",
            b"MSG inbox 1\r\n",
            b"MSG inbox 1 x\r\n",
            b"MSG inbox 1 99999999999\r\n",
            b"MSG inbox 1 1\r\nabc\r\n",
            b"HMSG inbox 1 5\r\nabcde\r\n",
            b"HMSG inbox 1 9 3\r\nabc\r\n",
        ];
        for bytes in messages {
            assert!(message(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_message_says_its_lengths() {
        let mut out = Vec::new();
        publish("s", "r", "", [b"ab", b"c"], &mut out);
        publish("s", "", "NATS/1.0\r\n\r\n", [b"ab", b"c"], &mut out);
        assert_eq!(
            out,
            b"PUB s r 3\r\nabc\r\nHPUB s  12 15\r\nNATS/1.0\r\n\r\nabc\r\n"
        );
    }
}
