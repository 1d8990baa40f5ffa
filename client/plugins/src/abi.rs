//! The C interface, version 1, as `include/mofka_component.h` has it: the header says what everything means, and binds both
//! sides. Tests hold the two against each other.

use std::ffi::{c_char, c_void};
use std::mem::{offset_of, size_of};

/// The version of this layout: `MOFKA_COMPONENTS_VERSION`.
pub const VERSION: u32 = 1;
/// The function that a library exports.
pub const SYMBOL: &str = "mofka_components_v1";
/// A function did what it should.
pub const OK: i32 = 0;
/// A function failed; so does any other number than [`OK`].
pub const FAILED: i32 = 1;
/// Components in a table.
pub const COMPONENTS_MAX: u64 = 1024;
/// Bytes of a type's name.
pub const TYPE_NAME_BYTES_MAX: usize = 255;
/// Bytes that are kept of an error's text.
pub const ERROR_BYTES_MAX: usize = 4096;
/// Bytes that a serializer may write for one event.
pub const OUTPUT_BYTES_MAX: usize = 256 << 20;

/// [`Component::kind`] of a validator.
pub const VALIDATOR: u32 = 1;
/// [`Component::kind`] of a partition selector.
pub const PARTITION_SELECTOR: u32 = 2;
/// [`Component::kind`] of a serializer.
pub const SERIALIZER: u32 = 3;

/// `mofka_text` and `mofka_data`: bytes that belong to the caller.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// The first byte; anything, also null, when there is none.
    pub start: *const u8,
    /// How many.
    pub bytes: u64,
}

impl Slice {
    /// These bytes, as long as they live.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            start: bytes.as_ptr(),
            bytes: bytes.len() as u64,
        }
    }
}

impl Slice {
    /// The bytes.
    ///
    /// # Safety
    /// `start` leads to `bytes` bytes, which live and stay as they are as long as the result; it may be anything when there are
    /// none.
    pub unsafe fn get<'a>(self) -> &'a [u8] {
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        match bytes {
            0 => &[],
            // SAFETY: the caller says so; what lives in memory has no more bytes than a slice may have.
            bytes => unsafe { std::slice::from_raw_parts(self.start, bytes) },
        }
    }
}

/// [`Sink::write`].
pub type Write = unsafe extern "C" fn(*mut c_void, *const c_void, u64) -> i32;

/// `mofka_sink`: takes what a function has to say.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sink {
    /// For `write`.
    pub context: *mut c_void,
    /// Appends a copy of these bytes.
    pub write: Write,
}

/// [`Component::create`].
pub type Create = unsafe extern "C" fn(Slice, *mut *mut c_void, *const Sink) -> i32;
/// [`Component::destroy`].
pub type Destroy = unsafe extern "C" fn(*mut c_void);
/// [`Component::validate`].
pub type Validate = unsafe extern "C" fn(*mut c_void, Slice, *const Slice, u64, *const Sink) -> i32;
/// [`Component::set_partitions`].
pub type SetPartitions = unsafe extern "C" fn(*mut c_void, Slice, *const Sink) -> i32;
/// [`Component::select`].
pub type Select = unsafe extern "C" fn(*mut c_void, Slice, *const u64, u64, *mut u64, *const Sink) -> i32;
/// [`Component::serialize`] and [`Component::deserialize`].
pub type Convert = unsafe extern "C" fn(*mut c_void, Slice, *const Sink, *const Sink) -> i32;

/// `mofka_component`: one component. Functions that its kind does not have are `None`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Component {
    /// [`VALIDATOR`], [`PARTITION_SELECTOR`] or [`SERIALIZER`].
    pub kind: u32,
    /// 0.
    pub reserved: u32,
    /// Ends with a NUL.
    pub type_name: *const c_char,
    /// Makes an instance.
    pub create: Option<Create>,
    /// Ends an instance.
    pub destroy: Option<Destroy>,
    /// Of validators.
    pub validate: Option<Validate>,
    /// Of partition selectors that want to know.
    pub set_partitions: Option<SetPartitions>,
    /// Of partition selectors.
    pub select: Option<Select>,
    /// Of serializers.
    pub serialize: Option<Convert>,
    /// Of serializers.
    pub deserialize: Option<Convert>,
}

// SAFETY: nobody writes through the pointer to the name, or changes it: the contract of the header.
unsafe impl Send for Component {}
// SAFETY: as above.
unsafe impl Sync for Component {}

/// `mofka_components`: what a library offers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Components {
    /// [`VERSION`].
    pub version: u32,
    /// Bytes of one [`Component`].
    pub component_bytes: u32,
    /// How many there are.
    pub components_count: u64,
    /// They, one after the other.
    pub components: *const Component,
}

// SAFETY: nobody writes through the pointer, or changes what it leads to: the contract of the header.
unsafe impl Send for Components {}
// SAFETY: as above.
unsafe impl Sync for Components {}

/// The function that a library exports under the name [`SYMBOL`].
pub type Offer = unsafe extern "C" fn() -> *const Components;

/// Bytes of a [`Component`], as a table tells them.
pub const COMPONENT_BYTES: u32 = size_of::<Component>() as u32;

impl Components {
    /// The table of these components.
    pub const fn of(components: &'static [Component]) -> Self {
        Self {
            version: VERSION,
            component_bytes: COMPONENT_BYTES,
            components_count: components.len() as u64,
            components: components.as_ptr(),
        }
    }
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Slice>() == 16 && offset_of!(Slice, bytes) == 8);
    assert!(size_of::<Sink>() == 16 && offset_of!(Sink, write) == 8);
    assert!(size_of::<Component>() == 72);
    assert!(offset_of!(Component, type_name) == 8 && offset_of!(Component, create) == 16);
    assert!(offset_of!(Component, validate) == 32 && offset_of!(Component, set_partitions) == 40);
    assert!(offset_of!(Component, serialize) == 56 && offset_of!(Component, deserialize) == 64);
    assert!(size_of::<Components>() == 24 && offset_of!(Components, component_bytes) == 4);
    assert!(offset_of!(Components, components_count) == 8 && offset_of!(Components, components) == 16);
};
