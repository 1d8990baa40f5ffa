//! The components of a topic `collisions`, whose events have an `energy` below `energy_max`:
//!
//! | kind | type | what it does |
//! |---|---|---|
//! | validator | `energy_validator` | takes events with such an energy |
//! | partition selector | `energy_selector` | splits 0 to `energy_max` evenly over the partitions |
//! | serializer | `energy_serializer` | stores the energy alone: 8 bytes, little-endian |
//!
//! `energy.c` beside this crate is the same in C.
#![forbid(unsafe_code)]

use mofka_plugins::author::{Component, Error, PartitionSelector, Serializer, Validator};
use serde_json::{Map, Value};

/// The key of the metadata.
const ENERGY: &str = "energy";

/// All three components: each knows the bound.
struct Energy {
    max: u64,
}

impl Energy {
    /// The energy of a JSON object, and what else is in it.
    fn of(&self, metadata: &str) -> Result<(u64, Map<String, Value>), Error> {
        let mut metadata: Map<String, Value> =
            serde_json::from_str(metadata).map_err(|_| "metadata with an energy has to be an object")?;
        let energy = metadata.remove(ENERGY).ok_or("there is no energy")?;
        let energy = energy
            .as_u64()
            .ok_or("an energy has to be a whole number from 0 on")?;
        self.check(energy)?;
        Ok((energy, metadata))
    }

    fn check(&self, energy: u64) -> Result<(), Error> {
        match energy < self.max {
            true => Ok(()),
            false => Err(format!("an energy of {energy} is not below {}", self.max).into()),
        }
    }
}

impl Component for Energy {
    fn create(config: &str) -> Result<Self, Error> {
        let config: Value = serde_json::from_str(config)?;
        match config.get("energy_max").and_then(Value::as_u64) {
            Some(max @ 1..=0xffff_ffff) => Ok(Self { max }),
            _ => Err("\"energy_max\" has to be a whole number from 1 to 4294967295".into()),
        }
    }
}

impl Validator for Energy {
    fn validate(&self, metadata: &str, _: &[&[u8]]) -> Result<(), Error> {
        self.of(metadata).map(|_| ())
    }
}

impl PartitionSelector for Energy {
    /// By the energy, whatever was requested.
    fn select(&self, metadata: &str, _: Option<u64>, partitions_count: u64) -> Result<u64, Error> {
        let (energy, _) = self.of(metadata)?;
        let partitions_count = u64::from(u32::try_from(partitions_count)?);
        // Below `partitions_count`, because the energy is below `max`; the product of two numbers of 32 bits fits.
        Ok(energy * partitions_count / self.max)
    }
}

impl Serializer for Energy {
    fn serialize(&self, metadata: &str, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let (energy, others) = self.of(metadata)?;
        if let Some(other) = others.keys().next() {
            return Err(format!("\"{other}\" would be lost: only the energy is stored").into());
        }
        bytes.extend_from_slice(&energy.to_le_bytes());
        Ok(())
    }

    fn deserialize(&self, stored: &[u8]) -> Result<String, Error> {
        let stored = <[u8; 8]>::try_from(stored)
            .map_err(|_| format!("an energy is stored in 8 bytes, not in {}", stored.len()))?;
        let energy = u64::from_le_bytes(stored);
        self.check(energy)?;
        Ok(format!("{{\"{ENERGY}\":{energy}}}"))
    }
}

mofka_plugins::components! {
    validator "energy_validator" => Energy,
    partition_selector "energy_selector" => Energy,
    serializer "energy_serializer" => Energy,
}
