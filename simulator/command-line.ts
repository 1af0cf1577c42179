import { dirname, resolve } from "node:path";
import { parse, stringify } from "yaml";
import { parseDuration } from "./base/duration.ts";
import { isObject, type JsonObject, type JsonValue } from "./base/json.ts";
import { nearest } from "./base/nearest.ts";
import { SHAPINGS, type Shaping } from "./hub/throttle.ts";
import { maximumUnits, TIERS, type Tier } from "./hub/tier.ts";
import { DEFAULT_UNSURE, parseUnsure, UNSURE, UNSURE_TOPICS } from "./hub/unsure.ts";
import { SESSION_SUBSCRIPTIONS } from "./mqtt/session-memory.ts";
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

/** Parts of a configuration file that are more than a flag. */
const INLINE = ["behaviours", "scenario", "faults", "devices", "configurations"] as const;
export type Inline = Readonly<Record<(typeof INLINE)[number], JsonValue>>;

export type ParsedCommandLine =
  | { readonly kind: "help" | "version" }
  | { readonly kind: "printConfig"; readonly text: string }
  | { readonly kind: "run"; readonly command: Command }
  | { readonly kind: "wrong"; readonly problems: readonly string[] };

type Draft = {
  options: { -readonly [Name in keyof SimulatorOptions]?: SimulatorOptions[Name] };
  virtualClock: boolean;
  behavioursFile: string | null;
  scenarioFile: string | null;
  caFile: string | null;
  readonly deviceCaFiles: string[];
  stateFile: string | null;
  inline: { -readonly [Name in keyof Inline]: JsonValue };
  readonly written: Record<string, JsonValue>;
};

type Flag = {
  /** What stands for the value in the help; `null`: a switch without one. */
  readonly value: string | null;
  readonly help: string;
  /** It may be given again, and each value counts. */
  readonly repeats?: true;
  /** Answers with what is wrong, or null. */
  readonly apply: (draft: Draft, written: string) => string | null;
};

type NumberOption = {
  [Name in keyof SimulatorOptions]: SimulatorOptions[Name] extends number ? Name : never;
}[keyof SimulatorOptions];

function duration(name: NumberOption, help: string, least = 1): Flag {
  return {
    value: "DURATION",
    help: `${help} (default ${DEFAULT_OPTIONS[name] / 1000}s)`,
    apply: ({ options }, written) => {
      const length = parseDuration(written);
      if (length === null || length < least) return "must be a duration such as 90s, 5m or 250ms";
      options[name] = length;
      return null;
    },
  };
}

function integer(name: NumberOption, help: string, range: readonly [number, number]): Flag {
  return {
    value: "N",
    help: `${help} (default ${DEFAULT_OPTIONS[name]})`,
    apply: ({ options }, written) => {
      const value = /^[0-9]+$/.test(written) ? Number(written) : Number.NaN;
      if (!(value >= range[0] && value <= range[1]))
        return `must be a whole number from ${range[0]} to ${range[1]}`;
      options[name] = value;
      return null;
    },
  };
}

function wholeNumber(value: string, help: string, set: (draft: Draft, value: number) => void): Flag {
  return {
    value,
    help,
    apply: (draft, written) => {
      if (!/^[0-9]{1,12}$/.test(written)) return "must be a whole number";
      set(draft, Number(written));
      return null;
    },
  };
}

function choice<const T extends string>(
  values: readonly T[],
  help: string,
  set: (draft: Draft, value: T) => void,
): Flag {
  return {
    value: values.join("|"),
    help,
    apply: (draft, written) => {
      const value = values.find((one) => one === written);
      if (value === undefined) return `must be one of ${values.join(", ")}`;
      set(draft, value);
      return null;
    },
  };
}

function text(value: string, help: string, set: (draft: Draft, written: string) => void): Flag {
  return {
    value,
    help,
    apply: (draft, written) => {
      if (written === "") return "must not be empty";
      set(draft, written);
      return null;
    },
  };
}

function toggle(help: string, set: (draft: Draft) => void): Flag {
  return {
    value: null,
    help,
    apply: (draft) => {
      set(draft);
      return null;
    },
  };
}

