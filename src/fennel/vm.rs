//! A Lua state with limits.
//!
//! The deadline works by a hook that *yields* the running thread: code cannot catch that with
//! `pcall`, and whoever resumed the thread simply never resumes it again. Where a thread cannot
//! yield (inside a callback of a C function such as `string.gsub`) the next tick raises an error
//! instead. What no hook can interrupt (one long call of a C function) is for the owner of the
//! process to bound.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::chunk::ChunkMode;
use mlua::debug::DebugEvent;
use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use super::error::{LuaFault, lua_fault};

/// The memory a pipeline may take, in bytes.
pub const MEMORY_LIMIT: usize = 256 << 20;

/// Instructions between two looks at the clock: some tens of microseconds.
const TICK: u32 = 10_000;

/// Why a thread was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// It ran for a slice; resume it later.
    Preempted,
    /// Its deadline passed; do not resume it.
    Expired,
}

/// What the hook watches, and what it saw. Cloning gives the same one.
#[derive(Debug, Clone, Default)]
pub struct Watch(Rc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    deadline: Cell<Option<Instant>>,
    slice_end: Cell<Option<Instant>>,
    halt: Cell<Option<Halt>>,
    line: Cell<u32>,
    chunk: RefCell<String>,
}

impl Watch {
    /// From now on code may run for so long; `None` is for ever. Forgets an earlier halt.
    pub fn set_deadline(&self, after: Option<Duration>) {
        self.set_deadline_at(after.and_then(|after| Instant::now().checked_add(after)));
    }

    /// Code may run until then.
    pub fn set_deadline_at(&self, deadline: Option<Instant>) {
        self.0.deadline.set(deadline);
        self.0.halt.set(None);
    }

    /// Code is interrupted after so long, to be resumed later.
    pub fn set_slice(&self, slice: Option<Duration>) {
        self.0
            .slice_end
            .set(slice.and_then(|slice| Instant::now().checked_add(slice)));
    }

    /// Whether the deadline passed since it was set.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.0.halt.get() == Some(Halt::Expired)
    }

    /// The last line of a chunk with debug information that was run: chunk name and line.
    /// Exact also where a tail call took the caller's frame away.
    #[must_use]
    pub fn last_line(&self) -> Option<(String, u32)> {
        (self.0.line.get() > 0).then(|| (self.0.chunk.borrow().clone(), self.0.line.get()))
    }

    fn saw_line(&self, debug: &mlua::debug::Debug<'_>) {
        let Some(line) = debug
            .current_line()
            .and_then(|line| u32::try_from(line).ok())
        else {
            return;
        };
        self.0.line.set(line);
        let source = debug.source();
        let Some(source) = source.source.as_deref() else {
            return;
        };
        let name = source.strip_prefix(['@', '=']).unwrap_or(source);
        if *self.0.chunk.borrow() != name {
            name.clone_into(&mut self.0.chunk.borrow_mut());
        }
    }

    fn tick(&self) -> mlua::Result<VmState> {
        let passed = |limit: Option<Instant>| limit.is_some_and(|limit| Instant::now() >= limit);
        if passed(self.0.deadline.get()) {
            if self.0.halt.replace(Some(Halt::Expired)) == Some(Halt::Expired) {
                // The yield of the tick before had no effect: the thread cannot yield here.
                return Err(mlua::Error::RuntimeError(
                    "the time limit is over".to_owned(),
                ));
            }
            return Ok(VmState::Yield);
        }
        if passed(self.0.slice_end.get()) {
            self.0.halt.set(Some(Halt::Preempted));
            return Ok(VmState::Yield);
        }
        Ok(VmState::Continue)
    }
}

/// A Lua state with a memory limit and a [`Watch`].
#[derive(Debug)]
pub struct Vm {
    lua: Lua,
    watch: Watch,
}

