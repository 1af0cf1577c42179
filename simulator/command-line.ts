import { dirname, resolve } from "node:path";
import { parse, stringify } from "yaml";
import {
  type Arguments,
  type Flags,
  flagsHelp,
  HELP,
  readFlags,
  row,
  suggestion,
} from "../src/base/flags.ts";
import { isObject, type JsonObject, type JsonValue, ownValue, setKey } from "./base/json.ts";
import { type Draft, FLAGS, GROUPS, INLINE, type Inline, type SimulatorFlag } from "./flags.ts";
import { maximumUnits } from "./hub/limits/tier.ts";
import { UNDOCUMENTED, UNDOCUMENTED_TOPICS } from "./hub/undocumented.ts";
import { DEFAULT_OPTIONS, type SimulatorOptions } from "./simulator.ts";

export type Command = {
  readonly options: Partial<SimulatorOptions>;
  readonly virtualClock: boolean;
  /** File of behaviours, YAML or JSON. */
  readonly behavioursFile: string | null;
  /** A scenario that begins with the simulator, as YAML or JSON. */
  readonly scenarioFile: string | null;
  /** Where to write the authority's certificate. */
  readonly caFile: string | null;
  /** PEM files of authorities whose certificates devices may bring. */
  readonly deviceCaFiles: readonly string[];
  /** What the hub holds is kept in this file; `null`: in memory. */
  readonly stateFile: string | null;
  /** What a configuration file says in place; `null`: nothing. */
  readonly inline: Inline;
  /** Every flag that was given, by the name that it has in a configuration file. */
  readonly written: Readonly<Record<string, JsonValue>>;
};

export type ParsedCommandLine =
  | { readonly kind: "help" | "version" }
  | { readonly kind: "printConfig"; readonly text: string }
  | { readonly kind: "run"; readonly command: Command }
  | { readonly kind: "wrong"; readonly problems: readonly string[] };

export type ReadFile = (path: string) => string;

/**
 * Understands flags as `--name value` and `--name=value`, and the file that `--config` names: the same names in camel
 * case. Flags win over the file; every mistake of both is reported.
 */
export function parseCommandLine(args: readonly string[], readFile: ReadFile): ParsedCommandLine {
  const { values, positionals, problems: wrong } = readFlags(args, { ...FLAGS, ...PROGRAM_FLAGS }, "server");
  if (values.has("help")) return { kind: "help" };
  if (values.has("version")) return { kind: "version" };
  const draft = emptyDraft();
  const problems = [...wrong, ...positionals.map((arg) => `${arg} is not known`)];
  const given = settingsIn(values);
  const config = values.get("config")?.at(-1);
  if (config !== undefined) applyFile(draft, config, { readFile, given, problems });
  for (const { name, value } of given) applyFlag(draft, { name, shown: `--${name}`, value }, problems);
  const { tier = DEFAULT_OPTIONS.tier, units = DEFAULT_OPTIONS.units } = draft.options;
  if (units > maximumUnits(tier))
    problems.push(`--units of tier ${tier} must be a whole number from 1 to ${maximumUnits(tier)}`);
  if (problems.length > 0) return { kind: "wrong", problems };
  return values.has("print-config")
    ? { kind: "printConfig", text: configText(draft) }
    : { kind: "run", command: draft };
}

function emptyDraft(): Draft {
  return {
    options: {},
    virtualClock: false,
    behavioursFile: null,
    scenarioFile: null,
    caFile: null,
    deviceCaFiles: [],
    stateFile: null,
    inline: { behaviours: null, scenario: null, faults: [], devices: [], configurations: [] },
    written: {},
  };
}

/** `null`: a switch, which has no value. */
type Given = { readonly name: string; readonly value: string | null };

export const FLAG_NAMES: readonly string[] = Object.keys(FLAGS);

/** Flags of the program itself, which a configuration file cannot have. */
const PROGRAM_FLAGS = {
  config: {
    value: "FILE",
    help: "settings as YAML or JSON: names of flags in camel case; flags win over it",
  },
  "print-config": { value: null, help: "print what holds, as a configuration file, and exit" },
  version: { value: null, help: "print the version and exit" },
  help: HELP,
};

function settingsIn(values: Arguments["values"]): readonly Given[] {
  return [...values].flatMap(([name, all]) => {
    const flag = ownValue(FLAGS, name);
    return flag === undefined
      ? []
      : all.map((value) => ({ name, value: flag.value === null ? null : value }));
  });
}

function applyFlag(
  draft: Draft,
  { name, shown, value }: Given & { readonly shown: string },
  problems: string[],
): void {
  const flag = ownValue(FLAGS, name);
  if (flag === undefined) return;
  const problem = flag.apply(draft, value ?? "");
  if (problem !== null) problems.push(`${shown} ${problem}`);
  const kept = flag.value === "FILE" ? resolve(value ?? "") : (value ?? true);
  const key = camelCase(name);
  const before = ownValue(draft.written, key);
  setKey(draft.written, key, flag.repeats === true ? [...(Array.isArray(before) ? before : []), kept] : kept);
}

