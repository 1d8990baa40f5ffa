//! Reads Rust source just well enough to tell code from comments and literals.

/// The source with comments and the contents of string and character literals replaced by blanks. Line breaks stay, so
/// line numbers hold.
pub fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        let end = match (c, next) {
            ('/', Some('/')) => line_end(&chars, at),
            ('/', Some('*')) => block_comment_end(&chars, at),
            ('"', _) => string_end(&chars, at),
            ('r', Some('"' | '#')) if !follows_word(&chars, at) => {
                raw_string_end(&chars, at).unwrap_or(at + 1)
            }
            ('\'', _) => char_end(&chars, at).unwrap_or(at + 1),
            _ => at + 1,
        };
        if end == at + 1 {
            out.push(c);
        } else {
            let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
            out.extend(chars.get(at..end).unwrap_or_default().iter().map(blank));
        }
        at = end;
    }
    out
}

fn line_end(chars: &[char], at: usize) -> usize {
    (at..chars.len())
        .find(|i| chars[*i] == '\n')
        .unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |i: &usize| {
        chars[*i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    Some(
        (open + 1..chars.len())
            .find(closes)
            .map_or(chars.len(), |i| i + 1 + hashes),
    )
}

/// A lifetime has no closing quote right after its first character, unless it is a literal.
fn char_end(chars: &[char], start: usize) -> Option<usize> {
    if chars.get(start + 1) == Some(&'\\') {
        let close = (start + 3..chars.len().min(start + 14)).find(|i| chars[*i] == '\'')?;
        return Some(close + 1);
    }
    (chars.get(start + 2) == Some(&'\'')).then_some(start + 3)
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at.checked_sub(1)
        .and_then(|i| chars.get(i))
        .is_some_and(|c| is_word(*c) && *c != 'b')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The numbers, from 1, of the lines on which `word` stands as a whole word.
pub fn lines_with_word(text: &str, word: &str) -> Vec<usize> {
    let holds = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| holds(line))
        .map(|(n, _)| n + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blanked() {
        let source = "let a = \"x \\\" unsafe\"; // unsafe\n/* unsafe /* in */ unsafe */ let b = r#\"unsafe \" \"#; 'u'";
        assert!(
            lines_with_word(&code_only(source), "unsafe").is_empty(),
            "{}",
            code_only(source)
        );
        assert_eq!(code_only(source).lines().count(), 2);
    }

    #[test]
    fn code_stays() {
        let source = "fn f<'a>(x: &'a str, c: char) { if c == '\\'' || c == '\\u{41}' { unsafe { g(x) } } }";
        assert_eq!(lines_with_word(&code_only(source), "unsafe"), [1]);
        assert!(lines_with_word("deny(unsafe_code)", "unsafe").is_empty());
    }
}
