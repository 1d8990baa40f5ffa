//! Files of format version 1, written once and decoded for ever (`log/tests/golden/v1`). When this fails, version 1 is
//! not read as it was: the change at hand needs a version number of its own.
//!
//! Nothing here writes frames: `engine/tests/it/golden.rs` says how the files were made. The manifest beside them says
//! what was sent; the events' data are parts of a log file that the repository holds.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mofka_log::{
    Batch, BatchPlace, Catalog, CatalogRecord, CursorRecord, Cursors, EventId, Footer, FooterTail, MetaScan,
    ProducerId, ProducerTable, Recovered, SegmentHeader, SegmentKind, SequenceVerdict, check_pieces,
};
use serde_json::{Value, json};
use uuid::Uuid;

const BLOCK: usize = 4096;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The manifest, and the file that the data came from.
fn manifest() -> (Value, Vec<u8>) {
    let manifest: Value = serde_json::from_slice(&read(here().join("manifest.json"))).unwrap();
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let log = read(log.join(manifest["log"].as_str().unwrap()));
    (manifest, log)
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// The header is what the manifest says, and the file as long.
fn check_header(name: &str, file: &[u8], facts: &Value, kind: SegmentKind, owner: Uuid) -> SegmentHeader {
    let header = SegmentHeader::check(&file[..BLOCK]).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(header.expect(kind, owner), Ok(()), "{name}");
    let found = json!({
        "kind": format!("{:?}", header.kind()),
        "base": header.base_event_id().get(),
        "salt": header.salt().to_string(),
        "created_us": header.created_us(),
        "incarnation": header.incarnation(),
        "bytes": file.len(),
    });
    for (field, value) in found.as_object().unwrap() {
        assert_eq!(*value, facts[field], "{field} of {name}");
    }
    header
}

/// Follows the chain of a meta file. `data`: its data file.
fn scan(
    meta: &[u8],
    data: Option<&[u8]>,
    header: &SegmentHeader,
    before: ProducerTable,
) -> (Recovered, Vec<Batch>) {
    let mut scan = MetaScan::with_producers(header, before);
    let mut chain = Vec::new();
    while let Some((at, min_bytes)) = scan.next_read() {
        let start = (at.get() as usize).min(meta.len());
        let end = start.saturating_add(min_bytes.max(1000) as usize).min(meta.len());
        let window = Bytes::copy_from_slice(&meta[start..end]);
        scan.feed(at, window, end == meta.len(), &mut |batch| {
            chain.push(batch.clone())
        });
    }
    let is_bad = |batch: &Batch| {
        let own = data.and_then(|data| data.get(batch.data_at().get() as usize..));
        let own = own.and_then(|own| own.get(..batch.data_bytes() as usize));
        batch.data_bytes() > 0 && !own.is_some_and(|own| check_pieces(own, batch))
    };
    let bad = scan.unvouched().find(|frame| is_bad(&frame.batch));
    let bad = bad.map(|frame| frame.base_event_id());
    let recovered = scan.finish(bad);
    chain.retain(|batch| batch.end_event_id() <= recovered.next_event_id);
    (recovered, chain)
}

/// Every batch, every event's metadata and data, byte for byte.
fn check_batches(name: &str, chain: &[Batch], data: &[u8], listed: &[Value], log: &[u8]) -> usize {
    let batches: Vec<&Batch> = chain.iter().filter(|batch| !batch.is_mark()).collect();
    let listed = &listed[..batches.len()];
    for (batch, listed) in batches.iter().zip(listed) {
        assert_eq!(batch.base_event_id().get(), number(&listed["base"]), "{name}");
        let producer = ProducerId::new(number(&listed["producer"]));
        let epoch = u32::try_from(number(&listed["epoch"])).unwrap();
        assert_eq!(
            batch.producer(),
            Some((producer, epoch, number(&listed["sequence"]))),
            "{name}"
        );
        let start = batch.data_at().get() as usize;
        let own = &data[start..start + batch.data_bytes() as usize];
        assert!(check_pieces(own, batch), "the data of {batch:?} in {name}");
        let events = listed["events"].as_array().unwrap();
        assert_eq!(batch.event_count() as usize, events.len(), "{name}");
        for (event, listed) in batch.events().zip(events) {
            assert_eq!(
                std::str::from_utf8(event.metadata).unwrap(),
                listed["metadata"].as_str().unwrap(),
                "{name}"
            );
            let place = |n: usize| number(&listed["data"][n]) as usize;
            let found = &own[event.data_offset as usize..(event.data_offset + event.data_bytes) as usize];
            assert!(
                found == &log[place(0)..place(1)],
                "the data of {listed} in {name}"
            );
        }
    }
    batches.len()
}

fn check_footer(name: &str, meta: &[u8], facts: &Value, header: &SegmentHeader) -> Option<Footer> {
    let tail = FooterTail::check(&meta[meta.len() - BLOCK..], meta.len() as u64);
    assert_eq!(
        tail.is_some(),
        facts.get("footer").is_some(),
        "{name} is sealed, or is not"
    );
    let (tail, facts) = (tail?, &facts["footer"]);
    assert_eq!(tail.salt(), header.salt());
    let footer = Footer::check(&meta[tail.footer_at().get() as usize..], header.salt())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let found = json!({
        "at": tail.footer_at().get(),
        "base": footer.base_event_id().get(),
        "end": footer.end_event_id().get(),
        "meta_end": footer.meta_end().get(),
        "data_end": footer.data_end().get(),
        "timestamps_us": footer.timestamps_us(),
        "index_entries": footer.index().len(),
        "producers": footer.producers().len(),
    });
    assert_eq!(found, *facts, "the footer of {name}");
    assert_eq!(
        footer.index().lookup(footer.base_event_id()).map(|at| at.get()),
        Some(4096)
    );
    Some(footer)
}

/// One partition: segments in the order of their names. Gives what was found last, and how many segments were sealed.
fn check_partition(name: &str, partition: Uuid, facts: &Value, log: &[u8]) -> (Recovered, usize) {
    let directory = here().join(name);
    let files = facts["files"].as_object().unwrap();
    let listed = facts["batches"].as_array().unwrap();
    let (mut done, mut sealed, mut last) = (0, 0, None);
    let mut producers = ProducerTable::default();
    let mut end = EventId::new(0);
    for (meta_name, meta_facts) in files.iter().filter(|(name, _)| name.ends_with(".meta")) {
        let data_name = meta_name.replace(".meta", ".data");
        let (mut meta, data) = (read(directory.join(meta_name)), read(directory.join(&data_name)));
        let header = check_header(meta_name, &meta, meta_facts, SegmentKind::Meta, partition);
        let of_data = check_header(
            &data_name,
            &data,
            &files[&data_name],
            SegmentKind::Data,
            partition,
        );
        assert_eq!((header.base_event_id(), header.salt()), (end, of_data.salt()));
        assert_eq!(
            *meta_name,
            format!("{:020}.meta", end.get()),
            "a segment is named after its first event"
        );
        let footer = check_footer(meta_name, &meta, meta_facts, &header);
        if let Some(footer) = &footer {
            meta.truncate(footer.meta_end().get() as usize);
        }
        let (recovered, chain) = scan(&meta, Some(&data), &header, producers);
        if let Some(footer) = &footer {
            sealed += 1;
            assert_eq!(recovered.next_event_id, footer.end_event_id());
            assert_eq!(
                (recovered.meta_end, recovered.data_end),
                (footer.meta_end(), footer.data_end())
            );
            assert_eq!(
                footer.producers(),
                recovered.producers,
                "a footer knows what the frames know"
            );
        }
        done += check_batches(meta_name, &chain, &data, &listed[done..], log);
        (producers, end) = (recovered.producers.clone(), recovered.next_event_id);
        last = Some(recovered);
    }
    assert_eq!(done, listed.len(), "every batch of {name} is there");
    assert_eq!(end.get(), number(&facts["end"]), "{name}");
    // Each batch that is sent again gets its first answer again.
    for batch in listed {
        let (id, sequence) = (
            ProducerId::new(number(&batch["producer"])),
            number(&batch["sequence"]),
        );
        let epoch = u32::try_from(number(&batch["epoch"])).unwrap();
        let first = SequenceVerdict::Duplicate {
            base_event_id: EventId::new(number(&batch["base"])),
            event_count: u32::try_from(batch["events"].as_array().unwrap().len()).unwrap(),
        };
        let fenced = SequenceVerdict::Fenced { epoch: 1 };
        let found = producers.check((id, epoch, sequence).into());
        assert!(
            found == first || (epoch == 0 && found == fenced),
            "{batch}: {found:?}"
        );
    }
    for next in facts["next_sequences"].as_array().unwrap() {
        let epoch = u32::try_from(number(&next[1])).unwrap();
        let found = producers.check((ProducerId::new(number(&next[0])), epoch, number(&next[2])).into());
        assert_eq!(found, SequenceVerdict::New, "{next} is due");
    }
    let recovered = last.unwrap();
    assert_eq!(
        recovered.verdict.letter().to_string(),
        facts["verdict"].as_str().unwrap(),
        "{name}"
    );
    (recovered, sealed)
}

#[test]
fn a_partition_of_version_1_is_read_for_ever() {
    let (manifest, log) = manifest();
    let partition: Uuid = serde_json::from_value(manifest["partition"].clone()).unwrap();
    let facts = &manifest["partitions"]["stopped"];
    let (recovered, sealed) = check_partition("stopped", partition, facts, &log);
    assert_eq!(sealed, 1, "one segment is sealed and one is not");
    assert_eq!(recovered.residue_end, recovered.meta_end);
    assert_eq!(
        recovered.synced_end, recovered.next_event_id,
        "a clean stop vouches for everything"
    );
    let file = read(here().join("stopped/cursors"));
    let header = check_header(
        "cursors",
        &file,
        &facts["files"]["cursors"],
        SegmentKind::Cursors,
        partition,
    );
    let (recovered, chain) = scan(&file, None, &header, ProducerTable::default());
    assert_eq!(recovered.verdict.letter(), 'B');
    let mut cursors = Cursors::default();
    for event in chain.iter().flat_map(Batch::events) {
        cursors.apply(&CursorRecord::check(event.metadata).unwrap());
    }
    let found = cursors
        .iter()
        .map(|(name, next)| (name.to_owned(), Value::from(next.get())));
    let found: serde_json::Map<String, Value> = found.collect();
    assert_eq!(Value::Object(found), facts["cursors"]);
}

/// What power cuts left is judged as it was, and what is kept is the same for ever.
#[test]
fn torn_tails_of_version_1_are_judged_the_same_for_ever() {
    let (manifest, log) = manifest();
    let partition: Uuid = serde_json::from_value(manifest["partition"].clone()).unwrap();
    for name in ["torn-c", "torn-d", "torn-e"] {
        let facts = &manifest["partitions"][name];
        let (recovered, _) = check_partition(name, partition, facts, &log);
        assert!(
            recovered.residue_end > recovered.meta_end,
            "{name} has a tail to cut"
        );
        assert!(recovered.next_event_id.get() > 0, "{name} has events to keep");
    }
}

#[test]
fn a_catalog_of_version_1_is_read_for_ever() {
    let (manifest, _) = manifest();
    let facts = &manifest["catalog"];
    let node: Uuid = serde_json::from_value(facts["node"].clone()).unwrap();
    let file = read(here().join("catalog"));
    let header = check_header(
        "catalog",
        &file,
        &facts["files"]["catalog"],
        SegmentKind::Catalog,
        node,
    );
    let (recovered, chain) = scan(&file, None, &header, ProducerTable::default());
    assert_eq!(recovered.verdict.letter(), 'A');
    let mut catalog = Catalog::default();
    let mut found = Vec::new();
    for event in chain.iter().flat_map(Batch::events) {
        found.push(serde_json::from_slice::<Value>(event.metadata).unwrap());
        catalog
            .apply(&CatalogRecord::decode(event.metadata).unwrap())
            .unwrap();
    }
    assert_eq!(Value::Array(found), facts["records"]);
    let names: Vec<&str> = catalog.topics().map(|topic| topic.name.as_str()).collect();
    assert_eq!(json!(names), facts["topics"]);
    let topic = catalog.topic(names[0]).unwrap();
    assert!(topic.complete);
    assert_eq!(catalog.partitions_of(topic.id).count(), 1);
    assert_eq!(catalog.last_start().map(|(node, _)| node), Some(node));
}

/// Every bit of a golden meta file is covered: changing any is seen, or makes no difference to what is read.
#[test]
fn no_byte_of_a_golden_footer_is_loose() {
    let meta = read(here().join("stopped/00000000000000000000.meta"));
    let header = SegmentHeader::check(&meta[..BLOCK]).unwrap();
    let at = FooterTail::check(&meta, meta.len() as u64)
        .unwrap()
        .footer_at()
        .get() as usize;
    for bit in at * 8..meta.len() * 8 {
        let mut changed = meta.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let tail = FooterTail::check(&changed, meta.len() as u64);
        let footer = Footer::check(&changed[at..], header.salt());
        assert!(tail.is_none() || footer.is_err(), "bit {bit}");
    }
}

#[test]
fn references_of_version_1_are_read_for_ever() {
    let (manifest, log) = manifest();
    let partition: Uuid = serde_json::from_value(manifest["partition"].clone()).unwrap();
    let directory = here().join("references");
    let facts: Value = serde_json::from_slice(&read(directory.join("manifest.json"))).unwrap();
    let names = ["00000000000000000000.meta", "00000000000000000000.data"];
    let [meta, data] = names.map(|name| read(directory.join(name)));
    let header = check_header(
        names[0],
        &meta,
        &facts["files"][names[0]],
        SegmentKind::Meta,
        partition,
    );
    let (recovered, chain) = scan(&meta, Some(&data), &header, ProducerTable::default());
    assert_eq!(recovered.verdict.letter(), 'B');
    let batch = chain.iter().find(|batch| !batch.is_mark()).unwrap();
    assert!(batch.has_references());
    let start = batch.data_at().get() as usize;
    let own = &data[start..start + batch.data_bytes() as usize];
    assert!(check_pieces(own, batch));
    let listed = facts["events"].as_array().unwrap();
    assert_eq!((batch.event_count(), listed.len()), (4, 4));
    for (event, listed) in batch.events().zip(listed) {
        let metadata = std::str::from_utf8(event.metadata).unwrap();
        assert_eq!(metadata, listed["metadata"].as_str().unwrap());
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let found = event.reference.map(|reference| hex(reference.bytes()));
        assert_eq!(found.as_deref(), listed["reference"].as_str());
        if let Some(reference) = event.reference {
            assert_eq!(reference.partition(), Uuid::from_u128(0x00da_7a00));
            assert_eq!((reference.event_id().get(), reference.base_bytes()), (7, 4096));
        } else {
            let place = |n: usize| number(&listed["data"][n]) as usize;
            assert_eq!(own, &log[place(0)..place(1)]);
        }
    }
    let selected: Vec<u64> = batch
        .events()
        .filter_map(|event| Some(event.reference?.data_bytes()))
        .collect();
    assert_eq!(selected, [4096, 48, 25]);
}

#[test]
fn sources_of_version_1_are_read_for_ever() {
    let (manifest, log) = manifest();
    let partition: Uuid = serde_json::from_value(manifest["partition"].clone()).unwrap();
    let directory = here().join("sources");
    let facts: Value = serde_json::from_slice(&read(directory.join("manifest.json"))).unwrap();
    let listed = facts["batches"].as_array().unwrap();
    let mut bases: Vec<&str> = facts["files"]
        .as_object()
        .unwrap()
        .keys()
        .filter_map(|name| name.strip_suffix(".meta"))
        .filter(|name| name.parse::<u64>().is_ok())
        .collect();
    bases.sort_unstable();
    assert!(bases.len() > 1, "a segment was sealed");
    let (mut table, mut seen, mut sealed) = (ProducerTable::default(), 0, 0);
    for base in bases {
        let names = ["meta", "data"].map(|kind| format!("{base}.{kind}"));
        let [meta, data] = names.each_ref().map(|name| read(directory.join(name)));
        let header = check_header(
            &names[0],
            &meta,
            &facts["files"][&names[0]],
            SegmentKind::Meta,
            partition,
        );
        let footer = check_footer(&names[0], &meta, &facts["files"][&names[0]], &header);
        let (recovered, chain) = scan(&meta, Some(&data), &header, table);
        for batch in chain.iter().filter(|batch| !batch.is_mark()) {
            let place = batch.place().unwrap();
            assert!(batch.covers_source());
            assert_eq!(
                (place.sequence, place.span),
                (number(&listed[seen]["sequence"]), number(&listed[seen]["span"]))
            );
            seen += check_batches(base, std::slice::from_ref(batch), &data, &listed[seen..], &log);
        }
        table = recovered.producers;
        if let Some(footer) = footer {
            assert_eq!(footer.producers(), table, "the footer knows what its frames say");
            sealed += 1;
        }
    }
    assert_eq!(seen, listed.len());
    assert!(sealed > 0);
    // Those behind the span that is not remembered are answered again, and nothing else is taken but what comes next.
    let place = |listed: &Value| BatchPlace {
        producer: ProducerId::new(number(&listed["producer"])),
        epoch: 0,
        sequence: number(&listed["sequence"]),
        span: number(&listed["span"]),
    };
    let expected = number(&facts["next_sequence"]);
    for (n, batch) in listed.iter().enumerate() {
        let verdict = table.check(place(batch));
        if n > 3 {
            let base_event_id = EventId::new(number(&batch["base"]));
            assert!(
                matches!(verdict, SequenceVerdict::Duplicate { base_event_id: base, .. } if base == base_event_id)
            );
        } else {
            assert_eq!(verdict, SequenceVerdict::Gap { expected });
        }
    }
    let next = BatchPlace {
        sequence: expected,
        ..place(&listed[0])
    };
    assert_eq!(table.check(next), SequenceVerdict::New);
}
