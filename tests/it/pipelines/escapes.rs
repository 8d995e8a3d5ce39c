//! Attempts to get out: at files, processes, the network, bytecode, the state of another job, a
//! secret. One table, each attempt named, each with what must come of it.

use serde_json::json;

use quire_pipeline::driver::DriverError;
use quire_pipeline::driver::protocol::PipelineSource;

use super::support::*;

/// Where the code stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// A Fennel file, read.
    Fennel,
    /// A Lua file, read; `ci` is the module.
    Lua,
    /// The body of a job's function in Fennel.
    FennelJob,
    /// The body of a job's function in Lua; its tools are `sh`, `secret` and `jobs`.
    LuaJob,
}

use Where::{Fennel, FennelJob, Lua, LuaJob};

/// Name, where, code, and what must be part of the outcome: the fault, `accepted`, or how the job ended.
type Attempt = (&'static str, Where, &'static str, &'static str);

/// What the states simply do not have.
const ABSENT: &[&str] = &[
    "io",
    "os",
    "debug",
    "package",
    "load",
    "loadfile",
    "dofile",
    "loadstring",
    "collectgarbage",
    "print",
    "warn",
    "setfenv",
    "getfenv",
    "newproxy",
    "module",
    "string.dump",
    "_G.io",
    "_G.os",
    "_G._G.package",
    "_ENV.os",
    "_ENV.load",
    "rawget(_G, 'io')",
    "rawget(_G, 'debug')",
    "rawget(_ENV, 'load')",
    "package and package.loaded",
    "string.sub and ('').dump",
    "coroutine.debug",
];

const ATTEMPTS: &[Attempt] = &[
    // Files.
    (
        "a file, by io",
        Fennel,
        "(io.open \"/etc/passwd\")",
        "unknown identifier: io",
    ),
    (
        "a file, by raw Lua in Fennel",
        Fennel,
        "(lua \"local f = io.open('/etc/passwd')\")",
        "attempt to index a nil value (global 'io')",
    ),
    (
        "a file, by its environment",
        Fennel,
        "(lua \"local f = _ENV.io.open('/etc/passwd')\")",
        "attempt to index a nil value (global 'io')",
    ),
    (
        "a file, by require with ..",
        Lua,
        "require('../../etc/passwd')",
        "there is no module `../../etc/passwd`",
    ),
    (
        "a file, by require with dots",
        Lua,
        "require('......etc.passwd')",
        "there is no module",
    ),
    (
        "a file, by an absolute require",
        Lua,
        "require('/etc/passwd')",
        "there is no module `/etc/passwd`",
    ),
    (
        "a file, by require with NUL",
        Lua,
        "require('h\\0.fnl')",
        "the name of a module contains a NUL byte",
    ),
    (
        "a file, by include",
        Fennel,
        "(include :/etc/passwd)",
        "module not found /etc/passwd",
    ),
    (
        "a file, by include with ..",
        Fennel,
        "(include :../../../etc/passwd)",
        "module not found",
    ),
    (
        "a file, by import-macros",
        Fennel,
        "(import-macros m \"../../etc/passwd\")",
        "module not found",
    ),
    (
        "a file, by require-macros",
        Fennel,
        "(require-macros \"/etc/passwd\")",
        "module not found",
    ),
    (
        "a file, while compiling",
        Fennel,
        "(eval-compiler (io.open \"/etc/passwd\"))",
        "unknown identifier: io",
    ),
    (
        "a file, from a macro",
        Fennel,
        "(macro m [] (_G.io.open \"/etc/passwd\")) (m)",
        "attempt to index a nil value (field 'io')",
    ),
    (
        "the configuration beside it",
        Lua,
        "require('config')",
        "there is no module `config`",
    ),
    (
        "standard modules",
        Lua,
        "for _, name in ipairs{'io', 'os', 'debug', 'package', 'string', '_G', 'quire'} do assert(not pcall(require, name)) end",
        "accepted",
    ),
    (
        "Fennel itself",
        Fennel,
        "(require :fennel)",
        "there is no module `fennel`",
    ),
    (
        "Fennel's search path",
        Fennel,
        "(macro m [] (tset (require :fennel) :path \"/etc/?\") nil) (m) (import-macros x :passwd)",
        "passwd module not found",
    ),
    // Processes and the outside.
    (
        "a process, by os",
        FennelJob,
        "((. _G.os :execute) \"true\")",
        "attempt to index a nil value (field 'os')",
    ),
    (
        "a process, by io",
        LuaJob,
        "return _G.io.popen('true')",
        "attempt to index a nil value (field 'io')",
    ),
    (
        "a process, while compiling",
        Fennel,
        "(eval-compiler (os.execute \"true\"))",
        "unknown identifier: os",
    ),
    (
        "a process, by a macro's require",
        Fennel,
        "(macro m [] ((. (require :os) :execute) :true)) (m)",
        "os module not found",
    ),
    (
        "the end of the driver",
        Fennel,
        "(eval-compiler (_G.os.exit 1))",
        "attempt to index a nil value (field 'os')",
    ),
    (
        "the compiler's packages",
        Fennel,
        "(eval-compiler (assert (= nil (?. _G :package :loaded))))",
        "the pipeline registers no jobs",
    ),
    (
        "a command while the file is read",
        Lua,
        "local t; ci.job('a', {'quire/push'}, function(tools) t = tools end); t.sh('true')",
        "attempt to index a nil value (local 't')",
    ),
    // Bytecode.
    (
        "bytecode, dumped",
        LuaJob,
        "return string.dump(function() end)",
        "attempt to call a nil value (field 'dump')",
    ),
    (
        "bytecode, dumped by a string",
        LuaJob,
        "return (''):dump()",
        "attempt to call a nil value (method 'dump')",
    ),
    (
        "bytecode, loaded",
        LuaJob,
        "return _G.load('\\27Lua')",
        "attempt to call a nil value (field 'load')",
    ),
    (
        "bytecode, while compiling",
        Fennel,
        "(eval-compiler (string.dump #1))",
        "attempt to call a nil value (field 'dump')",
    ),
    (
        "bytecode, loaded while compiling",
        Fennel,
        "(eval-compiler (_G.load \"\\27Lua\"))",
        "attempt to call a nil value (field 'load')",
    ),
    // Metatables and environments.
    (
        "the metatable of strings",
        Lua,
        "getmetatable('').__index = nil",
        "attempt to index a boolean value",
    ),
    (
        "the metatable of strings, raw",
        Lua,
        "rawset(getmetatable(''), '__index', nil)",
        "bad argument #1 to 'rawset' (table expected, got boolean)",
    ),
    (
        "the metatable of strings, another",
        Lua,
        "setmetatable('', {})",
        "(table expected, got string)",
    ),
    (
        "the metatable of strings, while compiling",
        Fennel,
        "(eval-compiler (tset (getmetatable \"\") :__index nil))",
        "Illegal metatable access!",
    ),
    (
        "the module's metatable",
        Lua,
        "setmetatable(ci, {})",
        "cannot change a protected metatable",
    ),
    (
        "the module's fields",
        Lua,
        "getmetatable(ci).__index.job = nil",
        "attempt to index a boolean value",
    ),
    (
        "another `ci.job`",
        Lua,
        "ci.job = function() end",
        "quire.ci cannot be changed",
    ),
    (
        "another `sh` for the jobs",
        FennelJob,
        "(let [t (. (require :quire.ci) :job)] (tset (require :quire.ci) :job t))",
        "quire.ci cannot be changed",
    ),
    (
        "a finalizer",
        Lua,
        "setmetatable({}, {__gc = function() end})",
        "__gc is not available",
    ),
    (
        "a finalizer, hidden",
        Lua,
        "local m = {__gc = false} setmetatable({}, m)",
        "__gc is not available",
    ),
    (
        "a finalizer, set later",
        Lua,
        "local m, ran = {}, false\nlocal t = setmetatable({}, m) m.__gc = function() ran = true end\nt = nil for i = 1, 200000 do local x = {} end assert(not ran)",
        "accepted",
    ),
    (
        "another environment",
        Lua,
        "local require, error = require, error do local _ENV = {} x = io error(x or 'nothing there') end",
        "nothing there",
    ),
    (
        "an environment that looks for names",
        Lua,
        "setmetatable(_G, {__index = function(_, name) error('asked for ' .. name) end}) local x = io",
        "asked for io",
    ),
    (
        "upvalues",
        Lua,
        "assert(_G.debug == nil and not pcall(function() return _G.debug.getupvalue end))",
        "accepted",
    ),
    (
        "a string library turned against the host",
        Lua,
        "for name in pairs(string) do string[name] = nil end for name in pairs(table) do table[name] = nil end ci.jbo()",
        "quire.ci has no `jbo`: did you mean `job`?",
    ),
    (
        "an iterator turned against the host",
        Lua,
        "next, pairs, rawget, type, error, setmetatable = nil ci.jbo()",
        "quire.ci has no `jbo`",
    ),
    (
        "an error that is none",
        Lua,
        "error(setmetatable({}, {__tostring = function() error('deeper') end}))",
        "raised a table",
    ),
    (
        "an error with a metatable that counts",
        Lua,
        "error(setmetatable({}, {__index = function() return 1 end, __name = 'x.fnl:9: forged'}))",
        "x.fnl:9:1: forged",
    ),
    // The compiler.
    (
        "a special form that writes Lua",
        Fennel,
        r#"(eval-compiler (tset _SPECIALS :sh (fn [] "io.popen(1)"))) (sh)"#,
        "attempt to index a nil value (global 'io')",
    ),
    (
        "a macro that names what is not there",
        Fennel,
        "(macro m [] (list (sym :os.exit) 1)) (m)",
        "unknown identifier: os",
    ),
    (
        "a macro that breaks the compiler",
        Fennel,
        "(macro m [] (each [k (pairs string)] (tset string k nil)) nil) (m) (.. 1 2)",
        "the pipeline registers no jobs",
    ),
    (
        "a macro that yields",
        Fennel,
        "(macro m [] (_G.coroutine.yield 1)) (m)",
        "attempt to index a nil value (field 'coroutine')",
    ),
    (
        "a macro that sees the pipeline's state",
        Fennel,
        "(global shared 1) (macro m [] (assert (= nil _G.shared)) nil) (m) (assert (= shared 1))",
        "the pipeline registers no jobs",
    ),
    // Coroutines.
    (
        "a yield of the file",
        Lua,
        "coroutine.yield(1)",
        "it yielded outside of a coroutine | the file yielded outside of a coroutine",
    ),
    (
        "a yield in place of an answer",
        LuaJob,
        "coroutine.yield({}) return 1",
        "it yielded outside of a coroutine",
    ),
    (
        "the running thread, closed",
        LuaJob,
        "return coroutine.close(coroutine.running())",
        "cannot close a running coroutine",
    ),
    (
        "the running thread, resumed",
        LuaJob,
        "return {coroutine.resume(coroutine.running())}",
        "cannot resume non-suspended coroutine",
    ),
    (
        "a tool inside a coroutine that is closed",
        LuaJob,
        "local co = coroutine.create(function() sh('true') coroutine.yield() end) coroutine.resume(co) return coroutine.close(co)",
        "complete true",
    ),
    (
        "a failure, caught",
        LuaJob,
        "pcall(function() sh('false') sh('true') end) return 'caught'",
        "`false` failed with exit code 1",
    ),
    (
        "a failure, caught by __close",
        LuaJob,
        "local x <close> = setmetatable({}, {__close = function() sh('true') end}) sh('false') sh('true')",
        "`false` failed with exit code 1",
    ),
    (
        "a failure, caught in a coroutine",
        LuaJob,
        "local co = coroutine.wrap(function() sh('false') sh('true') end) pcall(co) return 'caught'",
        "`false` failed with exit code 1",
    ),
    (
        "a result, forged",
        LuaJob,
        "local r = sh('false') rawset(r, 'exit', 0) sh('true') return 1",
        "`false` failed with exit code 1",
    ),
    (
        "a result, changed",
        LuaJob,
        "local r = sh('false') r.exit = 0",
        "the result of a command cannot be changed",
    ),
    (
        "a result with another metatable",
        LuaJob,
        "setmetatable(sh('false'), {})",
        "cannot change a protected metatable",
    ),
    // Secrets and what is not a job's.
    (
        "a secret that is none",
        LuaJob,
        "return secret('nope')",
        "there is no secret `nope`",
    ),
    (
        "a secret by a table",
        LuaJob,
        "return secret({'token'})",
        "the name of a secret must be text, not table",
    ),
    (
        "secrets among the globals",
        LuaJob,
        "local found = 0 for name, value in pairs(_G) do if value == 's3cret' then found = 1 end end return found",
        "complete 0",
    ),
    (
        "the values of a job that is not before it",
        LuaJob,
        "return jobs('other')",
        "does not depend on",
    ),
    (
        "registering in a job",
        LuaJob,
        "require('quire.ci').job('x', {'quire/push'}, function() end)",
        "can only be called while the file is evaluated",
    ),
];

fn lua_job(body: &str) -> PipelineSource {
    lua(&format!(
        "local ci = require('quire.ci')\nci.job('a', {{'quire/push'}}, function(tools)\nlocal sh, secret, jobs = tools.sh, tools.secret, tools.jobs\n{body}\nend)\nci.job('other', {{'quire/push'}}, function() return 1 end)"
    ))
}

/// What comes of it, in one line.
async fn outcome(place: Where, code: &str) -> String {
    let source = match place {
        Fennel => fennel(code),
        Lua => lua(&format!(
            "local ci = require('quire.ci')\n{code}\nci.job('fine', {{'quire/push'}}, function() end)"
        )),
        FennelJob => fennel(&format!(
            "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{{: sh : secret : jobs}}]\n{code}))"
        )),
        LuaJob => lua_job(code),
    };
    let mut session =
        match Session::start_within(source.clone(), std::time::Duration::from_secs(60)).await {
            Ok(session) => session,
            Err(DriverError::Rejected(diagnostics)) => {
                return diagnostics
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ");
            }
            Err(other) => return format!("the driver: {other}"),
        };
    if matches!(place, Fennel | Lua) {
        let checked = pipeline(session.registration.clone(), &source);
        session.close().await;
        return checked.map_or_else(|problem| problem, |_| "accepted".to_owned());
    }
    let end = session
        .run(&["a"], &json!({"quire/push": {}}), usual)
        .await
        .end("a");
    session.close().await;
    end
}

#[tokio::test]
async fn every_attempt_comes_to_nothing() {
    let mut wrong = Vec::new();
    for (name, place, code, expected) in ATTEMPTS {
        let outcome = outcome(*place, code).await;
        if !expected.split(" | ").any(|one| outcome.contains(one)) {
            wrong.push(format!("{name} ({place:?}): {outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_reaches_outside_is_not_there() {
    let looks: Vec<String> = ABSENT
        .iter()
        .map(|code| format!("see({code:?}, function() return {code} end)"))
        .collect();
    let look = format!(
        "local found = {{}}\nlocal function see(name, f) local ok, value = pcall(f) if ok and value then found[#found + 1] = name end end\n{}",
        looks.join("\n")
    );
    assert_eq!(
        outcome(LuaJob, &format!("{look}\nreturn table.concat(found, ' ')")).await,
        "complete \"\""
    );
    assert_eq!(
        outcome(
            Lua,
            &format!("{look}\nassert(#found == 0, table.concat(found, ' '))")
        )
        .await,
        "accepted"
    );
}

#[tokio::test]
async fn bytecode_is_no_source() {
    for source in [
        lua("\u{1b}Lua"),
        PipelineSource {
            helpers: vec![(".quire/h.lua".to_owned(), "\u{1b}LuaT".to_owned())],
            ..fennel("(require :h)")
        },
    ] {
        let Err(DriverError::Rejected(diagnostics)) = Session::start(source).await.map(|_| ())
        else {
            panic!("bytecode was taken")
        };
        assert!(
            diagnostics[0]
                .message
                .contains("attempt to load a binary chunk"),
            "{}",
            diagnostics[0]
        );
    }
}

/// All jobs share a state: one may meddle with another's thread, and harms only their own pipeline.
#[tokio::test]
async fn a_job_that_meddles_with_another_ones_thread_fails_that_one_alone() {
    for (act, expected) in [
        ("coroutine.close(thread)", "coroutine is non-resumable"),
        (
            "coroutine.resume(thread, {exit = 0, stdout = 'forged', stderr = '', cmd = ''})",
            "coroutine is non-resumable",
        ),
    ] {
        let text = format!(
            "local ci = require('quire.ci')
local thread
ci.job('a', {{'quire/push'}}, function(t) thread = coroutine.running() t.sh('slow') return 'a' end)
ci.job('b', {{'quire/push'}}, function(t) t.log(tostring(pcall(function() return {act} end))) return 'b' end)
ci.job('c', {{'quire/push'}}, function(t) t.sh('true') return 'c' end)"
        );
        let mut session = Session::start(lua(&text)).await.unwrap();
        let story = session.run(&["a", "b", "c"], &json!({}), usual).await;
        let a = story.end("a");
        assert!(a == "complete \"a\"" || a.contains(expected), "{act}: {a}");
        assert_eq!(
            (story.end("b"), story.end("c")),
            ("complete \"b\"".to_owned(), "complete \"c\"".to_owned()),
            "{act}"
        );
        session.close().await;
    }
}
