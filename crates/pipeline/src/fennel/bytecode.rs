//! Reads bytecode of Lua 5.4 that this process has just compiled, to find the names that code uses before it runs:
//! global variables, and fields of a function's first parameter. Lua itself reports neither until the line is executed.
//!
//! Bytecode that is not understood has no findings. It is only read, never loaded.

/// The version, and the sizes of an instruction, an integer and a number.
const VERSION: u8 = 0x54;
const SIZES: [u8; 3] = [4, 8, 8];
const HEADER_BYTES: usize = 31;

/// The opcodes of interest, by their number in lopcodes.h.
const GETUPVAL: u32 = 9;
const SETUPVAL: u32 = 10;
const GETTABUP: u32 = 11;
const GETFIELD: u32 = 14;
const SETTABUP: u32 = 15;
/// The opcodes that do not write to register `A`.
const WITHOUT_TARGET: [u32; 28] = [
    SETUPVAL, SETTABUP, 16, 17, 18, 46, 47, 48, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66,
    70, 71, 72, 75, 76, 78, 82,
];

/// A name in code, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedName {
    pub name: String,
    pub line: u32,
}

/// The global variables of a chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Globals {
    pub read: Vec<UsedName>,
    /// Also `function name()`.
    pub assigned: Vec<String>,
    /// Whether the code uses the table of globals itself, by which it can set any of them.
    pub uses_table: bool,
}

/// Returns the global variables that a chunk uses, in order.
#[must_use]
pub fn globals(chunk: &[u8]) -> Option<Globals> {
    let main = parse(chunk)?;
    let mut found = Globals::default();
    find_globals(&main, &[0], &mut found);
    Some(found)
}

fn find_globals(function: &Function, environment: &[usize], found: &mut Globals) {
    for (instruction, line) in function.code.iter().zip(&function.lines) {
        let (a, b, c) = (instruction.a(), instruction.b(), instruction.c());
        match instruction.opcode() {
            GETTABUP if environment.contains(&b) => match function.constant(c) {
                Some("_G") => found.uses_table = true,
                Some(name) => found.read.push(UsedName {
                    name: name.to_owned(),
                    line: *line,
                }),
                None => {}
            },
            SETTABUP if environment.contains(&a) => found
                .assigned
                .extend(function.constant(b).map(str::to_owned)),
            GETUPVAL | SETUPVAL if environment.contains(&b) => found.uses_table = true,
            _ => {}
        }
    }
    for inner in &function.functions {
        find_globals(inner, &inner.captures(environment, None), found);
    }
}

/// Returns the fields that a function, given as a chunk of its own, reads of its first parameter. There are none if
/// the function assigns to the parameter.
#[must_use]
pub fn fields_of_parameter(chunk: &[u8]) -> Vec<UsedName> {
    let mut found = Vec::new();
    if let Some(function) = parse(chunk).filter(|function| function.parameters > 0)
        && find_fields(&function, true, &[], &mut found).is_none()
    {
        found.clear();
    }
    found
}

/// Returns `None` if the parameter is assigned to. It is register 0 if `in_register`, else one of `upvalues`.
fn find_fields(
    function: &Function,
    in_register: bool,
    upvalues: &[usize],
    found: &mut Vec<UsedName>,
) -> Option<()> {
    for (instruction, line) in function.code.iter().zip(&function.lines) {
        let (a, b, c) = (instruction.a(), instruction.b(), instruction.c());
        let opcode = instruction.opcode();
        let is_field = match opcode {
            GETFIELD => in_register && b == 0,
            GETTABUP => upvalues.contains(&b),
            SETUPVAL if upvalues.contains(&b) => return None,
            _ => false,
        };
        if in_register && a == 0 && !WITHOUT_TARGET.contains(&opcode) {
            return None;
        }
        if let Some(name) = function.constant(c).filter(|_| is_field) {
            found.push(UsedName {
                name: name.to_owned(),
                line: *line,
            });
        }
    }
    for inner in &function.functions {
        let captured = inner.captures(upvalues, in_register.then_some(0));
        if !captured.is_empty() {
            find_fields(inner, false, &captured, found)?;
        }
    }
    Some(())
}

