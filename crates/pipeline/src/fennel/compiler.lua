-- Provides the parts of a Lua installation that Fennel's compiler needs, and nothing else: no
-- bytecode, no environment, and no file system except for the helper files of the commit.
-- Receives: the compiler's own chunk, and a function that returns a helper file's text by path.
-- Returns: compile(text, file, globals) -> true, Lua text | false, message.
local fennel_chunk, helper_text = ...
local load, pcall, type = load, pcall, type

local function load_text_only(text, name, _, env)
  if type(text) ~= "string" then return nil, "only text can be loaded" end
  return load(text, name, "t", env)
end

_G.load, _G.loadfile, _G.dofile, _G.collectgarbage, _G.print = load_text_only, nil, nil, nil, function() end
string.dump = nil

package = { preload = {}, loaded = {}, searchers = {}, path = "", config = "/\n;\n?\n!\n-\n" }
debug = { traceback = function(message) return message end, getinfo = function() return nil end }
io = {
  open = function(path)
    local text = helper_text(path)
    if not text then return nil, path .. ": no such file in the commit" end
    return { read = function() return text end, close = function() end }
  end,
}
function require(name)
  local loaded = package.loaded[name]
  if loaded ~= nil then return loaded end
  local loader = package.preload[name]
  if not loader then error("module " .. name .. " not found", 0) end
  loaded = loader(name)
  package.loaded[name] = loaded
  return loaded
end

local fennel = fennel_chunk("fennel")
package.loaded.fennel = fennel

return function(text, file, globals)
  return pcall(fennel.compileString, text, {
    filename = file,
    source = text,
    correlate = true,
    allowedGlobals = globals,
    ["error-pinpoint"] = false,
    ["compiler-env"] = "strict",
    warn = function() end,
  })
end
