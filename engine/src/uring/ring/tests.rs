use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_lite::future::FutureExt;
use glommio::{LocalExecutorBuilder, Placement};

use super::*;
use crate::io::{IoDir, IoFile, Step, WritePart};
use crate::uring::{PREEMPT_TIMER, UringIo};

const BLOCK: usize = 4096;

/// Runs on a shard of its own, and sees that nothing is left under way.
fn on_a_shard<F: Future<Output = ()>>(test: impl FnOnce(UringIo) -> F) {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .unwrap();
    executor.run(async {
        // Not every file system that tests run on has direct I/O, and devices do not.
        let io = UringIo::start(false).unwrap();
        let hangs = async {
            glommio::timer::sleep(Duration::from_secs(20)).await;
            panic!("something hangs");
        };
        test(io).or(hangs).await;
    });
}

fn write_of(io: &UringIo, file: &Rc<UringFile>, at: usize, bytes: usize) -> FileWrite<UringFile, IoBuf> {
    let mut buf = io.alloc(bytes);
    buf.as_mut().fill(u8::try_from(at / BLOCK % 251).unwrap());
    FileWrite {
        file: Rc::clone(file),
        at: FilePos::new(at as u64),
        parts: vec![WritePart::Own(buf)],
    }
}

/// Writes durably, all at the same time.
async fn write_beside(
    ring: &Ring,
    writes: Vec<Vec<FileWrite<UringFile, IoBuf>>>,
) -> Vec<Result<(), StepError>> {
    let tasks: Vec<_> = writes
        .into_iter()
        .map(|writes| {
            let ring = ring.clone();
            glommio::spawn_local(async move { ring.write(writes, Then::Sync).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await);
    }
    // A failure is told before the rest has ended.
    while ring.0.borrow().operations.in_flight() > 0 {
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
    outcomes
}

fn steps(outcomes: &[Result<(), StepError>]) -> Vec<Option<Step>> {
    let step = |outcome: &Result<(), StepError>| outcome.as_ref().err().map(|error| error.step);
    outcomes.iter().map(step).collect()
}

async fn open(io: &UringIo, path: &str) -> Rc<UringFile> {
    Rc::new(io.open(Path::new(path)).await.unwrap())
}

#[test]
fn writes_beside_each_other_are_all_made() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let first = Rc::new(io.create(&scratch.path().join("first")).await.unwrap());
        let second = Rc::new(io.create(&scratch.path().join("second")).await.unwrap());
        const WRITES: usize = 200;
        for round in 0..5 {
            // More entries than the queue has.
            let writes = (0..WRITES).map(|number| {
                let at = (round * WRITES + number) * BLOCK;
                vec![
                    write_of(&io, &first, at, BLOCK),
                    write_of(&io, &second, at, BLOCK),
                ]
            });
            let outcomes = write_beside(&first.ring(), writes.collect()).await;
            assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        }
        for file in [&first, &second] {
            for number in 0..5 * WRITES {
                let read = file
                    .read_at(FilePos::new((number * BLOCK) as u64), BLOCK)
                    .await
                    .unwrap();
                let expected = u8::try_from(number % 251).unwrap();
                assert!(
                    read.len() == BLOCK && read.iter().all(|byte| *byte == expected),
                    "block {number}"
                );
            }
        }
    });
}

/// Fills the queue with entries of which nobody hears, after this one.
fn fill_queue(ring: &Ring, first: squeue::Entry) {
    let inner = &mut *ring.0.borrow_mut();
    let nothing = entries::nothing(inner.skip_success);
    let mut submission = inner.ring.submission();
    let mut next = first;
    // SAFETY: they touch no memory.
    while unsafe { submission.push(&next) }.is_ok() {
        next = nothing.clone();
    }
}

