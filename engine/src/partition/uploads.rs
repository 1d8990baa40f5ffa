//! Events whose data comes in parts, before they have ids.
//!
//! The data goes to a file of its own, at the places where it will stay, while batches of others enter the partition as
//! ever. When all of it is there, the segment is rolled, the file becomes the data file of the next one, and the event its
//! first: nothing is copied, and nothing but a checksum for each 64 KiB is held in memory. Until its frame is written it is
//! a file that nobody knows; the next opening removes it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use bytes::{Buf, Bytes};
use event_listener::Event;
use mofka_log::{AckAt, BLOCK_BYTES, Batch, BatchError, Durability, FilePos, PIECE_BYTES, StreamedData};
use mofka_net::{ErrorCode, WireError};

use super::accepting::{Admitted, answer};
use super::memory::ShardMemory;
use super::store::AdoptError;
use super::{AppendDone, Appended, Partition};
use crate::io::{FileWrite, IN_PLACE_BYTES, Io, IoFile, Then, WritePart};
use crate::room::{Need, NoRoom, is_full};

/// Blocks of the device are taken so far ahead of the data.
const AHEAD_BYTES: u64 = 64 << 20;

/// Where the data begins in its file: after the block of the header.
const DATA_AT: u64 = BLOCK_BYTES as u64;

/// The streams of a partition.
pub(super) struct Uploads<I: Io> {
    /// Those that take parts.
    open: RefCell<BTreeMap<u64, Rc<Upload<I>>>>,
    /// Those whose commit is under way.
    committing: RefCell<BTreeSet<u64>>,
}

impl<I: Io> Default for Uploads<I> {
    fn default() -> Self {
        Self {
            open: RefCell::default(),
            committing: RefCell::default(),
        }
    }
}

/// One event's data on its way. See the module.
pub struct Upload<I: Io> {
    io: I,
    stream: u64,
    path: PathBuf,
    file: Rc<I::File>,
    memory: Rc<ShardMemory>,
    state: RefCell<State>,
    allocated: Cell<Allocated>,
    changed: Event,
}

#[derive(Default)]
struct State {
    data: StreamedData,
    /// What follows the last whole block.
    tail: Bytes,
    in_flight: usize,
    /// Why it takes no more parts.
    failed: Option<WireError>,
}

/// How far the file has its blocks, and whether it is about to get more.
#[derive(Clone, Copy)]
struct Allocated {
    end: u64,
    is_growing: bool,
}

impl<I: Io> Drop for Upload<I> {
    fn drop(&mut self) {
        self.memory.end_stream();
    }
}

impl<I: Io> Upload<I> {
    /// The number by which it is known.
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// Takes the next part; the future gives where it ends when it is written. Parts that follow each other are written side
    /// by side.
    ///
    /// # Errors
    /// When it is not the part that follows, there is too much data, or an earlier part could not be written. The future: when
    /// this one could not be; then nothing of the stream is kept.
    pub fn write(
        self: &Rc<Self>,
        offset: u64,
        data: Bytes,
    ) -> Result<impl Future<Output = Result<u64, WireError>> + use<I>, WireError> {
        let end = self.take(offset, &data)?;
        self.state.borrow_mut().in_flight += 1;
        let me = Rc::clone(self);
        Ok(async move {
            let written = me.store(offset, data).await;
            me.state.borrow_mut().in_flight -= 1;
            let Err(error) = written else { return Ok(end) };
            let code = match is_full(&error) {
                true => ErrorCode::NoSpace,
                false => ErrorCode::Internal,
            };
            let message = format!(
                "bytes {offset} to {end} of stream {} could not be written to {}: {error}; nothing of it is kept",
                me.stream,
                me.path.display()
            );
            let error = WireError::new(code, message);
            let error = me.state.borrow_mut().failed.get_or_insert(error).clone();
            // Its blocks are wanted back.
            me.discard().await;
            Err(error)
        })
    }

    fn take(&self, offset: u64, data: &Bytes) -> Result<u64, WireError> {
        let mut state = self.state.borrow_mut();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let end = state.data.bytes();
        if offset != end || !end.is_multiple_of(PIECE_BYTES as u64) {
            let message = match offset == end {
                false => format!(
                    "a part at {offset} does not follow: {end} bytes of stream {} came",
                    self.stream
                ),
                true => format!(
                    "the last part of stream {} came before: it ends at {end}",
                    self.stream
                ),
            };
            return Err(WireError::new(ErrorCode::InvalidArgument, message));
        }
        let pushed = state.data.push(data);
        pushed.map_err(|error| WireError::new(ErrorCode::TooLarge, error.to_string()))?;
        let mut tail = data.clone();
        tail.advance(data.len() - data.len() % BLOCK_BYTES);
        // Of its own: the part may go.
        state.tail = Bytes::copy_from_slice(&tail);
        Ok(state.data.bytes())
    }

