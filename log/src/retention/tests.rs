use proptest::prelude::*;
use serde_json::json;

use super::*;

const DAY_US: u64 = 24 * 3600 * 1_000_000;
const LOOK_US: u64 = 10_000_000;
const START_US: u64 = 1_700_000_000_000_000;

fn cursors(of: &[(&str, u64)]) -> Vec<(String, EventId)> {
    of.iter()
        .map(|(name, next)| ((*name).to_owned(), EventId::new(*next)))
        .collect()
}

fn sealed(end: u64, last_timestamp_us: u64) -> SealedFacts {
    SealedFacts {
        end_event_id: EventId::new(end),
        last_timestamp_us: Some(last_timestamp_us),
    }
}

fn named(names: &[&str]) -> Option<AcknowledgedBy> {
    Some(AcknowledgedBy::Consumers(
        names.iter().map(|name| (*name).to_owned()).collect(),
    ))
}

fn decide(
    policy: &Retention,
    oldest: SealedFacts,
    bytes: u64,
    now_us: u64,
    of: &[(&str, u64)],
) -> Option<TrimReason> {
    policy.oldest_goes(
        &oldest,
        &PartitionFacts {
            bytes,
            now_us,
            cursors: &cursors(of),
        },
    )
}

#[test]
fn each_rule_lets_a_segment_go_on_its_own() {
    let everything = Retention::default();
    assert!(everything.keeps_all());
    assert_eq!(
        decide(&everything, sealed(10, 0), u64::MAX, u64::MAX, &[("a", 99)]),
        None
    );

    let bytes = Retention {
        bytes_max: Some(1000),
        ..Retention::default()
    };
    assert_eq!(decide(&bytes, sealed(10, 0), 1000, u64::MAX, &[]), None);
    assert_eq!(
        decide(&bytes, sealed(10, 0), 1001, 0, &[("a", 0)]),
        Some(TrimReason::Bytes),
        "also what nobody acknowledged"
    );

    let age = Retention {
        age_max_ms: Some(5),
        ..Retention::default()
    };
    assert_eq!(decide(&age, sealed(10, 1000), u64::MAX, 6000, &[]), None);
    assert_eq!(
        decide(&age, sealed(10, 1000), 0, 6001, &[("a", 0)]),
        Some(TrimReason::Age)
    );
    assert_eq!(
        decide(&age, sealed(10, 9000), 0, 1000, &[]),
        None,
        "an event of the future is not old"
    );
    let unknown = SealedFacts {
        last_timestamp_us: None,
        ..sealed(10, 0)
    };
    assert_eq!(decide(&age, unknown, 0, u64::MAX, &[]), None);
}

#[test]
fn acknowledged_means_by_everybody_who_counts() {
    let every = Retention {
        acknowledged: Some(AcknowledgedBy::EveryConsumer),
        ..Retention::default()
    };
    let goes = |policy: &Retention, of: &[(&str, u64)]| decide(policy, sealed(10, 0), u64::MAX, u64::MAX, of);
    assert_eq!(goes(&every, &[]), None, "nobody has acknowledged anything");
    assert_eq!(goes(&every, &[("a", 9)]), None);
    assert_eq!(goes(&every, &[("a", 10)]), Some(TrimReason::Acknowledged));
    assert_eq!(goes(&every, &[("a", 99), ("b", 9)]), None);
    assert_eq!(
        goes(&every, &[("a", 99), ("b", 10)]),
        Some(TrimReason::Acknowledged)
    );

    let two = Retention {
        acknowledged: named(&["a", "b"]),
        ..Retention::default()
    };
    assert_eq!(goes(&two, &[("a", 99), ("c", 99)]), None, "b has no cursor yet");
    assert_eq!(
        goes(&two, &[("a", 10), ("b", 10), ("c", 0)]),
        Some(TrimReason::Acknowledged)
    );
    assert_eq!(goes(&two, &[("a", 10), ("b", 9)]), None);
}

