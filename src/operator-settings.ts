import { type Address, parseAddress } from "./base/address.ts";
import { type Arguments, type Flags, HELP, readFlags } from "./base/flags.ts";
import { own } from "./base/lookup.ts";
import { type Millis, millis, minutes, parseDuration, seconds } from "./base/time.ts";
import type { Tier } from "./hub/throttle.ts";

/** How the operator authenticates to the hub: a connection string (the simulator, or by explicit choice), or a token. */
export type HubAccess =
  | { readonly kind: "connectionString"; readonly connectionString: string }
  | { readonly kind: "workloadIdentity"; readonly host: string };

export type StoreAccess =
  | { readonly kind: "connectionString"; readonly connectionString: string }
  | { readonly kind: "workloadIdentity"; readonly url: string };

export type OperatorSettings = {
  readonly kubeconfig: string | null;
  readonly context: string | null;
  /** `null`: all namespaces. */
  readonly namespaces: readonly string[] | null;
  /** open: every served namespace may use every blob and identity · annotated: what its Namespace's annotations grant */
  readonly tenancy: "open" | "annotated";
  /** Identities of a namespace that may be removed within a minute; 0: any number. */
  readonly deletionsPerMinute: number;
  readonly hub: {
    readonly access: HubAccess;
    /** Dials this address instead of the hub's name: for the simulator. */
    readonly endpoint: Address | null;
    readonly caFile: string | null;
    readonly tier: Tier;
    readonly units: number;
  };
  readonly store: {
    readonly access: StoreAccess;
    readonly sasVersion: string | null;
    readonly caFile: string | null;
  };
  readonly verifierSocket: string;
  readonly salt: string;
  /** `null`: the uid of the namespace kube-system. */
  readonly clusterId: string | null;
  readonly workers: number;
  readonly analysisInterval: Millis;
  readonly fleetInterval: Millis;
  readonly sasLifetime: Millis;
  readonly baseDeployment: "managed" | "external";
  readonly ownerlessAfter: Millis;
  readonly lease: {
    readonly enabled: boolean;
    readonly namespace: string;
    readonly name: string;
    readonly identity: string;
  };
  readonly probes: Address;
  readonly drain: Millis;
  readonly logLevel: "debug" | "info" | "warn" | "error";
};

export type Parsed =
  | { readonly kind: "settings"; readonly settings: OperatorSettings }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "mistakes"; readonly mistakes: readonly string[] };

type Environment = Readonly<Record<string, string | undefined>>;
type Setting = { readonly default: string; readonly help: string };

