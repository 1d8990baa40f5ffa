//! Objects as notebooks show them (`_repr_html_`): a heading and a table. Everything that came from elsewhere is escaped.

use std::fmt::Write;

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A table of names and values.
pub(crate) fn facts(heading: &str, facts: &[(&str, String)]) -> String {
    let rows = facts
        .iter()
        .map(|(name, value)| vec![(*name).to_owned(), value.clone()]);
    table(heading, &[], rows)
}

/// A table with a title for each column.
pub(crate) fn table(heading: &str, titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut html = format!("<strong>{}</strong><table>", escaped(heading));
    if !titles.is_empty() {
        let cells: String = titles
            .iter()
            .map(|title| format!("<th>{}</th>", escaped(title)))
            .collect();
        // Writing to a String does not fail.
        write!(html, "<tr>{cells}</tr>").ok();
    }
    for row in rows {
        let cells: String = row
            .iter()
            .map(|cell| format!("<td>{}</td>", escaped(cell)))
            .collect();
        write!(html, "<tr>{cells}</tr>").ok();
    }
    html.push_str("</table>");
    html
}
