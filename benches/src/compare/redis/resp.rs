//! RESP, the protocol of Redis: commands are arrays of strings, and replies say their kind in their first byte.

/// Bounds of a reply: ours are small.
const BULK_BYTES_MAX: usize = 1 << 20;
const ARRAY_VALUES_MAX: usize = 64;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Option<Vec<Value>>),
}

/// Appends a command.
pub(super) fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        out.extend(format!("${}\r\n", word.len()).bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The first reply in `bytes` and its length; `None` when it is not all here.
pub(super) fn value(bytes: &[u8]) -> Result<Option<(Value, usize)>, String> {
    let Some((head, at)) = line(bytes) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(head).map_err(|_| format!("not a reply: {head:?}"))?;
    let (kind, text) = text.split_at_checked(1).ok_or("an empty reply")?;
    match kind {
        "+" => Ok(Some((Value::Simple(text.to_owned()), at))),
        "-" => Ok(Some((Value::Error(text.to_owned()), at))),
        ":" => {
            let number = text.parse().map_err(|_| format!("not a number: {text}"))?;
            Ok(Some((Value::Integer(number), at)))
        }
        "$" => match length(text, BULK_BYTES_MAX)? {
            None => Ok(Some((Value::Bulk(None), at))),
            Some(length) => {
                let Some(rest) = bytes.get(at..at + length + 2) else {
                    return Ok(None);
                };
                let content = rest
                    .strip_suffix(b"\r\n")
                    .ok_or("a string that is longer than it says")?;
                Ok(Some((Value::Bulk(Some(content.to_vec())), at + length + 2)))
            }
        },
        "*" => match length(text, ARRAY_VALUES_MAX)? {
            None => Ok(Some((Value::Array(None), at))),
            Some(count) => array(bytes, at, count),
        },
        _ => Err(format!("a reply of an unknown kind: {kind}{text}")),
    }
}

/// Its values are no arrays themselves: we ask nothing that is answered so.
fn array(bytes: &[u8], mut at: usize, count: usize) -> Result<Option<(Value, usize)>, String> {
    let mut values = Vec::new();
    for _ in 0..count {
        let rest = &bytes[at..];
        if rest.first() == Some(&b'*') {
            return Err("an array in an array".to_owned());
        }
        let Some((one, length)) = value(rest)? else {
            return Ok(None);
        };
        values.push(one);
        at += length;
    }
    Ok(Some((Value::Array(Some(values)), at)))
}

/// The first line without its end, and where the next one begins.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((&bytes[..end], end + 2))
}

/// A length; -1 stands for nothing at all.
fn length(text: &str, max: usize) -> Result<Option<usize>, String> {
    if text == "-1" {
        return Ok(None);
    }
    match text.parse() {
        Ok(length) if length <= max => Ok(Some(length)),
        _ => Err(format!("a length of {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(Some(text.as_bytes().to_vec()))
    }

    #[test]
    fn replies_are_understood_to_their_last_byte() {
        let replies: [(&[u8], Value); 8] = [
            (b"+OK\r\n", Value::Simple("OK".to_owned())),
            (b"-ERR no\r\n", Value::Error("ERR no".to_owned())),
            (b":-12\r\n", Value::Integer(-12)),
            (b"$3\r\na\r\n\r\n", bulk("a\r\n")),
            (b"$0\r\n\r\n", bulk("")),
            (b"$-1\r\n", Value::Bulk(None)),
            (b"*-1\r\n", Value::Array(None)),
            (
                b"*2\r\n$1\r\na\r\n:1\r\n",
                Value::Array(Some(vec![bulk("a"), Value::Integer(1)])),
            ),
        ];
        for (bytes, expected) in replies {
            for end in 0..bytes.len() {
                assert_eq!(value(&bytes[..end]), Ok(None), "{:?}", &bytes[..end]);
            }
            let more = [bytes, b"+next"].concat();
            assert_eq!(value(&more), Ok(Some((expected, bytes.len()))));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let replies: [&[u8]; 8] = [
            b"\r\n",
            b"?\r\n",
            b":x\r\n",
            b"$99999999999999999999\r\n",
            b"$-2\r\n",
            b"$1\r\nabc\r\n",
            b"*1\r\n*0\r\n",
            b"+\xff\r\n",
        ];
        for bytes in replies {
            assert!(value(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = Vec::new();
        command(&[b"XLEN", b"bench"], &mut out);
        assert_eq!(out, b"*2\r\n$4\r\nXLEN\r\n$5\r\nbench\r\n");
    }
}
