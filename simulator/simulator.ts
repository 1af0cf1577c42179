import { createServerCertificate } from "./certificates.ts";
import { createManualClock, createRealClock, type ManualClock, type SimClock } from "./clock.ts";
import { createHub, type Hub, type HubOptions } from "./hub.ts";
import { connectionStringOf } from "./sas.ts";
import { createServer, type Server } from "./server.ts";

export type SimulatorOptions = HubOptions & {
  /** 0: any free one. */
  readonly port: number;
  readonly address: string;
};

export const DEFAULT_OPTIONS: SimulatorOptions = {
  port: 0,
  address: "127.0.0.1",
  hostName: "simhub.azure-devices.net",
  seed: 1,
  tier: "S1",
  units: 1,
  throttling: true,
  maximumDevices: 1_000_000,
  maximumPageSize: 1000,
  queryStaleness: 0,
  evaluationInterval: 300_000,
  evaluationDelay: 0,
  connectionLag: 300_000,
  untargetedLayer: "remove",
  equalPriorityLayers: "newestOnly",
};

/** What a client needs to find the simulator. */
export type Endpoint = {
  readonly port: number;
  readonly hostName: string;
  /** PEM of the authority to trust. */
  readonly ca: string;
  /** Of the policy `iothubowner`. It has no port: clients dial 443 of `hostName` unless they are told otherwise. */
  readonly connectionString: string;
};

export type Simulator = {
  readonly start: () => Promise<Endpoint>;
  readonly stop: () => Promise<void>;
  readonly hub: Hub;
  readonly clock: SimClock;
  /** Moves a virtual clock; with a real one it rejects. */
  readonly advance: (milliseconds: number) => Promise<void>;
};

export function createSimulator(
  given: Partial<SimulatorOptions> & {
    /** Default: the machine's. A virtual clock stands still until `advance`. */
    readonly clock?: "real" | ManualClock | "virtual";
  } = {},
): Simulator {
  const { clock: chosen = "real", ...rest } = given;
  const options: SimulatorOptions = { ...DEFAULT_OPTIONS, ...rest };
  const manual = chosen === "virtual" ? createManualClock(Date.now()) : chosen;
  const clock = manual === "real" ? createRealClock() : manual;
  const hub = createHub(options, clock);
  let server: Server | null = null;

  return {
    hub,
    clock,
    start: async () => {
      const certificate = await createServerCertificate(options.hostName);
      server = createServer(hub, certificate, () => null);
      const port = await server.listen(options.port, options.address);
      hub.start();
      const owner = hub.policies.find((policy) => policy.name === "iothubowner");
      if (owner === undefined) throw new Error("the hub has no policy iothubowner");
      return {
        port,
        hostName: options.hostName,
        ca: certificate.ca,
        connectionString: connectionStringOf(options.hostName, owner),
      };
    },
    stop: async () => {
      clock.stop();
      await server?.close();
    },
    advance: (milliseconds) =>
      manual === "real"
        ? Promise.reject(new Error("the clock is the machine's and cannot be moved"))
        : manual.advance(milliseconds),
  };
}