#[test]
fn what_is_to_be_kept_stays_against_every_rule() {
    let policy = Retention {
        bytes_max: Some(1),
        age_max_ms: Some(1),
        acknowledged: named(&["a"]),
        keep_unacknowledged: named(&["a", "b"]),
    };
    let goes = |of: &[(&str, u64)]| decide(&policy, sealed(10, 0), 100, u64::MAX, of);
    assert_eq!(goes(&[]), None, "a and b have acknowledged nothing");
    assert_eq!(goes(&[("a", 10), ("b", 9)]), None);
    assert_eq!(goes(&[("a", 10), ("b", 10)]), Some(TrimReason::Acknowledged));
    let everybody = Retention {
        bytes_max: Some(1),
        keep_unacknowledged: Some(AcknowledgedBy::EveryConsumer),
        ..Retention::default()
    };
    assert_eq!(
        decide(&everybody, sealed(10, 0), 100, 0, &[]),
        Some(TrimReason::Bytes),
        "there is nobody to keep it for"
    );
    assert_eq!(decide(&everybody, sealed(10, 0), 100, 0, &[("x", 3)]), None);
}

#[test]
fn a_segment_is_sealed_in_time_for_its_events_to_go() {
    let age = Retention {
        age_max_ms: Some(5),
        ..Retention::default()
    };
    assert!(!age.wants_roll(u64::MAX, Some(1000), 6000));
    assert!(age.wants_roll(0, Some(1000), 6001));
    assert!(!age.wants_roll(0, None, u64::MAX));
    let bytes = Retention {
        bytes_max: Some(1000),
        ..Retention::default()
    };
    assert!(!bytes.wants_roll(250, Some(0), u64::MAX));
    assert!(bytes.wants_roll(251, Some(0), 0));
    let acknowledged = Retention {
        acknowledged: Some(AcknowledgedBy::EveryConsumer),
        ..Retention::default()
    };
    assert!(!acknowledged.wants_roll(u64::MAX, Some(0), u64::MAX));
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let with = |change: fn(&mut Retention)| {
        let mut policy = Retention::default();
        change(&mut policy);
        policy.check().map_err(|error| error.to_string())
    };
    assert_eq!(with(|_| ()), Ok(()));
    let error = with(|p| p.bytes_max = Some(0)).unwrap_err();
    assert!(error.contains("bytes_max is 0"), "{error}");
    let error = with(|p| p.age_max_ms = Some(0)).unwrap_err();
    assert!(error.contains("age_max_ms is 0"), "{error}");
    let error = with(|p| p.acknowledged = named(&[])).unwrap_err();
    assert!(error.contains("names no consumer"), "{error}");
    let error = with(|p| p.keep_unacknowledged = named(&[""])).unwrap_err();
    assert!(error.contains("keep_unacknowledged"), "{error}");
    let error = with(|p| p.acknowledged = named(&["x"; RETENTION_CONSUMERS_MAX + 1])).unwrap_err();
    assert!(error.contains("65 consumers"), "{error}");
}

#[test]
fn golden_json() {
    let policy = Retention {
        bytes_max: Some(10),
        age_max_ms: Some(20),
        acknowledged: Some(AcknowledgedBy::EveryConsumer),
        keep_unacknowledged: named(&["a"]),
    };
    let wire = json!({
        "bytes_max": 10, "age_max_ms": 20, "acknowledged": "every_consumer",
        "keep_unacknowledged": {"consumers": ["a"]}
    });
    assert_eq!(serde_json::to_value(&policy).unwrap(), wire);
    assert_eq!(serde_json::from_value::<Retention>(wire).unwrap(), policy);
    assert_eq!(serde_json::to_value(Retention::default()).unwrap(), json!({}));
    assert!(serde_json::from_value::<Retention>(json!({"bytes_maximum": 1})).is_err());
}

