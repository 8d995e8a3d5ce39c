//! Where in the author's files the running code is.

use mlua::Lua;

use crate::fennel::{LuaFault, Watch};
use crate::pipeline::{Diagnostic, PipelineText, Place};

use super::protocol::PipelineSource;

/// How far up the stack a place is looked for.
const MAX_LEVELS: usize = 64;

/// The author's files, to point into.
#[derive(Debug)]
pub(super) struct Sources(Vec<PipelineText>);

impl Sources {
    /// The pipeline's file first, then its helpers.
    pub(super) fn new(source: &PipelineSource) -> Self {
        Self(source.texts())
    }

    /// The pipeline's file.
    pub(super) fn main(&self) -> &PipelineText {
        &self.0[0]
    }

    /// The file that Lua names so.
    pub(super) fn named(&self, chunk: &str) -> Option<&PipelineText> {
        self.0.iter().find(|text| text.is_named(chunk))
    }

    /// The first place on a line of a file that is not white space.
    pub(super) fn place(&self, chunk: &str, line: u32) -> Place {
        let text = self.named(chunk);
        Place {
            file: text.map_or(chunk, |text| &text.file).to_owned(),
            line,
            column: text.map_or(1, |text| text.indent(line)),
        }
    }

    /// The place of a registering call such as `ci.job`. Lua gives such a call the last line of the
    /// functions among its arguments; `first_line` is where the job's function begins.
    pub(super) fn place_of_form(
        &self,
        chunk: &str,
        line: u32,
        head: &str,
        name: Option<&str>,
        first_line: Option<u32>,
    ) -> Place {
        let found = self.named(chunk).and_then(|text| {
            let named = name.and_then(|name| text.find_call(line, head, name));
            named.or_else(|| {
                text.find_head(
                    first_line.filter(|first| *first <= line).unwrap_or(line),
                    head,
                    10,
                )
            })
        });
        let place = self.place(chunk, line);
        match found {
            Some((line, column)) => Place {
                line,
                column,
                ..place
            },
            None => place,
        }
    }

    /// The place of a `sh` or other tool called on a line, which may have several: `first` is its first argument.
    pub(super) fn place_of_call(&self, chunk: &str, line: u32, tool: &str, first: &str) -> Place {
        let place = self.place(chunk, line);
        let found = self.named(chunk).and_then(|text| {
            let with_argument = text
                .find_call(line, tool, first)
                .filter(|(found, _)| *found == line);
            with_argument.or_else(|| text.find_head(line, tool, 0))
        });
        match found {
            Some((_, column)) => Place { column, ..place },
            None => place,
        }
    }

    /// A fault as a diagnostic, pointing into whichever file it names.
    pub(super) fn diagnose(&self, fault: LuaFault) -> Diagnostic {
        let text = fault
            .chunk
            .as_deref()
            .and_then(|chunk| self.named(chunk))
            .unwrap_or_else(|| self.main());
        crate::fennel::diagnose(text, fault)
    }

    /// A problem at a place, with its source line.
    pub(super) fn diagnostic(&self, message: String, place: Place) -> Diagnostic {
        self.named(&place.file)
            .unwrap_or_else(|| self.main())
            .diagnostic_at(message, place)
    }
}

/// Chunk and line of the author's code that called into the host, from within a host function.
///
/// Our own Lua side has no debug information. A frame of it that was tail-called has taken the
/// author's frame away; then the last line that was run is the call's.
pub(super) fn caller(lua: &Lua, watch: &Watch) -> Option<(String, u32)> {
    enum Frame {
        Author(String, u32),
        Gone,
        Other,
    }
    for level in 1..MAX_LEVELS {
        let frame = lua.inspect_stack(level, |debug| {
            let source = debug.source();
            let line = debug
                .current_line()
                .and_then(|line| u32::try_from(line).ok());
            match (
                source
                    .source
                    .as_deref()
                    .and_then(|name| name.strip_prefix('@')),
                line,
            ) {
                (Some(chunk), Some(line)) => Frame::Author(chunk.to_owned(), line),
                _ if source.what != "C" && debug.is_tail_call() => Frame::Gone,
                _ => Frame::Other,
            }
        })?;
        match frame {
            Frame::Author(chunk, line) => return Some((chunk, line)),
            Frame::Gone => return watch.last_line(),
            Frame::Other => {}
        }
    }
    None
}
