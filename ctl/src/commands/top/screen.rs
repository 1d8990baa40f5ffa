//! The terminal: taken over, and given back whatever happens.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::View;
use crate::commands::top::draw::draw;
use crate::commands::top::model::{Ask, Model};
use crate::commands::top::watch::Told;
use crate::failure::{Failure, Outcome};

/// How long a key may wait, and news of the node.
const TURN: Duration = Duration::from_millis(50);

/// The terminal while it is ours. Dropping gives it back; so does a panic of any thread, before its message is printed.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// How often it is looked whether the terminal is there.
const GONE_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// How long an end that was asked for may take.
const END_MAX: Duration = Duration::from_secs(1);

/// Asks for the end when the terminal is gone, and ends the program when that does not help: who reads keys from a terminal that
/// has hung up reads nothing for ever, without a look at signals (crossterm 0.29).
fn end_without_terminal(stop: &AtomicBool) {
    let stdin = io::stdin();
    while !stop.load(Ordering::SeqCst) {
        let mut terminal = [PollFd::new(&stdin, PollFlags::empty())];
        match rustix::event::poll(&mut terminal, Some(&GONE_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            // Nothing was asked for, so this is a hang-up or an error.
            Ok(_) | Err(_) => stop.store(true, Ordering::SeqCst),
        }
    }
    std::thread::sleep(END_MAX);
    ratatui::restore();
    std::process::exit(1);
}

/// Shows the model until somebody ends it.
pub(crate) fn show(mut model: Model, told: &Receiver<Told>) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::failed(format!("cannot handle signal {signal}: {error}")))?;
    }
    let watched = Arc::clone(&stop);
    std::thread::spawn(move || end_without_terminal(&watched));
    let failed = |error: io::Error| Failure::failed(format!("cannot use the terminal: {error}; use --once"));
    let mut screen = Screen::take().map_err(failed)?;
    let mut is_stale = true;
    while !stop.load(Ordering::SeqCst) {
        loop {
            match told.try_recv() {
                Ok(Told::Report(report)) => model.told(*report),
                Ok(Told::Lost(reason)) => model.lost(reason),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(Failure::failed("the thread that asks the node has ended"));
                }
            }
            is_stale = true;
        }
        if is_stale {
            screen.0.draw(|frame| draw(frame, &mut model)).map_err(failed)?;
            is_stale = false;
        }
        if !event::poll(TURN).map_err(failed)? {
            continue;
        }
        match event::read().map_err(failed)? {
            Event::Key(key) => {
                if let Some(ask) = asked(key)
                    && !model.press(ask)
                {
                    return Ok(());
                }
                is_stale = true;
            }
            Event::Resize(..) => is_stale = true,
            _ => {}
        }
    }
    Ok(())
}

/// What a key asks for.
fn asked(key: KeyEvent) -> Option<Ask> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Ask::Quit),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Ask::Quit,
        KeyCode::Char('h' | '?') | KeyCode::F(1) => Ask::Help,
        KeyCode::Tab | KeyCode::Right => Ask::NextView,
        KeyCode::BackTab | KeyCode::Left => Ask::PreviousView,
        KeyCode::Char('1') => Ask::View(View::Topics),
        KeyCode::Char('2') => Ask::View(View::Partitions),
        KeyCode::Char('3') => Ask::View(View::Consumers),
        KeyCode::Char('4') => Ask::View(View::Shards),
        KeyCode::Char('5') => Ask::View(View::Problems),
        KeyCode::Up | KeyCode::Char('k') => Ask::Up,
        KeyCode::Down | KeyCode::Char('j') => Ask::Down,
        KeyCode::PageUp => Ask::PageUp,
        KeyCode::PageDown => Ask::PageDown,
        KeyCode::Home => Ask::First,
        KeyCode::End => Ask::Last,
        KeyCode::Char('s') => Ask::NextSorting,
        KeyCode::Char('r') => Ask::ReverseSorting,
        KeyCode::Char('p' | ' ') => Ask::Pause,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ask_for_what_the_help_says() {
        let press = |code| asked(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(press(KeyCode::Char('q')), Some(Ask::Quit));
        assert_eq!(press(KeyCode::Esc), Some(Ask::Quit));
        assert_eq!(press(KeyCode::Char('?')), Some(Ask::Help));
        assert_eq!(press(KeyCode::Tab), Some(Ask::NextView));
        assert_eq!(press(KeyCode::PageDown), Some(Ask::PageDown));
        assert_eq!(press(KeyCode::Char('x')), None);
        let control = |c| asked(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        assert_eq!((control('c'), control('q')), (Some(Ask::Quit), None));
    }
}
