use serde_json::json;

use super::*;

fn data(text: &str) -> Result<serde_json::Value, Diagnostic> {
    eval_data(text, "config.fnl", Language::Fennel)
}

fn error_of(text: &str) -> String {
    let diagnostic = data(text).unwrap_err();
    format!("{diagnostic}")
}

#[test]
fn data_is_returned_as_written() {
    let value = data(
        "; mine\n{:http {:port 3000 :trusted-proxies [\"172.16.0.0/12\" \"x\"]} :ci {:executor :docker :ratio 0.5 :on false} :none {}}",
    )
    .unwrap();
    assert_eq!(
        value,
        json!({"http": {"port": 3000, "trusted-proxies": ["172.16.0.0/12", "x"]}, "ci": {"executor": "docker", "ratio": 0.5, "on": false}, "none": {}})
    );
    let lua = eval_data(
        "return {port = 1, ['a-b'] = {1, 2}}",
        "config.lua",
        Language::Lua,
    )
    .unwrap();
    assert_eq!(lua, json!({"port": 1, "a-b": [1, 2]}));
}

#[test]
fn values_that_are_not_plain_data_are_errors() {
    assert_eq!(
        error_of(""),
        "config.fnl:1:1: the file must return a table of data, not nothing"
    );
    assert_eq!(
        error_of("42"),
        "config.fnl:1:1: the file must return a table of data, not an integer"
    );
    assert_eq!(
        error_of("{:a (fn [] 1)}"),
        "config.fnl:1:1: the file is not plain data: `a` is a function"
    );
    assert_eq!(
        error_of("(local t {}) (set t.me {:t [t]}) t"),
        "config.fnl:1:1: the file is not plain data: `me.t[1]` contains itself"
    );
    assert_eq!(
        error_of("{:a 1 2 3}"),
        "config.fnl:1:1: the file is not plain data: it has a key of type integer: keys are strings, or numbers from 1 without a gap"
    );
    assert_eq!(
        error_of("{:a (/ 0 0)}"),
        "config.fnl:1:1: the file is not plain data: `a` is not a finite number"
    );
    assert_eq!(
        error_of("{:a \"\\255\"}"),
        "config.fnl:1:1: the file is not plain data: `a` is text that is not valid UTF-8"
    );
}

#[test]
fn errors_show_the_authors_line() {
    let diagnostic = data("(local a 1)\n (local b (+ a nil))\n{: b}").unwrap_err();
    assert_eq!(
        diagnostic.to_string(),
        "config.fnl:2:2: attempt to perform arithmetic on a nil value"
    );
    assert_eq!(
        diagnostic.source_line.as_deref(),
        Some(" (local b (+ a nil))")
    );
    let diagnostic = data("{:a 1\n :ü 2 :b foo}").unwrap_err();
    assert_eq!(
        diagnostic.to_string(),
        "config.fnl:2:10: the file does not compile: unknown identifier: foo"
    );
    let diagnostic = data("{:a 1").unwrap_err();
    assert!(
        diagnostic
            .message
            .starts_with("the file cannot be parsed: "),
        "{diagnostic}"
    );
    let diagnostic = eval_data("return {\n a = = 1}", "config.lua", Language::Lua).unwrap_err();
    assert_eq!(
        diagnostic.to_string(),
        "config.lua:2:2: the file does not compile: unexpected symbol near '='"
    );
}

#[test]
fn a_configuration_has_no_libraries_and_a_deadline() {
    for name in [
        "io", "os", "require", "load", "pcall", "print", "string", "_G.x",
    ] {
        assert!(
            error_of(&format!("{{:a {name}}}")).contains("unknown identifier"),
            "{name}"
        );
    }
    for (code, word) in [
        ("io.open('x')", "io"),
        ("load('x')", "load"),
        ("require('x')", "require"),
        ("setmetatable({}, {})", "setmetatable"),
    ] {
        let error =
            eval_data(&format!("return {{a = {code}}}"), "c.lua", Language::Lua).unwrap_err();
        assert_eq!(
            error.message,
            if word == "io" {
                "attempt to index a nil value (global 'io')".to_owned()
            } else {
                format!("attempt to call a nil value (global '{word}')")
            }
        );
    }
    let stopped = eval_data("\nwhile true do end", "c.lua", Language::Lua).unwrap_err();
    assert_eq!(
        stopped.to_string(),
        "c.lua:2:1: it took too long and was stopped"
    );
    let full = eval_data(
        "local s = ('x')\nwhile true do s = s .. s end",
        "c.lua",
        Language::Lua,
    )
    .unwrap_err();
    assert_eq!(
        full.message,
        "it needs more memory than a configuration file may use (64 MiB)"
    );
    let bytecode = eval_data("\u{1b}Lua", "c.lua", Language::Lua).unwrap_err();
    assert!(
        bytecode.message.contains("attempt to load a binary chunk"),
        "{bytecode}"
    );
}

#[test]
fn a_macro_has_no_libraries() {
    for escape in [
        "(io.open :x)",
        "(os.exit 1)",
        "(load :x)",
        "(string.dump #1)",
        "(debug.getinfo 1)",
        "(_G.package.loaded.fennel)",
    ] {
        let error = data(&format!("(macro m [] {escape})\n{{:a (m)}}")).unwrap_err();
        assert!(
            error.message.contains("attempt to") || error.message.contains("unknown identifier"),
            "{escape}: {error}"
        );
    }
    let module = data("(import-macros m :helpers)\n{}").unwrap_err();
    assert!(
        module.message.contains("helpers module not found"),
        "{module}"
    );
}

#[test]
fn json_round_trips_through_lua() {
    let vm = Vm::for_pipeline(MEMORY_LIMIT).unwrap();
    let value = json!({"a": [1, 2.5, "x", true, {"b": {}}], "c": "ü\u{0}", "d": i64::MAX});
    let back = to_json(
        &from_json(vm.lua(), &value).unwrap(),
        &ValueLimits::default(),
        &|_| None,
    )
    .unwrap();
    assert_eq!(back, value);
}

#[test]
fn values_over_the_limits_are_errors() {
    let vm = Vm::for_pipeline(MEMORY_LIMIT).unwrap();
    let limits = ValueLimits {
        depth: 3,
        values: 10,
        bytes: 20,
    };
    let error =
        |code: &str| to_json(&vm.lua().load(code).eval().unwrap(), &limits, &|_| None).unwrap_err();
    assert_eq!(
        error("return {{{{}}}}"),
        ValueError::Depth(value::ValuePath::of("[1][1][1]"), 3)
    );
    assert_eq!(
        error("return {1,2,3,4,5,6,7,8,9,10}"),
        ValueError::Values(10)
    );
    assert_eq!(error("return ('x'):rep(21)"), ValueError::Bytes(20));
    assert!(matches!(
        error("return {1, nil, 3, x = 1}"),
        ValueError::Key(..)
    ));
}
