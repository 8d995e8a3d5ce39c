-- Builds what a pipeline sees: the job's tools, the module quire.ci and the global environment.
-- Receives the functions of functions.rs and those of the module quire.ci. It is loaded as bytecode
-- without debug information, so that none of its frames counts as a line of the author's file.
--
-- A call that must wait yields CALL to the driver, which resumes the thread with the reply. If the
-- job has failed the driver never resumes the thread, so neither pcall nor a coroutine of the
-- author's can catch the failure. Each yield by the author's code carries USER. A yield that carries
-- neither comes from the end of a time slice.
local api, ci = ...

local error, next, rawget, setmetatable, type, xpcall = error, next, rawget, setmetatable, type, xpcall
local co_create, co_resume, co_yield, co_status, co_yieldable =
  coroutine.create, coroutine.resume, coroutine.yield, coroutine.status, coroutine.isyieldable

local CALL, USER = {}, {}

-- The author's coroutines. A yield that is meant for the driver is passed on to it.

-- The number of coroutines that were resumed inside a callback of a C function, where no call can wait.
local blocked = 0

local function next_step(co, ok, mark, ...)
  if not ok then return false, mark end
  if co_status(co) == "dead" then return true, mark, ... end
  if mark == USER then return true, ... end
  if mark == CALL then return next_step(co, co_resume(co, co_yield(CALL))) end
  if blocked == 0 then co_yield() end
  return next_step(co, co_resume(co))
end

local function unblock(...)
  blocked = blocked - 1
  return ...
end

local function resume(co, ...)
  if co_yieldable() and blocked == 0 then return next_step(co, co_resume(co, ...)) end
  blocked = blocked + 1
  return unblock(next_step(co, co_resume(co, ...)))
end

local function return_or_raise(ok, ...)
  if ok then return ... end
  error((...), 0)
end

local function wrap(f)
  local co = co_create(f)
  return function(...) return return_or_raise(resume(co, ...)) end
end

local function yield(...) return co_yield(USER, ...) end

-- The result of a command is an empty table with a metatable that records when `exit` is read.

local records = setmetatable({}, { __mode = "k" })

local function read(record, key)
  if key == "exit" then api.mark_checked(record.call) end
  return record.fields[key]
end

local function copy(fields)
  local new = {}
  for key, value in next, fields do new[key] = value end
  return new
end

local result_meta = {
  __name = "result of a command",
  __metatable = false,
  __index = function(result, key) return read(records[result], key) end,
  __newindex = function() error(api.with_location("the result of a command cannot be changed"), 0) end,
  __pairs = function(result)
    local record = records[result]
    api.mark_checked(record.call)
    return next, copy(record.fields), nil
  end,
}

local function new_result(call, fields)
  local result = setmetatable({}, result_meta)
  records[result] = { call = call, fields = fields }
  return result
end

-- The tools that wait for the runner.

local function wait(call, message)
  if message then error(message, 0) end
  return co_yield(CALL, call)
end

local function check_can_wait(name)
  if blocked > 0 or not co_yieldable() then
    error(api.with_location("`" .. name .. "` cannot be called from inside a function that was given to table.sort, string.gsub or the like"), 0)
  end
end

local function sh(...)
  check_can_wait("sh")
  local call, message = api.sh(...)
  return new_result(call, wait(call, message))
end

-- A tool that returns the runner's reply, or raises the runner's message.
local function request_tool(name, request)
  return function(...)
    check_can_wait(name)
    local value, message = wait(request(...))
    if message then error(api.with_location(message), 0) end
    return value
  end
end

-- The tools that return at once.

local function immediate_tool(call)
  return function(...)
    local value, message = call(...)
    if message then error(message, 0) end
    return value
  end
end

-- Read-only tables that raise an error for a name that they do not have.

local function strict(what, fields)
  local names = {}
  for name in next, fields do names[#names + 1] = name end
  table.sort(names)
  return setmetatable({}, {
    __metatable = false,
    __index = function(_, key)
      local value = fields[key]
      if value == nil then error(api.unknown_field(what, key, names), 0) end
      return value
    end,
    __newindex = function() error(api.with_location(what .. " cannot be changed"), 0) end,
    __pairs = function() return next, copy(fields), nil end,
  })
end

local tool_table = {
  sh = sh,
  jobs = immediate_tool(api.jobs),
  log = immediate_tool(api.log),
  env = immediate_tool(api.env),
  secret = request_tool("secret", api.secret),
  ["read-file"] = request_tool("read-file", api.read_file),
  ["read-json"] = request_tool("read-json", api.read_json),
  ["write-file"] = request_tool("write-file", api.write_file),
  artifact = request_tool("artifact", api.artifact),
}
local tools = strict("the job's table", tool_table)
local tool_names = {}
for name in next, tool_table do tool_names[#tool_names + 1] = name end
table.sort(tool_names)
local module = strict("quire.ci", ci)

-- The author's global environment.

local loaded, LOADING = { ["quire.ci"] = module }, {}

local function require(name)
  local value = loaded[name]
  if value == LOADING then error(api.with_location("`" .. name .. "` requires itself"), 0) end
  if value ~= nil then return value end
  local chunk, message = api.load_module(name)
  if not chunk then error(message, 0) end
  loaded[name] = LOADING
  value = chunk(name)
  if value == nil then value = true end
  loaded[name] = value
  return value
end

local env = {
  _VERSION = _VERSION,
  assert = assert, error = error, ipairs = ipairs, pairs = pairs, pcall = pcall, xpcall = xpcall,
  select = select, tonumber = tonumber, tostring = tostring, type = type,
  rawequal = rawequal, rawlen = rawlen, rawset = rawset, getmetatable = getmetatable,
  string = string, table = table, math = math, utf8 = utf8,
  require = require,
  coroutine = {
    create = co_create, resume = resume, yield = yield, wrap = wrap, status = co_status,
    running = coroutine.running, isyieldable = co_yieldable, close = coroutine.close,
  },
  next = function(t, key)
    local record = records[t]
    if not record then return next(t, key) end
    local found, value = next(record.fields, key)
    if found == "exit" then api.mark_checked(record.call) end
    return found, value
  end,
  rawget = function(t, key)
    local record = records[t]
    if record then return read(record, key) end
    return rawget(t, key)
  end,
  setmetatable = function(t, meta)
    if type(meta) == "table" and rawget(meta, "__gc") ~= nil then
      error(api.with_location("__gc is not available in a pipeline"), 0)
    end
    return setmetatable(t, meta)
  end,
}
env._G = env
getmetatable("").__metatable = false

return {
  env = env,
  call = CALL,
  tool_names = tool_names,
  tools = tool_table,
  user = USER,
  register = function(chunk) return xpcall(chunk, api.record_raised) end,
  run = function(job) return xpcall(job, api.record_raised, tools) end,
  fields = function(value)
    local record = records[value]
    if record then return record.call, copy(record.fields) end
  end,
}
