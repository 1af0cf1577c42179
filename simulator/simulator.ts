import { type Authority, createAuthority, createServerCertificate } from "./base/certificates.ts";
import { createManualClock, createRealClock, type ManualClock, type SimClock } from "./base/clock.ts";
import type { JsonValue } from "./base/json.ts";
import { isEverywhere, serverNames } from "./base/server-names.ts";
import { type Behaviour, parseBehaviours } from "./devices/behaviour.ts";
import { createDownloads, type DownloadsOptions } from "./devices/downloads.ts";
import { createFleet, type Fleet, type FleetOptions } from "./devices/fleet.ts";
import { createControlApi } from "./http/control-api.ts";
import { createServer, type Server } from "./http/server.ts";
import { createStatusPage } from "./http/status-page.ts";
import { type ConnectProxy, createConnectProxy } from "./http/transport/connect-proxy.ts";
import { acceptWebSocket } from "./http/transport/websocket.ts";
import { createHub, type Hub, type HubOptions } from "./hub/hub.ts";
import { connectionStringOf } from "./hub/sas.ts";
import { UNDOCUMENTED_DEFAULTS, type Undocumented } from "./hub/undocumented.ts";
import { type DeviceAuthority, parseAuthorities } from "./mqtt/device-certificates.ts";
import { createDeviceLinks, type DeviceLinks } from "./mqtt/device-link.ts";
import { createMqttFront, type MqttFront } from "./mqtt/mqtt.ts";
import { createSessionMemory, type SessionOptions } from "./mqtt/session-memory.ts";
import { createScenarios, type Scenarios } from "./scenario/run-scenario.ts";
import { type HubSeed, seedHub } from "./seed-hub.ts";
import { type HubStateOptions, persistHub, virtualTimeOf } from "./state/hub-state.ts";
import { openStateFile, type StateFile } from "./state/state-file.ts";

const AUTHORITY = { kind: "authority", name: "ca" } as const;

export type SimulatorOptions = HubOptions &
  Omit<FleetOptions, "seed"> &
  DownloadsOptions &
  SessionOptions & {
    /** 0: any free one. */
    readonly port: number;
    /** Of MQTT over TLS; 0: any free one. */
    readonly mqttPort: number;
    /** Of the proxy that leads to ports 443 and 8883 of the host name; 0: any free one; `null`: there is none. */
    readonly proxyPort: number | null;
    readonly address: string;
    /** PEM of authorities whose certificates devices may bring; each text may hold several. They count as verified. */
    readonly deviceAuthorities: readonly string[];
    /** Whether every identity is a live device in this process. */
    readonly autoStart: boolean;
  };

export const DEFAULT_OPTIONS: SimulatorOptions = {
  port: 0,
  mqttPort: 0,
  proxyPort: null,
  address: "127.0.0.1",
  deviceAuthorities: [],
  sessionSubscriptions: "all",
  hostName: "simhub.azure-devices.net",
  seed: 1,
  tier: "S1",
  units: 1,
  throttling: true,
  shaping: "refuse",
  retryAfter: null,
  quota: true,
  dailyQuota: null,
  maximumDevices: 1_000_000,
  maximumPageSize: 1000,
  defaultPageSize: 100,
  maximumLabels: null,
  undocumented: UNDOCUMENTED_DEFAULTS,
  queryStaleness: 0,
  evaluationInterval: 300_000,
  evaluationDelay: 0,
  connectionLag: 300_000,
  untargetedLayer: "remove",
  equalPriorityLayers: "newestOnly",
  repushOnDelete: false,
  clearModuleTags: false,
  autoStart: true,
  chargeDevices: false,
  reportInterval: 60_000,
  stateDelay: 200,
  agentModules: ["inference"],
  download: "real",
  realDownloads: 3,
  timeout: 60_000,
};

