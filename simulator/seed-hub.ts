import { ANY, type Fields, readFields } from "./base/fields.ts";
import { isObject, type JsonObject, type JsonValue } from "./base/json.ts";
import type { Hub } from "./hub/hub.ts";
import { twinKey } from "./hub/twins/twin.ts";
import { parseTwinChange } from "./hub/twins/twins.ts";

/** What a new hub begins with, as a configuration file has it. */
export type HubSeed = {
  /** One entry or a list of them; an entry is a device, or `count` of them with a `prefix`. */
  readonly devices: JsonValue;
  /** Bodies of the service API, each with its `id`. */
  readonly configurations: JsonValue;
};

type DeviceEntry = {
  readonly ids: readonly string[];
  readonly identity: JsonObject;
  readonly modules: readonly string[];
  readonly twin: JsonObject;
};

/** Makes devices, then configurations; answers with every mistake and its path. */
export function seedHub(hub: Hub, { devices, configurations }: HubSeed): readonly string[] {
  const problems: string[] = [];
  for (const [index, entry] of listOf(devices).entries())
    makeDevices(hub, entry, `devices[${index}]`, problems);
  for (const [index, body] of listOf(configurations).entries())
    makeConfiguration(hub, body, `configurations[${index}]`, problems);
  return problems;
}

function listOf(written: JsonValue): readonly JsonValue[] {
  return Array.isArray(written) ? (written as readonly JsonValue[]) : [written];
}

function makeDevices(hub: Hub, written: JsonValue, path: string, problems: string[]): void {
  const entry = readEntry(written, path, problems);
  if (entry === null) return;
  for (const id of entry.ids) {
    const problem = makeDevice(hub, id, entry);
    if (problem === null) continue;
    problems.push(`${path}: ${problem}`);
    // What is wrong with one of a hundred is wrong with all of them.
    return;
  }
}

function readEntry(written: JsonValue, path: string, problems: string[]): DeviceEntry | null {
  if (!isObject(written)) {
    problems.push(`${path} must be an object`);
    return null;
  }
  const before = problems.length;
  const fields = readFields(written, path, problems);
  const iotEdge = fields.flag("iotEdge");
  const status = fields.oneOf("status", ["enabled", "disabled"], "enabled");
  const authentication = fields.raw("authentication");
  const entry: DeviceEntry = {
    ids: readIds(fields),
    identity: {
      status,
      capabilities: { iotEdge },
      ...(authentication === undefined ? {} : { authentication }),
    },
    modules: fields.texts("modules", []),
    twin: {
      tags: fields.raw("tags") ?? null,
      properties: { desired: fields.raw("desired") ?? null },
    },
  };
  fields.done();
  return problems.length === before ? entry : null;
}

function readIds(fields: Fields): readonly string[] {
  const id = fields.optionalText("id");
  const count = fields.optionalNumber("count", ANY);
  const prefix = fields.optionalText("prefix");
  const first = fields.number("first", 1, ANY);
  if (id !== null) {
    if (count !== null || prefix !== null)
      fields.addProblem("id", "is for one device, count and prefix for many");
    return [id];
  }
  if (count === null || prefix === null) fields.addProblem("id", "is needed, or count and prefix");
  return Array.from({ length: count ?? 0 }, (_, index) => `${prefix}${first + index}`);
}

/** `null`, or what is wrong. */
function makeDevice(hub: Hub, id: string, { identity, modules, twin }: DeviceEntry): string | null {
  const made = hub.registry.putDevice(id, identity, null);
  if (!made.ok) return made.refusal.message;
  for (const module of modules) {
    const added = hub.registry.putModule(id, module, {}, null);
    if (!added.ok) return added.refusal.message;
  }
  const change = parseTwinChange(twin);
  if (!change.ok) return change.refusal.message;
  if (change.value.tags === null && change.value.desired === null) return null;
  const written = hub.twins.patch(twinKey(id, null), change.value, null);
  return written.ok ? null : written.refusal.message;
}

function makeConfiguration(hub: Hub, written: JsonValue, path: string, problems: string[]): void {
  const id = isObject(written) ? written["id"] : undefined;
  if (!isObject(written) || typeof id !== "string") {
    problems.push(`${path} must be an object with an id`);
    return;
  }
  const made = hub.configurations.put(id, written, null);
  if (!made.ok) problems.push(`${path}: ${made.refusal.message}`);
}