const FLAGS: Readonly<Record<string, Flag>> = {
  port: integer("port", "port to serve on; 0 is any free one", [0, 65_535]),
  "mqtt-port": integer("mqttPort", "port for MQTT over TLS; 0 is any free one", [0, 65_535]),
  "proxy-port": {
    value: "N",
    help: "serve an HTTP proxy to ports 443 and 8883 of the host name here; 0 is any free one (default none)",
    apply: ({ options }, written) => {
      const port = /^[0-9]{1,5}$/.test(written) ? Number(written) : Number.NaN;
      if (!(port <= 65_535)) return "must be a whole number from 0 to 65535";
      options.proxyPort = port;
      return null;
    },
  },
  address: text("ADDRESS", "address to serve on (default 127.0.0.1)", (draft, written) => {
    draft.options.address = written;
  }),
  "host-name": text("NAME", `name of the hub (default ${DEFAULT_OPTIONS.hostName})`, (draft, written) => {
    draft.options.hostName = written;
  }),
  "ca-out": text("FILE", "write the certificate of the simulator's authority here", (draft, written) => {
    draft.caFile = written;
  }),
  "device-ca": {
    ...text(
      "FILE",
      "PEM of authorities that sign certificates of devices, at most 25; may be given again",
      (draft, written) => {
        draft.deviceCaFiles.push(written);
      },
    ),
    repeats: true,
  },
  tier: choice<Tier>(TIERS, "tier whose budgets and limits hold (default S1)", (draft, value) => {
    draft.options.tier = value;
  }),
  units: integer("units", "units of the tier", [1, 200]),
  "no-throttling": toggle("never answer 429", (draft) => {
    draft.options.throttling = false;
  }),
  shaping: choice<Shaping>(
    SHAPINGS,
    "requests beyond a budget: 429 at once, or a queue first (default refuse)",
    (draft, value) => {
      draft.options.shaping = value;
    },
  ),
  "retry-after": wholeNumber(
    "SECONDS",
    "send Retry-After with every 429 (default: no such header)",
    (draft, value) => {
      draft.options.retryAfter = value;
    },
  ),
  "daily-quota": wholeNumber("N", "messages a day (default: what the tier has)", (draft, value) => {
    draft.options.dailyQuota = value;
  }),
  "no-quota": toggle("messages are counted and never refused", (draft) => {
    draft.options.quota = false;
  }),
  "charge-devices": toggle("charge what devices do to budgets and quota, as a real hub does", (draft) => {
    draft.options.chargeDevices = true;
  }),
  "maximum-devices": integer("maximumDevices", "identities the hub holds at most", [1, 1_000_000]),
  "maximum-page-size": integer("maximumPageSize", "rows of a query's page at most", [1, 10_000]),
  "default-page-size": integer(
    "defaultPageSize",
    "rows of a page where nobody asks for a number",
    [1, 10_000],
  ),
  "maximum-labels": wholeNumber("N", "labels of a configuration (default: any number)", (draft, value) => {
    draft.options.maximumLabels = value;
  }),
  "query-staleness": duration("queryStaleness", "time until queries see a write", 0),
  "evaluation-interval": duration("evaluationInterval", "time between evaluations of the configurations"),
  "evaluation-delay": duration(
    "evaluationDelay",
    "time from a change of a configuration to its evaluation",
    0,
  ),
  "untargeted-layer": choice(
    ["remove", "keep"],
    "what a device keeps of a layer that no longer targets it (default remove)",
    (draft, value) => {
      draft.options.untargetedLayer = value;
    },
  ),
  "equal-priority-layers": choice(
    ["newestOnly", "perPath"],
    "how layers of one priority go together (default newestOnly)",
    (draft, value) => {
      draft.options.equalPriorityLayers = value;
    },
  ),
  "repush-on-delete": toggle(
    "deleting a deployment sends what is applied once more, under a new version",
    (draft) => {
      draft.options.repushOnDelete = true;
    },
  ),
  "clear-module-tags": toggle("a deployment that writes to a module's twin clears its tags", (draft) => {
    draft.options.clearModuleTags = true;
  }),
  "session-subscriptions": choice(
    SESSION_SUBSCRIPTIONS,
    "subscriptions that a lasting MQTT session keeps (default all)",
    (draft, value) => {
      draft.options.sessionSubscriptions = value;
    },
  ),
  unsure: {
    value: "TOPIC=BEHAVIOUR",
    help: "what the hub does about a topic below; may be given again",
    repeats: true,
    apply: ({ options }, written) => {
      const chosen = parseUnsure(written);
      if (typeof chosen === "string") return chosen;
      options.unsure = { ...DEFAULT_UNSURE, ...options.unsure, ...chosen };
      return null;
    },
  },
  "connection-lag": duration("connectionLag", "time by which connectionState is late", 0),
  "no-devices": toggle("identities only: no simulated devices", (draft) => {
    draft.options.autoStart = false;
  }),
  "agent-modules": text(
    "NAMES",
    `modules that report from their first day (default ${DEFAULT_OPTIONS.agentModules.join(",")})`,
    (draft, written) => {
      draft.options.agentModules = written.split(",");
    },
  ),
  "report-interval": duration("reportInterval", "time between two reports of a device"),
  "state-delay": duration("stateDelay", "time that each state of an update takes", 0),
  behaviours: text("FILE", "how devices behave: rules as YAML or JSON", (draft, written) => {
    draft.behavioursFile = written;
  }),
  scenario: text(
    "FILE",
    "faults, behaviours and more by the clock: steps as YAML or JSON",
    (draft, written) => {
      draft.scenarioFile = written;
    },
  ),
  download: choice(["real", "skip"], "whether devices really fetch models (default real)", (draft, value) => {
    draft.options.download = value;
  }),
  "real-downloads": {
    value: "N|all",
    help: `downloads of one file before its result is shared (default ${DEFAULT_OPTIONS.realDownloads})`,
    apply: ({ options }, written) => {
      if (written !== "all" && !/^[1-9][0-9]{0,8}$/.test(written))
        return "must be a whole number above 0, or all";
      options.realDownloads = written === "all" ? null : Number(written);
      return null;
    },
  },
  "download-timeout": duration("timeout", "time after which a download has failed"),
  state: text("FILE", "keep what the hub holds in this file, over restarts and kill -9", (draft, written) => {
    draft.stateFile = written;
  }),
  "virtual-clock": toggle("time stands still until POST /sim/clock moves it", (draft) => {
    draft.virtualClock = true;
  }),
  seed: integer("seed", "seed of everything that is random", [0, 4_294_967_295]),
};