#[derive(Debug, Clone, Copy)]
struct Instruction(u32);

impl Instruction {
    fn opcode(self) -> u32 {
        self.0 & 0x7f
    }

    fn a(self) -> usize {
        self.argument(7)
    }

    fn b(self) -> usize {
        self.argument(16)
    }

    fn c(self) -> usize {
        self.argument(24)
    }

    fn argument(self, position: u32) -> usize {
        (self.0 >> position & 0xff) as usize
    }
}

/// A variable of an outer function: whether it is in a register of the next outer one, and its number there.
type Upvalue = (bool, usize);

#[derive(Debug)]
struct Function {
    parameters: u8,
    code: Vec<Instruction>,
    /// Those that are strings.
    constants: Vec<Option<String>>,
    upvalues: Vec<Upvalue>,
    functions: Vec<Function>,
    /// The line of each instruction.
    lines: Vec<u32>,
}

impl Function {
    fn constant(&self, at: usize) -> Option<&str> {
        self.constants.get(at)?.as_deref()
    }

    /// The upvalues that are among those of the outer function, or in this register of it.
    fn captures(&self, outer: &[usize], register: Option<usize>) -> Vec<usize> {
        let is_captured = |(in_register, at): &Upvalue| match in_register {
            true => register == Some(*at),
            false => outer.contains(at),
        };
        let upvalues = self.upvalues.iter().enumerate();
        upvalues
            .filter(|(_, upvalue)| is_captured(upvalue))
            .map(|(at, _)| at)
            .collect()
    }
}

fn parse(chunk: &[u8]) -> Option<Function> {
    let header = chunk.get(..HEADER_BYTES)?;
    let is_known =
        header.starts_with(b"\x1bLua") && header[4] == VERSION && header[12..15] == SIZES;
    let mut reader = BytecodeReader {
        rest: &chunk[HEADER_BYTES..],
    };
    reader.byte()?;
    is_known.then(|| reader.function())?
}

struct BytecodeReader<'a> {
    rest: &'a [u8],
}

