//! Recovery of a meta file and its data file, whatever is in them.
//!
//! Input: mode, window, bytes of the meta part (u32); the meta file without the zeros of its first block (128 bytes of
//! header, then what lies from 4096 on); the data file from 4096 on.

use bytes::Bytes;
use mofka_log::{
    Appender, AppenderConfig, BLOCK_BYTES, Batch, BatchBuilder, EVENT_ID_END, FilePos, MetaScan, Recovered,
    Resume, SegmentFacts, SegmentHeader, Verdict, WritePlan, check_pieces,
};

use crate::repair::{self, Mode};

/// Windows in which the same file must look the same.
const WINDOW_BYTES: [u64; 5] = [1, 200, 4096, 10_000, 1 << 20];
/// Where a file of the fuzzer may end: a hostile frame may say that its data is anywhere.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The two files of a segment.
#[derive(Clone)]
struct Files {
    meta: Vec<u8>,
    data: Vec<u8>,
}

/// What was made of them.
struct Found {
    recovered: Recovered,
    /// The kept batches, marks included, with their data as it is stored.
    kept: Vec<(Batch, Vec<u8>)>,
    /// Whether the data of all kept batches checks. That of vouched batches is not looked at by recovery.
    data_checks: bool,
}

/// See the module.
pub fn run(input: &[u8]) {
    let Some((mode, window, mut files)) = files_of(input) else {
        return;
    };
    if !mode.is_raw() {
        repair::segment_header(&mut files.meta);
        repair::frames(&mut files.meta, Some(&files.data), mode);
    }
    let block = files.meta.get(..BLOCK_BYTES).unwrap_or(&files.meta);
    let header = match SegmentHeader::check(block) {
        Ok(header) => header,
        Err(error) => {
            let beyond = files.meta.iter().skip(BLOCK_BYTES).any(|byte| *byte != 0);
            assert!(!Verdict::of_header(&error, beyond).prose().is_empty());
            return;
        }
    };
    let found = recover(&files, &header, 1 << 20);
    let again = recover(&files, &header, window);
    assert_eq!(
        found.recovered, again.recovered,
        "the size of the window changes nothing"
    );
    assert_eq!(found.kept, again.kept, "the size of the window changes nothing");
    check(&found, &header);
    if found.recovered.verdict.is_damaged() {
        let tail = tail(&files.meta, found.recovered.meta_end);
        assert_eq!(
            found.recovered.cut(&tail).count(),
            0,
            "damage is evidence and stays"
        );
        return;
    }
    let cut = cut_and_look_again(files, &header, &found);
    if found.data_checks {
        go_on(cut, &header, &found);
    }
}

fn files_of(input: &[u8]) -> Option<(Mode, u64, Files)> {
    let (head, rest) = input.split_at_checked(6)?;
    let meta_bytes = u32::from_le_bytes(head[2..].try_into().ok()?);
    let window = WINDOW_BYTES[usize::from(head[1]) % WINDOW_BYTES.len()];
    let (meta_part, data_part) = rest.split_at(rest.len().min(usize::try_from(meta_bytes).ok()?));
    let mut meta = meta_part.get(..128).unwrap_or(meta_part).to_vec();
    if let Some(frames) = meta_part.get(128..) {
        meta.resize(BLOCK_BYTES, 0);
        meta.extend_from_slice(frames);
    }
    let mut data = vec![0; BLOCK_BYTES];
    data.extend_from_slice(data_part);
    Some((Mode::new(head[0]), window, Files { meta, data }))
}