#[test]
fn a_kernel_that_takes_nothing_for_a_moment_is_asked_again() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let file = Rc::new(io.create(&scratch.path().join("file")).await.unwrap());
        let ring = file.ring();
        for code in [libc::EAGAIN, libc::EBUSY, libc::ENOMEM] {
            fill_queue(&ring, entries::nothing(false));
            ring.0.borrow_mut().refusals = vec![code; 3];
            let written = ring.write(vec![write_of(&io, &file, 0, BLOCK)], Then::Sync).await;
            assert!(written.is_ok(), "{code}: {written:?}");
            // The attendant may have submitted for it since.
            assert!(ring.0.borrow().refusals.len() < 3, "{code}");
        }
        // What does not pass is told, of a write and nothing else: no sync was begun.
        fill_queue(&ring, entries::nothing(false));
        ring.0.borrow_mut().refusals = vec![libc::EINVAL];
        let outcome = ring.write(vec![write_of(&io, &file, 0, BLOCK)], Then::Sync).await;
        assert_eq!(steps(&[outcome]), [Some(Step::Write)]);
        assert!(ring.sync(vec![Rc::clone(&file)]).await.is_ok());
    });
}

#[test]
fn room_is_made_past_an_entry_that_the_kernel_stops_at() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let file = Rc::new(io.create(&scratch.path().join("file")).await.unwrap());
        let ring = file.ring();
        // Nothing needs no buffer: as a call that an older kernel does not know, it ends the submission.
        let refused = entries::nothing(false).flags(Flags::BUFFER_SELECT);
        fill_queue(&ring, refused);
        let writes = vec![write_of(&io, &file, 0, BLOCK), write_of(&io, &file, BLOCK, BLOCK)];
        ring.write(writes, Then::Sync).await.unwrap();
    });
}

#[test]
fn a_failed_sync_fails_every_write_that_it_was_for() {
    on_a_shard(async |io| {
        // Takes every write and cannot be synced.
        let null = open(&io, "/dev/null").await;
        for beside in [1, 2, 7] {
            let writes = (0..beside).map(|number| vec![write_of(&io, &null, number * BLOCK, BLOCK)]);
            let outcomes = write_beside(&null.ring(), writes.collect()).await;
            assert_eq!(steps(&outcomes), vec![Some(Step::Sync); beside]);
        }
    });
}

#[test]
fn a_failed_write_is_told_and_waits_for_no_sync() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let full = open(&io, "/dev/full").await;
        let good = Rc::new(io.create(&scratch.path().join("good")).await.unwrap());
        for beside in [1, 2, 7] {
            let writes = (0..beside).map(|number| {
                let at = number * BLOCK;
                vec![write_of(&io, &good, at, BLOCK), write_of(&io, &full, at, BLOCK)]
            });
            let outcomes = write_beside(&good.ring(), writes.collect()).await;
            assert_eq!(steps(&outcomes), vec![Some(Step::Write); beside]);
            let outcomes = write_beside(&good.ring(), vec![vec![write_of(&io, &good, 0, BLOCK)]]).await;
            assert_eq!(steps(&outcomes), [None], "the other file is as good as before");
        }
    });
}

#[test]
fn a_short_write_is_never_covered_by_a_sync() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        // A pipe holds 64 KiB, and what is beyond is not taken. It cannot be synced either: what fails at the write says so.
        let path = scratch.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let pipe = Rc::new(io.open(&path).await.unwrap());
        let writes = vec![
            vec![write_of(&io, &pipe, 0, BLOCK)],
            vec![write_of(&io, &pipe, BLOCK, 32 * BLOCK)],
        ];
        let outcomes = write_beside(&pipe.ring(), writes).await;
        assert_eq!(steps(&outcomes), [Some(Step::Sync), Some(Step::Write)], "shared");
        let short = outcomes[1].as_ref().unwrap_err();
        assert_eq!(short.source.kind(), io::ErrorKind::WriteZero);
        assert_eq!(
            short.to_string(),
            "writing: only 61440 of 131072 bytes were written"
        );
    });
    on_a_shard(async |io| {
        let pipe = Rc::new(io.open(&scratch.path().join("pipe")).await.unwrap());
        let outcomes = write_beside(&pipe.ring(), vec![vec![write_of(&io, &pipe, 0, 32 * BLOCK)]]).await;
        assert_eq!(steps(&outcomes), [Some(Step::Write)], "linked");
    });
}

