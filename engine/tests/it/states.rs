//! What is logged when the state of a partition changes: one line, with its reason.

use std::io::Write;
use std::sync::{Arc, Mutex};

use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, SimIo};
use mofka_log::{Durability, PartitionKind};
use std::rc::Rc;

use crate::model::{batch, open, spec};

/// Where a log goes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// The states that were told so far, in order.
    fn states(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let state = |line: &str| Some(line.split_once("state=\"")?.1.split('"').next()?.to_owned());
        text.lines().filter_map(state).collect()
    }
}

fn logged(work: impl FnOnce(&Lines)) {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(log, || work(&lines));
}

fn append(partition: &Rc<Partition<SimIo>>, bytes: usize) {
    let content = vec![(b"{}".to_vec(), vec![7; bytes])];
    partition.append(batch(&content, None), None, Box::new(|_| ()));
    partition.kick();
}

fn settle(io: &SimIo) {
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
}

#[test]
fn a_full_disk_is_told_once_and_so_is_room_again() {
    logged(|lines| {
        let io = SimIo::stepping(&Image::new(), 1);
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
        append(&partition, 1000);
        settle(&io);
        assert_eq!(lines.states(), [] as [&str; 0]);
        io.set_room(Some(0));
        for _ in 0..4 {
            append(&partition, 1 << 20);
            settle(&io);
        }
        assert_eq!(lines.states(), ["full"]);
        io.set_room(None);
        for _ in 0..4 {
            append(&partition, 1 << 20);
            settle(&io);
        }
        assert_eq!(lines.states(), ["full", "healed"]);
    });
}

#[test]
fn a_poisoned_partition_is_told_once_with_its_reason() {
    logged(|lines| {
        let io = SimIo::stepping(&Image::new(), 1);
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
        io.fail_sync(0);
        for _ in 0..5 {
            append(&partition, 10);
            settle(&io);
        }
        assert!(partition.poison().is_some());
        assert_eq!(lines.states(), ["poisoned"]);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("ERROR") && text.contains("syncing"), "{text}");
    });
}

#[test]
fn complete_and_deleted_are_told_once() {
    logged(|lines| {
        let io = SimIo::immediate(&Image::new());
        let partition = open(&io, spec(PartitionKind::Memory, Durability::Buffered)).unwrap();
        partition.set_complete();
        partition.set_complete();
        let deleted = Rc::clone(&partition);
        io.block_on(async move { deleted.delete().await });
        assert_eq!(lines.states(), ["complete", "deleted"]);
    });
}
