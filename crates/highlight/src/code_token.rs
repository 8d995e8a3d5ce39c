//! A part of a line with its class.

use super::scope_classes::TokenClass;

/// A part of a line. The numbers count bytes of the line as text, in which what is no UTF-8 is U+FFFD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeToken {
    pub start: u32,
    pub end: u32,
    pub class: TokenClass,
}
