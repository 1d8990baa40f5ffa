//! Frames on screens of many sizes, without a terminal.

use mofka_net::control::NodeReport;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::super::figures::tests::{report, unwell};
use super::super::model::Ask;
use super::*;

fn model(first: NodeReport, second: NodeReport) -> Model {
    let mut model = Model::new(View::Topics, true, first);
    model.told(second);
    model
}

fn healthy() -> Model {
    model(report(10_000, 40), report(11_000, 40))
}

fn buffer(model: &mut Model, columns: u16, lines: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    terminal.backend().buffer().clone()
}

fn screen(model: &mut Model, columns: u16, lines: u16) -> Vec<String> {
    let buffer = buffer(model, columns, lines);
    let line = |y: u16| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..lines).map(|y| line(y).trim_end().to_owned()).collect()
}

#[track_caller]
fn assert_has(screen: &[String], parts: &[&str]) {
    for part in parts {
        assert!(
            screen.iter().any(|line| line.contains(part)),
            "no {part:?} in {screen:#?}"
        );
    }
}

#[test]
fn an_ordinary_screen_has_everything() {
    let screen = screen(&mut healthy(), 120, 40);
    assert_has(
        &screen,
        &[
            "mofka 1.2.3  node 5b8f0d3e  rank 0  pid 7  up 11s  /data (direct I/O)",
            "in 1000 ev/s 97.7 KiB/s   out 500 ev/s 48.8 KiB/s   batches 100/s",
            "produce p50/p90/p99 60 us / 100 us / 910 us",
            "cpu 150%   memory 64.0 MiB   files 30 of 1024   disk 60.0 GiB of 100.0 GiB free",
            "in ev/s, up to 1000",
            "1 Topics 40  2 Partitions 40  3 Consumers 1  4 Shards 2  5 Problems 0",
            "topic-0",
            "q end  Tab view",
        ],
    );
    let heads = screen.iter().find(|line| line.starts_with("topic ")).unwrap();
    for head in [
        "in ev/s", "in B/s", "out ev/s", "p50", "p99", "lag", "parts", "events", "stored",
    ] {
        assert!(heads.contains(head), "{heads}");
    }
}

#[test]
fn problems_stand_first_and_are_red() {
    let mut model = model(unwell(10_000, 3), unwell(11_000, 3));
    let shown = screen(&mut model, 100, 30);
    assert!(
        shown[1].starts_with("critical: topic topic-1, partition 0: refuses events"),
        "{shown:#?}"
    );
    let heads = shown.iter().position(|line| line.starts_with("topic ")).unwrap();
    assert!(shown[heads + 1].starts_with("topic-1"), "{shown:#?}");
    let buffer = buffer(&mut model, 100, 30);
    assert_eq!(buffer[(0, 1)].fg, Color::Red);
    model.view = View::Problems;
    let shown = screen(&mut model, 40, 20);
    assert_has(
        &shown,
        &[
            "critical: topic topic-1, partition 0",
            "  refuses events until there is room:",
            "  free some space",
        ],
    );
}

#[test]
fn without_colours_there_are_none() {
    let mut model = model(unwell(10_000, 3), unwell(11_000, 3));
    model.colours = false;
    model.help = true;
    let buffer = buffer(&mut model, 100, 30);
    assert!(
        buffer
            .content
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
}

#[test]
fn every_size_and_view_is_drawn_and_the_first_columns_stay() {
    for (columns, lines) in [
        (200, 60),
        (80, 24),
        (80, 12),
        (60, 16),
        (40, 10),
        (30, 8),
        (20, 5),
    ] {
        for view in VIEWS {
            let mut model = model(unwell(10_000, 40), unwell(11_000, 40));
            model.view = view;
            let shown = screen(&mut model, columns, lines);
            assert!(
                shown
                    .iter()
                    .all(|line| line.chars().count() <= usize::from(columns))
            );
            assert_has(&shown, &[title(view)]);
            let row = match view {
                View::Topics | View::Partitions => "topic-1",
                View::Consumers => "reader",
                View::Shards => "shard",
                View::Problems => "critical",
            };
            assert_has(&shown, &[row]);
        }
    }
    for (columns, lines) in [(19, 24), (80, 4), (3, 3), (1, 1)] {
        let shown = screen(&mut healthy(), columns, lines);
        assert!(columns < 19 || shown.join(" ").contains("too small"), "{shown:?}");
    }
}

#[test]
fn eighty_columns_keep_rates_latency_and_lag() {
    let shown = screen(&mut healthy(), 80, 24);
    let heads = shown.iter().find(|line| line.starts_with("topic ")).unwrap();
    for head in ["in ev/s", "p99", "lag"] {
        assert!(heads.contains(head), "{heads}");
    }
    assert_has(&shown, &["q end", "in 1000 ev/s"]);
}

#[test]
fn a_long_name_is_shortened_and_not_everything_else() {
    let name = "a-name-that-is-longer-than-any-screen-is-wide-".repeat(4);
    let rename = |mut report: NodeReport| {
        report.topics[0].topic.clone_from(&name);
        report
    };
    let mut model = model(rename(report(10_000, 2)), rename(report(11_000, 2)));
    let shown = screen(&mut model, 80, 24);
    assert_has(&shown, &["a-name-that-is", "~", "910 us", "5000"]);
}

#[test]
fn scrolling_shows_other_rows_below_the_same_heads() {
    let mut model = healthy();
    let before = screen(&mut model, 80, 24);
    model.press(Ask::Last);
    let after = screen(&mut model, 80, 24);
    assert_has(&before, &["topic-0"]);
    assert_has(&after, &["topic-39"]);
    let heads = |shown: &[String]| shown.iter().position(|line| line.starts_with("topic "));
    assert_eq!(heads(&before), heads(&after));
    assert!(
        !after.iter().any(|line| line.starts_with("topic-0 ")),
        "{after:#?}"
    );
}

#[test]
fn a_pause_a_lost_node_and_the_help_are_told() {
    let mut model = healthy();
    model.press(Ask::Pause);
    model.lost("connection refused".to_owned());
    let shown = screen(&mut model, 80, 24);
    assert_has(
        &shown,
        &[
            "PAUSED",
            "The node does not answer, looked for 1 times: connection refused",
        ],
    );
    model.press(Ask::Help);
    let shown = screen(&mut model, 80, 24);
    assert_has(
        &shown,
        &[
            "Help",
            "sort by the next column",
            "acknowledged. What is not well",
        ],
    );
    screen(&mut model, 20, 5);
}

#[test]
fn an_empty_node_says_what_to_do() {
    let mut model = model(report(10_000, 0), report(11_000, 0));
    assert_has(
        &screen(&mut model, 80, 24),
        &["No topics yet: mofka-ctl topic create"],
    );
    model.view = View::Problems;
    assert_has(&screen(&mut model, 80, 24), &["Nothing is wrong."]);
}

#[test]
fn what_the_node_left_out_is_said() {
    let mut second = report(11_000, 2);
    second.topics_left_out = 17;
    let mut model = model(report(10_000, 2), second);
    assert_has(
        &screen(&mut model, 80, 24),
        &["and 17 more, which the node does not tell of", "1 Topics 19"],
    );
}
