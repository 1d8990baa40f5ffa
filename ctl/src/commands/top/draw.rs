//! Draws a model on a screen of any size. What does not fit is left out: columns by how expendable they are, then the curve, the
//! latencies, the keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline, Wrap};

use crate::cli::View;
use crate::commands::top::figures::{Figures, Latency};
use crate::commands::top::model::{Link, Model};
use crate::commands::top::sheet::{
    Mood, Sheet, VIEWS, count_text, duration_text, printable, rate_text, span_text, title,
};
use crate::output::bytes_text;

/// Below this nothing can be read.
const COLUMNS_MIN: u16 = 20;
const LINES_MIN: u16 = 5;
/// From so many lines on there are, above the table: rates; all of the summary; the curve.
const LINES_FOR_KEYS: u16 = 10;
const LINES_FOR_SUMMARY: u16 = 16;
const LINES_FOR_CURVE: u16 = 24;
/// Problems that are named above the table.
const PROBLEMS_SHOWN: usize = 3;
/// What a name may be shortened to.
const NAME_COLUMNS_MIN: usize = 8;

const HELP: [&str; 14] = [
    "Tab, Shift-Tab, 1 to 5   change the view",
    "Up, Down, k, j           scroll by a line",
    "PageUp, PageDown         scroll by a page",
    "Home, End                to the begin, the end",
    "s                        sort by the next column",
    "r                        sort the other way round",
    "p, Space                 pause, go on",
    "h, ?                     this help",
    "q, Esc, Ctrl-C           end",
    "",
    "ev/s: events a second; in: from producers; out: to",
    "consumers. p50, p99: half, 99 of 100 batches were",
    "answered within this time. lag: events not yet",
    "acknowledged. What is not well is always first.",
];

/// Styles with or without colours.
#[derive(Clone, Copy)]
struct Palette {
    colours: bool,
}

