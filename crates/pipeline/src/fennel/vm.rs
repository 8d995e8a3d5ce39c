//! A Lua state with limits.
//!
//! The deadline is enforced by a hook that *yields* the running thread. Code cannot catch that with
//! `pcall`, and the caller does not resume the thread again. If a thread cannot yield (inside a
//! callback of a C function such as `string.gsub`), the next check raises an error instead. No hook
//! can interrupt a single long call of a C function; the owner of the process has to limit that.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::chunk::ChunkMode;
use mlua::debug::DebugEvent;
use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use super::error::LuaError;

/// How many instructions run between two checks of the clock: some tens of microseconds.
const INSTRUCTIONS_PER_CHECK: u32 = 10_000;

/// Why a thread was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// Its time slice ended; it may be resumed later.
    Preempted,
    /// Its deadline passed; it must not be resumed.
    Expired,
}

/// The limits that the hook enforces and what it recorded. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Monitor(Rc<MonitorState>);

#[derive(Debug, Default)]
struct MonitorState {
    deadline: Cell<Option<Instant>>,
    slice_end: Cell<Option<Instant>>,
    interrupt: Cell<Option<Interrupt>>,
    line: Cell<u32>,
    chunk: RefCell<String>,
}

impl Monitor {
    /// Sets the deadline to `after` from now, or to none, and clears an earlier interrupt.
    pub fn set_deadline(&self, after: Option<Duration>) {
        self.set_deadline_at(after.and_then(|after| Instant::now().checked_add(after)));
    }

    /// Sets the deadline and clears an earlier interrupt.
    pub fn set_deadline_at(&self, deadline: Option<Instant>) {
        self.0.deadline.set(deadline);
        self.0.interrupt.set(None);
    }

    /// Interrupts code after `slice`, so that other threads can run before it is resumed.
    pub fn set_slice(&self, slice: Option<Duration>) {
        self.0
            .slice_end
            .set(slice.and_then(|slice| Instant::now().checked_add(slice)));
    }

    /// Whether the deadline passed since it was set.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.0.interrupt.get() == Some(Interrupt::Expired)
    }

    /// The last executed line of a chunk with debug information: chunk name and line. It is exact
    /// even if a tail call has removed the caller's frame.
    #[must_use]
    pub fn last_line(&self) -> Option<(String, u32)> {
        (self.0.line.get() > 0).then(|| (self.0.chunk.borrow().clone(), self.0.line.get()))
    }

    /// Makes a line the last one again, for a thread that continues.
    pub fn restore_line(&self, last: Option<(String, u32)>) {
        let (chunk, line) = last.unwrap_or_default();
        self.0.line.set(line);
        *self.0.chunk.borrow_mut() = chunk;
    }

    fn record_line(&self, debug: &mlua::debug::Debug<'_>) {
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

    fn check_limits(&self) -> mlua::Result<VmState> {
        let passed = |limit: Option<Instant>| limit.is_some_and(|limit| Instant::now() >= limit);
        if passed(self.0.deadline.get()) {
            if self.0.interrupt.replace(Some(Interrupt::Expired)) == Some(Interrupt::Expired) {
                // The yield of the previous check had no effect: the thread cannot yield here.
                return Err(mlua::Error::RuntimeError(
                    "the time limit is over".to_owned(),
                ));
            }
            return Ok(VmState::Yield);
        }
        if passed(self.0.slice_end.get()) {
            self.0.interrupt.set(Some(Interrupt::Preempted));
            return Ok(VmState::Yield);
        }
        Ok(VmState::Continue)
    }
}

/// A Lua state with a memory limit and a [`Monitor`].
#[derive(Debug)]
pub struct Vm {
    lua: Lua,
    monitor: Monitor,
}

impl Vm {
    /// Creates a state for pipeline code, with those libraries that cannot reach outside of it,
    /// and recording lines. Fails only if memory runs out.
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

    /// Creates a state for data, with no library and no base function.
    pub(super) fn without_globals(memory: usize) -> mlua::Result<Self> {
        let vm = Self::new(StdLib::NONE, memory, true)?;
        vm.lua.set_globals(vm.lua.create_table()?)?;
        Ok(vm)
    }

    /// Creates a state for the compiler. compiler.lua removes the functions that Fennel does not
    /// need.
    pub(super) fn for_compiler(memory: usize) -> mlua::Result<Self> {
        Self::new(
            StdLib::STRING | StdLib::TABLE | StdLib::MATH | StdLib::UTF8 | StdLib::COROUTINE,
            memory,
            false,
        )
    }

    fn new(libraries: StdLib, memory: usize, lines: bool) -> mlua::Result<Self> {
        // With `catch_rust_panics(true)` Lua's own pcall stays. A call could not yield through mlua's.
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(true))?;
        lua.set_memory_limit(memory)?;
        let monitor = Monitor::default();
        let hook = monitor.clone();
        let triggers = HookTriggers {
            every_line: lines,
            every_nth_instruction: Some(INSTRUCTIONS_PER_CHECK),
            ..HookTriggers::default()
        };
        lua.set_global_hook(triggers, move |_, debug| match debug.event() {
            DebugEvent::Line => {
                hook.record_line(debug);
                Ok(VmState::Continue)
            }
            _ => hook.check_limits(),
        })?;
        Ok(Self { lua, monitor })
    }

    #[must_use]
    pub fn lua(&self) -> &Lua {
        &self.lua
    }

    #[must_use]
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Loads Lua text, never bytecode, as a function. `file` is the name that errors show.
    pub fn load_text(
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

    /// Loads bytecode. It must come from the build script: Lua does not verify bytecode.
    pub fn load_bytecode(&self, code: &[u8]) -> mlua::Result<Function> {
        self.lua
            .load(code)
            .set_mode(ChunkMode::Binary)
            .into_function()
    }

    /// Calls a function that must not yield, until it returns or the deadline passes.
    pub fn call_to_completion(&self, function: Function) -> Result<Value, LuaError> {
        let thread = self
            .lua
            .create_thread(function)
            .map_err(|error| LuaError::from(&error))?;
        let result = thread.resume::<MultiValue>(());
        if self.monitor.expired() {
            return Err(self.with_last_line(LuaError::new("it took too long and was stopped")));
        }
        match result {
            Ok(_) if thread.is_resumable() => {
                Err(self.with_last_line(LuaError::new("it yielded outside of a coroutine")))
            }
            Ok(values) => Ok(values.into_iter().next().unwrap_or(Value::Nil)),
            Err(error) => Err(self.with_last_line(LuaError::from(&error))),
        }
    }

    /// Sets the location of an error that has none to the last executed line.
    #[must_use]
    pub fn with_last_line(&self, mut error: LuaError) -> LuaError {
        if error.line.is_none()
            && let Some((chunk, line)) = self.monitor.last_line()
        {
            error.chunk = Some(chunk);
            error.line = Some(line);
        }
        error
    }
}
