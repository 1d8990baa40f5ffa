//! An event's data that comes in pieces and is never held as a whole.

use bytes::Bytes;

use super::Batch;
use super::builder::{BatchBuilder, Piece};
use super::error::BatchError;
use super::header::BatchPlace;
use crate::ids::ProducerId;
use crate::le::Le32;
use crate::limits::EVENT_DATA_BYTES_MAX;
use crate::width::wide;

/// Counts and checksums one event's data as it passes: four bytes are kept for each 64 KiB. The client makes the event's
/// frame of it, and the server holds that against what it got.
#[derive(Clone, Debug, Default)]
pub struct StreamedData {
    bytes: u64,
    pieces: Vec<Le32>,
    piece: Piece,
}

impl StreamedData {
    /// Nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Looks at the next bytes, however many. Nothing is taken when this fails.
    ///
    /// # Errors
    /// When there would be more than [`EVENT_DATA_BYTES_MAX`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        let (field, value, max) = (
            "data_bytes",
            self.bytes.saturating_add(wide(bytes.len())),
            EVENT_DATA_BYTES_MAX,
        );
        if value > max {
            return Err(BatchError::TooLarge { field, value, max });
        }
        self.bytes = value;
        self.piece.take(bytes, &mut self.pieces);
        Ok(())
    }

    pub(super) fn into_pieces(self) -> Vec<Le32> {
        let mut pieces = self.pieces;
        self.piece.finish(&mut pieces);
        pieces
    }

    /// The frame of the event with this data, as it is sent. `producer`: as in [`BatchBuilder::finish`].
    ///
    /// # Errors
    /// When the metadata is more than [`crate::METADATA_BLOCK_BYTES_MAX`].
    pub fn frame(
        self,
        metadata: &[u8],
        producer: Option<(ProducerId, u32, u64)>,
    ) -> Result<Bytes, BatchError> {
        self.frame_at(metadata, producer.map(BatchPlace::from))
    }

    /// The same, at a place that may be one in the producer's source.
    ///
    /// # Errors
    /// As [`StreamedData::frame`].
    pub fn frame_at(self, metadata: &[u8], place: Option<BatchPlace>) -> Result<Bytes, BatchError> {
        let bytes = self.bytes;
        BatchBuilder::streamed(metadata, bytes, self.into_pieces(), place)
    }

    /// Holds a batch of one event against what came.
    pub(super) fn check(&self, batch: &Batch) -> Result<(), BatchError> {
        let (expected_bytes, have_bytes) = (batch.data_bytes(), self.bytes);
        if expected_bytes != have_bytes {
            return Err(BatchError::DataLength {
                expected_bytes,
                have_bytes,
            });
        }
        let mut last = Vec::new();
        self.piece.clone().finish(&mut last);
        let came = self.pieces.iter().chain(&last);
        let said = batch.table().pieces;
        let differs = (0_u64..)
            .zip(came.zip(said))
            .find(|(_, (came, said))| came.get() != said.get());
        match differs {
            None => Ok(()),
            Some((piece, _)) => Err(BatchError::DataChecksum { index: 0, piece }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::DATA_BATCH_BYTES_MAX;

    const PRODUCER: Option<(ProducerId, u32, u64)> = Some((ProducerId::new(9), 1, 0));

    fn data(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n * 13 % 241) as u8).collect()
    }

    #[test]
    fn its_frame_is_that_of_the_same_event_sent_as_a_whole() {
        for len in [0, 1, 65_535, 65_536, 65_537, 300_000] {
            let data = data(len);
            let mut whole = BatchBuilder::new();
            whole.push(b"{\"a\":1}", [&data[..]]).unwrap();
            let (frame, _) = whole.finish(PRODUCER);
            let mut streamed = StreamedData::new();
            for part in data.chunks(10_007) {
                streamed.push(part).unwrap();
            }
            assert_eq!(streamed.bytes(), len as u64);
            assert_eq!(streamed.frame(b"{\"a\":1}", PRODUCER).unwrap(), frame);
        }
    }

    #[test]
    fn a_batch_whose_last_data_was_only_seen_is_that_of_all_data_given() {
        for len in [0, 1, 65_536, 200_001] {
            let data = data(len);
            let (mut whole, mut seen) = (BatchBuilder::new(), BatchBuilder::new());
            for builder in [&mut whole, &mut seen] {
                builder.push(b"{}", [&b"before"[..]]).unwrap();
            }
            whole.push(b"{\"a\":1}", [&data[..]]).unwrap();
            let mut streamed = StreamedData::new();
            data.chunks(10_007).for_each(|part| streamed.push(part).unwrap());
            seen.push_seen(b"{\"a\":1}", streamed).unwrap();
            assert_eq!(whole.bytes(), seen.bytes());
            let (frame, parts) = seen.finish_in_parts(PRODUCER);
            assert_eq!(whole.finish(PRODUCER).0, frame);
            assert_eq!(parts[..], [&b"before"[..]]);
        }
        let much = StreamedData {
            bytes: DATA_BATCH_BYTES_MAX + 1,
            ..StreamedData::new()
        };
        assert!(BatchBuilder::new().push_seen(b"{}", much).is_err());
    }

    #[test]
    fn the_server_takes_just_the_data_that_came() {
        let data = data(200_000);
        let came = |data: &[u8]| {
            let mut came = StreamedData::new();
            data.chunks(65_536).for_each(|part| came.push(part).unwrap());
            came
        };
        let frame = came(&data).frame(b"{}", PRODUCER).unwrap();
        let batch = Batch::check_streamed(frame.clone(), &came(&data)).unwrap();
        assert_eq!(
            (batch.data_bytes(), batch.event_count(), batch.data()),
            (200_000, 1, None)
        );
        let mut other = data.clone();
        other[131_072] ^= 1;
        assert_eq!(
            Batch::check_streamed(frame.clone(), &came(&other)).unwrap_err(),
            BatchError::DataChecksum { index: 0, piece: 2 }
        );
        other = data.clone();
        other[199_999] ^= 1;
        assert_eq!(
            Batch::check_streamed(frame.clone(), &came(&other)).unwrap_err(),
            BatchError::DataChecksum { index: 0, piece: 3 }
        );
        assert_eq!(
            Batch::check_streamed(frame, &came(&data[..131_072])).unwrap_err(),
            BatchError::DataLength {
                expected_bytes: 200_000,
                have_bytes: 131_072
            }
        );
        let mut two = BatchBuilder::new();
        two.push(b"{}", [&data[..]]).unwrap();
        two.push(b"{}", []).unwrap();
        let (frame, _) = two.finish(PRODUCER);
        let max = 1;
        let field = "event_count of a stream";
        assert_eq!(
            Batch::check_streamed(frame, &came(&data)).unwrap_err(),
            BatchError::TooLarge { field, value: 2, max }
        );
    }

    #[test]
    fn one_event_alone_may_have_more_data_than_a_batch_that_is_sent_as_a_whole() {
        // As if so much had passed.
        let much = |bytes: u64| StreamedData {
            bytes,
            pieces: vec![Le32::from(7); usize::try_from(bytes.div_ceil(65_536)).unwrap()],
            piece: Piece::default(),
        };
        for bytes in [DATA_BATCH_BYTES_MAX + 1, EVENT_DATA_BYTES_MAX] {
            let frame = much(bytes).frame(b"{}", PRODUCER).unwrap();
            assert!(wide(frame.len()) <= crate::FRAME_BYTES_MAX);
            assert_eq!(Batch::check(frame.clone(), None).unwrap().data_bytes(), bytes);
            assert_eq!(
                Batch::check_streamed(frame.clone(), &much(bytes))
                    .unwrap()
                    .data_bytes(),
                bytes
            );
            assert!(matches!(
                Batch::check_client(frame, Bytes::new()),
                Err(BatchError::TooLarge {
                    field: "data_bytes",
                    ..
                })
            ));
        }
        assert!(much(EVENT_DATA_BYTES_MAX).push(&[1]).is_err());
        let frame = much(EVENT_DATA_BYTES_MAX + 1).frame(b"{}", PRODUCER).unwrap();
        assert!(matches!(
            Batch::check(frame, None),
            Err(BatchError::TooLarge {
                field: "data_bytes",
                ..
            })
        ));
    }
}
