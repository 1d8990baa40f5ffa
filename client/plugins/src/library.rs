//! Loading a library, and checking what it offers.

use std::ffi::c_char;
use std::sync::Arc;

use libloading::os::unix::{Library as Loaded, RTLD_LOCAL, RTLD_NOW};

use crate::abi::{
    COMPONENT_BYTES, COMPONENTS_MAX, Component, Components, Offer, PARTITION_SELECTOR, SERIALIZER, SYMBOL,
    TYPE_NAME_BYTES_MAX, VALIDATOR, VERSION,
};
use crate::component::{ComponentType, Making, PartitionSelectorType, SerializerType, ValidatorType};
use crate::error::LoadError;
use crate::policy::{LibraryPolicy, PLUGIN_PATH_VARIABLE};

/// A library that was loaded, and stays so for the life of the process.
#[derive(Clone, Debug)]
pub struct Library {
    name: String,
    components: Vec<ComponentType>,
}

impl Library {
    /// Loads the library of this name or path, as far as the policy lets it. Loading it again does no harm.
    ///
    /// Its code runs in this process from here on: see the crate's documentation.
    ///
    /// # Errors
    /// When it may not be loaded, cannot be loaded, or what it offers makes no sense. It stays loaded in the last case: who
    /// knows what it began.
    pub fn load(name: &str, policy: &LibraryPolicy) -> Result<Self, LoadError> {
        let closed = |reason| LoadError::Open {
            library: name.to_owned(),
            reason,
        };
        let file = policy.find(name).map_err(closed)?;
        // All symbols at once: what is missing is an error here, not the end of the process in the midst of a call. For itself:
        // libraries may have names in common.
        // SAFETY: what runs at loading is code that the policy's owner trusts; it is never unloaded.
        let loaded = unsafe { Loaded::open(Some(file.as_os_str()), RTLD_NOW | RTLD_LOCAL) };
        let loaded = loaded.map_err(|error| closed(told(&error, policy)))?;
        let offer = offer_of(loaded);
        offer
            .and_then(|offer| {
                // SAFETY: the contract gives the function of this name this signature, lets any thread call it, and gives what
                // it returns the life of the library, which is never unloaded.
                unsafe { check(offer()) }
            })
            .map(|components| Self {
                name: name.to_owned(),
                components,
            })
            .map_err(|reason| LoadError::Unusable {
                library: name.to_owned(),
                reason,
            })
    }

    /// What a table of this process offers, as that of a library; `name` is for messages.
    ///
    /// # Safety
    /// `table` is null, or keeps the contract of the header: it leads to a table of the version that it begins with, which stays
    /// as it is for ever, as do its functions.
    ///
    /// # Errors
    /// When it makes no sense.
    pub unsafe fn of_table(name: &str, table: *const Components) -> Result<Self, LoadError> {
        // SAFETY: as the caller says.
        match unsafe { check(table) } {
            Ok(components) => Ok(Self {
                name: name.to_owned(),
                components,
            }),
            Err(reason) => Err(LoadError::Unusable {
                library: name.to_owned(),
                reason,
            }),
        }
    }

    /// As it was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it offers.
    pub fn components(&self) -> &[ComponentType] {
        &self.components
    }
}

/// The system's own words, and what to do.
fn told(error: &libloading::Error, policy: &LibraryPolicy) -> String {
    let source = std::error::Error::source(error);
    let text = source.map_or_else(|| error.to_string(), ToString::to_string);
    match policy {
        LibraryPolicy::SearchPath if text.contains("No such file") => format!(
            "{text} (put it where the system looks for libraries, see LD_LIBRARY_PATH, or name its directory in \
             {PLUGIN_PATH_VARIABLE})"
        ),
        _ => text,
    }
}

/// The function that the library exports, for ever.
fn offer_of(loaded: Loaded) -> Result<Offer, String> {
    // SAFETY: a function or null, whatever its type; it is called with the signature that the contract gives it.
    let offer = unsafe { loaded.get::<Option<Offer>>(SYMBOL) };
    let offer = offer.ok().and_then(|symbol| *symbol);
    // Instances live as long as somebody uses them, and threads of the library's own as long as they like.
    std::mem::forget(loaded);
    offer.ok_or_else(|| {
        format!(
            "it has no function {SYMBOL}: it is no library of components, or one for another version than {VERSION} (see \
             mofka_component.h)"
        )
    })
}

