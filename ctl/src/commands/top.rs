//! `top`: a node at work, seen again and again.

mod draw;
mod figures;
mod model;
mod screen;
mod sheet;
mod watch;

use std::io::{self, IsTerminal};
use std::time::Instant;

use self::draw::{latency_parts, node_text, process_parts, rate_parts};
use self::figures::Figures;
use self::model::Model;
use self::sheet::{Sheet, VIEWS, first_sorting, title};
use self::watch::Watch;
use crate::cli::{TopArgs, View};
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::{Output, table};

pub(crate) fn run(args: &TopArgs, place: &Place, output: Output) -> Outcome {
    let mut watch = Watch::new(place, args.rank, args.interval);
    if args.once || output.is_json() {
        return print(args, &mut watch, output);
    }
    if !io::stdout().is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        return Err(Failure::usage(
            "standard output is no terminal that can be drawn on: use --once for one frame as text, or --json",
        ));
    }
    let first = watch.ask()?;
    // https://no-color.org: set and not empty.
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let model = Model::new(args.view, colours, first);
    let told = watch.in_background()?;
    screen::show(model, &told)
}

/// Prints figures of one interval, or of one after the other.
fn print(args: &TopArgs, watch: &mut Watch, output: Output) -> Outcome {
    let mut asked_at = Instant::now();
    let mut before = watch.ask()?;
    loop {
        watch.pause(asked_at);
        asked_at = Instant::now();
        let now = watch.ask()?;
        let figures = Figures::new(&now, Some(&before));
        output.print(&node::to_json(&figures)?, || text(&figures))?;
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

/// One frame, with all views.
fn text(figures: &Figures) -> String {
    let parts = |parts: Vec<(&'static str, String)>| {
        let texts = parts.iter().map(|(label, text)| format!("{label} {text}"));
        texts.collect::<Vec<_>>().join("   ")
    };
    let mut lines = vec![
        node_text(figures),
        parts(rate_parts(figures)),
        parts(latency_parts(figures)),
        parts(process_parts(figures)),
    ];
    // What is wrong comes first.
    let others = VIEWS.into_iter().filter(|view| *view != View::Problems);
    for view in std::iter::once(View::Problems).chain(others) {
        let sheet = Sheet::of(view, figures, first_sorting(view));
        if sheet.rows.is_empty() {
            continue;
        }
        let heads: Vec<&str> = sheet.columns.iter().map(|column| column.head).collect();
        let rows: Vec<Vec<String>> = sheet
            .rows
            .iter()
            .map(|row| row.cells.iter().map(|cell| cell.text.clone()).collect())
            .collect();
        lines.push(format!("\n{}", title(view)));
        lines.push(table(&heads, &rows));
        if sheet.left_out > 0 {
            lines.push(format!("and {} more", sheet.left_out));
        }
    }
    lines.join("\n")
}
