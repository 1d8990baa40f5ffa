//! Events whose data is larger than memory, or comes bit by bit.

use std::ffi::{c_char, c_void};
use std::io::{Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mofka_client::{DataReader, DataWriter, Metadata};

use crate::border::{bytes_of, free, give, handle_place, needed, place, room_of};
use crate::descriptor::mofka_descriptor;
use crate::event::{event_of, mofka_event};
use crate::fork::Owner;
use crate::producer::{mofka_producer, owned_producer, partition};
use crate::status::{
    Failure, MOFKA_ERROR_CLOSED, MOFKA_ERROR_DATA, MOFKA_ERROR_INVALID_VIEW, MOFKA_ERROR_NO_SPACE,
    MOFKA_ERROR_UNREACHABLE, complete, mofka_status, quietly,
};

/// Writes the data of one event as it comes. One thread at a time works with it; others wait for it.
pub struct mofka_writer {
    /// None when it is finished.
    writer: Mutex<Option<DataWriter>>,
    owner: Owner,
}

/// Reads the data of one event in pieces. One thread at a time works with it; others wait for it.
pub struct mofka_reader {
    reader: Mutex<DataReader>,
    owner: Owner,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of this library was told to who caused it; what is inside is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn io_failure(error: &std::io::Error) -> Failure {
    let status = match error.kind() {
        std::io::ErrorKind::StorageFull => MOFKA_ERROR_NO_SPACE,
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::ConnectionAborted => MOFKA_ERROR_UNREACHABLE,
        std::io::ErrorKind::InvalidInput => return Failure::argument(error.to_string()),
        _ => MOFKA_ERROR_DATA,
    };
    Failure::new(status, error.to_string())
}

fn finished() -> Failure {
    Failure::new(MOFKA_ERROR_CLOSED, "the stream is finished: begin another event")
}

/// Begins an event whose data is written in pieces. It gets its place among the events when it is finished; the topic's validator
/// sees no data. The partition must not be one in memory.
///
/// `metadata` and `partition` as of `mofka_producer_push`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_producer_push_stream(
    producer: Option<&mofka_producer>,
    metadata: *const c_char,
    metadata_bytes: usize,
    partition: i64,
    writer: Option<&mut MaybeUninit<*mut mofka_writer>>,
) -> mofka_status {
    complete(|| {
        let writer = handle_place(writer, "writer")?;
        // SAFETY: so many bytes, as the caller promises.
        let metadata = match unsafe { bytes_of(metadata.cast(), metadata_bytes, "metadata") }? {
            [] => Metadata::default(),
            text => Metadata::from(Bytes::copy_from_slice(text)),
        };
        let (producer, owner) = owned_producer(producer)?;
        let opened = producer.push_stream(metadata, self::partition(partition))?;
        let made = mofka_writer {
            writer: Mutex::new(Some(opened)),
            owner,
        };
        give(writer, made);
        Ok(())
    })
}

/// Writes all of these bytes, after those before. After an error there is nothing more to do with the stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_writer_write(
    writer: Option<&mofka_writer>,
    start: *const c_void,
    bytes: usize,
) -> mofka_status {
    complete(|| {
        let writer = needed(writer, "writer")?;
        writer.owner.check()?;
        // SAFETY: so many bytes, as the caller promises.
        let bytes = unsafe { bytes_of(start, bytes, "start") }?;
        let mut writer = lock(&writer.writer);
        let written = writer.as_mut().ok_or_else(finished)?.write_all(bytes);
        written.map_err(|error| io_failure(&error))
    })
}

/// Bytes that were written so far; 0 when it is finished.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_writer_bytes(writer: Option<&mofka_writer>) -> u64 {
    quietly(0, || match writer {
        Some(writer) if !writer.owner.is_elsewhere() => {
            lock(&writer.writer).as_ref().map_or(0, DataWriter::data_bytes)
        }
        _ => 0,
    })
}

