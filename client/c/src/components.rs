//! Components of the application's own, registered from its memory.

use mofka_client::{Library, register_library};

use crate::status::{Failure, MOFKA_ERROR_COMPONENT, complete, mofka_status};

/// What an application, or a library, offers: validators, partition selectors and serializers. Its layout, and what its functions have to
/// keep, is in `mofka_component.h`.
pub struct mofka_components {
    /// What it has is said by the header that it is from.
    _opaque: [u8; 0],
}

/// Makes the components of a table known in this process, for topics whose documents name their types, as if a library had offered
/// them. What is known already stays as it is; topics that were opened before keep what they had.
///
/// The table and all that it leads to stays as it is until the process ends. `MOFKA_ERROR_COMPONENT` when it makes no sense.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_components_register(table: *const mofka_components) -> mofka_status {
    complete(|| {
        if table.is_null() {
            return Err(Failure::null("table"));
        }
        // SAFETY: it leads to a table that keeps the contract of mofka_component.h, as the caller promises; the type here is nothing
        // but its name in C.
        let library = unsafe { Library::of_table("the table", table.cast()) };
        let library = library.map_err(|error| Failure::new(MOFKA_ERROR_COMPONENT, error.to_string()))?;
        register_library(&library);
        Ok(())
    })
}