/** Flags by subject, as the help shows them. One that is in no group fails the test of the help. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  "Where it serves": ["port", "mqtt-port", "proxy-port", "address", "host-name", "ca-out", "device-ca"],
  "Size and budgets": [
    ...["tier", "units", "no-throttling", "shaping", "retry-after", "daily-quota", "no-quota"],
    ...["charge-devices", "maximum-devices"],
  ],
  "What a hub is slow at": ["query-staleness", "evaluation-interval", "evaluation-delay", "connection-lag"],
  "What nobody knows for certain of the real hub": [
    ...["untargeted-layer", "equal-priority-layers", "repush-on-delete", "clear-module-tags"],
    ...["session-subscriptions", "default-page-size", "maximum-page-size", "maximum-labels", "unsure"],
  ],
  "Simulated devices": [
    ...["no-devices", "agent-modules", "report-interval", "state-delay", "behaviours", "download"],
    ...["real-downloads", "download-timeout"],
  ],
  "What lasts, time and chance": ["state", "virtual-clock", "seed", "scenario"],
};

export type ReadFile = (path: string) => string;

/**
 * Understands flags as `--name value` and `--name=value`, and the file that `--config` names: the same names in camel
 * case. Flags win over the file; every mistake of both is reported.
 */
export function parseCommandLine(args: readonly string[], readFile: ReadFile): ParsedCommandLine {
  if (args.includes("--help") || args.includes("-h")) return { kind: "help" };
  if (args.includes("--version")) return { kind: "version" };
  const draft = emptyDraft();
  const problems: string[] = [];
  const { given, config, printConfig } = splitArguments(args, problems);
  if (config !== null) applyFile(draft, config, { readFile, given, problems });
  for (const { name, value } of given) applyFlag(draft, { name, shown: `--${name}`, value }, problems);
  const { tier = DEFAULT_OPTIONS.tier, units = DEFAULT_OPTIONS.units } = draft.options;
  if (units > maximumUnits(tier))
    problems.push(`--units of tier ${tier} must be a whole number from 1 to ${maximumUnits(tier)}`);
  if (problems.length > 0) return { kind: "wrong", problems };
  return printConfig ? { kind: "printConfig", text: configText(draft) } : { kind: "run", command: draft };
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

/** `null`: a switch that stands there without a value. */
type Given = { readonly name: string; readonly value: string | null };

function splitArguments(args: readonly string[], problems: string[]) {
  const given: Given[] = [];
  let config: string | null = null;
  let printConfig = false;
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? "";
    const [, name = "", inline] = /^--([a-z-]+)(?:=([\s\S]*))?$/.exec(arg) ?? [];
    const flag = FLAGS[name];
    const takesValue = name === "config" || (flag !== undefined && flag.value !== null);
    const next = args[at + 1];
    const value = inline ?? (takesValue && next?.startsWith("--") !== true ? next : undefined);
    if (takesValue && inline === undefined && value !== undefined) at += 1;
    if (name === "print-config" && inline === undefined) printConfig = true;
    else if (takesValue && value === undefined)
      problems.push(`--${name} needs a value: ${flag?.value ?? "FILE"}`);
    else if (name === "config") config = value ?? null;
    else if (flag !== undefined) given.push({ name, value: value ?? null });
    else problems.push(`${arg} is not known${suggestion(name, ALL_FLAGS, "--")}`);
  }
  return { given, config, printConfig };
}

