//! Random batches, several commits under way, a power cut at every step: what is read back is a prefix of what was
//! accepted, holds everything that was synced, and is the same byte for byte; and an ordinary cut is never called damage.

use mofka_log::{
    Appender, AppenderConfig, Batch, BatchBuilder, Commit, EventId, FilePos, MetaScan, ProducerId, Recovered,
    Resume, SegmentFacts, SegmentHeader, SegmentKind, SequenceVerdict, check_pieces,
};
use uuid::Uuid;

use crate::sim::{Random, SimFile, read};

const SALT: u64 = 0x5a17_5a17;
const PRODUCER: ProducerId = ProducerId::new(7);
const KEEP_PERCENT: [u64; 5] = [0, 20, 50, 80, 100];

/// Metadata and data of the events of a batch.
type Content = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone)]
struct Image {
    meta: Vec<u8>,
    data: Vec<u8>,
}

/// What a test is to break, so that it is seen to notice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    SkipDataSync,
    AcknowledgeBeforeSync,
}

fn header() -> SegmentHeader {
    SegmentHeader::new(SegmentKind::Meta, Uuid::from_u128(1), EventId::new(0), SALT, 1, 1)
}

fn random_content(random: &mut Random) -> Content {
    let event = |random: &mut Random| {
        let metadata = vec![b'a' + random.below(26) as u8; random.below(300) as usize];
        let data_bytes = match random.below(8) {
            0..=2 => 0,
            3..=5 => random.below(900),
            6 => 4096 * random.below(3),
            _ => 60_000 + random.below(20_000),
        };
        let first = random.next();
        (
            metadata,
            (0..data_bytes)
                .map(|n| (first.wrapping_add(n.wrapping_mul(37)) >> 2) as u8)
                .collect(),
        )
    };
    (0..1 + random.below(4)).map(|_| event(random)).collect()
}

fn batch_of(content: &Content, sequence: u64) -> Batch {
    let mut builder = BatchBuilder::new();
    for (metadata, data) in content {
        builder.push(metadata, [data.as_slice()]).unwrap();
    }
    let (frame, data) = builder.finish(Some((PRODUCER, 0, sequence)));
    Batch::check_client(frame, data).unwrap()
}

/// Reads an image back as the engine does. Gives the contents of what is kept.
fn recover(image: &Image, window_bytes: u64) -> (Recovered, Vec<Content>) {
    let mut scan = MetaScan::new(&SegmentHeader::check(&image.meta[..4096]).unwrap());
    let mut chain = Vec::new();
    while let Some((at, min_bytes)) = scan.next_read() {
        let window = read(&image.meta, at.get(), min_bytes.max(window_bytes));
        let end_of_file = at.get() + window.len() as u64 >= image.meta.len() as u64;
        scan.feed(at, window, end_of_file, &mut |batch| chain.push(batch.clone()));
    }
    let bad = scan.unvouched().find(|frame| {
        let stored = read(&image.data, frame.data_at().get(), frame.data_bytes());
        frame.data_bytes() > 0 && !check_pieces(&stored, &frame.batch)
    });
    let bad = bad.map(|frame| frame.base_event_id());
    let recovered = scan.finish(bad);
    let kept = chain
        .iter()
        .filter(|batch| !batch.is_mark() && batch.end_event_id() <= recovered.next_event_id);
    let contents = kept.map(|batch| content_of(batch, image)).collect();
    (recovered, contents)
}

fn content_of(batch: &Batch, image: &Image) -> Content {
    let events = batch.events().map(|event| {
        let at = batch.data_at().get() + event.data_offset;
        (
            event.metadata.to_vec(),
            read(&image.data, at, event.data_bytes).to_vec(),
        )
    });
    events.collect()
}

/// One life of a segment, from a recovery to a power cut.
struct Life {
    sabotage: Sabotage,
    meta: SimFile,
    data: SimFile,
    appender: Appender,
    under_way: Vec<Flight>,
    /// Everything accepted so far, earlier lives' kept batches first.
    accepted: Vec<Content>,
    survived: usize,
    images: u64,
    lost_any: bool,
}

struct Flight {
    commit: Commit,
    meta: Option<usize>,
    data: Option<usize>,
}

