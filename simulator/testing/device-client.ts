import { createHmac } from "node:crypto";
import iotDevice from "azure-iot-device";
import mqttTransport from "azure-iot-device-mqtt";
import type { Endpoint } from "../simulator.ts";
import type { DeviceCertificate } from "./device-certificates.ts";
import { createPinnedAgent } from "./pinned-agent.ts";

export type DeviceClient = ReturnType<typeof iotDevice.Client.fromConnectionString>;
export type ModuleClient = ReturnType<typeof iotDevice.ModuleClient.fromConnectionString>;
export type ClientTwin = Awaited<ReturnType<DeviceClient["getTwin"]>>;

type Place = Pick<Endpoint, "mqttPort" | "hostName" | "ca">;
type TokenOptions = { readonly key: string; readonly seconds: number; readonly policy?: string };
type Named = { readonly deviceId: string; readonly moduleId?: string };

/**
 * As a device of this hub has it, but that the vendor's client dials this machine: it goes to the gateway and keeps
 * the hub's name for what it signs and says.
 */
function connectionStringOf(place: Place, { deviceId, moduleId }: Named, key: string): string {
  const module = moduleId === undefined ? "" : `;ModuleId=${moduleId}`;
  return `HostName=${place.hostName};DeviceId=${deviceId}${module};SharedAccessKey=${key};GatewayHostName=127.0.0.1:${place.mqttPort}`;
}

export async function deviceClient(place: Place, who: Named, key: string): Promise<DeviceClient> {
  const written = connectionStringOf(place, who, key);
  const client = iotDevice.Client.fromConnectionString(written, mqttTransport.Mqtt);
  await client.setOptions({ ca: place.ca });
  return client;
}

export async function moduleClient(place: Place, who: Named, key: string): Promise<ModuleClient> {
  const written = connectionStringOf(place, who, key);
  const client = iotDevice.ModuleClient.fromConnectionString(written, mqttTransport.Mqtt);
  await client.setOptions({ ca: place.ca });
  return client;
}

/** Over WebSockets the client dials port 443 of the hub, by an agent that may dial elsewhere; `secret` is a key or a certificate. */
export async function webSocketClient(
  place: Pick<Endpoint, "port" | "hostName" | "ca">,
  { deviceId }: Named,
  secret: string | Pick<DeviceCertificate, "cert" | "key">,
): Promise<DeviceClient> {
  const proof = typeof secret === "string" ? `SharedAccessKey=${secret}` : "x509=true";
  const written = `HostName=${place.hostName};DeviceId=${deviceId};${proof}`;
  const client = iotDevice.Client.fromConnectionString(written, mqttTransport.MqttWs);
  const { port, ca } = place;
  const webSocketAgent = createPinnedAgent({ host: "127.0.0.1", port, ca, deadline: 30_000 });
  const certificate = typeof secret === "string" ? {} : { cert: secret.cert, key: secret.key };
  await client.setOptions({ mqtt: { webSocketAgent }, ...certificate });
  return client;
}

/** With a certificate the client passes over the gateway: the place stands for the hub. */
export async function x509Client(
  place: Place,
  { deviceId }: Named,
  certificate: Pick<DeviceCertificate, "cert" | "key">,
): Promise<DeviceClient> {
  const written = `HostName=127.0.0.1:${place.mqttPort};DeviceId=${deviceId};x509=true`;
  const client = iotDevice.Client.fromConnectionString(written, mqttTransport.Mqtt);
  await client.setOptions({ ca: place.ca, cert: certificate.cert, key: certificate.key });
  return client;
}

/** With a token that a third party has signed: it names the resource. */
export async function tokenClient(
  place: Place,
  { deviceId }: Named,
  token: TokenOptions,
): Promise<DeviceClient> {
  const scope = encodeURIComponent(`127.0.0.1:${place.mqttPort}/devices/${deviceId}`);
  const expiry = Math.floor(Date.now() / 1000) + token.seconds;
  const signature = createHmac("sha256", Buffer.from(token.key, "base64"))
    .update(`${scope}\n${expiry}`)
    .digest("base64");
  const policy = token.policy === undefined ? "" : `&skn=${token.policy}`;
  const written = `SharedAccessSignature sr=${scope}&sig=${encodeURIComponent(signature)}&se=${expiry}${policy}`;
  const client = iotDevice.Client.fromSharedAccessSignature(written, mqttTransport.Mqtt);
  await client.setOptions({ ca: place.ca });
  return client;
}

/** The next patch that the client reports, after the whole set, which it reports too. */
export function nextDesired(twin: ClientTwin): Promise<unknown> {
  return new Promise((resolve) => {
    let first = true;
    twin.on("properties.desired", (patch: unknown) => {
      if (!first) resolve(patch);
      first = false;
    });
  });
}

export function report(twin: ClientTwin, patch: object): Promise<void> {
  const update = twin.properties.reported["update"] as (
    patch: object,
    done: (problem?: Error | null) => void,
  ) => void;
  return new Promise((resolve, reject) => {
    update(patch, (problem) => (problem === null || problem === undefined ? resolve() : reject(problem)));
  });
}