    async fn store(&self, offset: u64, data: Bytes) -> std::io::Result<()> {
        let at = FilePos::new(DATA_AT + offset);
        let blocks = data.len().next_multiple_of(BLOCK_BYTES);
        self.allocate(at.get() + blocks as u64).await?;
        let in_place = data.as_ptr().addr().is_multiple_of(IN_PLACE_BYTES) && data.len() == blocks;
        let part = match in_place {
            true => WritePart::InPlace(data),
            false => {
                let mut buf = self.io.alloc(blocks);
                let (front, rest) = buf.as_mut().split_at_mut(data.len());
                front.copy_from_slice(&data);
                rest.fill(0);
                WritePart::Own(buf)
            }
        };
        let write = FileWrite {
            file: Rc::clone(&self.file),
            at,
            parts: vec![part],
        };
        let written = self.io.write(vec![write], Then::Nothing).await;
        written.map_err(|error| error.source)
    }

    /// Takes blocks up to `end` and some more, so that a full device is found before anything is written.
    async fn allocate(&self, end: u64) -> std::io::Result<()> {
        loop {
            let listener = self.changed.listen();
            let Allocated { end: has, is_growing } = self.allocated.get();
            if has >= end {
                return Ok(());
            }
            if is_growing {
                listener.await;
                continue;
            }
            self.allocated.set(Allocated {
                end: has,
                is_growing: true,
            });
            let from = FilePos::new(has);
            let ahead = end.max(has + AHEAD_BYTES.min(has));
            let mut grown = self
                .file
                .allocate(from, FilePos::new(ahead))
                .await
                .map(|()| ahead);
            if grown.as_ref().is_err_and(is_full) {
                grown = self.file.allocate(from, FilePos::new(end)).await.map(|()| end);
            }
            let now = *grown.as_ref().unwrap_or(&has);
            self.allocated.set(Allocated {
                end: now,
                is_growing: false,
            });
            self.changed.notify(usize::MAX);
            grown?;
        }
    }

    /// Nothing of it is kept.
    async fn discard(&self) {
        self.state
            .borrow_mut()
            .failed
            .get_or_insert_with(|| unknown(self.stream));
        if let Err(error) = self.io.remove(&self.path).await {
            tracing::warn!(path = %self.path.display(), %error, "could not be removed; the next start tries again");
        }
    }
}

impl<I: Io> Partition<I> {
    /// Begins an event whose data comes in parts.
    ///
    /// # Errors
    /// When the partition takes no events, keeps them in memory, or the shard has too many streams; when there is no room.
    pub async fn begin_upload(&self) -> Result<Rc<Upload<I>>, WireError> {
        self.refuse_if_unable()?;
        let spec = &self.spec;
        let Some(store) = &self.store else {
            let message = format!(
                "partition {} of topic {} keeps its events in memory: it takes none whose data comes in parts",
                spec.record.index, spec.topic.name
            );
            return Err(WireError::new(ErrorCode::InvalidArgument, message));
        };
        if !self.memory.begin_stream() {
            let most = self.memory.streams_max();
            let message =
                format!("{most} streams are open on this shard, which is the limit (`shard_streams_max`)");
            return Err(WireError::new(ErrorCode::Overloaded, message));
        }
        // Numbers in JSON are exact up to 2^53.
        let stream = self.io.random_u64() >> 11;
        let path = store.incoming_path(stream);
        let created = self.io.create(&path).await;
        let file = created.map_err(|error| {
            self.memory.end_stream();
            let code = match is_full(&error) {
                true => ErrorCode::NoSpace,
                false => ErrorCode::Internal,
            };
            WireError::new(code, format!("creating {}: {error}", path.display()))
        })?;
        let upload = Rc::new(Upload {
            io: self.io.clone(),
            stream,
            path,
            file: Rc::new(file),
            memory: Rc::clone(&self.memory),
            state: RefCell::default(),
            allocated: Cell::new(Allocated {
                end: BLOCK_BYTES as u64,
                is_growing: false,
            }),
            changed: Event::new(),
        });
        // It may have begun to stop while the file was made.
        if let Err(error) = self.refuse_if_unable() {
            upload.discard().await;
            return Err(error);
        }
        self.uploads.open.borrow_mut().insert(stream, Rc::clone(&upload));
        Ok(upload)
    }

