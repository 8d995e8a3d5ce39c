//! Colours of source code: which grammar a file has, and which part of each line is a comment, a string or a keyword.
//!
//! Owns: the grammars, their choice by name and first line, the classes of tokens, the limits, and the lines that were highlighted
//! before. It knows neither HTML nor repositories.
//!
//! Invariants: the grammars are loaded once, when the first file is highlighted. Every call has limits, and what lies beyond them has no
//! tokens; [`HighlightedLines::cut`] says why. A fault of a grammar ends the colours of one text, not the caller.

mod cache;
mod code_token;
mod diff;
mod grammars;
mod limits;
mod lines;
mod regex_limits;
mod scope_classes;
mod tokenizer;

pub use cache::HighlightCache;
pub use code_token::CodeToken;
pub use diff::{LineColours, LineOrigin, highlight_hunk};
pub use grammars::Grammar;
pub use limits::{HighlightCut, HighlightTime};
pub use lines::{HighlightedLines, highlight};
pub use scope_classes::TokenClass;
