import { isObject, type JsonObject, type JsonValue, ownValue, parseJson, setKey } from "../../base/json.ts";

// What the desired properties of `$edgeAgent` say, as the agent reads them.

export type RestartPolicy = "never" | "on-failure" | "on-unhealthy" | "always";

export type ModuleSpec = {
  readonly image: string;
  /** Text of JSON, put together from its pieces. */
  readonly createOptions: string;
  readonly status: "running" | "stopped";
  readonly restartPolicy: RestartPolicy;
  readonly imagePullPolicy: "on-create" | "never";
  /** 0 first. */
  readonly startupOrder: number;
  readonly version: string | null;
  readonly env: JsonObject;
  /** As they were written: the agent echoes them. */
  readonly settings: JsonObject;
};

export type Manifest = {
  readonly runtime: JsonObject;
  readonly agent: ModuleSpec;
  readonly hub: ModuleSpec;
  readonly modules: Readonly<Record<string, ModuleSpec>>;
};

/** `code` and `description` go to `lastDesiredStatus`. */
export type ReadManifest =
  | { readonly ok: true; readonly manifest: Manifest }
  | { readonly ok: false; readonly code: 400 | 412 | 417; readonly description: string };

const LAST_ORDER = 4_294_967_295;
const MOST_PIECES = 99;
const NAME_PATTERN = /^[A-Za-z0-9_-]{1,128}$/;
/** A twin holds texts of 4 KB. */
const LONGEST_DESCRIPTION = 1000;

/** 417 for none, 412 for a schema that is not known, 400 with every mistake. */
export function readManifest(desired: JsonObject): ReadManifest {
  if (Object.keys(desired).length === 0)
    return { ok: false, code: 417, description: "The desired configuration is empty" };
  const problems: string[] = [];
  const schemaVersion = desired["schemaVersion"];
  const version = typeof schemaVersion === "string" ? /^([0-9]+)\.([0-9]+)/.exec(schemaVersion) : null;
  if (version === null) problems.push("schemaVersion must be text such as 1.1");
  else if (Number(version[1]) !== 1 || Number(version[2]) > 1)
    return {
      ok: false,
      code: 412,
      description: `The schema version ${String(schemaVersion)} is not supported: 1.0 and 1.1 are`,
    };
  const runtime = isObject(desired["runtime"]) ? desired["runtime"] : {};
  if (runtime["type"] !== "docker") problems.push("runtime.type must be docker");
  const system = isObject(desired["systemModules"]) ? desired["systemModules"] : {};
  const agent = readModule(system["edgeAgent"], "systemModules.edgeAgent", problems);
  const hub = readModule(system["edgeHub"], "systemModules.edgeHub", problems);
  const written = desired["modules"] ?? {};
  if (!isObject(written)) problems.push("modules must be an object");
  const modules: Record<string, ModuleSpec> = {};
  for (const [name, module] of Object.entries(isObject(written) ? written : {})) {
    if (!NAME_PATTERN.test(name))
      problems.push(`modules.${name} must be named with letters, digits, _ and -`);
    setKey(modules, name, readModule(module, `modules.${name}`, problems));
  }
  if (problems.length === 0) return { ok: true, manifest: { runtime, agent, hub, modules } };
  return { ok: false, code: 400, description: problems.join("; ").slice(0, LONGEST_DESCRIPTION) };
}

const TAG_AND_DIGEST = /:[^/:@]+@[^@]+$/;

function readModule(written: JsonValue | undefined, path: string, problems: string[]): ModuleSpec {
  const module = isObject(written) ? written : {};
  if (!isObject(written)) problems.push(`${path} is needed`);
  else if (module["type"] !== "docker") problems.push(`${path}.type must be docker`);
  const settings = isObject(module["settings"]) ? module["settings"] : {};
  const image = settings["image"];
  if (isObject(written) && (typeof image !== "string" || image.trim() === ""))
    problems.push(`${path}.settings.image is needed`);
  // The agent's reader of image names takes one or the other (Azure/iotedge issue 5259).
  if (typeof image === "string" && TAG_AND_DIGEST.test(image))
    problems.push(`${path}.settings.image has a tag and a digest: ${image} is not a valid reference`);
  const choice = <T extends string>(name: string, values: readonly T[], fallback: T): T => {
    const value = ownValue(module, name) ?? fallback;
    const found = values.find((one) => one === value);
    if (found === undefined) problems.push(`${path}.${name} must be one of ${values.join(", ")}`);
    return found ?? fallback;
  };
  const order = module["startupOrder"] ?? LAST_ORDER;
  if (typeof order !== "number" || !Number.isInteger(order) || order < 0 || order > LAST_ORDER)
    problems.push(`${path}.startupOrder must be a whole number from 0 to ${LAST_ORDER}`);
  return {
    image: typeof image === "string" ? image : "",
    createOptions: joinOptions(settings, path, problems),
    status: choice("status", ["running", "stopped"], "running"),
    restartPolicy: choice("restartPolicy", ["never", "on-failure", "on-unhealthy", "always"], "always"),
    imagePullPolicy: choice("imagePullPolicy", ["on-create", "never"], "on-create"),
    startupOrder: typeof order === "number" ? order : LAST_ORDER,
    version: typeof module["version"] === "string" ? module["version"] : null,
    env: isObject(module["env"]) ? module["env"] : {},
    settings,
  };
}

/** `createOptions`, then `createOptions01` to `createOptions99` in order: long ones are cut into pieces. */
function joinOptions(settings: JsonObject, path: string, problems: string[]): string {
  const pieces: string[] = [];
  for (let index = 0; index <= MOST_PIECES; index++) {
    const piece = ownValue(settings, index === 0 ? "createOptions" : pieceName(index));
    if (piece === undefined) break;
    if (isObject(piece) && index === 0) return JSON.stringify(piece);
    pieces.push(typeof piece === "string" ? piece : "\u0000");
  }
  const known = new Set(["createOptions", ...pieces.map((_, index) => pieceName(index))]);
  const stray = Object.keys(settings).find((key) => /^createOptions/.test(key) && !known.has(key));
  if (stray !== undefined) problems.push(`${path}.settings.${stray} follows a gap`);
  const text = pieces.join("");
  const parsed = text === "" ? null : parseJson(text);
  if (parsed === null || (parsed.ok && isObject(parsed.value))) return text;
  problems.push(`${path}.settings.createOptions must be the text of a JSON object`);
  return text;
}

function pieceName(index: number): string {
  return `createOptions${String(index).padStart(2, "0")}`;
}

/** Whether a container has to be made again to become what `next` says; starting and stopping needs no new one. */
export function needsNewContainer(before: ModuleSpec, next: ModuleSpec): boolean {
  const essence = ({ status: _, settings: __, ...rest }: ModuleSpec) => JSON.stringify(sortedEnv(rest));
  return essence(before) !== essence(next);
}

function sortedEnv<T extends { readonly env: JsonObject }>(spec: T): T {
  return { ...spec, env: Object.fromEntries(Object.entries(spec.env).sort(([a], [b]) => (a < b ? -1 : 1))) };
}

/** Names in the order in which they are started: `startupOrder`, then by name. */
export function startOrder(modules: Readonly<Record<string, ModuleSpec>>): readonly string[] {
  return Object.entries(modules)
    .sort(([a, one], [b, other]) => one.startupOrder - other.startupOrder || (a < b ? -1 : 1))
    .map(([name]) => name);
}