impl<'a> BytecodeReader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }

    /// A number in groups of seven bits. The last byte is marked.
    fn size(&mut self) -> Option<usize> {
        let mut size: usize = 0;
        loop {
            let byte = self.byte()?;
            size = size.checked_mul(128)? + usize::from(byte & 0x7f);
            if byte & 0x80 != 0 {
                return Some(size);
            }
        }
    }

    /// Calls `read` as often as the number that comes first says.
    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.size()?;
        (0..count).map(|_| read(self)).collect()
    }

    fn string(&mut self) -> Option<Option<String>> {
        let Some(length) = self.size()?.checked_sub(1) else {
            return Some(None);
        };
        let bytes = self.bytes(length)?;
        Some(Some(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn constant(&mut self) -> Option<Option<String>> {
        match self.byte()? {
            // Numbers.
            0x03 | 0x13 => self.bytes(8).map(|_| None),
            // Strings, short and long.
            0x04 | 0x14 => self.string(),
            // nil, false and true.
            0x00 | 0x01 | 0x11 => Some(None),
            _ => None,
        }
    }

    fn function(&mut self) -> Option<Function> {
        self.string()?;
        let first_line = u32::try_from(self.size()?).ok()?;
        self.size()?;
        let parameters = self.byte()?;
        self.bytes(2)?;
        let code = self.list(|reader| {
            let bytes = reader.bytes(4)?.try_into().ok()?;
            Some(Instruction(u32::from_ne_bytes(bytes)))
        })?;
        let constants = self.list(Self::constant)?;
        let upvalues = self.list(|reader| {
            let upvalue = (reader.byte()? != 0, usize::from(reader.byte()?));
            reader.byte()?;
            Some(upvalue)
        })?;
        let functions = self.list(Self::function)?;
        let steps = self.list(|reader| Some(reader.byte()?.cast_signed()))?;
        let absolute = self.list(|reader| Some((reader.size()?, reader.size()?)))?;
        // The names of local variables and of upvalues.
        self.list(|reader| {
            reader.string()?;
            Some((reader.size()?, reader.size()?))
        })?;
        self.list(Self::string)?;
        Some(Function {
            parameters,
            code,
            constants,
            upvalues,
            functions,
            lines: lines(first_line, &steps, &absolute)?,
        })
    }
}

/// The line of each instruction: the step from the line before, or one of the absolute lines.
fn lines(first: u32, steps: &[i8], absolute: &[(usize, usize)]) -> Option<Vec<u32>> {
    let mut line = first;
    let mut lines = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        line = if *step == i8::MIN {
            let (_, line) = absolute.iter().find(|(position, _)| *position == at)?;
            u32::try_from(*line).ok()?
        } else {
            line.checked_add_signed(i32::from(*step))?
        };
        lines.push(line);
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(text: &str) -> Vec<u8> {
        let lua = mlua::Lua::new();
        lua.load(text).into_function().unwrap().dump(false)
    }

    fn names(used: &[UsedName]) -> Vec<(&str, u32)> {
        used.iter()
            .map(|used| (used.name.as_str(), used.line))
            .collect()
    }

    #[test]
    fn globals_are_found_with_their_lines() {
        let text = "local a = b\nc = a\nlocal function f(d)\n  local e = function() return d, g.h end\n\n  return e\nend\nfunction i() end\nreturn function(a) print(a) end";
        let found = globals(&dump(text)).unwrap();
        assert_eq!(names(&found.read), [("b", 1), ("g", 4), ("print", 9)]);
        assert_eq!(found.assigned, ["c", "i"]);
        assert!(!found.uses_table);
        for text in [
            "return _G.x",
            "local e = _ENV",
            "return function() return _ENV end",
        ] {
            assert!(globals(&dump(text)).unwrap().uses_table, "{text}");
        }
        let local = globals(&dump("local _ENV = {}\nreturn x")).unwrap();
        assert_eq!(local.read, []);
    }

    #[test]
    fn long_files_have_the_right_lines() {
        let text = format!("{}return x", "local _ = 1 ; _ = 'a'\n\n\n".repeat(90));
        let found = globals(&dump(&text)).unwrap();
        assert_eq!(names(&found.read), [("x", 271)]);
        let far = format!("local _ = 1{}return x", "\n".repeat(1_000));
        let found = globals(&dump(&far)).unwrap();
        assert_eq!(names(&found.read), [("x", 1_001)]);
    }

    #[test]
    fn fields_of_the_first_parameter_are_found() {
        let fields = |text: &str| {
            let lua = mlua::Lua::new();
            let function: mlua::Function = lua.load(format!("return {text}")).eval().unwrap();
            let found = fields_of_parameter(&function.dump(false));
            found.into_iter().map(|used| used.name).collect::<Vec<_>>()
        };
        for (text, found) in [
            (
                "function(t) t.sh('x') local y = t.log end",
                &["sh", "log"][..],
            ),
            (
                "function(t) local sh = t['read-file'] return sh.x end",
                &["read-file"],
            ),
            (
                "function(t) return function() return function() t.env() end end end",
                &["env"],
            ),
            ("function(t, u) return u.sh end", &[]),
            ("function(t) t = {} return t.sh end", &[]),
            (
                "function(t) local f = function() t = {} end f() return t.sh end",
                &[],
            ),
            ("function(...) local t = ... return t.sh end", &[]),
            ("function() return x.sh end", &[]),
            (
                "function(t) for i = 1, 2 do t.sh(i) end if t.a == 1 then return t end end",
                &["sh", "a"],
            ),
        ] {
            assert_eq!(fields(text), found, "{text}");
        }
    }

    #[test]
    fn other_bytes_have_no_findings() {
        let chunk = dump("return x");
        for end in 0..chunk.len() {
            assert_eq!(globals(&chunk[..end]), None);
            assert_eq!(fields_of_parameter(&chunk[..end]), []);
        }
        assert_eq!(globals(b"\x1bLua\x55"), None);
    }
}
