import { Lua, LuaLibraries } from "wasmoon-lua5.1";

/** What `os.time()` says to scripts. */
export const SECONDS = 1_768_000_000;

/**
 * Runs a script as Argo CD does: Lua 5.1, the object as the global `obj`, the libraries base and table, and of `os` only
 * `time`, by `require`. `date` is not there, because Argo CD's answers in another format; nor is `string`, which not every
 * version has. What the script returns comes back as JSON, an empty table as an empty array.
 */
export async function runLua(script: string, object: unknown): Promise<unknown> {
  const lua = await Lua.create({ openStandardLibs: false });
  try {
    for (const library of [LuaLibraries.Base, LuaLibraries.Table, LuaLibraries.String])
      lua.global.loadLibrary(library);
    return JSON.parse(
      lua.doStringSync(
        `${PRELUDE}\nobj = ${literal(object)}\nlocal function script()\n${script}\nend\nreturn encode(script())`,
      ),
    );
  } finally {
    lua.global.close();
  }
}

const PRELUDE = `
local gsub, format, byte = string.gsub, string.format, string.byte
string, load, loadfile, dofile, print = nil, nil, nil, nil, nil
function require(name)
  if name ~= "os" then error("there is no module " .. name) end
  return { time = function() return ${SECONDS} end }
end
local function encode(value)
  if type(value) == "string" then
    return '"' .. gsub(value, '[%c"\\\\]', function(c) return format("\\\\u%04x", byte(c)) end) .. '"'
  end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  if next(value) == nil or value[1] ~= nil then
    for index, inner in ipairs(value) do parts[index] = encode(inner) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, inner in pairs(value) do parts[#parts + 1] = encode(key) .. ":" .. encode(inner) end
  return "{" .. table.concat(parts, ",") .. "}"
end`;

function literal(value: unknown): string {
  if (Array.isArray(value)) return `{${value.map(literal).join(",")}}`;
  if (typeof value === "object" && value !== null)
    return `{${Object.entries(value)
      .filter(([, inner]) => inner !== undefined && inner !== null)
      .map(([key, inner]) => `[${text(key)}]=${literal(inner)}`)
      .join(",")}}`;
  return typeof value === "string" ? text(value) : String(value);
}

/** Lua 5.1 has decimal escapes of bytes. */
function text(value: string): string {
  const bytes = [...Buffer.from(value, "utf8")];
  const plain = (byte: number) => byte >= 32 && byte < 127 && byte !== 34 && byte !== 92;
  return `"${bytes.map((byte) => (plain(byte) ? String.fromCharCode(byte) : `\\${String(byte).padStart(3, "0")}`)).join("")}"`;
}