/// Drives the scan as the engine does.
fn recover(files: &Files, header: &SegmentHeader, window_bytes: u64) -> Found {
    let mut scan = MetaScan::new(header);
    let mut chain: Vec<Batch> = Vec::new();
    while let Some((at, min_bytes)) = scan.next_read() {
        let window = read(&files.meta, at.get(), min_bytes.max(window_bytes));
        let end_of_file = at.get().saturating_add(window.len() as u64) >= files.meta.len() as u64;
        scan.feed(at, window, end_of_file, &mut |batch| chain.push(batch.clone()));
    }
    let is_bad = |batch: &Batch| {
        batch.data_bytes() > 0 && {
            let stored = read(&files.data, batch.data_at().get(), batch.data_bytes());
            !check_pieces(&stored, batch)
        }
    };
    let bad = scan.unvouched().find(|frame| is_bad(&frame.batch));
    let bad = bad.map(|frame| frame.base_event_id());
    let recovered = scan.finish(bad);
    // Marks at the end of the kept part are kept with it; the frame of the first bad data and all after it are not.
    let kept: Vec<Batch> = chain
        .into_iter()
        .take_while(|batch| batch.is_mark() || Some(batch.base_event_id()) != bad)
        .collect();
    let data_checks = !kept.iter().any(is_bad);
    let with_data = |batch: Batch| {
        let data = read(&files.data, batch.data_at().get(), batch.data_bytes()).to_vec();
        (batch, data)
    };
    Found {
        recovered,
        kept: kept.into_iter().map(with_data).collect(),
        data_checks,
    }
}

/// What holds of any file.
fn check(found: &Found, header: &SegmentHeader) {
    let recovered = &found.recovered;
    assert!(!recovered.verdict.prose().is_empty());
    assert!(recovered.next_event_id >= header.base_event_id());
    assert!(recovered.next_event_id.get() < EVENT_ID_END);
    assert!(recovered.synced_end <= recovered.next_event_id);
    assert!(recovered.meta_end <= recovered.residue_end);
    assert!(recovered.next_incarnation >= header.incarnation());
    let events: u64 = found
        .kept
        .iter()
        .map(|(batch, _)| u64::from(batch.event_count()))
        .sum();
    assert_eq!(
        recovered.event_count, events,
        "the kept batches hold the kept events"
    );
    assert_eq!(
        recovered.next_event_id.since(header.base_event_id()),
        events,
        "ids are dense"
    );
    let mut next = header.base_event_id();
    for (batch, _) in &found.kept {
        assert_eq!(batch.base_event_id(), next, "ids follow each other");
        assert_eq!(
            batch.salt(),
            header.salt(),
            "a frame of another segment is no frame of this one"
        );
        assert_eq!(batch.events().count() as u64, u64::from(batch.event_count()));
        next = batch.end_event_id();
    }
    let first = found.kept.iter().find(|(batch, _)| !batch.is_mark());
    assert_eq!(
        recovered.index.lookup(recovered.next_event_id).is_some(),
        first.is_some(),
        "whatever is kept can be found"
    );
}

/// Carries the cut out, and recovers what is left.
fn cut_and_look_again(mut files: Files, header: &SegmentHeader, found: &Found) -> Files {
    let recovered = &found.recovered;
    let meta_tail = tail(&files.meta, recovered.meta_end);
    for plan in recovered.cut(&meta_tail) {
        write(&mut files.meta, &plan);
    }
    let kept = usize::try_from(recovered.meta_end.get()).unwrap_or(usize::MAX);
    assert!(
        files.meta.iter().skip(kept).all(|byte| *byte == 0),
        "nothing but zeros follows the cut"
    );
    let again = recover(&files, header, 1 << 20);
    check(&again, header);
    assert!(again.kept.len() <= found.kept.len(), "a cut adds nothing");
    assert_eq!(
        again.kept[..],
        found.kept[..again.kept.len()],
        "a cut changes nothing that it keeps"
    );
    // Where the data of a vouched frame rotted and the witness was cut, the second look finds out what the first did
    // not look for.
    if found.data_checks {
        let second = &again.recovered;
        assert!(
            matches!(second.verdict, Verdict::Clean | Verdict::CleanStop),
            "after the cut: {}",
            second.verdict.prose()
        );
        assert_eq!(
            second.next_event_id, recovered.next_event_id,
            "recovering twice is recovering once"
        );
        assert_eq!(
            (second.meta_end, second.data_end, second.event_count),
            (recovered.meta_end, recovered.data_end, recovered.event_count)
        );
        assert_eq!(second.residue_end, second.meta_end);
        assert_eq!(
            (&second.index, &second.producers),
            (&recovered.index, &recovered.producers)
        );
        assert_eq!(again.kept.len(), found.kept.len());
    }
    files
}