/** What a client needs to find the simulator. */
export type Endpoint = {
  readonly port: number;
  readonly mqttPort: number;
  readonly proxyPort: number | null;
  readonly hostName: string;
  /** PEM of the authority to trust. */
  readonly ca: string;
  /** Of the policy `iothubowner`. It has no port: clients dial 443 of `hostName` unless configured otherwise. */
  readonly connectionString: string;
};

export type Simulator = {
  /** Serves the hub over HTTPS and MQTT. Hub and simulated devices live without it too. */
  readonly start: () => Promise<Endpoint>;
  readonly stop: () => Promise<void>;
  readonly hub: Hub;
  readonly links: DeviceLinks;
  /** Connections of devices over MQTT that are open. */
  readonly mqttConnections: () => number;
  readonly fleet: Fleet;
  readonly scenarios: Scenarios;
  readonly clock: SimClock;
  /** Moves a virtual clock by milliseconds; with the machine's it rejects. */
  readonly advance: (milliseconds: number) => Promise<void>;
};

export type SimulatorSetup = Partial<Omit<SimulatorOptions, "undocumented">> & {
  /** Topics in which the hub is to be otherwise than by default. */
  readonly undocumented?: Partial<Undocumented>;
  /** Default `real`, the machine's. A virtual clock stands still until `advance`; `virtual` starts at the machine's time. */
  readonly clock?: "real" | "virtual" | ManualClock;
  /** File that everything the hub holds is kept in; one that cannot be used throws. `null`: in memory alone. */
  readonly state?: string | null;
  /** Told when the state cannot be written, and `null` when it can again. */
  readonly onStateProblem?: (problem: string | null) => void;
  /** What a hub that is new (without a state, or with a new one) begins with; mistakes throw. */
  readonly hubSeed?: HubSeed;
  /** Rules as a file of behaviours has them; rules with mistakes throw. */
  readonly behaviours?: JsonValue;
};

/**
 * A simulated IoT Hub and its devices. The same options and the same seed give the same run. Longer than most:
 * the assembly of hub, fronts and devices, in order.
 */