/// More than any test here writes.
const SETTLED: u64 = 1 << 40;

async fn settled(io: &UringIo, path: &str) -> Rc<UringFile> {
    let file = io.open(Path::new(path)).await.unwrap();
    Rc::new(file.pretend_settled(7, SETTLED))
}

fn shared_syncs(ring: &Ring) -> u64 {
    ring.0.borrow().syncs.shared_count
}

#[test]
fn files_of_a_device_share_one_sync() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
        for path in [&one, &other] {
            io.create(path).await.unwrap();
        }
        let one = settled(&io, one.to_str().unwrap()).await;
        let other = settled(&io, other.to_str().unwrap()).await;
        let ring = one.ring();
        const WRITES: usize = 200;
        for number in 0..WRITES {
            let at = number * BLOCK;
            let writes = vec![write_of(&io, &one, at, BLOCK), write_of(&io, &other, at, BLOCK)];
            ring.write(writes, Then::Sync).await.unwrap();
        }
        assert_eq!(shared_syncs(&ring), WRITES as u64, "one for both files");
        // Of several operations beside each other, of one file or of two.
        let writes = (WRITES..2 * WRITES).map(|number| {
            let at = number * BLOCK;
            match number % 3 {
                0 => vec![write_of(&io, &one, at, BLOCK)],
                1 => vec![write_of(&io, &other, at, BLOCK)],
                _ => vec![write_of(&io, &one, at, BLOCK), write_of(&io, &other, at, BLOCK)],
            }
        });
        let outcomes = write_beside(&ring, writes.collect()).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        let more = shared_syncs(&ring) - WRITES as u64;
        assert!(
            (1..=WRITES as u64).contains(&more),
            "{more} syncs of {WRITES} operations"
        );
        assert!(!ring.0.borrow().syncs.is_busy(7));
        for number in (WRITES..2 * WRITES).filter(|number| number % 3 != 1) {
            let read = one.read_at(FilePos::new((number * BLOCK) as u64), BLOCK).await;
            let expected = u8::try_from(number % 251).unwrap();
            assert!(
                read.unwrap().iter().all(|byte| *byte == expected),
                "block {number}"
            );
        }
    });
}

#[test]
fn those_who_go_on_together_share_their_syncs() {
    const WRITERS: usize = 8;
    const WRITES: usize = 64;
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let path = scratch.path().join("one");
        io.create(&path).await.unwrap();
        let file = settled(&io, path.to_str().unwrap()).await;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (io, file) = (io.clone(), Rc::clone(&file));
                glommio::spawn_local(async move {
                    for number in 0..WRITES {
                        let at = (number * WRITERS + writer) * BLOCK;
                        let writes = vec![write_of(&io, &file, at, BLOCK)];
                        file.ring().write(writes, Then::Sync).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await;
        }
        let syncs = shared_syncs(&file.ring());
        // One for all at best; two for each write of all, if a few were ahead of the others all the time.
        let bound = (WRITES + WRITES / 2) as u64;
        assert!(
            (1..=bound).contains(&syncs),
            "{syncs} syncs of {WRITERS} times {WRITES} writes"
        );
    });
}

