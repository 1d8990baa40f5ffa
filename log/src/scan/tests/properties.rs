//! What holds for all lives and all bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::life::{BASE, Life, id, land};
use crate::batch::Batch;
use crate::verdict::Verdict;

/// Lives of random commits, of which the last few landed as `landed` says; then a cut, and the next life.
fn random_lives(lives: &[Vec<(u32, usize, u8)>]) -> Life {
    let mut life = Life::first();
    for (n, commits) in lives.iter().enumerate() {
        if n > 0 {
            life = life.next(&life.scan());
        }
        let mut under_way = Vec::new();
        for (events, data_bytes, landed) in commits {
            if under_way.len() == 9 {
                break;
            }
            let commit = life.plan(*events, *data_bytes);
            if landed & 1 == 1 {
                life.land(&commit);
            } else if landed & 2 == 2 {
                land(&mut life.meta, commit.meta.as_ref().unwrap());
            }
            if under_way.is_empty() && landed & 5 == 5 {
                life.sync(&commit);
            } else {
                under_way.push(commit);
            }
        }
    }
    life
}

fn lives() -> impl Strategy<Value = Vec<Vec<(u32, usize, u8)>>> {
    let data = prop_oneof![Just(0), 1..40_usize, Just(5000)];
    vec(vec((1..40_u32, data, any::<u8>()), 1..9), 1..5)
}

proptest! {
    #[test]
    fn how_it_is_shown_makes_no_difference(lives in lives(), window_bytes in 1..9000_usize) {
        let life = random_lives(&lives);
        let (mut seen, mut again) = (Vec::new(), Vec::new());
        let recovered = life.scan_with(usize::MAX, &mut |batch| seen.push(batch.clone()));
        prop_assert_eq!(&life.scan_with(window_bytes, &mut |batch| again.push(batch.clone())), &recovered);
        prop_assert_eq!(again, seen);
        prop_assert!(!recovered.verdict.is_damaged(), "{:?}", recovered.verdict);
    }

    #[test]
    fn recovering_after_recovery_changes_nothing(lives in lives()) {
        let life = random_lives(&lives);
        let recovered = life.scan();
        // The next life leaves a mark; and again when a stop kept the cut from happening.
        for (clean, cut) in [(false, true), (true, true), (false, false), (true, false)] {
            let mut next = if cut { life.next(&recovered) } else { life.next_uncut(&recovered) };
            next.mark(clean);
            let again = next.scan();
            let gone = if clean { Verdict::CleanStop } else { Verdict::Clean };
            prop_assert!(!cut || again.verdict == gone, "{:?}", again.verdict);
            prop_assert_eq!(again.next_event_id, recovered.next_event_id);
            prop_assert_eq!((again.data_end, again.event_count), (recovered.data_end, recovered.event_count));
            prop_assert_eq!((&again.index, &again.producers), (&recovered.index, &recovered.producers));
            prop_assert_eq!(again.next_incarnation, recovered.next_incarnation + 1);
            prop_assert_eq!(again.synced_end, recovered.next_event_id);
            prop_assert_eq!(again.dropped_frames, 0, "all that was dropped is stale now");
        }
    }

    #[test]
    fn any_bytes_give_a_verdict(bytes in vec(any::<u8>(), 0..2000), window_bytes in 1..5000_usize) {
        let mut life = Life::first();
        life.store(2, 10);
        life.meta.truncate(4096 + 208);
        life.meta.extend(bytes);
        let recovered = life.scan_with(window_bytes, &mut |_| ());
        prop_assert_eq!(recovered.next_event_id, id(BASE + 2));
    }

    #[test]
    fn changed_bytes_never_change_an_event(lives in lives(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut life = random_lives(&lives);
        let mut before = Vec::new();
        let whole = life.scan_with(usize::MAX, &mut |batch| before.push(batch.clone()));
        for (place, value) in changes {
            if life.meta.len() > 4096 {
                let place = 4096 + place.index(life.meta.len() - 4096);
                life.meta[place] = value;
            }
        }
        let mut after = Vec::new();
        let recovered = life.scan_with(999, &mut |batch| after.push(batch.clone()));
        let same = after.iter().zip(&before).take_while(|(a, b)| a == b).count();
        prop_assert!(same == after.len() || same == before.len(), "the chain goes another way");
        // What is lost of the vouched part is noticed, unless every witness of it is lost with it.
        let witness = after.iter().map(Batch::synced_end).max().unwrap_or(id(BASE));
        prop_assert!(witness <= recovered.next_event_id || recovered.verdict.is_damaged());
        prop_assert!(recovered.synced_end <= recovered.next_event_id && recovered.synced_end <= whole.synced_end);
    }
}