/** What is given as a flag too is checked, and then left to the flag. */
function applyFile(
  draft: Draft,
  path: string,
  about: { readonly readFile: ReadFile; readonly given: readonly Given[]; readonly problems: string[] },
): void {
  const { given, problems } = about;
  const read = readConfig(path, about.readFile);
  if (typeof read === "string") {
    problems.push(`--config ${path}: ${read}`);
    return;
  }
  const flags = new Map(Object.keys(FLAGS).map((name) => [camelCase(name), name]));
  const overruled = new Set(given.map(({ name }) => name));
  for (const [key, value] of Object.entries(read)) {
    const name = flags.get(key);
    const inline = INLINE.find((one) => one === key);
    if (inline !== undefined && (name === undefined || typeof value === "object")) {
      if (name === undefined || !overruled.has(name)) draft.inline[inline] = value;
      continue;
    }
    const shown = `${path}: ${key}`;
    if (name === undefined)
      problems.push(`${shown} is not known${suggestion(key, [...flags.keys(), ...INLINE])}`);
    else applySetting(overruled.has(name) ? emptyDraft() : draft, { name, shown, value, path }, problems);
  }
}

function applySetting(
  draft: Draft,
  setting: {
    readonly name: string;
    readonly shown: string;
    readonly value: JsonValue;
    readonly path: string;
  },
  problems: string[],
): void {
  const { name, shown, value, path } = setting;
  const flag = ownValue(FLAGS, name);
  if (flag?.value === null) {
    if (typeof value !== "boolean") problems.push(`${shown} must be true or false`);
    else if (value) applyFlag(draft, { name, shown, value: null }, problems);
    return;
  }
  const values = Array.isArray(value) ? (value as readonly JsonValue[]) : [value];
  if (values.some((one) => typeof one !== "string" && typeof one !== "number")) {
    problems.push(`${shown} must be a text or a number`);
    return;
  }
  // A list is what a flag has between commas, or what is given by repeating it.
  const texts =
    flag?.value === "FILE" ? values.map((one) => resolve(dirname(path), String(one))) : [values.join(",")];
  for (const one of texts) applyFlag(draft, { name, shown, value: one }, problems);
}

/** A text says what is wrong. */
function readConfig(path: string, readFile: ReadFile): JsonObject | string {
  try {
    const read: JsonValue = parse(readFile(path)) ?? {};
    return isObject(read) ? read : "must be an object of settings";
  } catch (problem) {
    return problem instanceof Error ? problem.message : String(problem);
  }
}

function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** What the help says of a value that is not given; `null` where that is nothing, or words. */
function fallbackOf({ value, help }: SimulatorFlag): JsonValue {
  if (value === null) return false;
  const written = /\(default ([^ ):]+)\)$/.exec(help)?.[1] ?? "none";
  if (written === "none") return null;
  return written;
}

/** All that holds, as a configuration file that would bring it about. */
function configText({ written, inline }: Draft): string {
  const settings: Record<string, JsonValue> = {};
  for (const [name, flag] of Object.entries(FLAGS)) {
    const value = ownValue(written, camelCase(name)) ?? fallbackOf(flag);
    const isNumber = typeof value === "string" && /^[0-9]+$/.test(value);
    if (value !== null) setKey(settings, camelCase(name), isNumber ? Number(value) : value);
  }
  for (const name of INLINE) {
    const value = inline[name];
    if (value !== null && !(Array.isArray(value) && value.length === 0)) settings[name] = value;
  }
  return stringify(settings);
}

export function helpText(): string {
  return [
    "usage: edgefleet-simulator [flags]",
    "",
    "An Azure IoT Hub on this machine: the service API over HTTPS, automatic device management, throttling, MQTT for",
    "real devices, and thousands of simulated ones that keep the device contract. Tests steer it through /sim on the",
    "port of the service API:",
    "/sim/health /sim/counters /sim/faults /sim/fleet /sim/clock /sim/evaluate /sim/events /sim/messages /sim/inputs",
    "",
    "Prints one line of JSON when it is ready: {port, mqttPort, proxyPort, hostName, caFile or ca, connectionString}.",
    "",
    "examples:",
    "  edgefleet-simulator --port 8443 --mqtt-port 8883 --ca-out ca.crt",
    "  edgefleet-simulator --config simulator.yaml --state hub.state",
    "  edgefleet-simulator --port 8443 --no-devices --tier S3 --query-staleness 5s",
    "",
    ...flagsHelp(
      Object.fromEntries(Object.entries(GROUPS).map(([title, names]) => [title, flagsNamed(names)])),
    ),
    "Topics of --undocumented; the first behaviour is the default:",
    ...UNDOCUMENTED_TOPICS.map((topic) =>
      row(`${topic}=${UNDOCUMENTED[topic].behaviours.join("|")}`, UNDOCUMENTED[topic].about),
    ),
    "",
    ...flagsHelp({ "The program": PROGRAM_FLAGS }),
    "exit status: 0 it was stopped, 1 it cannot start or serve, 2 the flags or a file of settings are wrong",
    "",
  ].join("\n");
}

function flagsNamed(names: readonly string[]): Flags {
  return Object.fromEntries(
    names.flatMap((name) => {
      const flag = ownValue(FLAGS, name);
      return flag === undefined ? [] : [[name, flag]];
    }),
  );
}