impl Vm {
    /// A state for pipeline code: the libraries that reach nothing outside, and lines noted.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn for_pipeline(memory: usize) -> mlua::Result<Self> {
        let vm = Self::new(
            StdLib::STRING | StdLib::TABLE | StdLib::MATH | StdLib::UTF8 | StdLib::COROUTINE,
            memory,
            true,
        )?;
        vm.lua
            .globals()
            .get::<Table>("string")?
            .raw_remove("dump")?;
        Ok(vm)
    }

    /// A state for data: no library, no base function.
    pub(super) fn bare(memory: usize) -> mlua::Result<Self> {
        let vm = Self::new(StdLib::NONE, memory, true)?;
        vm.lua.set_globals(vm.lua.create_table()?)?;
        Ok(vm)
    }

    /// A state for the compiler, which takes away what it does not need itself.
    pub(super) fn for_compiler(memory: usize) -> mlua::Result<Self> {
        Self::new(
            StdLib::STRING | StdLib::TABLE | StdLib::MATH | StdLib::UTF8 | StdLib::COROUTINE,
            memory,
            false,
        )
    }

    fn new(libraries: StdLib, memory: usize, lines: bool) -> mlua::Result<Self> {
        // Lua's own pcall is kept: mlua's would not let a call yield through it.
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(true))?;
        lua.set_memory_limit(memory)?;
        let watch = Watch::default();
        let hook = watch.clone();
        let triggers = HookTriggers {
            every_line: lines,
            every_nth_instruction: Some(TICK),
            ..HookTriggers::default()
        };
        lua.set_global_hook(triggers, move |_, debug| match debug.event() {
            DebugEvent::Line => {
                hook.saw_line(debug);
                Ok(VmState::Continue)
            }
            _ => hook.tick(),
        })?;
        Ok(Self { lua, watch })
    }

    /// The state itself.
    #[must_use]
    pub fn lua(&self) -> &Lua {
        &self.lua
    }

    /// Its watch.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Text (never bytecode) as a function; `file` is what errors name.
    ///
    /// # Errors
    /// Where it is not Lua.
    pub fn chunk(
        &self,
        text: &str,
        file: &str,
        environment: Option<Table>,
    ) -> mlua::Result<Function> {
        let chunk = self
            .lua
            .load(text)
            .set_name(format!("@{file}"))
            .set_mode(ChunkMode::Text);
        match environment {
            Some(environment) => chunk.set_environment(environment).into_function(),
            None => chunk.into_function(),
        }
    }

    /// Loads bytecode that the build made; never anything else.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn own_bytecode(&self, code: &[u8]) -> mlua::Result<Function> {
        self.lua
            .load(code)
            .set_mode(ChunkMode::Binary)
            .into_function()
    }

    /// Runs a function that has no business yielding, until it ends or the deadline stops it.
    ///
    /// # Errors
    /// What it raised, or that its time is over.
    pub fn run_to_end(&self, function: Function) -> Result<Value, LuaFault> {
        let thread = self
            .lua
            .create_thread(function)
            .map_err(|error| lua_fault(&error))?;
        let result = thread.resume::<MultiValue>(());
        if self.watch.expired() {
            return Err(self.at_last_line(LuaFault::new("it took too long and was stopped")));
        }
        match result {
            Ok(_) if thread.is_resumable() => {
                Err(self.at_last_line(LuaFault::new("it yielded outside of a coroutine")))
            }
            Ok(values) => Ok(values.into_iter().next().unwrap_or(Value::Nil)),
            Err(error) => Err(self.at_last_line(lua_fault(&error))),
        }
    }

    /// Gives a fault without a place the last line that was run.
    #[must_use]
    pub fn at_last_line(&self, mut fault: LuaFault) -> LuaFault {
        if fault.line.is_none()
            && let Some((chunk, line)) = self.watch.last_line()
        {
            fault.chunk = Some(chunk);
            fault.line = Some(line);
        }
        fault
    }
}
