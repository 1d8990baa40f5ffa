//! What is counted of a shard as a whole since it started.

use mofka_net::{ErrorCode, Opcode};

use super::Count;

/// Numbers of opcodes of requests are below this.
const OPCODES: usize = 128;
/// Numbers of error codes are below this; a test keeps it so.
const CODES: usize = 64;

/// The cells.
#[derive(Debug)]
pub(crate) struct ShardMeasures {
    requests: [Count; OPCODES],
    errors: [Count; CODES],
    pub(crate) opened_connections: Count,
    pub(crate) refused_connections: Count,
}

impl Default for ShardMeasures {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| Count::default()),
            errors: std::array::from_fn(|_| Count::default()),
            opened_connections: Count::default(),
            refused_connections: Count::default(),
        }
    }
}

impl ShardMeasures {
    /// A request came.
    #[inline]
    pub(crate) fn note_request(&self, opcode: Opcode) {
        if let Some(count) = self.requests.get(usize::from(opcode.number())) {
            count.add(1);
        }
    }

    /// A client was told that something went wrong.
    pub(crate) fn note_error(&self, code: ErrorCode) {
        if let Some(count) = self.errors.get(usize::from(code.number())) {
            count.add(1);
        }
    }

    /// A copy.
    pub(crate) fn counts(&self) -> ShardCounts {
        let of_opcode = |opcode: &Opcode| self.requests.get(usize::from(opcode.number())).map(Count::get);
        let of_code = |code: &ErrorCode| self.errors.get(usize::from(code.number())).map(Count::get);
        ShardCounts {
            requests: Opcode::ALL
                .iter()
                .map(|opcode| (*opcode, of_opcode(opcode).unwrap_or(0)))
                .collect(),
            errors: ErrorCode::ALL
                .iter()
                .map(|code| (*code, of_code(code).unwrap_or(0)))
                .collect(),
            opened_connections: self.opened_connections.get(),
            refused_connections: self.refused_connections.get(),
        }
    }
}

/// A copy of what was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Requests by what they ask for.
    pub requests: Vec<(Opcode, u64)>,
    /// Errors that clients were told.
    pub errors: Vec<(ErrorCode, u64)>,
    /// Connections that were accepted.
    pub opened_connections: u64,
    /// Connections that were refused because there were as many as may be.
    pub refused_connections: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_and_code_has_a_cell() {
        let measures = ShardMeasures::default();
        for opcode in Opcode::ALL {
            measures.note_request(*opcode);
        }
        for code in ErrorCode::ALL {
            measures.note_error(*code);
        }
        let counts = measures.counts();
        assert!(counts.requests.iter().all(|(_, count)| *count == 1), "{counts:?}");
        assert!(counts.errors.iter().all(|(_, count)| *count == 1), "{counts:?}");
    }
}
