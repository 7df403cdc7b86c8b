//! placeholder
pub mod collect;
pub mod parse;
