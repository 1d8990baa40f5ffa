use super::*;

const HEADERS: [HeaderFact; 4] = [
    HeaderFact::Checks,
    HeaderFact::Absent,
    HeaderFact::Foreign,
    HeaderFact::UnknownVersion,
];
const DATA: [BadData; 3] = [BadData::None, BadData::Unvouched, BadData::Vouched];

const PLACES: Places = Places {
    cut_at: FilePos::new(5000),
    kept_end: EventId::new(40),
    vouched_end: EventId::new(60),
    dropped_frames: 3,
    version: 9,
};

/// Every combination of facts.
fn all() -> Vec<Facts> {
    let mut all = Vec::new();
    for header in HEADERS {
        for bad_data in DATA {
            for bits in 0..32_u32 {
                let bit = |n: u32| bits >> n & 1 == 1;
                all.push(Facts {
                    header,
                    beyond_header: bit(0),
                    vouched_missing: bit(1),
                    bad_data,
                    clean_mark: bit(2),
                    survivors: bit(3),
                    residue: bit(4),
                    places: PLACES,
                });
            }
        }
    }
    all
}

#[test]
fn every_combination_meets_exactly_one_row() {
    let all = all();
    assert_eq!(all.len(), 4 * 3 * 32);
    for facts in all {
        let rows: Vec<Case> = TABLE
            .iter()
            .filter(|row| row.is_met_by(&facts))
            .map(|row| row.case)
            .collect();
        assert_eq!(rows.len(), 1, "{facts:?} meets {rows:?}");
        assert_eq!(decide(&facts), rows[0].verdict(&PLACES));
    }
}

/// The table told once more, as a chain of decisions: both must be changed together.
fn expected_letter(facts: &Facts) -> char {
    match facts.header {
        HeaderFact::UnknownVersion => 'J',
        HeaderFact::Foreign => 'I',
        HeaderFact::Absent if facts.beyond_header => 'I',
        HeaderFact::Absent => 'H',
        HeaderFact::Checks if facts.bad_data == BadData::Vouched => 'G',
        HeaderFact::Checks if facts.vouched_missing => 'F',
        HeaderFact::Checks if facts.bad_data == BadData::Unvouched => 'E',
        HeaderFact::Checks if facts.survivors => 'D',
        HeaderFact::Checks if facts.clean_mark => 'B',
        HeaderFact::Checks if facts.residue => 'C',
        HeaderFact::Checks => 'A',
    }
}

#[test]
fn every_combination_has_the_letter_it_should() {
    let mut counts = std::collections::BTreeMap::new();
    for facts in all() {
        let letter = decide(&facts).letter();
        assert_eq!(letter, expected_letter(&facts), "{facts:?}");
        *counts.entry(letter).or_insert(0) += 1;
    }
    let counts: Vec<(char, i32)> = counts.into_iter().collect();
    let expected = [
        ('A', 2),
        ('B', 4),
        ('C', 2),
        ('D', 8),
        ('E', 16),
        ('F', 32),
        ('G', 32),
        ('H', 48),
        ('I', 144),
        ('J', 96),
    ];
    assert_eq!(counts, expected);
}

#[test]
fn verdicts_tell_the_places() {
    let facts = Facts {
        header: HeaderFact::Checks,
        beyond_header: true,
        vouched_missing: true,
        bad_data: BadData::None,
        clean_mark: false,
        survivors: true,
        residue: true,
        places: PLACES,
    };
    let (from, to, at) = (EventId::new(40), EventId::new(60), FilePos::new(5000));
    let damaged = decide(&facts);
    assert_eq!(
        damaged,
        Verdict::Damaged {
            from,
            to,
            at,
            cause: DamageCause::Frames
        }
    );
    assert!(damaged.is_damaged());
    assert!(damaged.prose().contains("events 40 to 60") && damaged.prose().contains("position 5000"));
    let torn = decide(&Facts {
        vouched_missing: false,
        ..facts
    });
    assert_eq!(
        torn,
        Verdict::TornTail {
            cut_at: at,
            dropped_frames: 3,
            cause: TornCause::Hole
        }
    );
    assert!(!torn.is_damaged());
    assert!(torn.prose().contains("cut at position 5000") && torn.prose().contains("3 whole frames"));
}

#[test]
fn a_missing_header_is_told_apart() {
    let of = Verdict::of_header;
    assert_eq!(of(&SegmentHeaderError::Absent, false), Verdict::EmptyTorn);
    assert_eq!(of(&SegmentHeaderError::Absent, true), Verdict::ForeignBytes);
    assert_eq!(of(&SegmentHeaderError::Reserved, false), Verdict::ForeignBytes);
    assert_eq!(
        of(&SegmentHeaderError::Version { found: 9 }, true),
        Verdict::UnknownVersion(9)
    );
    assert!(
        of(&SegmentHeaderError::Version { found: 9 }, true)
            .prose()
            .contains("version 9")
    );
}