/// Adds a batch after the cut, as the next opening does, and finds it again behind all that was kept.
fn go_on(mut files: Files, header: &SegmentHeader, found: &Found) {
    let recovered = &found.recovered;
    let room = EVENT_ID_END - recovered.next_event_id.get();
    let place_max = recovered.data_end.get().max(recovered.meta_end.get());
    if room < 8 || place_max > FILE_BYTES_MAX || recovered.next_incarnation == u32::MAX {
        return;
    }
    let data_end = usize::try_from(recovered.data_end.get()).unwrap_or(usize::MAX);
    if files.data.len() < data_end {
        files.data.resize(data_end, 0);
    }
    let facts = SegmentFacts {
        salt: header.salt(),
        base_event_id: header.base_event_id(),
        incarnation: recovered.next_incarnation,
    };
    let resume = Resume {
        meta_end: recovered.meta_end,
        data_end: recovered.data_end,
        next_event_id: recovered.next_event_id,
        synced_end: recovered.next_event_id,
        meta_tail: tail(&files.meta, recovered.meta_end),
        data_tail: tail(&files.data, recovered.data_end),
    };
    let config = AppenderConfig {
        commits_in_flight_max: 1,
        commit_bytes_max: u64::MAX,
        pipeline_bytes_min: 0,
        meta_pipeline_bytes_min: 0,
        segment_meta_bytes: u64::MAX,
        segment_data_bytes: u64::MAX,
    };
    let mut appender = Appender::resume(config, facts, resume);
    let mut builder = BatchBuilder::new();
    for data in [&b"first"[..], b"", b"third"] {
        builder
            .push(b"{\"added\":true}", [data])
            .expect("three small events fit");
    }
    let (frame, data) = builder.finish(None);
    appender.accept(
        Batch::check_client(frame, data.clone()).expect("what was built checks"),
        9,
    );
    let commit = appender.plan().expect("there is a batch to write");
    write(
        &mut files.meta,
        commit.meta.as_ref().expect("nothing else is under way"),
    );
    write(&mut files.data, commit.data.as_ref().expect("the batch has data"));
    let again = recover(&files, header, 1 << 20);
    assert_eq!(
        again.recovered.next_event_id.since(recovered.next_event_id),
        3,
        "what was added after the cut is there: {}",
        again.recovered.verdict.prose()
    );
    assert_eq!(
        again.kept[..found.kept.len()],
        found.kept[..],
        "and so is all that was kept"
    );
    let (_, added) = &again.kept[found.kept.len()];
    assert_eq!(*added, data);
}

/// The bytes of the block in which `end` is, up to there.
fn tail(file: &[u8], end: FilePos) -> Vec<u8> {
    let start = end.align_down(BLOCK_BYTES as u64);
    let mut tail = read(file, start.get(), end.since(start)).to_vec();
    tail.resize(usize::try_from(end.since(start)).unwrap_or(0), 0);
    tail
}

fn read(file: &[u8], at: u64, bytes: u64) -> Bytes {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(file.len());
    Bytes::copy_from_slice(&file[place(at)..place(at.saturating_add(bytes))])
}

fn write(file: &mut Vec<u8>, plan: &WritePlan) {
    let bytes = usize::try_from(plan.total_bytes()).expect("a plan fits memory");
    let mut buffer = vec![0xa5; bytes];
    plan.fill(&mut buffer);
    let at = usize::try_from(plan.at().get()).expect("a place within the file");
    if file.len() < at + bytes {
        file.resize(at + bytes, 0);
    }
    file[at..at + bytes].copy_from_slice(&buffer);
}