#[test]
fn what_is_settled_is_synced_by_the_quiet_file_and_what_is_not_by_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let path = scratch.path().join("one");
        let own = Rc::new(io.create(&path).await.unwrap());
        let one = settled(&io, path.to_str().unwrap()).await;
        let ring = one.ring();
        // It cannot be synced, which tells when it is.
        ring.add_quiet(7, Some(File::open("/dev/null").unwrap()));
        for beside in [1, 2, 7] {
            for writes_each in [1, 2] {
                let writes = (0..beside).map(|number| {
                    let blocks = number * writes_each..(number + 1) * writes_each;
                    blocks
                        .map(|block| write_of(&io, &one, block * BLOCK, BLOCK))
                        .collect()
                });
                let outcomes = write_beside(&ring, writes.collect()).await;
                assert_eq!(steps(&outcomes), vec![Some(Step::Sync); beside]);
            }
            let writes = (0..beside).map(|number| vec![write_of(&io, &own, number * BLOCK, BLOCK)]);
            let outcomes = write_beside(&ring, writes.collect()).await;
            assert_eq!(steps(&outcomes), vec![None; beside]);
        }
        // Also on the spot, which comes after several that were alone.
        for _ in 0..20 {
            let writes = vec![write_of(&io, &one, 0, BLOCK), write_of(&io, &one, BLOCK, BLOCK)];
            assert_eq!(
                steps(&write_beside(&ring, vec![writes]).await),
                [Some(Step::Sync)]
            );
        }
    });
}

#[test]
fn a_quiet_file_can_be_had_where_the_tests_run() {
    let scratch = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let file = match crate::uring::quiet::make(scratch.path()) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            eprintln!("SKIPPED: no files without a name here");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    file.sync_data().unwrap();
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn what_fails_on_a_device_fails_what_depends_on_it() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let path = scratch.path().join("good");
        io.create(&path).await.unwrap();
        let good = settled(&io, path.to_str().unwrap()).await;
        let (full, null) = (settled(&io, "/dev/full").await, settled(&io, "/dev/null").await);
        let ring = good.ring();
        for beside in [1, 2, 7] {
            // A write that fails is told as such, also beside one that is done, and no sync is for it.
            let writes = (0..beside).map(|number| {
                let at = number * BLOCK;
                vec![write_of(&io, &good, at, BLOCK), write_of(&io, &full, at, BLOCK)]
            });
            let before = shared_syncs(&ring);
            let outcomes = write_beside(&ring, writes.collect()).await;
            assert_eq!(steps(&outcomes), vec![Some(Step::Write); beside]);
            assert_eq!(shared_syncs(&ring), before);
            // Takes every write and cannot be synced: whichever file the sync is made by, nobody hears of success when it fails.
            let writes = (0..beside).map(|number| {
                let at = number * BLOCK;
                vec![write_of(&io, &null, at, BLOCK), write_of(&io, &null, at, BLOCK)]
            });
            let outcomes = write_beside(&ring, writes.collect()).await;
            assert_eq!(steps(&outcomes), vec![Some(Step::Sync); beside]);
            let (at, file) = (beside * BLOCK, &good);
            let writes = vec![
                write_of(&io, file, at, BLOCK),
                write_of(&io, file, at + BLOCK, BLOCK),
            ];
            let outcomes = write_beside(&ring, vec![writes]).await;
            assert_eq!(steps(&outcomes), [None]);
            assert!(!ring.0.borrow().syncs.is_busy(7));
        }
    });
}

