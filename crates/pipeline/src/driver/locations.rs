//! Finds the location of the running code in the author's files.

use mlua::Lua;

use crate::fennel::{LuaError, Monitor};
use crate::{Diagnostic, Location, SourceFile};

use super::protocol::PipelineSource;

/// How many stack frames are searched for the author's code.
const MAX_LEVELS: usize = 64;

/// The author's files: the pipeline's file first, then its helpers.
#[derive(Debug)]
pub(super) struct SourceMap(Vec<SourceFile>);

impl SourceMap {
    pub(super) fn new(source: &PipelineSource) -> Self {
        Self(source.texts())
    }

    pub(super) fn main(&self) -> &SourceFile {
        &self.0[0]
    }

    /// The file with this chunk name, which Lua may have shortened.
    pub(super) fn file_named(&self, chunk: &str) -> Option<&SourceFile> {
        self.0.iter().find(|text| text.is_named(chunk))
    }

    /// The first character of a line that is not white space.
    pub(super) fn location(&self, chunk: &str, line: u32) -> Location {
        let text = self.file_named(chunk);
        Location {
            file: text.map_or(chunk, |text| &text.file).to_owned(),
            line,
            column: text.map_or(1, |text| text.indent(line)),
        }
    }

    /// The location of a registering call such as `ci.job`. Lua reports such a call at the last line
    /// of the functions among its arguments; `first_line` is where the job's function begins.
    pub(super) fn location_of_registration(
        &self,
        chunk: &str,
        line: u32,
        head: &str,
        name: Option<&str>,
        first_line: Option<u32>,
    ) -> Location {
        let found = self.file_named(chunk).and_then(|text| {
            let call = name.and_then(|name| text.find_call(line, head, name));
            call.or_else(|| {
                text.find_head(
                    first_line.filter(|first| *first <= line).unwrap_or(line),
                    head,
                    10,
                )
            })
        });
        let location = self.location(chunk, line);
        match found {
            Some((line, column)) => Location {
                line,
                column,
                ..location
            },
            None => location,
        }
    }

    /// The location of a tool's call on a line, which may have several calls: `first` is the first
    /// argument of the one that is meant.
    pub(super) fn location_of_tool_call(
        &self,
        chunk: &str,
        line: u32,
        tool: &str,
        first: &str,
    ) -> Location {
        let location = self.location(chunk, line);
        let found = self.file_named(chunk).and_then(|text| {
            let with_argument = text
                .find_call(line, tool, first)
                .filter(|(found, _)| *found == line);
            with_argument.or_else(|| text.find_head(line, tool, 0))
        });
        match found {
            Some((_, column)) => Location { column, ..location },
            None => location,
        }
    }

    /// The location of a name on a line.
    pub(super) fn location_of_name(&self, chunk: &str, line: u32, name: &str) -> Location {
        let location = self.location(chunk, line);
        let found = self
            .file_named(chunk)
            .and_then(|text| text.find_name(line, name));
        match found {
            Some(column) => Location { column, ..location },
            None => location,
        }
    }

    /// Converts an error to a diagnostic of the file that it names.
    pub(super) fn diagnose(&self, error: LuaError) -> Diagnostic {
        let text = error
            .chunk
            .as_deref()
            .and_then(|chunk| self.file_named(chunk))
            .unwrap_or_else(|| self.main());
        error.into_diagnostic(text)
    }

    /// Creates a diagnostic at a location, with its source line.
    pub(super) fn diagnostic(&self, message: String, location: Location) -> Diagnostic {
        self.file_named(&location.file)
            .unwrap_or_else(|| self.main())
            .diagnostic_at(message, location)
    }
}

/// Chunk and line of the author's code that called the running function of this program.
///
/// The frames of runtime.lua have no debug information. If one of them was tail-called it has
/// replaced the author's frame; then the last executed line is the line of the call.
pub(super) fn calling_frame(lua: &Lua, monitor: &Monitor) -> Option<(String, u32)> {
    enum StackFrame {
        Author(String, u32),
        ReplacedByTailCall,
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
                (Some(chunk), Some(line)) => StackFrame::Author(chunk.to_owned(), line),
                _ if source.what != "C" && debug.is_tail_call() => StackFrame::ReplacedByTailCall,
                _ => StackFrame::Other,
            }
        })?;
        match frame {
            StackFrame::Author(chunk, line) => return Some((chunk, line)),
            StackFrame::ReplacedByTailCall => return monitor.last_line(),
            StackFrame::Other => {}
        }
    }
    None
}
