//! Texts with gaps.

/// A form of texts: literal pieces with any run of characters between two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wildcard {
    /// What a text starts with; all of it when there is no star.
    first: Box<str>,
    after: Option<AfterStar>,
}

/// What follows the first star.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AfterStar {
    /// Pieces with a star on both sides, none empty.
    middle: Vec<Box<str>>,
    /// What a text ends with.
    last: Box<str>,
}

impl Wildcard {
    /// `*` is any run of characters, `\*` a star, `\\` a backslash, and all else is itself: also a backslash before
    /// another character, or at the end.
    pub(super) fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut piece = String::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '*' => pieces.push(std::mem::take(&mut piece).into_boxed_str()),
                '\\' => piece.push(
                    characters
                        .next_if(|next| matches!(next, '*' | '\\'))
                        .unwrap_or('\\'),
                ),
                _ => piece.push(character),
            }
        }
        let last = piece.into_boxed_str();
        let mut pieces = pieces.into_iter();
        match pieces.next() {
            None => Self {
                first: last,
                after: None,
            },
            Some(first) => {
                let middle = pieces.filter(|piece| !piece.is_empty()).collect();
                let after = Some(AfterStar { middle, last });
                Self { first, after }
            }
        }
    }

    /// Whether all of a text is of this form. Linear: a piece that is found as early as possible leaves the most to
    /// those behind it, so nothing is tried twice.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(&*self.first) else {
            return false;
        };
        let Some(after) = &self.after else {
            return rest.is_empty();
        };
        let Some(rest) = rest.strip_suffix(&*after.last) else {
            return false;
        };
        let mut pieces = after.middle.iter();
        pieces
            .try_fold(rest, |rest, piece| Some(rest.split_once(&**piece)?.1))
            .is_some()
    }
}
