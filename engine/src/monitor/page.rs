//! The status page: one document, with its style and its script inside.

use std::sync::Arc;

use super::http::Response;

const PAGE: &str = include_str!("page.html");
/// Stands in the document where the nonce goes.
const NONCE: &str = "NONCE";

/// The page. Only its own script and style run: they carry a number that nobody can guess, new each time.
pub(super) fn response() -> Response {
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let page = PAGE.replace(NONCE, &nonce);
    let policy =
        format!("script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:");
    Response::new(200, "text/html; charset=utf-8", Arc::new(page.into_bytes())).with_policy(&policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_outside_and_no_style_or_script_without_its_nonce() {
        for outside in [
            "http://",
            "https://",
            "//cdn",
            "@import",
            "url(",
            " src=",
            " style=",
            " onclick=",
            "innerHTML",
            "eval(",
        ] {
            let allowed = outside == "http://"
                && PAGE.matches(outside).count() == PAGE.matches("http://www.w3.org/2000/svg").count();
            assert!(allowed || !PAGE.contains(outside), "{outside}");
        }
        for tag in ["<script", "<style"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
            assert!(PAGE.contains(&format!("{tag} nonce=\"{NONCE}\">")), "{tag}");
        }
        assert_eq!(PAGE.matches(NONCE).count(), 2);
    }

    #[test]
    fn each_answer_has_a_nonce_of_its_own() {
        let heads: Vec<String> = (0..2)
            .map(|_| String::from_utf8(response().head(std::time::Duration::ZERO)).unwrap())
            .collect();
        assert!(heads[0].contains("script-src 'nonce-") && !heads[0].contains("unsafe"));
        assert_ne!(heads[0], heads[1]);
    }
}
