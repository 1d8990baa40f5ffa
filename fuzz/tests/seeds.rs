//! The seeds without a fuzzer: every committed input runs through its target, as those do that once found something.

use std::path::{Path, PathBuf};

/// All committed seeds together have at most so many bytes: a checkout is not a corpus.
const SEEDS_BYTES_MAX: u64 = 1 << 20;

type Run = fn(&[u8]);

const TARGETS: [(&str, Run); 11] = [
    ("batch", mofka_fuzz::batch::run),
    ("catalog", mofka_fuzz::catalog::run),
    ("config", mofka_fuzz::config::run),
    ("cursors", mofka_fuzz::cursors::run),
    ("descriptor", mofka_fuzz::descriptor::run),
    ("footer", mofka_fuzz::footer::run),
    ("image", mofka_fuzz::image::run),
    ("operations", mofka_fuzz::operations::run),
    ("recover", mofka_fuzz::recover::run),
    ("session", mofka_fuzz::session::run),
    ("wire", mofka_fuzz::wire::run),
];

fn seeds_of(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries =
        std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("no seeds in {}: {e}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_seed_passes() {
    let mut bytes = 0;
    for (target, run) in TARGETS {
        let seeds = seeds_of(target);
        assert!(
            !seeds.is_empty(),
            "target {target} has no seeds: cargo run --example make_seeds"
        );
        for path in seeds {
            let seed = std::fs::read(&path).unwrap();
            bytes += seed.len() as u64;
            println!("{}", path.display());
            run(&seed);
        }
    }
    assert!(bytes <= SEEDS_BYTES_MAX, "the seeds have {bytes} bytes");
}

#[test]
fn every_target_is_replayed() {
    let manifest = include_str!("../Cargo.toml");
    let targets: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"))
        .filter_map(|line| line.strip_suffix(".rs\""))
        .collect();
    assert_eq!(targets, TARGETS.map(|(name, _)| name));
}

#[test]
fn the_batches_of_the_seeds_are_whole() {
    for path in seeds_of("batch") {
        if path
            .file_name()
            .is_some_and(|name| !name.to_string_lossy().starts_with("found"))
        {
            assert!(
                mofka_fuzz::seeds::batch_checks(&std::fs::read(&path).unwrap()),
                "{}",
                path.display()
            );
        }
    }
}