impl Life {
    /// Recovers, cuts, and goes on; looks at every stop in between.
    fn begin(image: Image, sabotage: Sabotage, random: &mut Random) -> Result<Self, String> {
        let (recovered, accepted) = recover(&image, 1 << 20);
        let tail = |file: &[u8], end: FilePos| {
            let start = end.align_down(4096).get();
            read(file, start, end.get() - start).to_vec()
        };
        let (meta_tail, data_tail) = (
            tail(&image.meta, recovered.meta_end),
            tail(&image.data, recovered.data_end),
        );
        let (meta_end, data_end, next) = (recovered.meta_end, recovered.data_end, recovered.next_event_id);
        let config = AppenderConfig {
            commits_in_flight_max: 1 + random.below(4) as usize,
            commit_bytes_max: 1 << (8 + random.below(10)),
            pipeline_bytes_min: random.below(2) * 1000,
            meta_pipeline_bytes_min: random.below(2) * 2000,
            segment_meta_bytes: u64::MAX,
            segment_data_bytes: u64::MAX,
        };
        let base_event_id = EventId::new(0);
        let facts = SegmentFacts {
            salt: SALT,
            base_event_id,
            incarnation: recovered.next_incarnation,
        };
        let cuts: Vec<_> = recovered.cut(&meta_tail).collect();
        let resume = Resume {
            meta_end,
            data_end,
            next_event_id: next,
            synced_end: next,
            meta_tail,
            data_tail,
        };
        let mut life = Self {
            sabotage,
            meta: SimFile::new(image.meta),
            data: SimFile::new(image.data),
            appender: Appender::resume(config, facts, resume),
            under_way: Vec::new(),
            survived: accepted.len(),
            accepted,
            images: 0,
            lost_any: false,
        };
        for plan in cuts {
            let at = life.meta.begin(&plan);
            life.look(random)?;
            life.meta.done(at);
        }
        life.meta.sync();
        life.look(random)?;
        Ok(life)
    }

    fn step(&mut self, random: &mut Random) {
        if random.chance(40) {
            let content = random_content(random);
            let batch = batch_of(&content, self.accepted.len() as u64);
            self.appender.accept(batch, self.accepted.len() as u64);
            self.accepted.push(content);
        }
        let planned = if random.chance(5) {
            self.appender.plan_mark(false, 1)
        } else {
            self.appender.plan()
        };
        if let Some(commit) = planned {
            let meta = commit.meta.as_ref().map(|plan| self.meta.begin(plan));
            let data = commit.data.as_ref().map(|plan| self.data.begin(plan));
            self.under_way.push(Flight { commit, meta, data });
        }
        if !self.under_way.is_empty() {
            let n = random.below(self.under_way.len() as u64) as usize;
            self.move_on(n, random);
        }
    }

    /// Ends one write of this commit, or syncs it.
    fn move_on(&mut self, n: usize, random: &mut Random) {
        let flight = &mut self.under_way[n];
        let first = if random.chance(50) {
            flight.meta.is_some()
        } else {
            flight.data.is_none()
        };
        if first && let Some(at) = flight.meta.take() {
            self.meta.done(at);
        } else if let Some(at) = flight.data.take() {
            self.data.done(at);
        } else if let Some(at) = flight.meta.take() {
            self.meta.done(at);
        } else {
            let flight = self.under_way.remove(n);
            if self.sabotage != Sabotage::AcknowledgeBeforeSync {
                if flight.commit.meta.is_some() {
                    self.meta.sync();
                }
                if flight.commit.data.is_some() && self.sabotage != Sabotage::SkipDataSync {
                    self.data.sync();
                }
            }
            self.appender.synced(flight.commit.id);
            return;
        }
        if flight.meta.is_none() && flight.data.is_none() {
            let id = flight.commit.id;
            self.appender.written(id);
        }
    }

    fn crash(&self, random: &mut Random, keep_percent: u64) -> Image {
        Image {
            meta: self.meta.cut(random, keep_percent),
            data: self.data.cut(random, keep_percent),
        }
    }

    /// Looks at what power cuts at this moment would leave.
    fn look(&mut self, random: &mut Random) -> Result<(), String> {
        for keep_percent in KEEP_PERCENT {
            let image = self.crash(random, keep_percent);
            let kept = self
                .check(&image)
                .map_err(|reason| format!("{keep_percent}% kept: {reason}"))?;
            self.lost_any |= kept < self.accepted.len();
            self.images += 1;
        }
        Ok(())
    }

