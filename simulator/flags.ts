import type { Flag } from "../src/base/flags.ts";
import { parseDuration } from "./base/duration.ts";
import type { JsonValue } from "./base/json.ts";
import { SHAPINGS, type Shaping } from "./hub/limits/throttle.ts";
import { TIERS, type Tier } from "./hub/limits/tier.ts";
import { checkId } from "./hub/registry/identity.ts";
import { parseUndocumented, UNDOCUMENTED_DEFAULTS } from "./hub/undocumented.ts";
import { SESSION_SUBSCRIPTIONS } from "./mqtt/session-memory.ts";
import { DEFAULT_OPTIONS, type SimulatorOptions } from "./simulator.ts";

/** Parts of a configuration file that are more than a flag. */
export const INLINE = ["behaviours", "scenario", "faults", "devices", "configurations"] as const;
export type Inline = Readonly<Record<(typeof INLINE)[number], JsonValue>>;

/** What flags and files have said so far. */
export type Draft = {
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

export type SimulatorFlag = Flag & {
  /** Returns what is wrong, or null. */
  readonly apply: (draft: Draft, written: string) => string | null;
};

type NumberOption = {
  [Name in keyof SimulatorOptions]: SimulatorOptions[Name] extends number ? Name : never;
}[keyof SimulatorOptions];

function duration(name: NumberOption, help: string, least = 1): SimulatorFlag {
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

function integer(name: NumberOption, help: string, range: readonly [number, number]): SimulatorFlag {
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

/** A flag whose text is one value. `read`: the value, or `null` where `rule` is broken. */
function valued<T>(
  { value, help, rule }: { readonly value: string; readonly help: string; readonly rule: string },
  read: (written: string) => T | null,
  set: (draft: Draft, value: T) => void,
): SimulatorFlag {
  return {
    value,
    help,
    apply: (draft, written) => {
      const found = read(written);
      if (found === null) return rule;
      set(draft, found);
      return null;
    },
  };
}

function wholeNumber(value: string, help: string, set: (draft: Draft, value: number) => void): SimulatorFlag {
  const read = (written: string) => (/^[0-9]{1,12}$/.test(written) ? Number(written) : null);
  return valued({ value, help, rule: "must be a whole number" }, read, set);
}

function choice<const T extends string>(
  values: readonly T[],
  help: string,
  set: (draft: Draft, value: T) => void,
): SimulatorFlag {
  const read = (written: string) => values.find((one) => one === written) ?? null;
  return valued({ value: values.join("|"), help, rule: `must be one of ${values.join(", ")}` }, read, set);
}

function text(value: string, help: string, set: (draft: Draft, written: string) => void): SimulatorFlag {
  return valued({ value, help, rule: "must not be empty" }, (written) => written || null, set);
}

function toggle(help: string, set: (draft: Draft) => void): SimulatorFlag {
  return {
    value: null,
    help,
    apply: (draft) => {
      set(draft);
      return null;
    },
  };
}

const HOST_NAME = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/i;

export const FLAGS: Readonly<Record<string, SimulatorFlag>> = {
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
  "host-name": {
    value: "NAME",
    help: `name of the hub (default ${DEFAULT_OPTIONS.hostName})`,
    apply: ({ options }, written) => {
      if (!HOST_NAME.test(written)) return "must be a name of letters, digits, hyphens and dots";
      options.hostName = written;
      return null;
    },
  },
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
  "default-page-size": integer("defaultPageSize", "rows of a page where no number is requested", [1, 10_000]),
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
  undocumented: {
    value: "TOPIC=BEHAVIOUR",
    help: "what the hub does about a topic below; may be given again",
    repeats: true,
    apply: ({ options }, written) => {
      const chosen = parseUndocumented(written);
      if (typeof chosen === "string") return chosen;
      options.undocumented = { ...UNDOCUMENTED_DEFAULTS, ...options.undocumented, ...chosen };
      return null;
    },
  },
  "connection-lag": duration("connectionLag", "time by which connectionState is late", 0),
  "no-devices": toggle("identities only: no simulated devices", (draft) => {
    draft.options.autoStart = false;
  }),
  "agent-modules": {
    value: "NAMES",
    help: `modules that report from their first day (default ${DEFAULT_OPTIONS.agentModules.join(",")})`,
    apply: ({ options }, written) => {
      const names = written.split(",");
      if (!names.every((name) => checkId(name, "moduleId").ok))
        return "must be ids of modules with commas between them";
      options.agentModules = names;
      return null;
    },
  },
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
export const GROUPS: Readonly<Record<string, readonly string[]>> = {
  "Where it serves": ["port", "mqtt-port", "proxy-port", "address", "host-name", "ca-out", "device-ca"],
  "Size and budgets": [
    ...["tier", "units", "no-throttling", "shaping", "retry-after", "daily-quota", "no-quota"],
    ...["charge-devices", "maximum-devices"],
  ],
  "What a hub is slow at": ["query-staleness", "evaluation-interval", "evaluation-delay", "connection-lag"],
  "Undocumented behaviour of the real hub": [
    ...["untargeted-layer", "equal-priority-layers", "repush-on-delete", "clear-module-tags"],
    ...["session-subscriptions", "default-page-size", "maximum-page-size", "maximum-labels", "undocumented"],
  ],
  "Simulated devices": [
    ...["no-devices", "agent-modules", "report-interval", "state-delay", "behaviours", "download"],
    ...["real-downloads", "download-timeout"],
  ],
  "What lasts, time and chance": ["state", "virtual-clock", "seed", "scenario"],
};
