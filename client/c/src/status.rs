//! What functions return, and what is told about the last error of a thread.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mofka_client::{
    AcknowledgeError, ComponentError, ConsumerError, DeliveryError, DriverError, ErrorCode, FillError,
    ProcessError, PullError, PushError, StreamError, ThreadPoolError, ViewError, WireError,
};

/// What a function returns: 0 when it did what it should, a positive number when there was nothing to do it with, a negative one
/// for an error.
pub type mofka_status = i32;

/// It is done.
pub const MOFKA_OK: i32 = 0;
/// It did not happen within the time that was given. Nothing is lost by that: wait again.
pub const MOFKA_TIMEOUT: i32 = 1;
/// The topic is complete and all of it was pulled. Every later pull says the same.
pub const MOFKA_NO_MORE_EVENTS: i32 = 2;
/// An argument makes no sense: NULL where something is needed, an unknown number, text that is not UTF-8, JSON that is none.
pub const MOFKA_ERROR_INVALID_ARGUMENT: i32 = -1;
/// The metadata is not JSON, or the topic's validator does not take the event.
pub const MOFKA_ERROR_INVALID_METADATA: i32 = -2;
/// There is no topic of this name.
pub const MOFKA_ERROR_UNKNOWN_TOPIC: i32 = -3;
/// There is a topic of this name already.
pub const MOFKA_ERROR_TOPIC_EXISTS: i32 = -4;
/// There is no such partition, or none at all.
pub const MOFKA_ERROR_NO_PARTITION: i32 = -5;
/// No node answers, or the connection was lost and not found again in time.
pub const MOFKA_ERROR_UNREACHABLE: i32 = -6;
/// The node refused; the reason says why.
pub const MOFKA_ERROR_REFUSED: i32 = -7;
/// It is larger than what is allowed.
pub const MOFKA_ERROR_TOO_LARGE: i32 = -8;
/// The producer, the consumer or the stream was closed.
pub const MOFKA_ERROR_CLOSED: i32 = -9;
/// This process is a forked child of the one that made the handle: connect again in the child.
pub const MOFKA_ERROR_FORKED: i32 = -10;
/// The topic's validator, partition selector or serializer cannot work in this process.
pub const MOFKA_ERROR_COMPONENT: i32 = -11;
/// A function of the application, or a component of the topic, failed.
pub const MOFKA_ERROR_CALLBACK: i32 = -12;
/// The data, or the metadata, of an event could not be fetched or understood.
pub const MOFKA_ERROR_DATA: i32 = -13;
/// The device of the node is full.
pub const MOFKA_ERROR_NO_SPACE: i32 = -14;
/// The topic is complete: it takes no more events.
pub const MOFKA_ERROR_TOPIC_COMPLETE: i32 = -15;
/// The event was not acknowledged within the producer's delivery timeout.
pub const MOFKA_ERROR_TIMED_OUT: i32 = -16;
/// A view selects what is not there.
pub const MOFKA_ERROR_INVALID_VIEW: i32 = -17;
/// The system starts no more threads, or these are too many.
pub const MOFKA_ERROR_THREADS: i32 = -18;
/// No more events come from a partition, or from all.
pub const MOFKA_ERROR_PARTITION: i32 = -19;
/// The group file cannot be read, or is none.
pub const MOFKA_ERROR_GROUP_FILE: i32 = -20;
/// A defect of this library. Please report it.
pub const MOFKA_ERROR_INTERNAL: i32 = -99;

/// Every status, with its name.
const NAMES: [(mofka_status, &std::ffi::CStr); 24] = [
    (MOFKA_OK, c"ok"),
    (MOFKA_TIMEOUT, c"timeout"),
    (MOFKA_NO_MORE_EVENTS, c"no_more_events"),
    (MOFKA_ERROR_INVALID_ARGUMENT, c"invalid_argument"),
    (MOFKA_ERROR_INVALID_METADATA, c"invalid_metadata"),
    (MOFKA_ERROR_UNKNOWN_TOPIC, c"unknown_topic"),
    (MOFKA_ERROR_TOPIC_EXISTS, c"topic_exists"),
    (MOFKA_ERROR_NO_PARTITION, c"no_partition"),
    (MOFKA_ERROR_UNREACHABLE, c"unreachable"),
    (MOFKA_ERROR_REFUSED, c"refused"),
    (MOFKA_ERROR_TOO_LARGE, c"too_large"),
    (MOFKA_ERROR_CLOSED, c"closed"),
    (MOFKA_ERROR_FORKED, c"forked"),
    (MOFKA_ERROR_COMPONENT, c"component"),
    (MOFKA_ERROR_CALLBACK, c"callback"),
    (MOFKA_ERROR_DATA, c"data"),
    (MOFKA_ERROR_NO_SPACE, c"no_space"),
    (MOFKA_ERROR_TOPIC_COMPLETE, c"topic_complete"),
    (MOFKA_ERROR_TIMED_OUT, c"timed_out"),
    (MOFKA_ERROR_INVALID_VIEW, c"invalid_view"),
    (MOFKA_ERROR_THREADS, c"threads"),
    (MOFKA_ERROR_PARTITION, c"partition"),
    (MOFKA_ERROR_GROUP_FILE, c"group_file"),
    (MOFKA_ERROR_INTERNAL, c"internal"),
];

