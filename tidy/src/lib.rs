//! Checks of the repository itself. Each check is a plain function from text to complaints, with a test at the foot of
//! its file that feeds it something bad; `tests/it` runs them all over the real tree.
#![forbid(unsafe_code)]

pub mod borders;
pub mod dependencies;
pub mod edges;
pub mod evidence;
pub mod layouts;
pub mod links;
pub mod messages;
pub mod source;
pub mod tables;
pub mod tree;
