//! What `top` shows and how keys change it: no terminal, no clock, no node.

use std::collections::VecDeque;

use mofka_net::control::NodeReport;

use crate::cli::View;
use crate::commands::top::figures::Figures;
use crate::commands::top::sheet::{Sheet, Sorting, VIEWS, first_sorting, place_of};

/// Rates that are remembered for the curve.
const HISTORY_MAX: usize = 300;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Quit,
    /// Shows the help, or hides it.
    Help,
    NextView,
    PreviousView,
    View(View),
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    NextSorting,
    ReverseSorting,
    Pause,
}

/// Whether the node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Here,
    /// It does not, for this reason; so many times it was looked for.
    Gone {
        reason: String,
        tries: u64,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    sorting: Sorting,
    offset: usize,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) view: View,
    pub(crate) link: Link,
    pub(crate) paused: bool,
    pub(crate) help: bool,
    /// Whether colours may be used.
    pub(crate) colours: bool,
    /// Events a second that came in, the newest last.
    pub(crate) history: VecDeque<u64>,
    places: [Place; VIEWS.len()],
    figures: Figures,
    last: NodeReport,
    /// Rows that were visible when it was drawn last.
    page_rows: usize,
}

impl Model {
    pub(crate) fn new(view: View, colours: bool, first: NodeReport) -> Self {
        Self {
            view,
            link: Link::Here,
            paused: false,
            help: false,
            colours,
            history: VecDeque::new(),
            places: VIEWS.map(|view| Place {
                sorting: first_sorting(view),
                offset: 0,
            }),
            figures: Figures::new(&first, None),
            last: first,
            page_rows: 1,
        }
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The node told this. While it is paused, what is shown stays.
    pub(crate) fn told(&mut self, report: NodeReport) {
        self.link = Link::Here;
        if !self.paused {
            self.figures = Figures::new(&report, Some(&self.last));
            if self.history.len() == HISTORY_MAX {
                self.history.pop_front();
            }
            self.history
                .push_back(self.figures.totals.accepted_events_per_s as u64);
        }
        self.last = report;
    }

    /// The node did not answer.
    pub(crate) fn lost(&mut self, reason: String) {
        let tries = match &self.link {
            Link::Here => 1,
            Link::Gone { tries, .. } => tries + 1,
        };
        self.link = Link::Gone { reason, tries };
    }

    pub(crate) fn sorting(&self) -> Sorting {
        self.place().sorting
    }

    /// The rows of the current view.
    pub(crate) fn sheet(&self) -> Sheet {
        Sheet::of(self.view, &self.figures, self.sorting())
    }

    /// The first row that is shown, when so many are there and so many fit. What was asked for may be beyond the end.
    pub(crate) fn scroll(&mut self, rows: usize, page_rows: usize) -> usize {
        self.page_rows = page_rows.max(1);
        let place = self.place_mut();
        place.offset = place.offset.min(rows.saturating_sub(page_rows.max(1)));
        place.offset
    }

    fn place(&self) -> Place {
        self.places.get(place_of(self.view)).copied().unwrap_or_default()
    }

    fn place_mut(&mut self) -> &mut Place {
        let place = place_of(self.view);
        &mut self.places[place]
    }

    /// Does what a key asks for. False: to end.
    pub(crate) fn press(&mut self, ask: Ask) -> bool {
        let page = self.page_rows;
        let place = place_of(self.view);
        match ask {
            Ask::Quit if self.help => self.help = false,
            Ask::Quit => return false,
            Ask::Help => self.help = !self.help,
            Ask::NextView => self.turn_to(place + 1),
            Ask::PreviousView => self.turn_to(place + VIEWS.len() - 1),
            Ask::View(view) => self.view = view,
            Ask::Up => self.move_by(|offset| offset.saturating_sub(1)),
            Ask::Down => self.move_by(|offset| offset.saturating_add(1)),
            Ask::PageUp => self.move_by(|offset| offset.saturating_sub(page)),
            Ask::PageDown => self.move_by(|offset| offset.saturating_add(page)),
            Ask::First => self.move_by(|_| 0),
            Ask::Last => self.move_by(|_| usize::MAX),
            Ask::NextSorting => {
                let columns = self.sheet().columns.len();
                let place = self.place_mut();
                place.sorting = Sorting {
                    column: (place.sorting.column + 1) % columns.max(1),
                    reversed: false,
                };
            }
            Ask::ReverseSorting => {
                let sorting = &mut self.place_mut().sorting;
                sorting.reversed = !sorting.reversed;
            }
            Ask::Pause => self.paused = !self.paused,
        }
        true
    }

    fn turn_to(&mut self, place: usize) {
        if let Some(view) = VIEWS.get(place % VIEWS.len()) {
            self.view = *view;
        }
    }

    fn move_by(&mut self, to: impl FnOnce(usize) -> usize) {
        let place = self.place_mut();
        place.offset = to(place.offset);
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::report;
    use super::*;

    fn model() -> Model {
        let mut model = Model::new(View::Topics, true, report(10_000, 30));
        model.told(report(11_000, 30));
        model
    }

    #[test]
    fn views_go_round() {
        let mut model = model();
        for view in [
            View::Partitions,
            View::Consumers,
            View::Shards,
            View::Problems,
            View::Topics,
        ] {
            assert!(model.press(Ask::NextView));
            assert_eq!(model.view, view);
        }
        model.press(Ask::PreviousView);
        assert_eq!(model.view, View::Problems);
        model.press(Ask::View(View::Shards));
        assert_eq!(model.view, View::Shards);
    }

    #[test]
    fn scrolling_stays_within_the_rows_and_each_view_keeps_its_place() {
        let mut model = model();
        assert_eq!(model.scroll(30, 10), 0);
        model.press(Ask::PageDown);
        model.press(Ask::Down);
        assert_eq!(model.scroll(30, 10), 11);
        model.press(Ask::Last);
        assert_eq!(model.scroll(30, 10), 20);
        model.press(Ask::Up);
        model.press(Ask::NextView);
        assert_eq!(model.scroll(30, 10), 0);
        model.press(Ask::PreviousView);
        assert_eq!(model.scroll(30, 10), 19);
        // Rows went away, and the window became larger.
        assert_eq!(model.scroll(12, 10), 2);
        assert_eq!(model.scroll(5, 10), 0);
        model.press(Ask::PageUp);
        assert_eq!(model.scroll(0, 0), 0);
    }

    #[test]
    fn sorting_goes_through_the_columns_and_back() {
        let mut model = model();
        let columns = model.sheet().columns.len();
        let first = model.sorting();
        model.press(Ask::ReverseSorting);
        assert!(model.sorting().reversed);
        for _ in 0..columns {
            model.press(Ask::NextSorting);
        }
        assert_eq!(model.sorting(), first);
    }

    #[test]
    fn a_pause_keeps_what_is_shown_and_the_rates_after_it_are_right() {
        let mut model = model();
        model.press(Ask::Pause);
        model.told(report(12_000, 30));
        model.told(report(13_000, 30));
        assert_eq!(model.figures().uptime_ms, 11_000);
        model.press(Ask::Pause);
        model.told(report(14_000, 30));
        assert_eq!(
            (model.figures().uptime_ms, model.figures().interval_ms),
            (14_000, 1000)
        );
        assert_eq!(model.history, [1000, 1000]);
    }

    #[test]
    fn the_help_is_left_before_the_program() {
        let mut model = model();
        model.press(Ask::Help);
        assert!(model.press(Ask::Quit) && !model.help);
        assert!(!model.press(Ask::Quit));
    }

    #[test]
    fn a_node_that_is_gone_is_counted_and_comes_back() {
        let mut model = model();
        model.lost("no".to_owned());
        model.lost("still no".to_owned());
        let reason = "still no".to_owned();
        assert_eq!(model.link, Link::Gone { reason, tries: 2 });
        model.told(report(12_000, 30));
        assert_eq!(model.link, Link::Here);
    }

    #[test]
    fn the_history_is_bounded() {
        let mut model = model();
        (0..400).for_each(|n| model.told(report(12_000 + n, 1)));
        assert_eq!(model.history.len(), HISTORY_MAX);
    }
}
