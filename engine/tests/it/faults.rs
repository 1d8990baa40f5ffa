//! Faults that the machine reports: at every operation of a history one, and many by chance, with kills and power cuts
//! between. Nothing acknowledged is lost, nothing is called damaged, and a healthy machine opens everything again.

use mofka_engine::sim::{Fault, FaultRates, Image, Operation, Random, SimIo};
use mofka_log::{Durability, PartitionKind};
use uuid::Uuid;

use crate::model::{open, random_events, send, spec};
use crate::sweep::Sweep;
use crate::world::{LifePlan, Tally, World, works};

fn sum(tallies: &[Tally]) -> Tally {
    let mut all = Tally::default();
    for tally in tallies {
        all.add(tally);
    }
    all
}

const OPERATIONS: [Operation; 7] = [
    Operation::Write,
    Operation::Sync,
    Operation::SyncDir,
    Operation::Read,
    Operation::Open,
    Operation::Change,
    Operation::Tick,
];

/// One history: a healthy life, a life with one fault, and a healthy one. Gives the operations of the middle life.
fn history(seed: u64, placed: Option<(Fault, u64)>) -> Result<(Tally, [u64; 7]), String> {
    let mut world = World::new(seed);
    let io = SimIo::stepping(&Image::new(), seed);
    world.live(&io, &LifePlan::healthy(4, 0))?;
    let io = world.end(&io);
    let plan = LifePlan {
        placed,
        ..LifePlan::healthy(6, if placed.is_some() { 5 } else { 0 })
    };
    world.live(&io, &plan)?;
    let operations = OPERATIONS.map(|operation| io.operations(operation));
    if placed.is_none() {
        io.shut_down();
        return Ok((Tally::default(), operations));
    }
    let io = world.end(&io);
    world.live(&io, &LifePlan::healthy(2, 10))?;
    let io = world.end(&io);
    world.live(&io, &LifePlan::healthy(1, 0))?;
    works(&world.end(&io)).map(|()| (world.tally, operations))
}

fn at_every_operation(seed: u64) -> Result<Tally, String> {
    let (_, operations) = history(seed, None)?;
    let mut all = Tally::default();
    for fault in Fault::HONEST {
        let place = OPERATIONS.iter().position(|one| *one == fault.operation());
        let count = place.map_or(0, |place| operations[place]);
        // The clock can jump at every step; a few of them will do.
        let step = if fault == Fault::ClockJump { 7 } else { 1 };
        for n in (0..count).step_by(step) {
            let (tally, _) =
                history(seed, Some((fault, n))).map_err(|reason| format!("{fault:?} at {n}: {reason}"))?;
            all.add(&tally);
        }
    }
    Ok(all)
}

#[test]
fn one_fault_at_every_operation_loses_nothing_acknowledged() {
    let sweep = Sweep::of("one_fault_at_every_operation_loses_nothing_acknowledged", 4);
    let all = sum(&sweep.run(at_every_operation));
    let what = format!(
        "states after one fault: {} lives met theirs, {} were poisoned, {} could not open, {} batches acknowledged",
        all.faulty, all.poisoned, all.unopened, all.acknowledged
    );
    sweep.report(all.cases, 5000, &what);
    assert!(
        all.faulty > 0 && all.poisoned * 20 > all.faulty && all.unopened > 0,
        "the faults hit nothing that matters"
    );
}

fn swarm(seed: u64) -> Result<Tally, String> {
    let mut world = World::new(seed);
    let mut io = SimIo::stepping(&Image::new(), seed);
    for life in 0..8 {
        let batches = 1 + world.random.below(10);
        let mut plan = LifePlan::healthy(batches, 10);
        // Every third life is healthy: whatever happened before, the partition opens and works again.
        if life % 3 != 2 {
            plan.rates = FaultRates::swarm(&mut world.random, &Fault::HONEST);
            plan.room = world.random.chance(30).then(|| world.random.below(400_000));
        }
        let rates = plan.rates.clone();
        world
            .live(&io, &plan)
            .map_err(|reason| format!("life {life}, {rates:?}, room {:?}: {reason}", plan.room))?;
        io = world.end(&io);
    }
    works(&io).map(|()| world.tally)
}

#[test]
fn many_faults_by_chance_lose_nothing_acknowledged() {
    let sweep = Sweep::of("many_faults_by_chance_lose_nothing_acknowledged", 200);
    let all = sum(&sweep.run(swarm));
    let what = format!(
        "states after many faults: {} lives met some, {} were poisoned, {} could not open, {} batches refused, {} \
         acknowledged",
        all.faulty, all.poisoned, all.unopened, all.refused, all.acknowledged
    );
    sweep.report(all.cases, 5000, &what);
    assert!(
        all.poisoned > 0 && all.unopened > 0 && all.refused > 0 && all.acknowledged > 1000,
        "the faults are too kind or too hard"
    );
}

/// One fault poisons one partition at most; its neighbour on the same machine goes on.
fn neighbours(seed: u64, fault: Fault, n: u64) -> Result<bool, String> {
    let io = SimIo::stepping(&Image::new(), seed);
    let first = spec(PartitionKind::Default, Durability::Synced);
    let mut second = first.clone();
    second.record.id = Uuid::from_u128(0x0002);
    second.record.index = 1;
    second.dir = "/q".into();
    let partitions = [open(&io, first)?, open(&io, second)?];
    let mut random = Random::new(seed);
    let mut sequence = 0;
    let mut round = |random: &mut Random| {
        sequence += 1;
        let sent = partitions
            .each_ref()
            .map(|partition| send(partition, random_events(random, sequence), (1, 0, sequence - 1)));
        for _ in 0..random.below(10) {
            io.step();
        }
        sent
    };
    round(&mut random);
    io.place_fault(fault, n);
    for _ in 0..6 {
        round(&mut random);
    }
    let last = round(&mut random);
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
    let poisoned = partitions
        .each_ref()
        .map(|partition| partition.poison().is_some());
    if poisoned == [true, true] {
        return Err("both partitions are poisoned".to_owned());
    }
    for (poisoned, sent) in poisoned.iter().zip(&last) {
        if !poisoned && sent.acknowledged().is_none() {
            return Err(format!(
                "the partition that nothing happened to answers {:?}",
                sent.outcome.borrow()
            ));
        }
    }
    io.shut_down();
    Ok(poisoned.contains(&true))
}

#[test]
fn a_fault_poisons_one_partition_and_not_its_neighbour() {
    let sweep = Sweep::of("a_fault_poisons_one_partition_and_not_its_neighbour", 12);
    let counts = sweep.run(|seed| {
        let (mut cases, mut poisoned) = (0, 0);
        for fault in [Fault::WriteError, Fault::ShortWrite, Fault::SyncError] {
            for n in 0..30 {
                cases += 1;
                poisoned += u64::from(
                    neighbours(seed, fault, n).map_err(|reason| format!("{fault:?} at {n}: {reason}"))?,
                );
            }
        }
        Ok((cases, poisoned))
    });
    let cases = counts.iter().map(|(cases, _)| cases).sum();
    let poisoned: u64 = counts.iter().map(|(_, poisoned)| poisoned).sum();
    sweep.report(
        cases,
        1000,
        &format!("faults beside a neighbour: {poisoned} poisoned their partition"),
    );
    assert!(poisoned * 4 > cases, "the faults hit nothing that matters");
}
