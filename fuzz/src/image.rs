//! The directory of a partition, whatever is in it: the real engine opens it, reads all that it shows, adds to it, stops
//! and opens it again.
//!
//! Input: mode, then files: which name (see [`NAMES`]; the high bit: the first block is short, as in the target
//! `recover`), bytes of the content (u24), content.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, SimIo};
use mofka_log::{BLOCK_BYTES, Durability, PartitionKind};

use crate::model::{Content, open, read_all, send, spec};
use crate::repair::{self, Mode};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Names that a file can have. Seeds rely on the order.
pub const NAMES: [&str; 16] = [
    "00000000000000000000.meta",
    "00000000000000000000.data",
    "00000000000000000003.meta",
    "00000000000000000003.data",
    "00000000000000000008.meta",
    "00000000000000000008.data",
    "cursors",
    "cursors.new",
    "00000000000000000020.meta",
    "00000000000000000020.data",
    "09223372036854775807.meta",
    "18446744073709551615.meta",
    "next.meta",
    "next.data",
    "free-0.data",
    "lost+found",
];
/// Set in the byte of the name: the rest of the first block is left out.
pub const SHORT_FIRST_BLOCK: u8 = 0x80;
/// A partition that says it is larger than this gets nothing added: the simulated disk holds files in memory.
const USED_BYTES_MAX: u64 = 4 << 20;

/// See the module.
pub fn run(input: &[u8]) {
    let Some((mode, files)) = input.split_first() else {
        return;
    };
    let files = files_of(Mode::new(*mode), files);
    let has_stray = has_stray(&files);
    // The simulated machine may keep files in a form of its own.
    #[allow(clippy::useless_conversion)]
    let image: Image = files
        .into_iter()
        .map(|(path, file)| (path, file.into()))
        .collect();
    let io = SimIo::immediate(&image);
    if let Ok(partition) = open(&io, spec(PartitionKind::Default, Durability::Synced)) {
        opened(&io, &partition, has_stray);
    }
    io.shut_down();
}

/// The input that gives this image, for seeds: files under other names are left out.
pub fn input_of(image: &Image) -> Vec<u8> {
    let mut input = vec![0];
    for (path, content) in image {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(place) = NAMES.iter().position(|known| Some(*known) == name) else {
            continue;
        };
        let (first, rest) = content.split_at(content.len().min(BLOCK_BYTES));
        let short = [&first[..first.len().min(128)], rest].concat();
        input.push(place as u8 | SHORT_FIRST_BLOCK);
        input.extend_from_slice(&(short.len() as u32).to_le_bytes()[..3]);
        input.extend_from_slice(&short);
    }
    input
}

fn files_of(mode: Mode, mut rest: &[u8]) -> Files {
    let dir = PathBuf::from("/p");
    let mut files = Files::new();
    while let Some((&[name, a, b, c], after)) = rest.split_first_chunk::<4>() {
        let bytes = u32::from_le_bytes([a, b, c, 0]) as usize;
        let (content, after) = after.split_at(bytes.min(after.len()));
        rest = after;
        let mut file = content.to_vec();
        if name & SHORT_FIRST_BLOCK != 0
            && let Some((first, frames)) = content.split_at_checked(128)
        {
            file = first.to_vec();
            file.resize(BLOCK_BYTES, 0);
            file.extend_from_slice(frames);
        }
        files.insert(dir.join(NAMES[usize::from(name & 15)]), file);
    }
    if !mode.is_raw() {
        let datas = files.clone();
        for (path, file) in &mut files {
            repair::segment_header(file);
            if path.extension().is_some_and(|end| end == "data") {
                continue;
            }
            let data = datas.get(&path.with_extension("data"));
            repair::frames(file, data.map(Vec::as_slice), mode);
            if let Some(at) = footer_at(file) {
                repair::footer(&mut file[at..]);
            }
        }
    }
    files
}

fn footer_at(file: &[u8]) -> Option<usize> {
    let blocks = (BLOCK_BYTES..file.len()).step_by(BLOCK_BYTES);
    blocks.rev().find(|at| file[*at..].starts_with(b"MFF1"))
}

/// Whether a segment seems to be in the making: the engine passes over such a file, wherever it is, and takes its name
/// for a segment's again when it opens the next time.
fn has_stray(files: &Files) -> bool {
    let in_the_making = |(path, file): (&PathBuf, &Vec<u8>)| {
        path.extension().is_some_and(|end| end == "meta") && file.len() <= BLOCK_BYTES
    };
    files.iter().any(in_the_making)
}

fn opened(io: &SimIo, partition: &Rc<Partition<SimIo>>, has_stray: bool) {
    assert!(!partition.verdict().prose().is_empty());
    let ends = partition.ends();
    assert!(partition.trim_end() <= ends.synced_end && ends.synced_end <= ends.written_end);
    assert!(partition.visible_end() <= ends.appended_end);
    let before = io.block_on(read_all(Rc::clone(partition)));
    let cursor = partition.cursor("reader");
    if partition.used_bytes() > USED_BYTES_MAX {
        return;
    }
    let events: Vec<Content> = vec![
        (b"{\"n\":1}".to_vec(), b"data".to_vec()),
        (b"{}".to_vec(), Vec::new()),
    ];
    let sent = send(partition, events.clone(), (0xfa22, 0, 0));
    while io.is_busy() {
        io.step();
    }
    let stopping = Rc::clone(partition);
    io.block_on(async move { stopping.stop().await });
    let Some(appended) = sent.acknowledged() else {
        return;
    };
    assert!(
        partition.read_only().is_none(),
        "a read-only partition takes nothing"
    );
    let Ok(before) = before else {
        // Something that opening does not look at is damaged: reading says so, and adding goes on behind it.
        return;
    };
    if has_stray {
        return;
    }
    let base = appended.base_event_id.get();
    let again = SimIo::immediate(&io.settled());
    let reopened = open(&again, spec(PartitionKind::Default, Durability::Synced))
        .unwrap_or_else(|error| panic!("what was closed in order does not open: {error}"));
    assert_eq!(reopened.read_only(), None);
    assert_eq!(
        reopened.cursor("reader"),
        cursor,
        "a cursor survives an orderly stop"
    );
    let after = again
        .block_on(read_all(Rc::clone(&reopened)))
        .unwrap_or_else(|error| panic!("what could be read before cannot be read now: {error}"));
    for (id, content) in &before {
        assert_eq!(after.get(id), Some(content), "event {id} was there before");
    }
    if !appended.duplicate {
        for (id, content) in (base..).zip(&events) {
            assert_eq!(after.get(&id), Some(content), "event {id} was acknowledged");
        }
    }
    again.shut_down();
}
