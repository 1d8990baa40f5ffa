//! Writes the seeds of every target to `seeds/<target>/<name>`, beside what is there.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let log = std::fs::read_to_string(here.join("../tests/data/loghub/BGL_2k.log"))?;
    let lines: Vec<&str> = log.lines().collect();
    for ((target, name), bytes) in mofka_fuzz::seeds::all(&lines) {
        let directory = here.join("seeds").join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(name), bytes)?;
    }
    Ok(())
}