/// Reads a table.
///
/// # Safety
/// `table` is null, or keeps the contract of the header: it leads to a table of the version that it begins with, which stays as
/// it is for ever.
pub(crate) unsafe fn check(table: *const Components) -> Result<Vec<ComponentType>, String> {
    if table.is_null() || !table.is_aligned() {
        return Err(format!("{SYMBOL} returned {table:?}, which is no table"));
    }
    // SAFETY: not null, and aligned; the caller says that it leads to a table, of which the version comes first.
    let version = unsafe { (&raw const (*table).version).read() };
    if version != VERSION {
        return Err(format!(
            "its table is of version {version}, and this client knows version {VERSION}: build the library and the client with \
             the same mofka_component.h"
        ));
    }
    // SAFETY: as above, and the table is of the version whose layout this is.
    let table = unsafe { *table };
    if table.component_bytes != COMPONENT_BYTES {
        return Err(format!(
            "its components have {} bytes each, and in version {VERSION} they have {COMPONENT_BYTES}: it was not built with \
             mofka_component.h",
            table.component_bytes
        ));
    }
    let count = table.components_count;
    if !(1..=COMPONENTS_MAX).contains(&count) {
        return Err(format!("it offers {count} components, not 1 to {COMPONENTS_MAX}"));
    }
    let components = table.components;
    if components.is_null() || !components.is_aligned() {
        return Err(format!("its components are at {components:?}, where none can be"));
    }
    let count = usize::try_from(count).map_err(|error| error.to_string())?;
    // SAFETY: not null, aligned, few; the caller says that there are as many, and that they stay as they are.
    let components = unsafe { std::slice::from_raw_parts(components, count) };
    let types = components.iter().enumerate();
    let types: Vec<ComponentType> = types
        .map(|(index, component)| {
            // SAFETY: it is one of those above.
            unsafe { checked(component) }.map_err(|reason| format!("component {index} of its table {reason}"))
        })
        .collect::<Result<_, _>>()?;
    for (index, one) in types.iter().enumerate() {
        let is_same = |other: &ComponentType| (other.kind(), other.name()) == (one.kind(), one.name());
        if types.iter().take(index).any(is_same) {
            return Err(format!("it offers the {} \"{}\" twice", one.kind(), one.name()));
        }
    }
    Ok(types)
}

/// # Safety
/// The component keeps the contract of the header.
unsafe fn checked(component: &Component) -> Result<ComponentType, String> {
    // SAFETY: the caller says so.
    let name = unsafe { type_name(component.type_name)? };
    let Component {
        validate,
        set_partitions,
        select,
        serialize,
        deserialize,
        ..
    } = *component;
    if component.reserved != 0 {
        return Err(format!(
            "(\"{name}\") has {} where 0 is reserved",
            component.reserved
        ));
    }
    let missing = |function: &str| format!("(\"{name}\") has no function \"{function}\"");
    let making = Making {
        create: component.create.ok_or_else(|| missing("create"))?,
        destroy: component.destroy.ok_or_else(|| missing("destroy"))?,
        name: Arc::clone(&name),
    };
    let (made, is_alone) = match component.kind {
        VALIDATOR => (
            ComponentType::Validator(ValidatorType {
                making,
                validate: validate.ok_or_else(|| missing("validate"))?,
            }),
            set_partitions.is_none() && select.is_none() && serialize.is_none() && deserialize.is_none(),
        ),
        PARTITION_SELECTOR => (
            ComponentType::PartitionSelector(PartitionSelectorType {
                making,
                set_partitions,
                select: select.ok_or_else(|| missing("select"))?,
            }),
            validate.is_none() && serialize.is_none() && deserialize.is_none(),
        ),
        SERIALIZER => (
            ComponentType::Serializer(SerializerType {
                making,
                serialize: serialize.ok_or_else(|| missing("serialize"))?,
                deserialize: deserialize.ok_or_else(|| missing("deserialize"))?,
            }),
            validate.is_none() && set_partitions.is_none() && select.is_none(),
        ),
        kind => {
            return Err(format!(
                "(\"{name}\") is of kind {kind}, which version {VERSION} does not have"
            ));
        }
    };
    match is_alone {
        true => Ok(made),
        // Most likely they stand in the wrong order.
        false => Err(format!(
            "(\"{name}\") has functions that a {} does not have",
            made.kind()
        )),
    }
}

/// Reads a name, and no further than a name may go.
///
/// # Safety
/// `start` is null, or leads to bytes that end with a NUL.
unsafe fn type_name(start: *const c_char) -> Result<Arc<str>, String> {
    if start.is_null() {
        return Err("has no name".to_owned());
    }
    let mut bytes = Vec::new();
    for index in 0..=TYPE_NAME_BYTES_MAX {
        // SAFETY: not null, and the NUL at the end was not passed yet.
        let byte = unsafe { start.add(index).read() }.cast_unsigned();
        if byte == 0 {
            break;
        }
        bytes.push(byte);
    }
    let name = String::from_utf8_lossy(&bytes);
    match bytes.len() {
        1..=TYPE_NAME_BYTES_MAX if !name.contains([':', char::REPLACEMENT_CHARACTER]) => Ok(name.into()),
        _ => Err(format!(
            "has the name {name:?}: a name is UTF-8 of 1 to {TYPE_NAME_BYTES_MAX} bytes without ':'"
        )),
    }
}