/// Makes the event of what was written, and waits until it is as durable as asked. `event_id`: gets its id; may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_writer_finish(
    writer: Option<&mofka_writer>,
    event_id: Option<&mut MaybeUninit<u64>>,
) -> mofka_status {
    complete(|| {
        let writer = needed(writer, "writer")?;
        writer.owner.check()?;
        let taken = lock(&writer.writer).take();
        let id = taken.ok_or_else(finished)?.finish()?;
        if let Some(place) = event_id {
            place.write(id.get());
        }
        Ok(())
    })
}

/// Frees the handle. Of an event that is not finished, nothing is stored.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_writer_free(writer: Option<Box<mofka_writer>>) {
    free(writer);
}

/// Opens an event's data at the node, to be read in pieces: what was selected of it, and all of it when nothing was. Does not need
/// the consumer any more.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_open_data(
    event: Option<&mofka_event>,
    reader: Option<&mut MaybeUninit<*mut mofka_reader>>,
) -> mofka_status {
    complete(|| {
        let reader = handle_place(reader, "reader")?;
        let (event, owner) = event_of(event)?;
        let made = mofka_reader {
            reader: Mutex::new(event.open_data()),
            owner,
        };
        give(reader, made);
        Ok(())
    })
}

/// The same of a view of its data, whatever was selected when it was pulled: of `mofka_event_whole`, or a view of that. Nothing is to
/// be read of an empty one. `MOFKA_ERROR_INVALID_VIEW` when it is a view of other data.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_open_view(
    event: Option<&mofka_event>,
    view: Option<&mofka_descriptor>,
    reader: Option<&mut MaybeUninit<*mut mofka_reader>>,
) -> mofka_status {
    complete(|| {
        let reader = handle_place(reader, "reader")?;
        let (event, owner) = event_of(event)?;
        let view = needed(view, "view")?;
        let opened = event.open_view(&view.0).ok_or_else(|| {
            let id = event.id();
            Failure::new(
                MOFKA_ERROR_INVALID_VIEW,
                format!("the descriptor is not one of event {id}'s data"),
            )
        })?;
        let made = mofka_reader {
            reader: Mutex::new(opened),
            owner,
        };
        give(reader, made);
        Ok(())
    })
}

fn reader_of(reader: Option<&mofka_reader>) -> Result<MutexGuard<'_, DataReader>, Failure> {
    let reader = needed(reader, "reader")?;
    reader.owner.check()?;
    Ok(lock(&reader.reader))
}

/// Reads the next bytes: as many as there is room for, fewer only at the end. After an error reading goes on where it stopped.
///
/// `read_bytes`: gets how many these were, also with an error; 0 at the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_reader_read(
    reader: Option<&mofka_reader>,
    into: *mut c_void,
    room_bytes: usize,
    read_bytes: Option<&mut MaybeUninit<usize>>,
) -> mofka_status {
    complete(|| {
        let count = place(read_bytes, "read_bytes")?.write(0);
        let mut reader = reader_of(reader)?;
        // SAFETY: room for so many bytes, as the caller promises.
        let room = unsafe { room_of(into.cast::<u8>(), room_bytes, "into") }?;
        // What is given to a reader has to be initialized.
        room.fill(MaybeUninit::new(0));
        // SAFETY: it was filled just now, and `room` is not used any more.
        let room = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<u8>(), room.len()) };
        while *count < room.len() {
            match reader.read(&mut room[*count..]) {
                Ok(0) => break,
                Ok(bytes) => *count += bytes,
                Err(error) => return Err(io_failure(&error)),
            }
        }
        Ok(())
    })
}

/// Goes to this byte of what there is to read. Beyond the end there is nothing to read.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_reader_seek(reader: Option<&mofka_reader>, offset: u64) -> mofka_status {
    complete(|| {
        let sought = reader_of(reader)?.seek(SeekFrom::Start(offset));
        sought.map(|_| ()).map_err(|error| io_failure(&error))
    })
}

/// Bytes that there are to read in all.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_reader_bytes(reader: Option<&mofka_reader>) -> u64 {
    quietly(0, || reader_of(reader).map_or(0, |reader| reader.data_bytes()))
}

/// Frees the handle.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_reader_free(reader: Option<Box<mofka_reader>>) {
    free(reader);
}
