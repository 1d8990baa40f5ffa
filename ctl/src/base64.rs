//! RFC 4648, with padding: how bytes that are no text stand in JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sextet = usize::try_from(word >> (18 - 6 * place) & 63).unwrap_or(0);
            let letter = ALPHABET.get(sextet).copied().map_or('=', char::from);
            text.push(if place > chunk.len() { '=' } else { letter });
        }
    }
    text
}

/// # Errors
/// What is wrong with the text.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let letters = text.trim_end_matches('=');
    let is_whole = text.len().is_multiple_of(4) && text.len() - letters.len() <= 2;
    if !is_whole || letters.len() % 4 == 1 {
        return Err(format!("{} letters are no base64 with padding", text.len()));
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in letters.as_bytes().chunks(4) {
        let mut word = 0_u32;
        for letter in chunk {
            let sextet = ALPHABET.iter().position(|known| known == letter);
            let sextet = sextet.ok_or_else(|| format!("{:?} is no letter of base64", char::from(*letter)))?;
            word = word << 6 | u32::try_from(sextet).unwrap_or(0);
        }
        word <<= 6 * (4 - chunk.len());
        let [_, whole @ ..] = word.to_be_bytes();
        bytes.extend(whole.iter().take(chunk.len() - 1));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_common_one_both_ways() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in pairs {
            assert_eq!(encode(plain.as_bytes()), coded);
            assert_eq!(decode(coded).unwrap(), plain.as_bytes());
        }
        assert_eq!(encode(&[0xFF, 0xFE, 0xFD]), "//79");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        for wrong in ["Zg", "Zg=", "Z===", "====", "Zm9v=", "Zm9!", "Zm 9"] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }
}