export const FLAG_NAMES: readonly string[] = Object.keys(FLAGS);
const ALL_FLAGS = [...FLAG_NAMES, "config", "print-config", "help", "version"];

function suggestion(written: string, names: readonly string[], prefix: string): string {
  const near = nearest(written, names);
  return near === null ? "" : `; did you mean ${prefix}${near}?`;
}

function applyFlag(
  draft: Draft,
  { name, shown, value }: Given & { readonly shown: string },
  problems: string[],
): void {
  const flag = FLAGS[name];
  if (flag === undefined) return;
  if (flag.value === null && value !== null) {
    problems.push(`${shown} takes no value`);
    return;
  }
  const problem = flag.apply(draft, value ?? "");
  if (problem !== null) problems.push(`${shown} ${problem}`);
  const kept = flag.value === "FILE" ? resolve(value ?? "") : (value ?? true);
  const key = camelCase(name);
  const before = draft.written[key];
  draft.written[key] = flag.repeats === true ? [...(Array.isArray(before) ? before : []), kept] : kept;
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
      problems.push(`${shown} is not known${suggestion(key, [...flags.keys(), ...INLINE], "")}`);
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
  const flag = FLAGS[name];
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

/** What the help says of a value that nobody gave; `null` where that is nothing, or words. */
function fallbackOf({ value, help }: Flag): JsonValue {
  if (value === null) return false;
  const written = /\(default ([^ ):]+)\)$/.exec(help)?.[1] ?? "none";
  if (written === "none") return null;
  return written;
}

/** All that holds, as a configuration file that would bring it about. */
function configText({ written, inline }: Draft): string {
  const settings: Record<string, JsonValue> = {};
  for (const [name, flag] of Object.entries(FLAGS)) {
    const value = written[camelCase(name)] ?? fallbackOf(flag);
    const isNumber = typeof value === "string" && /^[0-9]+$/.test(value);
    if (value !== null) settings[camelCase(name)] = isNumber ? Number(value) : value;
  }
  for (const name of INLINE) {
    const value = inline[name];
    if (value !== null && !(Array.isArray(value) && value.length === 0)) settings[name] = value;
  }
  return stringify(settings);
}
export function helpText(): string {
  const row = (left: string, help: string) =>
    left.length > 30 ? `${left}\n${" ".repeat(32)}${help}` : `${left.padEnd(32)}${help}`;
  const rowOf = (name: string) => {
    const { value = null, help = "" } = FLAGS[name] ?? {};
    return row(`  --${name}${value === null ? "" : ` ${value}`}`, help);
  };
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
    ...Object.entries(GROUPS).flatMap(([title, names]) => [`${title}:`, ...names.map(rowOf), ""]),
    "Topics of --unsure; the first behaviour is the default:",
    ...UNSURE_TOPICS.map((topic) =>
      row(`  ${topic}=${UNSURE[topic].behaviours.join("|")}`, UNSURE[topic].about),
    ),
    "",
    "The program:",
    row("  --config FILE", "settings as YAML or JSON: names of flags in camel case; flags win over it"),
    row("  --print-config", "print what holds, as a configuration file, and end"),
    row("  --version", "print the version and end"),
    row("  --help", "print this and end"),
    "",
    "exit status: 0 it was told to stop, 1 it cannot start or serve, 2 the flags or a file of settings are wrong",
    "",
  ].join("\n");
}