/// Looks every ten seconds for `for_us`, with a wall clock that is `ahead_us` ahead; gives the last look's time and how
/// many steps were noted.
fn run(clock: &mut RetentionClock, truth_us: &mut u64, for_us: u64, ahead_us: i64) -> (u64, u32) {
    let mut stepped = 0;
    let mut now_us = 0;
    for _ in 0..for_us / LOOK_US {
        *truth_us += LOOK_US;
        let look = clock.look(truth_us.saturating_add_signed(ahead_us), LOOK_US);
        stepped += u32::from(look.stepped_us.is_some());
        now_us = look.now_us;
    }
    (now_us, stepped)
}

#[test]
fn a_clock_that_is_set_forward_does_not_make_events_old() {
    let mut clock = RetentionClock::default();
    let mut truth_us = START_US;
    assert_eq!(clock.now_us(), 0);
    assert_eq!(clock.look(truth_us, 0).now_us, START_US);
    assert_eq!(run(&mut clock, &mut truth_us, DAY_US, 0), (truth_us, 0));
    // A week ahead, for an hour: noted once, and not followed by more than a quarter of the hour.
    let week_us = 7 * DAY_US as i64;
    let (now_us, stepped) = run(&mut clock, &mut truth_us, 3_600_000_000, week_us);
    assert_eq!(stepped, 1);
    assert!(now_us <= truth_us + 900_000_000, "{now_us} at {truth_us}");
    // Set right again: followed at once.
    assert_eq!(run(&mut clock, &mut truth_us, LOOK_US, 0), (truth_us, 0));
}

#[test]
fn a_clock_that_stays_ahead_is_believed_after_a_day() {
    let mut clock = RetentionClock::default();
    let mut truth_us = START_US;
    clock.look(truth_us, 0);
    let years_us = 50 * 365 * DAY_US;
    let (now_us, _) = run(&mut clock, &mut truth_us, DAY_US, years_us as i64);
    assert!(now_us < truth_us + DAY_US, "not yet: {now_us} at {truth_us}");
    let (now_us, _) = run(&mut clock, &mut truth_us, 2 * LOOK_US, years_us as i64);
    assert_eq!(now_us, truth_us + years_us);
}

#[test]
fn a_clock_that_is_set_back_is_followed() {
    let mut clock = RetentionClock::default();
    let mut truth_us = START_US;
    clock.look(truth_us, 0);
    let (now_us, stepped) = run(&mut clock, &mut truth_us, LOOK_US, -(7 * DAY_US as i64));
    assert_eq!((now_us, stepped), (truth_us - 7 * DAY_US, 0));
}

#[test]
fn a_clock_that_runs_a_little_fast_is_not_a_step() {
    let mut clock = RetentionClock::default();
    let mut wall_us = START_US;
    clock.look(wall_us, 0);
    for _ in 0..10_000 {
        wall_us += LOOK_US + LOOK_US / 5;
        let look = clock.look(wall_us, LOOK_US);
        assert_eq!((look.now_us, look.stepped_us), (wall_us, None));
    }
}

/// A partition whose segments hold one event each: what is left after asking as often as something goes.
fn left(
    policy: &Retention,
    segments: &[(u64, u64)],
    active_bytes: u64,
    now_us: u64,
    of: &[(String, EventId)],
) -> usize {
    let mut gone = 0;
    while let Some((_, last_timestamp_us)) = segments.get(gone) {
        let bytes = segments[gone..].iter().map(|(bytes, _)| bytes).sum::<u64>() + active_bytes;
        let oldest = sealed(gone as u64 + 1, *last_timestamp_us);
        let facts = PartitionFacts {
            bytes,
            now_us,
            cursors: of,
        };
        if policy.oldest_goes(&oldest, &facts).is_none() {
            break;
        }
        gone += 1;
    }
    segments.len() - gone
}