    /// Gives a stream up; one that is not known, or is being committed, is left alone.
    pub async fn abort_upload(&self, stream: u64) {
        let upload = self.uploads.open.borrow_mut().remove(&stream);
        if let Some(upload) = upload {
            upload.discard().await;
        }
    }

    pub(super) async fn abort_uploads(&self) {
        let open = self.uploads.open.take();
        for upload in open.into_values() {
            upload.discard().await;
        }
    }

    /// Makes an event of a stream's data, of which `frame` is the frame and has `bytes` bytes. The same commit again gets the first
    /// answer again, also when its stream is not known any more.
    ///
    /// # Errors
    /// When the stream is not known, its data is not what the frame says, or the event cannot be taken. Nothing of it is
    /// kept then.
    pub async fn commit_upload(
        &self,
        stream: u64,
        bytes: u64,
        frame: Bytes,
        asked: Option<Durability>,
    ) -> Result<Appended, WireError> {
        loop {
            let listener = self.listen();
            if !self.uploads.committing.borrow().contains(&stream) {
                break;
            }
            listener.await;
        }
        let upload = self.uploads.open.borrow_mut().remove(&stream);
        let Some(upload) = upload else {
            return self.committed_before(stream, frame, asked).await;
        };
        self.uploads.committing.borrow_mut().insert(stream);
        let outcome = self.store_upload(&upload, bytes, frame, asked).await;
        if !outcome.as_ref().is_ok_and(|appended| !appended.duplicate) {
            upload.discard().await;
        }
        self.uploads.committing.borrow_mut().remove(&stream);
        self.wake();
        outcome
    }

    /// The answer to a commit whose stream is gone.
    async fn committed_before(
        &self,
        stream: u64,
        frame: Bytes,
        asked: Option<Durability>,
    ) -> Result<Appended, WireError> {
        let batch = Batch::check(frame, None).map_err(|error| bad_batch(stream, &error))?;
        let Some(again) = self.find_again(&batch, asked) else {
            return Err(unknown(stream));
        };
        answered(|done| self.again(again, done)).await
    }

    async fn store_upload(
        &self,
        upload: &Rc<Upload<I>>,
        bytes: u64,
        frame: Bytes,
        asked: Option<Durability>,
    ) -> Result<Appended, WireError> {
        let batch = {
            let mut state = upload.state.borrow_mut();
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            // From here on the file belongs to the log: a part would land among what others write behind the event.
            state.failed = Some(unknown(upload.stream));
            let came = state.data.bytes();
            if state.in_flight > 0 || came != bytes {
                let message = format!(
                    "stream {} was committed with {bytes} bytes; {came} came, and {} parts are not written yet",
                    upload.stream, state.in_flight
                );
                return Err(WireError::new(ErrorCode::InvalidArgument, message));
            }
            Batch::check_streamed(frame, &state.data).map_err(|error| bad_batch(upload.stream, &error))?
        };
        self.validate(&batch)?;
        match self.admit(&batch, asked)? {
            Admitted::New { .. } => {}
            Admitted::Again(again) => return answered(|done| self.again(again, done)).await,
        }
        if batch.data_bytes() == 0 {
            let batch = batch.with_data(Bytes::new());
            let batch = batch.map_err(|error| bad_batch(upload.stream, &error))?;
            let appended = answered(|done| {
                self.append(batch, asked, done);
                self.kick();
            });
            let appended = appended.await;
            upload.discard().await;
            return appended;
        }
        let Some(room) = &self.room else {
            return Err(unknown(upload.stream));
        };
        let need = Need {
            // And for the mark that follows.
            frame_bytes: batch.frame_bytes() + BLOCK_BYTES as u64,
            data_bytes: 0,
        };
        let appended = answered(|done| {
            let (me, upload) = (self.me.clone(), Rc::clone(upload));
            let enter = move |outcome: Result<(), NoRoom>| -> crate::room::Work<()> {
                Box::pin(async move {
                    let Some(partition) = me.upgrade() else { return };
                    match outcome {
                        Ok(()) => partition.enter_upload(&upload, batch, asked, done).await,
                        Err(no_room) => done(Err(partition.no_room(&no_room))),
                    }
                })
            };
            room.enter_alone(need, Box::new(enter));
        });
        let appended = appended.await?;
        self.vouch_for(appended);
        Ok(appended)
    }