#[test]
fn a_file_of_before_shares_from_its_second_write_on_and_one_with_room_from_the_first() {
    let scratch = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().unwrap();
    executor.run(async {
        let io = UringIo::start(true).unwrap();
        let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
        let Ok(first) = io.create(&one).await else {
            eprintln!("SKIPPED: no direct I/O here");
            return;
        };
        if first.settled().lies_on().is_none() {
            eprintln!("SKIPPED: no ext4 here");
            return;
        }
        let (first, second) = (Rc::new(first), Rc::new(io.create(&other).await.unwrap()));
        let ring = first.ring();
        let both = |one: &Rc<UringFile>, other: &Rc<UringFile>, block: usize| {
            let at = block * BLOCK;
            vec![write_of(&io, one, at, BLOCK), write_of(&io, other, at, BLOCK)]
        };
        for file in [&first, &second] {
            let end = FilePos::new(64 * BLOCK as u64);
            file.reserve(FilePos::new(0), end, crate::io::Pace::Hurried)
                .await
                .unwrap();
        }
        for block in 0..4 {
            ring.write(both(&first, &second, block), Then::Sync)
                .await
                .unwrap();
            assert_eq!(shared_syncs(&ring), block as u64 + 1);
        }
        // Beyond the room: the file system has to put down where it is.
        ring.write(both(&first, &second, 64), Then::Sync).await.unwrap();
        assert_eq!(shared_syncs(&ring), 4);
        drop((first, second));
        let first = Rc::new(io.open(&one).await.unwrap());
        let second = Rc::new(io.open(&other).await.unwrap());
        for (block, expected) in [(4, 4), (5, 5), (64, 6), (65, 6)] {
            ring.write(both(&first, &second, block), Then::Sync)
                .await
                .unwrap();
            assert_eq!(shared_syncs(&ring), expected, "block {block}");
        }
        first.truncate(FilePos::new(8 * BLOCK as u64)).await.unwrap();
        ring.write(both(&first, &second, 7), Then::Sync).await.unwrap();
        assert_eq!(shared_syncs(&ring), 7);
        ring.write(both(&first, &second, 8), Then::Sync).await.unwrap();
        assert_eq!(shared_syncs(&ring), 7, "it was cut off");
    });
}

/// A file of a device of this number, and of no other test's.
async fn on_device(io: &UringIo, path: &Path, device: u64) -> Rc<UringFile> {
    let file = io.create(path).await.unwrap();
    Rc::new(file.pretend_settled(device, SETTLED))
}

#[test]
fn a_failed_sync_fails_what_was_under_way_beside_it_also_on_other_shards() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let here = on_device(&io, &scratch.path().join("here"), 1001).await;
        let there = on_device(&io, &scratch.path().join("there"), 1002).await;
        let ring = here.ring();
        let begin = |file: &Rc<UringFile>, then| {
            let writes = vec![write_of(&io, file, 0, BLOCK), write_of(&io, file, BLOCK, BLOCK)];
            ring.0.borrow_mut().begin_write(writes, then)
        };
        let before = (begin(&here, Then::Sync), begin(&there, Then::Sync));
        FLUSHES.failed(1001);
        let after = begin(&here, Then::Sync);
        assert_eq!(
            ring.finish(before.0).await.outcome.map_err(|error| error.step),
            Err(Step::Sync)
        );
        assert!(ring.finish(before.1).await.outcome.is_ok(), "another device's");
        assert!(ring.finish(after).await.outcome.is_ok(), "begun after it");
    });
}

#[test]
fn what_was_written_before_a_failed_sync_is_not_synced_by_a_later_one() {
    let scratch = tempfile::tempdir().unwrap();
    on_a_shard(async |io| {
        let file = on_device(&io, &scratch.path().join("file"), 1003).await;
        let ring = file.ring();
        let written = async || {
            let writes = vec![write_of(&io, &file, 0, BLOCK)];
            ring.write(writes, Then::Nothing).await.unwrap();
        };
        written().await;
        ring.sync(vec![Rc::clone(&file)]).await.unwrap();
        FLUSHES.failed(1003);
        ring.sync(vec![Rc::clone(&file)]).await.unwrap();
        written().await;
        ring.sync(vec![Rc::clone(&file)]).await.unwrap();
        written().await;
        FLUSHES.failed(1003);
        assert_eq!(
            ring.sync(vec![Rc::clone(&file)]).await.unwrap_err().step,
            Step::Sync
        );
        // The same when the sync is one of a write.
        written().await;
        FLUSHES.failed(1003);
        let writes = vec![write_of(&io, &file, BLOCK, BLOCK)];
        assert_eq!(
            steps(&write_beside(&ring, vec![writes]).await),
            [Some(Step::Sync)]
        );
    });
}