// One row a setting: the flag --name, the environment variable EDGEFLEET_NAME, its default and its help.
const SETTINGS = {
  kubeconfig: { default: "", help: "kubeconfig file; inside a cluster the service account is used" },
  context: { default: "", help: "context of the kubeconfig" },
  namespaces: { default: "", help: "comma-separated namespaces to serve; default: all" },
  tenancy: {
    default: "",
    help: "open: served namespaces may use all blobs and device ids; annotated: what annotations of their Namespace grant; default: open where --namespaces names one, else annotated",
  },
  "deletions-per-minute": {
    default: "20",
    help: "identities of a namespace that may be removed within a minute; more wait for a person; 0: no limit",
  },
  "hub-host": {
    default: "",
    help: "host name of the IoT Hub, with workload identity (fleet.azure-devices.net)",
  },
  "hub-endpoint": { default: "", help: "host:port to dial instead of the hub's name (the simulator)" },
  "hub-ca": { default: "", help: "file of the CA of --hub-endpoint" },
  "hub-tier": { default: "S1", help: "tier of the hub: F1, S1, S2 or S3; sets the budgets" },
  "hub-units": { default: "1", help: "units of the hub; sets the budgets" },
  "storage-url": { default: "", help: "URL of the blob service, with workload identity" },
  "storage-ca": { default: "", help: "file of the CA of the blob service (Azurite over HTTPS)" },
  "storage-sas-version": { default: "", help: "service version of SAS tokens; default: the SDK's" },
  "verifier-socket": { default: "/run/edgefleet/verifier.sock", help: "Unix socket of the verifier sidecar" },
  salt: { default: "edgefleet", help: "salt of the buckets that new devices get; a device keeps its own" },
  "cluster-id": {
    default: "",
    help: "id of this cluster in tags and configurations, where several share a hub; default: the uid of the namespace kube-system",
  },
  workers: { default: "8", help: "reconciles at a time, for each controller" },
  "analysis-interval": { default: "30s", help: "how often a running rollout is evaluated" },
  "fleet-interval": { default: "60s", help: "pause between two sweeps over the hub's twins" },
  "sas-lifetime": { default: "144h", help: "lifetime of download URLs for devices, at most 168h" },
  "base-deployment": {
    default: "managed",
    help: "managed: keep a base deployment for edge devices; external: it is managed elsewhere",
  },
  "ownerless-after": {
    default: "24h",
    help: "time after which configurations without their InferenceDeployment are removed",
  },
  "leader-election": { default: "true", help: "true, or false for a single process" },
  "lease-namespace": { default: "edgefleet-system", help: "namespace of the Lease" },
  "lease-name": { default: "edge-fleet-operator", help: "name of the Lease" },
  "lease-identity": {
    default: "",
    help: "identity of this process in the Lease; default: host name and a random part",
  },
  "probe-address": {
    default: ":8080",
    help: "host:port of /healthz, /readyz and /metrics; without a host all addresses, IPv4 and IPv6",
  },
  drain: { default: "20s", help: "time that reconciles in flight have at shutdown" },
  "log-level": { default: "info", help: "debug, info, warn or error" },
} as const satisfies Readonly<Record<string, Setting>>;

type Name = keyof typeof SETTINGS;

const FLAGS: Flags = {
  ...Object.fromEntries(Object.entries(SETTINGS).map(([name, { help }]) => [name, { value: "VALUE", help }])),
  help: HELP,
};

const SECRETS: readonly (readonly [string, string])[] = [
  ["EDGEFLEET_HUB_CONNECTION_STRING", "connection string of the hub, instead of --hub-host"],
  [
    "EDGEFLEET_STORAGE_CONNECTION_STRING",
    "connection string of the storage account, instead of --storage-url",
  ],
];

/** Flags first, then the environment, then defaults. Reports every mistake at once. */
export function parseOperatorSettings(
  args: readonly string[],
  env: Environment,
  host: { readonly name: string; readonly random: string },
): Parsed {
  const flags = readFlags(args, FLAGS, "server");
  if (flags.values.has("help")) return { kind: "help", text: helpText() };
  const mistakes = [
    ...flags.problems,
    ...flags.positionals.map((arg) => `"${arg}" is not understood; settings are flags, see --help`),
  ];
  const read = createReader(flags.values, env, mistakes);
  const settings = settingsOf(read, env, host, mistakes);
  mistakes.push(...contradictions(settings, read.text));
  return mistakes.length > 0 ? { kind: "mistakes", mistakes } : { kind: "settings", settings };
}