/// Why a function failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: mofka_status,
    message: String,
    /// What the node answered, or the client's word for it; `None`: the name of the status.
    reason: Option<&'static str>,
    may_be_stored: bool,
}

impl Failure {
    pub(crate) fn new(status: mofka_status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            reason: None,
            may_be_stored: false,
        }
    }

    /// An argument that makes no sense.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(MOFKA_ERROR_INVALID_ARGUMENT, message)
    }

    /// Something that has to be there, and is NULL.
    pub(crate) fn null(what: &str) -> Self {
        Self::argument(format!("{what} is NULL"))
    }

    /// The handle belongs to another process.
    pub(crate) fn forked(pid: u32) -> Self {
        Self::new(
            MOFKA_ERROR_FORKED,
            format!("this was made by process {pid}: after a fork, connect again in the child"),
        )
    }

    fn refused(code: ErrorCode, message: String) -> Self {
        let status = match code {
            ErrorCode::UnknownTopic => MOFKA_ERROR_UNKNOWN_TOPIC,
            ErrorCode::TopicExists => MOFKA_ERROR_TOPIC_EXISTS,
            ErrorCode::InvalidName | ErrorCode::InvalidArgument | ErrorCode::InvalidRank => {
                MOFKA_ERROR_INVALID_ARGUMENT
            }
            ErrorCode::UnknownPartition => MOFKA_ERROR_NO_PARTITION,
            ErrorCode::TooLarge => MOFKA_ERROR_TOO_LARGE,
            ErrorCode::TopicComplete => MOFKA_ERROR_TOPIC_COMPLETE,
            ErrorCode::NoSpace => MOFKA_ERROR_NO_SPACE,
            ErrorCode::InvalidSelection | ErrorCode::InvalidReference => MOFKA_ERROR_INVALID_VIEW,
            ErrorCode::Damaged | ErrorCode::Trimmed | ErrorCode::UnknownEvent | ErrorCode::BadChecksum => {
                MOFKA_ERROR_DATA
            }
            ErrorCode::InvalidMetadata => MOFKA_ERROR_INVALID_METADATA,
            _ => MOFKA_ERROR_REFUSED,
        };
        Self {
            reason: Some(code.name()),
            ..Self::new(status, message)
        }
    }
}

impl From<&WireError> for Failure {
    fn from(error: &WireError) -> Self {
        Self::refused(error.code, error.to_string())
    }
}

