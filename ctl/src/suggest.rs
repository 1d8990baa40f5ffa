//! What was probably meant.

/// How alike two words must be.
const LIKENESS_MIN: f64 = 0.75;

/// The word that is most like `wrong`, when one is like it at all.
pub(crate) fn best<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |word: &'a str| (strsim::jaro_winkler(wrong, word), word);
    let best = words.into_iter().map(likeness).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_like_it_is_suggested() {
        assert_eq!(best("jsn", ["raw", "json"]), Some("json"));
        assert_eq!(best("zzz", ["raw", "json"]), None);
        assert_eq!(best("raw", []), None);
    }
}
