//! Crashes and kills while a partition is being opened: whatever was done by then, opening again finds the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mofka_engine::io::Io;
use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{Durability, PartitionKind};

use crate::model::{Content, open, read_all, spec};
use crate::sweep::Sweep;
use crate::world::{LifePlan, World};

/// What a recovery finds.
#[derive(PartialEq, Eq)]
struct Found {
    events: BTreeMap<u64, Content>,
    cursor: Option<u64>,
    read_only: Option<String>,
}

fn look_on(io: &SimIo, partition: &Rc<Partition<SimIo>>) -> Result<Found, String> {
    Ok(Found {
        events: io.block_on(read_all(Rc::clone(partition)))?,
        cursor: partition.cursor("reader").map(|next| next.get()),
        read_only: partition.read_only(),
    })
}

fn look(image: &Image) -> Result<Found, String> {
    let io = SimIo::immediate(image);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced))?;
    let found = look_on(&io, &partition);
    io.shut_down();
    found
}

fn same(found: &Found, expected: &Found, how: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{how}: {} events and cursor {:?} ({:?}) where an undisturbed opening finds {} and {:?}",
        found.events.len(),
        found.cursor,
        found.read_only,
        expected.events.len(),
        expected.cursor
    ))
}

/// Opens this image, and looks at every step what a crash leaves. `depth`: so often the same is done with such an image.
fn disturb(image: &Image, expected: &Found, random: &mut Random, depth: u32) -> Result<u64, String> {
    let io = SimIo::stepping(image, random.number());
    let slot = Rc::new(RefCell::new(None));
    let (kept, machine) = (Rc::clone(&slot), io.clone());
    io.spawn(async move {
        let opened = Partition::open(machine, spec(PartitionKind::Default, Durability::Synced)).await;
        *kept.borrow_mut() = Some(opened.map_err(|error| error.to_string()));
    });
    io.run_tasks();
    let mut cases = 0;
    let mut images = Vec::new();
    let partition = loop {
        for keep_percent in [0, 30, 70, 100] {
            let image = io.crash(random, keep_percent, Sectors::Small);
            same(
                &look(&image)?,
                expected,
                &format!("after a crash while opening, {keep_percent}% kept"),
            )?;
            cases += 1;
            images.push(image);
        }
        if let Some(opened) = slot.borrow_mut().take() {
            break opened?;
        }
        // One in five is killed here, and the next process finds the machine as it is.
        if depth > 0 && random.chance(20) {
            cases += killed(&io, expected, random)?;
            return deeper(&images, expected, random, depth).map(|more| cases + more);
        }
        io.step();
    };
    same(&look_on(&io, &partition)?, expected, "opened step by step")?;
    io.shut_down();
    deeper(&images, expected, random, depth).map(|more| cases + more)
}

fn deeper(images: &[Image], expected: &Found, random: &mut Random, depth: u32) -> Result<u64, String> {
    if depth == 0 || images.is_empty() {
        return Ok(0);
    }
    let image = &images[random.place(images.len())];
    disturb(image, expected, random, depth - 1)
}

fn killed(io: &SimIo, expected: &Found, random: &mut Random) -> Result<u64, String> {
    let io = io.kill(random.number());
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced))?;
    same(&look_on(&io, &partition)?, expected, "after a kill while opening")?;
    let image = io.crash(random, 0, Sectors::Small);
    io.shut_down();
    same(
        &look(&image)?,
        expected,
        "after a kill while opening and then a power cut",
    )?;
    Ok(2)
}

fn recovering(seed: u64) -> Result<u64, String> {
    let mut world = World::new(seed);
    let mut io = SimIo::stepping(&Image::new(), seed);
    let mut cases = 0;
    for _ in 0..4 {
        let batches = 1 + world.random.below(8);
        world.live(&io, &LifePlan::healthy(batches, 0))?;
        let keep_percent = world.random.below(101);
        let image = io.crash(&mut world.random, keep_percent, Sectors::Small);
        let expected = look(&image)?;
        cases += disturb(&image, &expected, &mut world.random, 2)?;
        io = world.end(&io);
    }
    io.shut_down();
    Ok(cases)
}

#[test]
fn a_crash_while_opening_changes_nothing() {
    let sweep = Sweep::of("a_crash_while_opening_changes_nothing", 20);
    let cases = sweep.run(recovering).iter().sum();
    sweep.report(cases, 5000, "crashes and kills while opening");
}