function settingsOf(
  { text, orNull, oneOf, count, duration, address }: Reader,
  env: Environment,
  host: { readonly name: string; readonly random: string },
  mistakes: string[],
): OperatorSettings {
  const namespaces =
    orNull("namespaces")
      ?.split(",")
      .map((name) => name.trim()) ?? null;
  const hubSecret = fromEnvironment(env, "EDGEFLEET_HUB_CONNECTION_STRING");
  const storeSecret = fromEnvironment(env, "EDGEFLEET_STORAGE_CONNECTION_STRING");
  return {
    kubeconfig: orNull("kubeconfig") ?? fromEnvironment(env, "KUBECONFIG") ?? null,
    context: orNull("context"),
    namespaces,
    tenancy: tenancyOf(orNull("tenancy"), namespaces, mistakes),
    deletionsPerMinute: text("deletions-per-minute") === "0" ? 0 : count("deletions-per-minute", 100_000),
    hub: {
      access: hubAccess(hubSecret, text("hub-host"), mistakes),
      endpoint: orNull("hub-endpoint") === null ? null : address("hub-endpoint"),
      caFile: orNull("hub-ca"),
      tier: oneOf("hub-tier", ["S1", "S2", "S3", "F1"]),
      units: count("hub-units", 200),
    },
    store: {
      access: storeAccess(storeSecret, text("storage-url"), mistakes),
      sasVersion: orNull("storage-sas-version"),
      caFile: orNull("storage-ca"),
    },
    verifierSocket: text("verifier-socket"),
    salt: text("salt"),
    clusterId: orNull("cluster-id"),
    workers: count("workers", 64),
    analysisInterval: duration("analysis-interval", seconds(1), minutes(60)),
    fleetInterval: duration("fleet-interval", millis(500), minutes(60)),
    sasLifetime: duration("sas-lifetime", minutes(10), minutes(7 * 24 * 60)),
    baseDeployment: oneOf("base-deployment", ["managed", "external"]),
    ownerlessAfter: duration("ownerless-after", seconds(1), minutes(365 * 24 * 60)),
    lease: {
      enabled: oneOf("leader-election", ["true", "false"]) === "true",
      namespace: text("lease-namespace"),
      name: text("lease-name"),
      identity: orNull("lease-identity") ?? `${host.name}_${host.random}`,
    },
    probes: address("probe-address"),
    drain: duration("drain", millis(0), minutes(10)),
    logLevel: oneOf("log-level", ["info", "debug", "warn", "error"]),
  };
}

/** What is wrong although each part of it reads well. */
function contradictions(settings: OperatorSettings, text: Reader["text"]): readonly string[] {
  const { clusterId, hub, salt, verifierSocket, namespaces } = settings;
  const mistakes: string[] = [];
  if (clusterId !== null && !/^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/.test(clusterId))
    mistakes.push(
      `--cluster-id: "${clusterId}" is not up to 63 letters, digits, "-", "_" and ".", beginning and ending with a letter or digit`,
    );
  if (hub.endpoint?.host === "" && parseAddress(text("hub-endpoint")).ok)
    mistakes.push(`--hub-endpoint: "${text("hub-endpoint")}" names no host to dial`);
  if (salt === "") mistakes.push("--salt: must not be empty");
  if (verifierSocket === "") mistakes.push("--verifier-socket: must not be empty");
  if (namespaces?.some((name) => !/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)))
    mistakes.push(`--namespaces: "${text("namespaces")}" is not a comma-separated list of namespaces`);
  return mistakes;
}

/** Reads settings by their form; what does not have it is added to the mistakes. */
type Reader = {
  readonly text: (name: Name) => string;
  readonly orNull: (name: Name) => string | null;
  readonly oneOf: <const T extends readonly string[]>(name: Name, values: T) => T[number];
  readonly count: (name: Name, maximum: number) => number;
  readonly duration: (name: Name, least: Millis, most: Millis) => Millis;
  readonly address: (name: Name) => Address;
};

