use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn id(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

fn request(member: u8, targets: &[u32], generation: u64, holding: &[u32]) -> GroupSyncRequest {
    GroupSyncRequest {
        topic: "t".to_owned(),
        consumer: "c".to_owned(),
        member: id(member),
        targets: targets.to_vec(),
        generation,
        holding: holding.iter().map(|index| place(*index)).collect(),
        released: Vec::new(),
        wait_ms: 0,
    }
}

fn place(partition: u32) -> GroupPlace {
    GroupPlace {
        partition,
        next_event_id: None,
    }
}

fn view(group: &Group, member: u8) -> Vec<u32> {
    let view = group.view(id(member)).unwrap();
    view.partitions.iter().map(|place| place.partition).collect()
}

/// A member as it behaves: it reads what it is told to, and says so.
#[derive(Clone, Debug, Default)]
struct Reader {
    targets: Vec<u32>,
    generation: u64,
    reads: BTreeSet<u32>,
}

impl Reader {
    fn hear(&mut self, group: &Group, member: u8) {
        if let Some(view) = group.view(id(member)) {
            self.generation = view.generation;
            self.reads = view.partitions.iter().map(|place| place.partition).collect();
        }
    }

    fn sync(&mut self, group: &mut Group, member: u8, now_us: u64) -> Result<(), Taken> {
        let holding: Vec<u32> = self.reads.iter().copied().collect();
        let request = request(member, &self.targets, self.generation, &holding);
        group.sync(u64::from(member), now_us, &request)?;
        self.hear(group, member);
        Ok(())
    }
}

fn settle(group: &mut Group, readers: &mut BTreeMap<u8, Reader>) {
    settle_at(group, readers, 0);
}

fn settle_at(group: &mut Group, readers: &mut BTreeMap<u8, Reader>, now_us: u64) {
    for _ in 0..4 {
        for (member, reader) in readers.iter_mut() {
            reader.sync(group, *member, now_us).unwrap();
        }
    }
}

fn group(partition_count: usize) -> Group {
    let mut group = Group::default();
    group.set_topic(&vec![false; partition_count], false);
    group
}

#[test]
fn the_first_reads_everything_and_others_get_their_share_once_it_lets_go() {
    let mut group = group(4);
    group.sync(1, 0, &request(0, &[], 0, &[])).unwrap();
    let first = group.view(id(0)).unwrap();
    assert_eq!(view(&group, 0), [0, 1, 2, 3]);
    group.sync(2, 0, &request(1, &[], 0, &[])).unwrap();
    let asked = group.view(id(0)).unwrap();
    assert_eq!(view(&group, 0), [0, 1]);
    assert!(asked.generation > first.generation);
    // It has not heard of it, or still reads them: nobody else does.
    for (generation, holding) in [(first.generation, &[][..]), (asked.generation, &[0, 1, 2, 3])] {
        group.sync(1, 0, &request(0, &[], generation, holding)).unwrap();
        assert_eq!(view(&group, 1), [0_u32; 0]);
    }
    group
        .sync(1, 0, &request(0, &[], asked.generation, &[0, 1, 3]))
        .unwrap();
    assert_eq!(view(&group, 1), [2]);
    group
        .sync(1, 0, &request(0, &[], asked.generation, &[0, 1]))
        .unwrap();
    assert_eq!(view(&group, 1), [2, 3]);
}

#[test]
fn what_a_lost_member_read_is_read_by_the_others_at_once() {
    for how in 0..3 {
        let (mut group, mut readers) = (group(3), BTreeMap::new());
        readers.extend([(0, Reader::default()), (1, Reader::default())]);
        settle(&mut group, &mut readers);
        assert_eq!(view(&group, 0).len() + readers[&1].reads.len(), 3);
        match how {
            0 => assert!(group.gone(1) && !group.gone(1)),
            1 => assert!(group.leave(id(1)) && !group.leave(id(1))),
            _ => {
                group
                    .sync(0, 50, &request(0, &[], readers[&0].generation, &[0]))
                    .unwrap();
                assert!(group.expire(50) && !group.expire(50));
            }
        }
        assert_eq!(view(&group, 0), [0, 1, 2], "{how}");
        assert_eq!(group.view(id(1)), None);
    }
}

#[test]
fn those_who_insist_take_from_those_who_share_but_not_from_each_other() {
    let (mut group, mut readers) = (group(4), BTreeMap::new());
    readers.insert(0, Reader::default());
    settle(&mut group, &mut readers);
    let insisting = |targets: &[u32]| Reader {
        targets: targets.to_vec(),
        ..Reader::default()
    };
    readers.insert(1, insisting(&[1, 2]));
    settle(&mut group, &mut readers);
    assert_eq!(readers[&1].reads, BTreeSet::from([1, 2]));
    assert_eq!(readers[&0].reads, BTreeSet::from([0, 3]));
    let refused = insisting(&[3, 2]).sync(&mut group, 2, 0);
    assert_eq!(refused, Err(Taken { partition: 2 }));
    assert_eq!(group.view(id(2)), None);
    // A partition that does not exist yet can be insisted on.
    readers.insert(3, insisting(&[3, 5]));
    settle(&mut group, &mut readers);
    group.set_topic(&[false; 6], false);
    settle(&mut group, &mut readers);
    assert_eq!(readers[&3].reads, BTreeSet::from([3, 5]));
    assert_eq!(readers[&0].reads, BTreeSet::from([0, 4]));
}

#[test]
fn the_next_owner_learns_how_far_the_last_one_was() {
    let told = |partition, next| GroupPlace {
        partition,
        next_event_id: Some(next),
    };
    let mut group = group(2);
    group.sync(1, 0, &request(0, &[], 0, &[])).unwrap();
    group.sync(2, 0, &request(1, &[], 0, &[])).unwrap();
    let mut lets_go = request(0, &[], group.view(id(0)).unwrap().generation, &[]);
    lets_go.holding = vec![told(0, 7)];
    lets_go.released = vec![told(1, 9)];
    group.sync(1, 0, &lets_go).unwrap();
    assert_eq!(group.view(id(1)).unwrap().partitions, [told(1, 9)]);
    // Who does not own it has nothing to say.
    let mut liar = request(1, &[], 0, &[]);
    liar.holding = vec![told(0, 1000), told(1, 12), told(77, 1)];
    group.sync(2, 0, &liar).unwrap();
    group.gone(1);
    assert_eq!(group.view(id(1)).unwrap().partitions, [told(0, 7), told(1, 12)]);
}

#[test]
fn after_a_restart_everybody_goes_on_with_what_they_have() {
    let mut group = group(4);
    let mut readers: BTreeMap<u8, Reader> = BTreeMap::new();
    for (member, reads) in [(0, [1, 3]), (1, [0, 2])] {
        let reader = Reader {
            generation: 17,
            reads: reads.into(),
            ..Reader::default()
        };
        readers.insert(member, reader);
    }
    let before = readers.clone();
    settle(&mut group, &mut readers);
    for (member, reader) in &readers {
        assert_eq!(reader.reads, before[member].reads);
        assert!(reader.generation > 17);
    }
    // A third one did not come back, but it is waited for no longer than that.
    group.set_topic(&[false; 5], false);
    settle(&mut group, &mut readers);
    assert_eq!(
        readers.values().map(|reader| reader.reads.len()).sum::<usize>(),
        4
    );
    settle_at(&mut group, &mut readers, SETTLE_US);
    assert_eq!(
        readers.values().map(|reader| reader.reads.len()).sum::<usize>(),
        5
    );
}

#[test]
fn the_end_of_a_topic_is_told() {
    let mut group = group(1);
    group.sync(0, 0, &request(0, &[], 0, &[])).unwrap();
    let before = group.view(id(0)).unwrap();
    group.set_topic(&[false], true);
    let after = group.view(id(0)).unwrap();
    assert!(after.complete && !before.complete && after.generation > before.generation);
}

#[test]
fn those_who_insist_on_complete_partitions_need_not_wait_for_the_topic() {
    let mut group = group(2);
    group.sync(0, 0, &request(0, &[1], 0, &[])).unwrap();
    group.sync(0, 0, &request(1, &[], 0, &[])).unwrap();
    let is_over = |group: &Group, member| group.view(id(member)).unwrap().complete;
    group.set_topic(&[true, false], false);
    assert!(!is_over(&group, 0) && !is_over(&group, 1));
    group.set_topic(&[true, true], false);
    assert!(
        is_over(&group, 0) && !is_over(&group, 1),
        "partitions may be added"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Sync(u8),
    /// It read what it was told, and asks later.
    Hear(u8),
    Leave(u8),
    Gone(u8),
    Grow,
    Insist(u8, u32),
    Restart,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..5_u8;
    prop_oneof![
        6 => member.clone().prop_map(Step::Sync),
        2 => member.clone().prop_map(Step::Hear),
        1 => member.clone().prop_map(Step::Leave),
        1 => member.clone().prop_map(Step::Gone),
        1 => Just(Step::Grow),
        1 => (member, 0..6_u32).prop_map(|(member, target)| Step::Insist(member, target)),
        1 => Just(Step::Restart),
        1 => Just(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens, no partition is given to two; and when nothing more happens, all partitions are read, in equal
    /// shares.
    #[test]
    fn nobody_ever_shares_a_partition_and_none_is_left_out(
        partition_count in 0..7_usize,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut group = group(partition_count);
        let (mut partition_count, mut now_us) = (partition_count, 0);
        let mut readers: BTreeMap<u8, Reader> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Sync(member) => {
                    let mut reader = readers.get(&member).cloned().unwrap_or_default();
                    // After a restart, the one who insists may come back too late.
                    if reader.sync(&mut group, member, now_us).is_ok() {
                        readers.insert(member, reader);
                    } else {
                        readers.remove(&member);
                    }
                }
                Step::Hear(member) => {
                    if let Some(reader) = readers.get_mut(&member) {
                        reader.hear(&group, member);
                    }
                }
                Step::Leave(member) => {
                    group.leave(id(member));
                    readers.remove(&member);
                }
                Step::Gone(member) => {
                    group.gone(u64::from(member));
                    readers.remove(&member);
                }
                Step::Grow if partition_count < 9 => {
                    partition_count += 1;
                    group.set_topic(&vec![false; partition_count], false);
                }
                Step::Insist(member, target) if !readers.contains_key(&member) => {
                    let mut reader = Reader { targets: vec![target], ..Reader::default() };
                    if reader.sync(&mut group, member, now_us).is_ok() {
                        readers.insert(member, reader);
                    }
                }
                Step::Grow | Step::Insist(..) => {}
                // What is read at that moment is not known to the new one: partitions end each other's subscriptions.
                Step::Restart => {
                    group = Group::default();
                    group.set_topic(&vec![false; partition_count], false);
                    readers.retain(|member, reader| reader.sync(&mut group, *member, now_us).is_ok());
                    settle_at(&mut group, &mut readers, now_us);
                }
                Step::Wait => now_us += SETTLE_US / 2,
            }
            let mut seen = BTreeSet::new();
            for reader in readers.values() {
                for index in &reader.reads {
                    prop_assert!(seen.insert(*index), "{index} is read twice: {readers:?}");
                }
            }
        }
        settle_at(&mut group, &mut readers, now_us + SETTLE_US);
        let insisted: BTreeSet<u32> = readers.values().flat_map(|r| r.targets.iter().copied()).collect();
        let all: BTreeSet<u32> = readers.values().flat_map(|r| r.reads.iter().copied()).collect();
        let shares: Vec<usize> = readers
            .values()
            .filter(|reader| reader.targets.is_empty())
            .map(|reader| reader.reads.len())
            .collect();
        for index in 0..u32::try_from(partition_count).unwrap() {
            let wants = !shares.is_empty() || insisted.contains(&index);
            prop_assert_eq!(all.contains(&index), wants, "{:?}", readers);
        }
        if let (Some(min), Some(max)) = (shares.iter().min(), shares.iter().max()) {
            prop_assert!(max - min <= 1, "{readers:?}");
        }
    }
}
