//! Little-endian integers of alignment 1: what every stored and sent structure is made of.
//!
//! Structures of these have no padding and may lie at any address, so they can be read from the middle of a buffer
//! without `unsafe`, and mean the same on every machine.

use std::fmt;

use bytemuck::{Pod, Zeroable};

macro_rules! little_endian {
    ($(#[$doc:meta])* $name:ident, $int:ty, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
        #[repr(transparent)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Stores the value.
            pub const fn new(value: $int) -> Self {
                Self(value.to_le_bytes())
            }

            /// The value.
            pub const fn get(self) -> $int {
                <$int>::from_le_bytes(self.0)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self::new(value)
            }
        }

        impl From<$name> for $int {
            fn from(stored: $name) -> Self {
                stored.get()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }

        const _: () = assert!(size_of::<$name>() == $bytes && align_of::<$name>() == 1);
    };
}

little_endian!(
    /// A stored `u16`.
    Le16, u16, 2
);
little_endian!(
    /// A stored `u32`.
    Le32, u32, 4
);
little_endian!(
    /// A stored `u64`.
    Le64, u64, 8
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_byte_comes_first() {
        assert_eq!(bytemuck::bytes_of(&Le16::new(0x0102)), [2, 1]);
        assert_eq!(bytemuck::bytes_of(&Le32::new(0x0102_0304)), [4, 3, 2, 1]);
        assert_eq!(
            bytemuck::bytes_of(&Le64::new(0x0102_0304_0506_0708)),
            [8, 7, 6, 5, 4, 3, 2, 1]
        );
        assert_eq!(Le64::from(77).get(), 77);
        assert_eq!(format!("{:?}", Le32::from(9)), "9");
    }
}