function createReader(flags: Arguments["values"], env: Environment, mistakes: string[]): Reader {
  const text = (name: Name): string =>
    flags.get(name)?.at(-1) ?? fromEnvironment(env, environmentName(name)) ?? SETTINGS[name].default;
  return {
    text,
    orNull: (name) => (text(name) === "" ? null : text(name)),
    oneOf: (name, values) => {
      const value = values.find((candidate) => candidate === text(name));
      if (value === undefined) mistakes.push(`--${name}: "${text(name)}" is none of ${values.join(", ")}`);
      return value ?? (values[0] as (typeof values)[number]);
    },
    count: (name, maximum) => {
      const value = Number(text(name));
      if (Number.isInteger(value) && value >= 1 && value <= maximum) return value;
      mistakes.push(`--${name}: "${text(name)}" is not a whole number from 1 to ${maximum}`);
      return 1;
    },
    duration: (name, least, most) => {
      const parsed = parseDuration(text(name));
      if (!parsed.ok) mistakes.push(`--${name}: ${parsed.error}`);
      else if (parsed.value < least || parsed.value > most)
        mistakes.push(`--${name}: "${text(name)}" is not between ${least / 1000}s and ${most / 1000}s`);
      else return parsed.value;
      return least;
    },
    address: (name) => {
      const parsed = parseAddress(text(name).replace(/^https?:\/\//, ""));
      if (parsed.ok) return parsed.value;
      mistakes.push(`--${name}: ${parsed.error}`);
      return { host: "", port: 0 };
    },
  };
}

/** One namespace has no other to be separated from; several are tenants unless the setting says that they are one team. */
function tenancyOf(
  given: string | null,
  namespaces: readonly string[] | null,
  mistakes: string[],
): OperatorSettings["tenancy"] {
  if (given === "open" || given === "annotated") return given;
  if (given !== null) mistakes.push(`--tenancy: "${given}" is none of open, annotated`);
  return new Set(namespaces).size === 1 ? "open" : "annotated";
}

/** Secrets that were made from a file end with its newline, and some begin with a byte order mark. */
function fromEnvironment(env: Environment, name: string): string | undefined {
  return own(env, name)?.trim();
}

/** What the vendor's identity client reads of the environment on its own, where it has something around it. */
export function identityEnvironment(
  env: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> {
  const names = Object.keys(env).filter((name) => name.startsWith("AZURE_"));
  return Object.fromEntries(
    names.flatMap((name) => {
      const trimmed = fromEnvironment(env, name);
      return trimmed === undefined || trimmed === own(env, name) ? [] : [[name, trimmed] as const];
    }),
  );
}

function hubAccess(connectionString: string | undefined, host: string, mistakes: string[]): HubAccess {
  if (connectionString !== undefined && connectionString !== "") {
    const missing = ["HostName", "SharedAccessKeyName", "SharedAccessKey"].filter(
      (part) => !new RegExp(`(^|;)${part}=[^;]`).test(connectionString),
    );
    if (missing.length > 0) mistakes.push(`EDGEFLEET_HUB_CONNECTION_STRING: has no ${missing.join(", no ")}`);
    if (host !== "")
      mistakes.push("--hub-host: given together with EDGEFLEET_HUB_CONNECTION_STRING; choose one");
    return { kind: "connectionString", connectionString };
  }
  if (host === "") mistakes.push("no hub: give --hub-host, or EDGEFLEET_HUB_CONNECTION_STRING");
  else if (!/^[A-Za-z0-9.-]+$/.test(host)) mistakes.push(`--hub-host: "${host}" is not a host name`);
  return { kind: "workloadIdentity", host };
}

function storeAccess(connectionString: string | undefined, url: string, mistakes: string[]): StoreAccess {
  if (connectionString !== undefined && connectionString !== "") {
    if (!/(^|;)AccountName=[^;]/.test(connectionString))
      mistakes.push("EDGEFLEET_STORAGE_CONNECTION_STRING: has no AccountName");
    if (url !== "")
      mistakes.push("--storage-url: given together with EDGEFLEET_STORAGE_CONNECTION_STRING; choose one");
    return { kind: "connectionString", connectionString };
  }
  if (url === "") mistakes.push("no blob store: give --storage-url, or EDGEFLEET_STORAGE_CONNECTION_STRING");
  else if (!URL.canParse(url)) mistakes.push(`--storage-url: "${url}" is not a URL`);
  return { kind: "workloadIdentity", url };
}

function environmentName(name: Name): string {
  return `EDGEFLEET_${name.toUpperCase().replaceAll("-", "_")}`;
}

function helpText(): string {
  const rows = Object.entries(SETTINGS).map(([name, { default: fallback, help }]) => {
    const shown = fallback === "" ? "" : ` (default ${fallback})`;
    return `  --${name.padEnd(22)} ${help}${shown}`;
  });
  return [
    "edge-fleet-operator: rolls ONNX models out to fleets of edge devices behind Azure IoT Hub",
    "",
    "Every flag is also an environment variable: --hub-tier is EDGEFLEET_HUB_TIER. A flag wins.",
    "",
    ...rows,
    "",
    "Secrets come by environment only:",
    ...SECRETS.map(([name, help]) => `  ${name.padEnd(36)} ${help}`),
    "",
  ].join("\n");
}