fn names() -> impl Strategy<Value = Option<AcknowledgedBy>> {
    prop_oneof![
        Just(None),
        Just(Some(AcknowledgedBy::EveryConsumer)),
        prop::collection::vec("[a-c]", 1..3).prop_map(|names| Some(AcknowledgedBy::Consumers(names))),
    ]
}

prop_compose! {
    fn policies()(
        bytes_max in prop::option::of(1_u64..2000),
        age_max_ms in prop::option::of(1_u64..2000),
        acknowledged in names(),
        keep_unacknowledged in names(),
    ) -> Retention {
        Retention { bytes_max, age_max_ms, acknowledged, keep_unacknowledged }
    }
}

proptest! {
    #[test]
    fn what_goes_had_to_and_what_stays_may(
        policy in policies(),
        segments in prop::collection::vec((1_u64..500, 0_u64..2_000_000), 0..8),
        active_bytes in 0_u64..500,
        now_us in 0_u64..3_000_000,
        places in prop::collection::btree_map("[a-c]", 0_u64..9, 0..3),
    ) {
        let of: Vec<(String, EventId)> = places.iter().map(|(name, next)| (name.clone(), EventId::new(*next))).collect();
        let left = left(&policy, &segments, active_bytes, now_us, &of);
        let gone = segments.len() - left;
        // Said again in other words, over the whole partition at once.
        let done_by = |by: &AcknowledgedBy, end: u64| match by {
            AcknowledgedBy::EveryConsumer => !of.is_empty() && of.iter().all(|(_, next)| next.get() >= end),
            AcknowledgedBy::Consumers(names) => names.iter().all(|name| places.get(name).is_some_and(|next| *next >= end)),
        };
        let kept_for = |by: &AcknowledgedBy, end: u64| match by {
            AcknowledgedBy::EveryConsumer => of.iter().any(|(_, next)| next.get() < end),
            AcknowledgedBy::Consumers(_) => !done_by(by, end),
        };
        let after = |n: usize| segments[n..].iter().map(|(bytes, _)| bytes).sum::<u64>() + active_bytes;
        for (n, (_, timestamp_us)) in segments.iter().enumerate() {
            let end = n as u64 + 1;
            let allowed = policy.bytes_max.is_some_and(|max| after(n) > max)
                || policy.age_max_ms.is_some_and(|max| now_us > timestamp_us + max * 1000)
                || policy.acknowledged.as_ref().is_some_and(|by| done_by(by, end));
            let held = policy.keep_unacknowledged.as_ref().is_some_and(|by| kept_for(by, end));
            if n < gone {
                prop_assert!(allowed && !held, "segment {n} went without a reason");
            } else if n == gone {
                prop_assert!(!allowed || held, "segment {n} stayed without a reason");
            }
        }
    }

    #[test]
    fn what_was_written_is_read(policy in policies()) {
        let text = serde_json::to_vec(&policy).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Retention>(&text).unwrap(), policy);
    }

    /// However the wall clock is set: between two looks, an event never ages by more than the time that passed and a
    /// quarter, unless the wall clock has gone on steadily for a day.
    #[test]
    fn no_jump_makes_events_old(jumps in prop::collection::vec((-20 * DAY_US as i64..20 * DAY_US as i64, 1_u64..300), 1..30)) {
        let mut clock = RetentionClock::default();
        let mut wall_us = START_US;
        let mut before_us = clock.look(wall_us, 0).now_us;
        for (jump_us, looks) in jumps {
            wall_us = wall_us.saturating_add_signed(jump_us);
            for _ in 0..looks {
                wall_us += LOOK_US;
                let now_us = clock.look(wall_us, LOOK_US).now_us;
                prop_assert!(now_us <= before_us + LOOK_US + LOOK_US / 4 + 1_000_000);
                prop_assert!(now_us <= wall_us, "it never runs ahead of what events are stamped with");
                before_us = now_us;
            }
        }
    }
}