impl Palette {
    fn coloured(self, colour: Color, otherwise: Modifier) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new().add_modifier(otherwise)
        }
    }

    fn of(self, mood: Mood) -> Style {
        match mood {
            Mood::Bad => self
                .coloured(Color::Red, Modifier::BOLD)
                .add_modifier(Modifier::BOLD),
            Mood::Warning => self.coloured(Color::Yellow, Modifier::empty()),
            Mood::Fine => Style::new(),
        }
    }

    fn label(self) -> Style {
        self.coloured(Color::Cyan, Modifier::empty())
    }

    fn head(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < LINES_MIN {
        let text = format!("The terminal is too small: {COLUMNS_MIN}x{LINES_MIN} at least.");
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let palette = Palette {
        colours: model.colours,
    };
    let above = summary(model, area, palette);
    let above_lines = u16::try_from(above.len()).unwrap_or(0);
    let curve_lines = u16::from(area.height >= LINES_FOR_CURVE) * 2;
    let key_lines = u16::from(area.height >= LINES_FOR_KEYS);
    let [top, curve, tabs, table, keys] = Layout::vertical([
        Constraint::Length(above_lines),
        Constraint::Length(curve_lines),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(key_lines),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(above), top);
    if curve_lines > 0 {
        draw_curve(frame, model, curve, palette);
    }
    frame.render_widget(Paragraph::new(tab_line(model, area.width)), tabs);
    draw_view(frame, model, table, palette);
    if key_lines > 0 {
        frame.render_widget(Paragraph::new(key_line(model)), keys);
    }
    if model.help {
        draw_help(frame, area);
    }
}

/// The lines above the views: what must be known first is first.
fn summary(model: &Model, area: Rect, palette: Palette) -> Vec<Line<'static>> {
    let figures = model.figures();
    let mut lines = Vec::new();
    if let Link::Gone { reason, tries } = &model.link {
        let text = format!(
            "The node does not answer, looked for {tries} times: {}",
            printable(reason)
        );
        lines.push(Line::styled(text, palette.of(Mood::Bad)));
    }
    if area.height >= LINES_FOR_SUMMARY {
        lines.push(Line::from(node_text(figures)));
    }
    let shown = match area.height {
        LINES_FOR_SUMMARY.. => PROBLEMS_SHOWN,
        LINES_FOR_KEYS.. => 1,
        _ => 0,
    };
    if model.view != View::Problems {
        for problem in figures.problems.iter().take(shown) {
            let mood = match problem.severity.as_str() {
                "critical" => Mood::Bad,
                _ => Mood::Warning,
            };
            let text = format!("{}: {}: {}", problem.severity, problem.subject, problem.message);
            lines.push(Line::styled(printable(&text), palette.of(mood)));
        }
        let more = figures.problems.len().saturating_sub(shown) as u64 + figures.problems_left_out;
        if more > 0 && shown > 0 {
            lines.push(Line::styled(
                format!("and {more} more problems"),
                palette.of(Mood::Warning),
            ));
        }
    }
    lines.push(labelled(&rate_parts(figures), palette));
    if area.height >= LINES_FOR_SUMMARY {
        lines.push(labelled(&latency_parts(figures), palette));
        lines.push(labelled(&process_parts(figures), palette));
    }
    lines
}

/// Which node it is.
pub(crate) fn node_text(figures: &Figures) -> String {
    let io = if figures.direct_io {
        "direct I/O"
    } else {
        "buffered I/O"
    };
    format!(
        "mofka {}  node {}  rank {}  pid {}  up {}  {} ({io})",
        printable(&figures.version),
        figures.node.chars().take(8).collect::<String>(),
        figures.rank,
        figures.pid,
        span_text(figures.uptime_ms / 1000),
        printable(&figures.data_dir)
    )
}

/// Rates of the whole node, each with what it is.
pub(crate) fn rate_parts(figures: &Figures) -> Vec<(&'static str, String)> {
    let totals = &figures.totals;
    let mut parts = vec![
        (
            "in",
            format!(
                "{} ev/s {}/s",
                rate_text(totals.accepted_events_per_s),
                bytes_text(totals.accepted_bytes_per_s as u64)
            ),
        ),
        (
            "out",
            format!(
                "{} ev/s {}/s",
                rate_text(totals.fed_events_per_s),
                bytes_text(totals.sent_bytes_per_s as u64)
            ),
        ),
        (
            "batches",
            format!("{}/s", rate_text(totals.accepted_batches_per_s)),
        ),
    ];
    if totals.refused_batches_per_s > 0.0 {
        parts.push((
            "REFUSED",
            format!("{}/s", rate_text(totals.refused_batches_per_s)),
        ));
    }
    parts
}

/// How long things take.
pub(crate) fn latency_parts(figures: &Figures) -> Vec<(&'static str, String)> {
    let text = |latency: Latency| {
        format!(
            "{} / {} / {}",
            duration_text(latency.p50_us),
            duration_text(latency.p90_us),
            duration_text(latency.p99_us)
        )
    };
    let totals = &figures.totals;
    vec![
        ("produce p50/p90/p99", text(totals.produce)),
        ("sync", text(totals.commit)),
        ("fetch", text(totals.fetch)),
    ]
}

/// The process and its device.
pub(crate) fn process_parts(figures: &Figures) -> Vec<(&'static str, String)> {
    let process = &figures.process;
    let mut parts = vec![
        ("cpu", format!("{:.0}%", process.cpu_percent)),
        ("memory", bytes_text(process.resident_bytes)),
        (
            "files",
            format!("{} of {}", process.open_fds, count_text(process.max_fds as f64)),
        ),
    ];
    if let Some(disk) = &figures.disk {
        parts.push((
            "disk",
            format!(
                "{} of {} free, events {}",
                bytes_text(disk.available_bytes),
                bytes_text(disk.size_bytes),
                bytes_text(disk.stored_bytes)
            ),
        ));
    }
    parts
}

fn labelled(parts: &[(&'static str, String)], palette: Palette) -> Line<'static> {
    let spans = parts.iter().flat_map(|(label, text)| {
        [
            Span::styled(format!("{label} "), palette.label()),
            Span::raw(format!("{text}   ")),
        ]
    });
    Line::from(spans.collect::<Vec<_>>())
}

fn draw_curve(frame: &mut Frame<'_>, model: &Model, area: Rect, palette: Palette) {
    let highest = model.history.iter().copied().max().unwrap_or(0);
    let label = format!("in ev/s, up to {} ", count_text(highest as f64));
    let label_columns = u16::try_from(label.len()).unwrap_or(0);
    let [left, right] =
        Layout::horizontal([Constraint::Length(label_columns), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(Line::styled(label, palette.label())), left);
    let fits = usize::from(right.width);
    let skipped = model.history.len().saturating_sub(fits);
    let data: Vec<u64> = model.history.iter().skip(skipped).copied().collect();
    let style = palette.coloured(Color::Green, Modifier::empty());
    frame.render_widget(
        Sparkline::default().data(data).max(highest.max(1)).style(style),
        right,
    );
}

fn tab_line(model: &Model, columns: u16) -> Line<'static> {
    let figures = model.figures();
    let count = |view: View| match view {
        View::Topics => figures.topics.len() as u64 + figures.topics_left_out,
        View::Partitions => figures.partitions.len() as u64 + figures.partitions_left_out,
        View::Consumers => figures.consumers.len() as u64 + figures.consumers_left_out,
        View::Shards => figures.shards.len() as u64,
        View::Problems => figures.problems.len() as u64 + figures.problems_left_out,
    };
    // Where not all names fit, the numbers of the others stay, and then only what is shown.
    let text = |view: View, number: u32, effort: u8| match (view == model.view, effort) {
        (true, _) | (_, 0) => format!(" {number} {} {} ", title(view), count_text(count(view) as f64)),
        (false, 1) => format!(" {number} "),
        (false, _) => String::new(),
    };
    let texts = |effort: u8| {
        let numbered = VIEWS.iter().zip(1..);
        numbered
            .map(|(view, number)| text(*view, number, effort))
            .collect::<Vec<_>>()
    };
    let fits = |texts: &Vec<String>| texts.iter().map(String::len).sum::<usize>() <= usize::from(columns);
    let chosen = (0..2).map(texts).find(fits).unwrap_or_else(|| texts(2));
    let spans = VIEWS.iter().zip(chosen).map(|(view, text)| {
        let style = match *view == model.view {
            true => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            false => Style::new(),
        };
        Span::styled(text, style)
    });
    Line::from(spans.collect::<Vec<_>>())
}

fn key_line(model: &Model) -> Line<'static> {
    let head = model
        .sheet()
        .columns
        .get(model.sorting().column)
        .map_or("", |column| column.head);
    let turned = if model.sorting().reversed {
        ", reversed"
    } else {
        ""
    };
    let paused = if model.paused { "PAUSED  " } else { "" };
    Line::from(format!(
        "{paused}q end  Tab view  arrows scroll  s sort ({head}{turned})  p pause  h help"
    ))
}

fn draw_view(frame: &mut Frame<'_>, model: &mut Model, area: Rect, palette: Palette) {
    let sheet = model.sheet();
    if sheet.rows.is_empty() {
        let text = match model.view {
            View::Problems => "Nothing is wrong.",
            View::Topics | View::Partitions => "No topics yet: mofka-ctl topic create NAME --partitions N",
            View::Consumers => "No consumers yet.",
            View::Shards => "",
        };
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let lines = match model.view {
        View::Problems => problem_lines(&sheet, usize::from(area.width), palette),
        _ => table_lines(&sheet, usize::from(area.width), palette),
    };
    // Heads stay where they are.
    let heads = usize::from(model.view != View::Problems);
    let fits = usize::from(area.height).saturating_sub(heads);
    let rows = lines.len().saturating_sub(heads);
    let offset = model.scroll(rows, fits);
    let shown: Vec<Line<'static>> = lines
        .iter()
        .take(heads)
        .chain(lines.iter().skip(heads + offset).take(fits))
        .cloned()
        .collect();
    frame.render_widget(Paragraph::new(shown), area);
}

/// Each problem with its message in lines that fit.
fn problem_lines(sheet: &Sheet, columns: usize, palette: Palette) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for row in &sheet.rows {
        let [severity, subject, message] = row.cells.as_slice() else {
            continue;
        };
        let head = format!("{}: {}", severity.text, subject.text);
        lines.push(Line::styled(head, palette.of(row.mood)));
        lines.extend(
            wrapped(&message.text, columns.saturating_sub(2)).map(|line| Line::from(format!("  {line}"))),
        );
    }
    lines.extend(left_out_line(sheet));
    lines
}

fn left_out_line(sheet: &Sheet) -> Option<Line<'static>> {
    (sheet.left_out > 0).then(|| {
        Line::from(format!(
            "and {} more, which the node does not tell of",
            sheet.left_out
        ))
    })
}

/// Words in lines of at most so many columns; a longer word has a line of its own.
fn wrapped(text: &str, columns: usize) -> impl Iterator<Item = String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.into_iter()
}

/// Which columns fit, and how wide each is. Names are shortened when even those that must be there do not fit.
fn layout(sheet: &Sheet, columns: usize) -> Vec<(usize, usize)> {
    let width = |place: usize, head: &str| {
        sheet
            .rows
            .iter()
            .filter_map(|row| row.cells.get(place))
            .map(|cell| cell.text.chars().count())
            .fold(head.len(), usize::max)
    };
    let mut chosen: Vec<(usize, usize)> = sheet
        .columns
        .iter()
        .enumerate()
        .map(|(place, column)| (place, width(place, column.head)))
        .collect();
    let needed = |chosen: &[(usize, usize)]| chosen.iter().map(|(_, width)| width + 1).sum::<usize>();
    loop {
        let over = needed(&chosen).saturating_sub(columns + 1);
        if over == 0 {
            return chosen;
        }
        let name = chosen.first().map_or(0, |(_, width)| *width);
        let expendable = |place: usize| sheet.columns.get(place).map_or(0, |column| column.expendable);
        let last = chosen
            .iter()
            .enumerate()
            .max_by_key(|(_, (place, _))| (expendable(*place), *place))
            .filter(|(_, (place, _))| expendable(*place) > 0)
            .map(|(at, _)| at);
        let shorter = name.saturating_sub(over);
        // A long name gives way before a column does, but not to nothing.
        if name > columns / 3 && shorter >= NAME_COLUMNS_MIN {
            set_first(&mut chosen, shorter);
        } else if let Some(at) = last {
            chosen.remove(at);
        } else {
            // What is left is cut at the edge of the screen.
            set_first(&mut chosen, shorter.max(NAME_COLUMNS_MIN).min(name));
            return chosen;
        }
    }
}

fn set_first(chosen: &mut [(usize, usize)], width: usize) {
    if let Some(first) = chosen.first_mut() {
        first.1 = width;
    }
}

fn table_lines(sheet: &Sheet, columns: usize, palette: Palette) -> Vec<Line<'static>> {
    let layout = layout(sheet, columns);
    let placed = |text: &str, place: usize, width: usize| {
        let mut shown: String = text.chars().take(width).collect();
        if text.chars().count() > width && width > 0 {
            shown.pop();
            shown.push('~');
        }
        match sheet.is_number(place) {
            true => format!("{shown:>width$} "),
            false => format!("{shown:<width$} "),
        }
    };
    let heads: String = layout
        .iter()
        .filter_map(|(place, width)| Some(placed(sheet.columns.get(*place)?.head, *place, *width)))
        .collect();
    let mut lines = vec![Line::styled(format!("{heads:<columns$}"), palette.head())];
    for row in &sheet.rows {
        let cells = layout
            .iter()
            .filter_map(|(place, width)| Some(placed(&row.cells.get(*place)?.text, *place, *width)));
        lines.push(Line::styled(cells.collect::<String>(), palette.of(row.mood)));
    }
    lines.extend(left_out_line(sheet));
    lines
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let columns = HELP.iter().map(|line| line.len()).max().unwrap_or(0) + 4;
    let width = u16::try_from(columns).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(HELP.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let popup = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Clear, popup);
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(" Help ")),
        popup,
    );
}

#[cfg(test)]
mod tests;