export function createSimulator(setup: SimulatorSetup = {}): Simulator {
  const {
    clock: chosen = "real",
    behaviours = [],
    state = null,
    onStateProblem = warn,
    hubSeed,
    undocumented = {},
    ...given
  } = setup;
  const options: SimulatorOptions = {
    ...DEFAULT_OPTIONS,
    ...given,
    undocumented: { ...UNDOCUMENTED_DEFAULTS, ...undocumented },
  };
  const authorities = authoritiesOf(options.deviceAuthorities);
  const rules = rulesOf(behaviours, options.seed);
  const file = state === null ? null : openState(state);
  const manual = manualClockOf(chosen, file === null ? null : virtualTimeOf(file));
  const clock = manual ?? createRealClock();
  const hub = createHub(options, clock);
  const memory = createSessionMemory(options.sessionSubscriptions);
  const reporting = { onProblem: onStateProblem, beside: [memory.persisted] };
  const release = file === null ? () => {} : persistState(hub, file, reporting);
  if (hubSeed !== undefined && file?.isNew !== false) seedOrRelease(hub, hubSeed, release);
  const links = createDeviceLinks(hub, options);
  const downloads = createDownloads(options);
  const stopping = new AbortController();
  const fleet = createFleet({ hub, links, downloads, stopped: stopping.signal }, options);
  fleet.setBehaviours(rules);
  if (options.autoStart) fleet.start();
  hub.start();
  const scenarios = createScenarios({ hub, fleet });
  let server: Server | null = null;
  let mqtt: MqttFront | null = null;
  let proxy: ConnectProxy | null = null;

  async function start(): Promise<Endpoint> {
    const names = serverNames(options.hostName, options.address);
    const certificate = await createServerCertificate(names, await authorityOf(file));
    const page = createStatusPage(options);
    const control = createControlApi({ hub, fleet, manual, seed: options.seed, scenarios }, options.address);
    server = createServer(hub, certificate, (request) => page(request) ?? control(request));
    const front = await createMqttFront({ hub, links, certificate, authorities, names, memory });
    mqtt = front;
    server.onUpgrade((request, socket, head) => {
      const stream = acceptWebSocket(request, socket, head);
      if (stream !== null) front.accept(stream, socket);
    });
    const port = await server.listen(options.port, options.address);
    const mqttPort = await front.listen(options.mqttPort, options.address);
    const proxyPort = options.proxyPort === null ? null : await startProxy(options.proxyPort, port, mqttPort);
    const owner = hub.policies.find((policy) => policy.name === "iothubowner");
    if (owner === undefined) throw new Error("the hub has no policy iothubowner");
    const { hostName } = options;
    return {
      port,
      mqttPort,
      proxyPort,
      hostName,
      ca: certificate.ca,
      connectionString: connectionStringOf(hostName, owner),
    };
  }

  async function startProxy(wanted: number, port: number, mqttPort: number): Promise<number> {
    // A tunnel is dialled from here: an address that stands for all of them stands for this machine too.
    const host = isEverywhere(options.address) ? "127.0.0.1" : options.address;
    const ports = new Map([
      [443, { host, port }],
      [8883, { host, port: mqttPort }],
    ]);
    proxy = createConnectProxy({ hostName: options.hostName, ports });
    return await proxy.listen(wanted, options.address);
  }

  async function stop(): Promise<void> {
    clock.stop();
    stopping.abort();
    downloads.stop();
    await Promise.all([proxy?.close(), server?.close(), mqtt?.close()]);
    release();
  }

  function advance(milliseconds: number): Promise<void> {
    if (manual === null) return Promise.reject(new Error("the clock is the machine's and cannot be moved"));
    return manual.advance(milliseconds);
  }

  const mqttConnections = () => mqtt?.connections() ?? 0;
  return { start, stop, hub, links, mqttConnections, fleet, scenarios, clock, advance };
}

/** A virtual clock continues where it stood. */
function manualClockOf(chosen: "real" | "virtual" | ManualClock, before: number | null): ManualClock | null {
  if (chosen === "real") return null;
  return chosen === "virtual" ? createManualClock(before ?? Date.now()) : chosen;
}

function openState(path: string): StateFile {
  const opened = openStateFile(path);
  if (!opened.ok) throw new Error(opened.problem);
  return opened.file;
}

function persistState(hub: Hub, file: StateFile, options: HubStateOptions): () => void {
  try {
    return persistHub(hub, file, options);
  } catch (problem) {
    file.close();
    throw new Error(`the state cannot be restored: ${problem instanceof Error ? problem.message : problem}`);
  }
}

function seedOrRelease(hub: Hub, seed: HubSeed, release: () => void): void {
  const problems = seedHub(hub, seed);
  if (problems.length === 0) {
    hub.persistence.commit();
    return;
  }
  release();
  throw new Error(problems.join("\n"));
}

/** Clients that trust the authority of one run trust that of the next. */
async function authorityOf(file: StateFile | null): Promise<Authority> {
  const stored = file?.read(AUTHORITY.kind)[0]?.value;
  if (stored !== undefined) return stored as Authority;
  const made = await createAuthority();
  file?.write([{ ...AUTHORITY, value: made, recreated: false }]);
  return made;
}

function warn(problem: string | null): void {
  if (problem !== null) process.emitWarning(`The state ${problem}`);
}

function authoritiesOf(texts: readonly string[]): readonly DeviceAuthority[] {
  const parsed = parseAuthorities(texts, Date.now());
  if (!parsed.ok) throw new Error(parsed.problems.join("; "));
  return parsed.authorities;
}

function rulesOf(written: JsonValue, seed: number): readonly Behaviour[] {
  const parsed = parseBehaviours(written, seed);
  if (!parsed.ok) throw new Error(parsed.problems.join("; "));
  return parsed.behaviours;
}
