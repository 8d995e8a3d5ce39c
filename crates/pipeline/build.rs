//! Compiles Fennel's compiler and the driver's Lua side to bytecode of the very Lua that will load
//! it. The crate embeds the result.

use std::error::Error;
use std::path::{Path, PathBuf};

/// Where Debian's package `fennel` puts the compiler.
const FENNEL: &str = "/usr/share/lua/5.4/fennel.lua";

/// Lua sources of this crate that are loaded as bytecode: name in the output folder, source.
const OWN_SOURCES: &[(&str, &str)] = &[
    ("compiler.luac", "src/fennel/compiler.lua"),
    ("runtime.luac", "src/driver/runtime.lua"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    println!("cargo::rerun-if-env-changed=QUIRE_FENNEL");
    let fennel = std::env::var_os("QUIRE_FENNEL")
        .filter(|path| !path.is_empty())
        .map_or_else(|| FENNEL.into(), PathBuf::from);
    if !fennel.is_file() {
        return Err(format!(
            "Fennel's compiler is not at {}: install it with `apt-get install fennel` (Debian 13), or name a fennel.lua (1.5 or newer) in QUIRE_FENNEL",
            fennel.display()
        )
        .into());
    }
    to_bytecode(&fennel, &out.join("fennel.luac"))?;
    for (name, source) in OWN_SOURCES {
        to_bytecode(Path::new(source), &out.join(name))?;
    }
    Ok(())
}

/// Compiles a Lua source to stripped bytecode.
fn to_bytecode(source: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", source.display());
    let text = std::fs::read(source)
        .map_err(|error| format!("cannot read {}: {error}", source.display()))?;
    let lua = mlua::Lua::new();
    let function = lua
        .load(text)
        .set_name(format!("={}", source.display()))
        .into_function()?;
    std::fs::write(target, function.dump(true))
        .map_err(|error| format!("cannot write {}: {error}", target.display()))?;
    Ok(())
}
