import { createHmac } from "node:crypto";
import { createSimulator, type Endpoint } from "../../simulator/simulator.ts";
import { controlCall } from "../../simulator/testing/control-client.ts";
import { type Authority, newAuthority } from "../../simulator/testing/device-certificates.ts";
import type { Message, Who } from "./ports.ts";

/** An event as the feed has it. */
export type FeedEvent = {
  readonly body: unknown;
  readonly properties: Readonly<Record<string, string>>;
  readonly systemProperties: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
};

/** A hub without devices of its own, and what no SDK does: the event feed, messages from the cloud, broken lines. */
export type TestHub = {
  readonly endpoint: Endpoint & { readonly proxyPort: number };
  /** Whose certificates of devices the hub takes. */
  readonly authority: Authority;
  readonly telemetryOf: (deviceId: string) => Promise<readonly FeedEvent[]>;
  /** What became of the connections of a device and of its modules. */
  readonly connectionsOf: (deviceId: string) => Promise<readonly ("connected" | "disconnected")[]>;
  readonly sendMessage: (deviceId: string, message: Message) => Promise<void>;
  /** Breaks the connection of a device once, and lets it in again. */
  readonly breakConnection: (deviceId: string) => Promise<void>;
  readonly stop: () => Promise<void>;
};

export async function startHub(): Promise<TestHub> {
  const authority = await newAuthority("plant");
  const simulator = createSimulator({
    deviceAuthorities: [authority.pem],
    tier: "S3",
    throttling: false,
    autoStart: false,
    connectionLag: 0,
    proxyPort: 0,
  });
  const endpoint = await simulator.start();
  const control = async (method: string, path: string, body?: object) => {
    const answered = await controlCall(endpoint, method, path, body);
    if (answered.status >= 300)
      throw new Error(`${path}: ${answered.status} ${JSON.stringify(answered.body)}`);
    return answered.body;
  };
  const eventsOf = async (source: string, deviceId: string) => {
    const page = await control("GET", `events?from=1&limit=1000&source=${source}&device=${deviceId}`);
    return page["events"] as unknown as readonly FeedEvent[];
  };
  const connectionsOf = async (deviceId: string) =>
    (await eventsOf("deviceConnectionStateEvents", deviceId)).map(({ properties }) =>
      properties["opType"]?.endsWith("Disconnected") === true ? "disconnected" : "connected",
    );
  return {
    endpoint: { ...endpoint, proxyPort: endpoint.proxyPort ?? 0 },
    authority,
    telemetryOf: (deviceId) => eventsOf("Telemetry", deviceId),
    connectionsOf,
    sendMessage: async (deviceId, message) => {
      await control("POST", "messages", { device: deviceId, ...message });
    },
    breakConnection: async (deviceId) => {
      await control("POST", "faults", { id: deviceId, kind: "outage", devices: deviceId });
      await eventually(async () => (await connectionsOf(deviceId)).at(-1) === "disconnected");
      await control("DELETE", `faults/${deviceId}`);
    },
    stop: simulator.stop,
  };
}

/** A token as a service hands it to a device that holds no key. `hostName` is that of the hub, as the client dials it. */
export function sasToken(
  hostName: string,
  { deviceId, moduleId }: Who,
  key: string,
  seconds: number,
): string {
  const path = `${hostName}/devices/${deviceId}${moduleId === null ? "" : `/modules/${moduleId}`}`;
  const scope = encodeURIComponent(path);
  const expiry = Math.floor(Date.now() / 1000) + seconds;
  const signature = createHmac("sha256", Buffer.from(key, "base64"))
    .update(`${scope}\n${expiry}`)
    .digest("base64");
  return `SharedAccessSignature sr=${scope}&sig=${encodeURIComponent(signature)}&se=${expiry}`;
}

/** A token as Entra ID issues it, as far as the hub looks: good for an hour, and nobody signed it. */
export function bearerToken(): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part({ exp: Math.floor(Date.now() / 1000) + 3600 })}.`;
}

/** Waits until something is so; half a minute at most, and then says what it was that did not come. */
export async function eventually(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 30_000; !(await isSo()); ) {
    if (Date.now() > end) throw new Error(`it did not come to this: ${isSo}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