    /// Takes the event into the segment that is written, which has no events. Everybody else waits.
    async fn enter_upload(
        &self,
        upload: &Upload<I>,
        batch: Batch,
        asked: Option<Durability>,
        done: AppendDone,
    ) {
        let at = match self.admit(&batch, asked) {
            Err(error) => return done(Err(error)),
            Ok(Admitted::Again(again)) => return self.again(again, done),
            Ok(Admitted::New { at }) => at,
        };
        let Some((store, room)) = self.store.as_ref().zip(self.room.as_ref()) else {
            return done(Err(unknown(upload.stream)));
        };
        let end = FilePos::new(DATA_AT + batch.data_bytes());
        let tail = upload.state.borrow().tail.to_vec();
        match store.adopt_data(&upload.file, &upload.path, end, tail).await {
            Ok(file_end) => room.installed_data(file_end),
            Err(AdoptError::Refused(error)) => {
                let code = match is_full(&error) {
                    true => ErrorCode::NoSpace,
                    false => ErrorCode::Internal,
                };
                let message = format!("making the data of stream {} durable: {error}", upload.stream);
                return done(Err(WireError::new(code, message)));
            }
            Err(AdoptError::Failed(reason)) => {
                store.committer().fail(reason.clone());
                return done(Err(WireError::new(ErrorCode::Poisoned, reason)));
            }
        }
        // An error elsewhere may have poisoned it meanwhile.
        if let Err(error) = self.refuse_if_unable() {
            return done(Err(error));
        }
        self.accept_stored(batch, at, done);
        store.committer().kick();
    }

    fn accept_stored(&self, batch: Batch, at: AckAt, done: AppendDone) {
        let Some(store) = &self.store else { return };
        self.note_accepted(&batch);
        let (place, event_count) = (batch.place(), batch.event_count());
        let base_event_id = store.committer().ends().appended_end;
        let appended = Appended {
            base_event_id,
            event_count,
            duplicate: false,
        };
        // Before: whoever is answered may ask again.
        if let Some(place) = place {
            self.producers
                .borrow_mut()
                .note(place, base_event_id, event_count);
        }
        store.committer().accept_stored(batch, at, answer(appended, done));
    }

    /// Writes a witness as soon as the event is durable: without one, all of its data would be read at the next start.
    fn vouch_for(&self, appended: Appended) {
        let me = self.me.clone();
        self.io.spawn(async move {
            let Some(partition) = me.upgrade() else { return };
            let Some((store, room)) = partition.store.as_ref().zip(partition.room.as_ref()) else {
                return;
            };
            let count = u64::from(appended.event_count);
            let Some(end) = appended.base_event_id.checked_add(count) else {
                return;
            };
            let synced = answered(|done| {
                store
                    .committer()
                    .wait_for(end, AckAt::Synced, answer(appended, done))
            });
            if synced.await.is_ok() && !partition.stopping.get() && room.has_room_for_mark() {
                store.committer().mark(false).await;
            }
        });
    }
}

/// Waits for the answer that `ask` is given the way for.
async fn answered(ask: impl FnOnce(AppendDone)) -> Result<Appended, WireError> {
    let slot = Rc::new((RefCell::new(None), Event::new()));
    let answer = Rc::clone(&slot);
    ask(Box::new(move |outcome| {
        *answer.0.borrow_mut() = Some(outcome);
        answer.1.notify(usize::MAX);
    }));
    loop {
        let listener = slot.1.listen();
        if let Some(outcome) = slot.0.borrow_mut().take() {
            return outcome;
        }
        listener.await;
    }
}

fn unknown(stream: u64) -> WireError {
    let message = format!(
        "there is no stream {stream}: it was given up or ended with its connection, and nothing of it is stored"
    );
    WireError::new(ErrorCode::UnknownStream, message)
}

fn bad_batch(stream: u64, error: &BatchError) -> WireError {
    let code = match error.is_checksum() {
        true => ErrorCode::BadChecksum,
        false => ErrorCode::Malformed,
    };
    WireError::new(code, format!("the event of stream {stream}: {error}"))
}