    fn check(&self, image: &Image) -> Result<usize, String> {
        let (recovered, found) = recover(image, 4096);
        if recovered.verdict.is_damaged() {
            return Err(format!(
                "an ordinary power cut was called damage: {}",
                recovered.verdict.prose()
            ));
        }
        let synced_end = self.appender.ends().synced_end;
        if recovered.next_event_id < synced_end || recovered.synced_end > recovered.next_event_id {
            return Err(format!("events up to {synced_end} were synced: {recovered:?}"));
        }
        if found.len() < self.survived {
            return Err(format!(
                "{} batches of earlier lives were kept, {} are there",
                self.survived,
                found.len()
            ));
        }
        let events: usize = found.iter().map(Vec::len).sum();
        if recovered.next_event_id.get() != events as u64 || recovered.event_count != events as u64 {
            return Err(format!("{events} events are there: {recovered:?}"));
        }
        for (n, content) in found.iter().enumerate() {
            if self.accepted.get(n) != Some(content) {
                return Err(format!("batch {n} is not the one that was accepted"));
            }
        }
        let next = recovered
            .producers
            .check((PRODUCER, 0, found.len() as u64).into());
        if next != SequenceVerdict::New {
            return Err(format!("batch {} of the producer is {next:?}", found.len()));
        }
        Ok(found.len())
    }
}

/// Several lives of one segment. Gives how many images were looked at, and whether some lost something.
fn history(seed: u64, sabotage: Sabotage) -> Result<(u64, bool), String> {
    let mut random = Random::new(seed);
    let mut image = Image {
        meta: header().to_block().to_vec(),
        data: vec![0; 4096],
    };
    let (mut images, mut lost_any) = (0, false);
    for _ in 0..4 {
        let mut life = Life::begin(image, sabotage, &mut random)?;
        for _ in 0..10 + random.below(50) {
            life.step(&mut random);
            life.look(&mut random)?;
        }
        images += life.images;
        lost_any |= life.lost_any;
        let keep_percent = KEEP_PERCENT[random.below(5) as usize];
        image = life.crash(&mut random, keep_percent);
    }
    Ok((images, lost_any))
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    let (mut images, mut with_loss) = (0, 0);
    for seed in 1..=12 {
        match history(seed, Sabotage::None) {
            Ok((looked, lost_any)) => {
                images += looked;
                with_loss += u64::from(lost_any);
            }
            Err(reason) => panic!("seed {seed}: {reason}"),
        }
    }
    assert!(images > 5_000, "only {images} images were looked at");
    assert_eq!(
        with_loss, 12,
        "every history must lose something that was not synced, else nothing is tested"
    );
}

/// The alarm itself: a log that breaks its promise is caught.
#[test]
fn a_broken_promise_is_noticed() {
    for sabotage in [Sabotage::SkipDataSync, Sabotage::AcknowledgeBeforeSync] {
        let caught = (1..=6).filter(|seed| history(*seed, sabotage).is_err()).count();
        assert_eq!(
            caught, 6,
            "a sync that is left out must be noticed in every history"
        );
    }
}

/// Every bit of a small log: either the events are the same, or it is called damage, or only what no frame vouched for
/// is missing.
#[test]
fn a_flipped_bit_is_never_served() {
    let mut random = Random::new(3);
    let image = Image {
        meta: header().to_block().to_vec(),
        data: vec![0; 4096],
    };
    let mut life = Life::begin(image, Sabotage::None, &mut random).unwrap();
    while life.accepted.len() < 4 || !life.appender.is_idle() {
        life.step(&mut random);
        if life.accepted.len() >= 4 {
            while !life.under_way.is_empty() {
                life.move_on(0, &mut random);
            }
        }
    }
    let image = life.crash(&mut random, 100);
    let (whole, contents) = recover(&image, 1 << 20);
    assert_eq!((contents.len(), &contents), (life.accepted.len(), &life.accepted));
    let (mut damaged, mut shorter) = (0_u64, 0_u64);
    for bit in 4096 * 8..whole.meta_end.get() * 8 {
        let mut changed = image.clone();
        changed.meta[bit as usize / 8] ^= 1 << (bit % 8);
        let (recovered, found) = recover(&changed, 1 << 20);
        assert_eq!(found[..], contents[..found.len()], "bit {bit}");
        if recovered.verdict.is_damaged() {
            damaged += 1;
        } else if found.len() < contents.len() {
            shorter += 1;
            assert!(
                recovered.next_event_id >= whole.synced_end,
                "bit {bit}: something durable was cut"
            );
        }
    }
    assert!(
        damaged > 0 && shorter > 0,
        "{damaged} flips were damage, {shorter} a torn tail"
    );
}
