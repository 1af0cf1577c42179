import iotDevice from "azure-iot-device";
import mqttTransport from "azure-iot-device-mqtt";
import type { JsonObject } from "../base/json.ts";

/** The hub as a device sees it. */
export type HubClient = {
  /** A merge patch of the reported properties; rejects when the hub did not take it. */
  readonly report: (patch: JsonObject) => Promise<void>;
  readonly close: () => Promise<void>;
};

export type HubListener = {
  /** The whole of the desired properties: after each connection, and after each change. */
  readonly desired: (desired: JsonObject) => void;
  readonly log: (text: string) => void;
};

type Client = ReturnType<typeof iotDevice.Client.fromConnectionString>;
type Twin = Awaited<ReturnType<Client["getTwin"]>>;

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 60_000;

/**
 * Over MQTT by the vendor's client, as a device, or as a module where the connection string names one. It connects again
 * for as long as it is open. `ca`: PEM of an authority to trust beside the usual ones.
 */
export async function connectHub(
  connectionString: string,
  ca: string | null,
  listener: HubListener,
): Promise<HubClient> {
  const isModule = /(^|;)ModuleId=/i.test(connectionString);
  const client: Client = isModule
    ? (iotDevice.ModuleClient.fromConnectionString(connectionString, mqttTransport.Mqtt) as unknown as Client)
    : iotDevice.Client.fromConnectionString(connectionString, mqttTransport.Mqtt);
  if (ca !== null) await client.setOptions({ ca });
  let closed = false;
  let timer: NodeJS.Timeout | null = null;
  let twin: Twin | null = null;

  /** What was sent while no client was connected is in the twin. */
  async function readTwin(): Promise<void> {
    const read = await client.getTwin();
    if (twin === null) read.on("properties.desired", () => listener.desired(desiredOf(read)));
    twin = read;
    listener.desired(desiredOf(read));
  }

  async function open(pause: number): Promise<void> {
    try {
      await client.open();
      await readTwin();
      listener.log("connected");
    } catch {
      if (closed) return;
      // The errors of the client may name keys.
      listener.log(`not connected; another try in ${pause / 1000} s`);
      timer = setTimeout(() => void open(Math.min(pause * 2, LONGEST_PAUSE)), pause);
    }
  }

  client.on("error", () => listener.log("the connection has an error"));
  client.on("disconnect", () => {
    if (!closed) void open(FIRST_PAUSE);
  });
  client.on("connect", () => {
    if (twin !== null && !closed) readTwin().catch(() => listener.log("the twin could not be read"));
  });
  await open(FIRST_PAUSE);

  return {
    report(patch) {
      const update = twin?.properties.reported["update"] as
        | ((patch: object, done: (problem?: Error | null) => void) => void)
        | undefined;
      if (update === undefined) return Promise.reject(new Error("not connected"));
      return new Promise((resolve, reject) => {
        update(patch, (problem) => {
          if (problem === null || problem === undefined) resolve();
          else reject(new Error("the hub did not take the report"));
        });
      });
    },
    async close() {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      await client.close().catch(() => undefined);
    },
  };
}

/** A copy: the client merges later patches into its own. */
function desiredOf(twin: Twin): JsonObject {
  return JSON.parse(JSON.stringify(twin.properties.desired)) as JsonObject;
}