impl From<ComponentError> for Failure {
    fn from(error: ComponentError) -> Self {
        let status = match error.is_unknown_type {
            true => MOFKA_ERROR_COMPONENT,
            // What its document says makes no sense.
            false => MOFKA_ERROR_INVALID_ARGUMENT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        let status = match &error {
            DriverError::Refused(refused) => return refused.into(),
            DriverError::Component(component) => return component.clone().into(),
            DriverError::NoGroup | DriverError::Invalid(_) | DriverError::InvalidRank { .. } => {
                MOFKA_ERROR_INVALID_ARGUMENT
            }
            DriverError::GroupFile { .. } | DriverError::Group { .. } => MOFKA_ERROR_GROUP_FILE,
            DriverError::Forked { .. } => MOFKA_ERROR_FORKED,
            DriverError::Unreachable { .. } | DriverError::Lost { .. } => MOFKA_ERROR_UNREACHABLE,
            _ => MOFKA_ERROR_REFUSED,
        };
        Self::new(status, error.to_string())
    }
}

impl From<&PushError> for Failure {
    fn from(error: &PushError) -> Self {
        let status = match error {
            PushError::Component(component) => return component.clone().into(),
            PushError::NoTarget { .. } => MOFKA_ERROR_NO_PARTITION,
            PushError::InvalidMetadata { .. } | PushError::Rejected { .. } => MOFKA_ERROR_INVALID_METADATA,
            PushError::Callback { .. } => MOFKA_ERROR_CALLBACK,
            PushError::TooLarge { .. } => MOFKA_ERROR_TOO_LARGE,
            PushError::Closed => MOFKA_ERROR_CLOSED,
            PushError::Forked { .. } => MOFKA_ERROR_FORKED,
            _ => MOFKA_ERROR_REFUSED,
        };
        Self {
            reason: Some(error.reason()),
            ..Self::new(status, error.to_string())
        }
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        Self::from(&error)
    }
}

impl From<FillError> for Failure {
    fn from(error: FillError) -> Self {
        let status = match &error {
            FillError::Forked { .. } => MOFKA_ERROR_FORKED,
            _ => MOFKA_ERROR_INVALID_ARGUMENT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<DeliveryError> for Failure {
    fn from(error: DeliveryError) -> Self {
        let failure = match &error {
            DeliveryError::NotTaken(push) => push.as_ref().into(),
            DeliveryError::Refused(refused) => refused.as_ref().into(),
            DeliveryError::InDoubt(refused) => Self {
                message: error.to_string(),
                ..Self::from(refused.as_ref())
            },
            DeliveryError::TimedOut { .. } => Self::new(MOFKA_ERROR_TIMED_OUT, error.to_string()),
            DeliveryError::Gone(_) => Self::new(MOFKA_ERROR_NO_PARTITION, error.to_string()),
            DeliveryError::Forked { .. } => Self::new(MOFKA_ERROR_FORKED, error.to_string()),
            _ => Self::new(MOFKA_ERROR_UNREACHABLE, error.to_string()),
        };
        Self {
            reason: Some(error.reason()),
            may_be_stored: error.may_be_stored(),
            ..failure
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Push(error) => error.into(),
            StreamError::Driver(error) => error.into(),
            StreamError::Delivery(error) => error.into(),
            other => Self::new(MOFKA_ERROR_DATA, other.to_string()),
        }
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        let status = match &error {
            PullError::Callback { .. } | PullError::Allocation { .. } => MOFKA_ERROR_CALLBACK,
            PullError::DataTooLarge { .. } => MOFKA_ERROR_TOO_LARGE,
            PullError::Data { .. } | PullError::Metadata { .. } => MOFKA_ERROR_DATA,
            PullError::Closed => MOFKA_ERROR_CLOSED,
            PullError::Forked { .. } => MOFKA_ERROR_FORKED,
            _ => MOFKA_ERROR_PARTITION,
        };
        Self::new(status, error.to_string())
    }
}

impl From<AcknowledgeError> for Failure {
    fn from(error: AcknowledgeError) -> Self {
        match &error {
            AcknowledgeError::Refused(refused) => Self::refused(refused.code, error.to_string()),
            AcknowledgeError::Forked { .. } => Self::new(MOFKA_ERROR_FORKED, error.to_string()),
            _ => Self::new(MOFKA_ERROR_UNREACHABLE, error.to_string()),
        }
    }
}

impl From<ConsumerError> for Failure {
    fn from(error: ConsumerError) -> Self {
        let status = match error {
            ConsumerError::Component(error) => return error.into(),
            ConsumerError::Driver(error) => return error.into(),
            ConsumerError::InvalidTarget { .. } | ConsumerError::NotRead { .. } => MOFKA_ERROR_NO_PARTITION,
            ConsumerError::Views(_) => MOFKA_ERROR_INVALID_VIEW,
            _ => MOFKA_ERROR_INVALID_ARGUMENT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ThreadPoolError> for Failure {
    fn from(error: ThreadPoolError) -> Self {
        let status = match error {
            ThreadPoolError::Forked { .. } => MOFKA_ERROR_FORKED,
            _ => MOFKA_ERROR_THREADS,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        Self::argument(error.to_string())
    }
}

impl From<ViewError> for Failure {
    fn from(error: ViewError) -> Self {
        Self::new(MOFKA_ERROR_INVALID_VIEW, error.to_string())
    }
}

struct LastError {
    message: CString,
    reason: CString,
    may_be_stored: bool,
}

thread_local! {
    static LAST: RefCell<LastError> = RefCell::new(LastError {
        message: CString::default(),
        reason: CString::default(),
        may_be_stored: false,
    });
}

/// The text as C has it: what follows a NUL is left out.
pub(crate) fn c_text(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes: Vec<u8> = text.into();
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    CString::new(bytes).unwrap_or_default()
}

fn name_of(status: mofka_status) -> &'static std::ffi::CStr {
    let found = NAMES.iter().find(|(known, _)| *known == status);
    found.map_or(c"unknown", |(_, name)| name)
}

/// Keeps why something failed, for this thread to ask.
pub(crate) fn note(failure: Failure) -> mofka_status {
    let last = LastError {
        message: c_text(failure.message),
        reason: failure
            .reason
            .map_or_else(|| name_of(failure.status).to_owned(), c_text),
        may_be_stored: failure.may_be_stored,
    };
    // Gone while the thread ends: nobody can ask then.
    LAST.try_with(|place| place.replace(last)).ok();
    failure.status
}

/// Runs what a function does. Notes why it failed, a panic included.
pub(crate) fn guard(work: impl FnOnce() -> Result<mofka_status, Failure>) -> mofka_status {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => note(failure),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no text");
            note(Failure::new(
                MOFKA_ERROR_INTERNAL,
                format!("a defect of the library: {text}"),
            ))
        }
    }
}

/// The same for what has only a success.
pub(crate) fn complete(work: impl FnOnce() -> Result<(), Failure>) -> mofka_status {
    guard(|| work().map(|()| MOFKA_OK))
}

/// Runs what tells nothing: frees, and looks. `otherwise` after a panic.
pub(crate) fn quietly<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// Why the last function that failed in this thread did so: text in UTF-8, what was tried, with values. Empty when none failed
/// yet. Never NULL; valid until the next function fails in this thread, or the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_last_error_message() -> *const c_char {
    // What the pointer leads to stays where it is until the next note.
    LAST.try_with(|last| last.borrow().message.as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// The same as one word, for counting: what the node answered (`no_space`, `topic_complete`, `durability_unavailable` ...), or else
/// as `mofka_status_name`. Never NULL; valid as long as the message.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_last_error_reason() -> *const c_char {
    LAST.try_with(|last| last.borrow().reason.as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// Whether the event that the last error was about may be stored all the same: it was sent, and only the answer is missing.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_last_error_may_be_stored() -> bool {
    LAST.try_with(|last| last.borrow().may_be_stored).unwrap_or(false)
}

/// A status as a word: `ok`, `timeout`, `unknown_topic` ... `unknown` for what is none. Valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_status_name(status: mofka_status) -> *const c_char {
    name_of(status).as_ptr()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last() -> (String, String, bool) {
        let text = |start: *const c_char| {
            // SAFETY: both texts are of this thread, and nothing fails in between.
            unsafe { CStr::from_ptr(start) }.to_str().unwrap().to_owned()
        };
        (
            text(mofka_last_error_message()),
            text(mofka_last_error_reason()),
            mofka_last_error_may_be_stored(),
        )
    }

    #[test]
    fn a_panic_becomes_an_error_and_goes_no_further() {
        let status = guard(|| panic!("what {}", 1));
        assert_eq!(status, MOFKA_ERROR_INTERNAL);
        assert_eq!(
            last(),
            ("a defect of the library: what 1".into(), "internal".into(), false)
        );
        assert_eq!(quietly(3, || panic!("x")), 3);
    }

    #[test]
    fn an_error_is_told_in_its_thread_only_and_until_the_next() {
        let failed = Failure::argument("one\0two");
        assert_eq!(guard(|| Err(failed)), MOFKA_ERROR_INVALID_ARGUMENT);
        assert_eq!(last(), ("one".into(), "invalid_argument".into(), false));
        assert_eq!(guard(|| Ok(MOFKA_TIMEOUT)), MOFKA_TIMEOUT);
        assert_eq!(last().0, "one");
        std::thread::spawn(|| assert_eq!(last().0, "")).join().unwrap();
        let late = DeliveryError::TimedOut {
            waited: std::time::Duration::from_secs(1),
            may_be_stored: true,
        };
        assert_eq!(guard(|| Err(late.into())), MOFKA_ERROR_TIMED_OUT);
        let (message, reason, may_be_stored) = last();
        assert!(message.contains("may be stored"), "{message}");
        assert_eq!((reason.as_str(), may_be_stored), ("timed_out", true));
    }

    #[test]
    fn every_code_of_a_node_keeps_its_name() {
        for code in ErrorCode::ALL {
            let failure = Failure::refused(*code, "no".to_owned());
            assert!(failure.status < 0);
            guard(|| Err(failure));
            assert_eq!(last().1, code.name());
        }
    }

    #[test]
    fn names_and_numbers_of_statuses_are_told_apart() {
        for (n, (status, name)) in NAMES.iter().enumerate() {
            let others = NAMES.iter().skip(n + 1);
            assert!(others.clone().all(|(s, text)| s != status && text != name));
            assert_eq!(name_of(*status), *name);
        }
        assert_eq!(name_of(12345), c"unknown");
    }
}
