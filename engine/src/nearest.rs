//! What was probably meant.

/// How alike two words must be.
const LIKENESS_MIN: f64 = 0.75;

/// The word that is most like `wrong`, when one is like it at all.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(wrong, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .map(|(_, known)| known)
}
