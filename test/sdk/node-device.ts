import iotDevice from "azure-iot-device";
import mqttTransport from "azure-iot-device-mqtt";
import { createPinnedAgent } from "../../simulator/testing/pinned-agent.ts";
import type { ConnectOptions, Credential, Device, Json, Message, Unauthorized, Who } from "./ports.ts";
import { sasToken, type TestHub } from "./test-hub.ts";

export type NodeTransport = "Mqtt" | "MqttWs";

type Client = ReturnType<typeof iotDevice.Client.fromConnectionString>;
type Twin = Awaited<ReturnType<Client["getTwin"]>>;

/** npm azure-iot-device: `Client` for devices, `ModuleClient` for modules. */
export async function nodeDevice(
  { endpoint }: TestHub,
  transport: NodeTransport,
  who: Who,
  credential: Credential,
  { comesBack }: ConnectOptions,
): Promise<Device> {
  const client = clientOf(endpoint, transport, who, credential);
  const { ca, port } = endpoint;
  // Port 443 is fixed for WebSockets, and an agent may dial elsewhere; over MQTT the place is in the connection string.
  const webSocketAgent = createPinnedAgent({ host: "127.0.0.1", port, ca, deadline: 60_000 });
  const renewed = credential.kind === "key" ? credential.seconds : undefined;
  await client.setOptions({
    ca,
    ...(transport === "MqttWs" ? { mqtt: { webSocketAgent } } : {}),
    ...(credential.kind === "certificate" ? { cert: credential.cert, key: credential.key } : {}),
    ...(renewed === undefined
      ? {}
      : { tokenRenewal: { tokenValidTimeInSeconds: renewed, tokenRenewalMarginInSeconds: 2 } }),
  } as never);
  client.setRetryPolicy({ shouldRetry: () => comesBack, nextRetryTimeout: () => (comesBack ? 50 : 0) });
  const heard = { desired: [] as Json[], messages: [] as Message[], lost: false };
  // Without a listener the errors of a client would end the process.
  client.on("error", () => {});
  client.on("disconnect", () => {
    heard.lost = true;
  });
  const getTwin = (): Promise<Twin> => client.getTwin();
  const twin = async () => {
    const { desired, reported } = (await getTwin()).properties;
    return JSON.parse(JSON.stringify({ desired, reported })) as {
      readonly desired: Json;
      readonly reported: Json;
    };
  };

  return {
    heard,
    open: async () => {
      try {
        await client.open();
      } catch (problem) {
        const unauthorized = problem instanceof Error && problem.name === "UnauthorizedError";
        throw Object.assign(new Error("not connected", { cause: problem }), { unauthorized }) as Unauthorized;
      }
    },
    close: async () => {
      await client.close();
    },
    twin,
    report: async (patch) => {
      const { reported } = (await getTwin()).properties;
      await new Promise<void>((resolve, reject) => {
        (reported["update"] as (patch: Json, done: (problem?: Error | null) => void) => void)(
          patch,
          (problem) => (problem === null || problem === undefined ? resolve() : reject(problem)),
        );
      });
    },
    send: async ({ body, properties = {}, ...system }) => {
      const message = Object.assign(new iotDevice.Message(body), system);
      for (const [key, value] of Object.entries(properties)) message.properties.add(key, value);
      await client.sendEvent(message);
    },
    listenToDesired: async () => {
      const listened = await getTwin();
      // The client makes an event of the whole set too, now and whenever it reads it: that object is the twin's own.
      const whole = listened.properties.desired;
      listened.on("properties.desired", (patch: Json) => {
        if (patch !== whole && patch !== listened.properties.desired)
          heard.desired.push(structuredClone(patch));
      });
      await twin();
    },
    listenToMessages: async () => {
      client.on("message", (message) => {
        const { messageId, correlationId, properties, data } = message;
        const listed = properties.propertyList as readonly { readonly key: string; readonly value: string }[];
        heard.messages.push({
          body: String(data),
          messageId,
          correlationId: String(correlationId),
          properties: Object.fromEntries(listed.map(({ key, value }) => [key, value])),
        });
        void client.complete(message);
      });
      await twin();
    },
    answer: async (method, how) => {
      const answering =
        (client as unknown as { onMethod: Client["onDeviceMethod"] }).onMethod ?? client.onDeviceMethod;
      answering.call(client, method, (request, response) => {
        const answer = how(request.payload);
        if (answer !== null) void response.send(answer.status, answer.payload);
      });
      // What is subscribed to is subscribed to before this is answered.
      await twin();
    },
  };
}

/** The SDK's own ways to name a hub; a client of a module has the same methods where it has them at all. */
function clientOf(
  { hostName, mqttPort }: TestHub["endpoint"],
  transport: NodeTransport,
  who: Who,
  credential: Credential,
): Client {
  const carrier = mqttTransport[transport];
  const kind =
    who.moduleId === null ? iotDevice.Client : (iotDevice.ModuleClient as never as typeof iotDevice.Client);
  const dialled = transport === "Mqtt" ? `127.0.0.1:${mqttPort}` : hostName;
  const named = `DeviceId=${who.deviceId}${who.moduleId === null ? "" : `;ModuleId=${who.moduleId}`}`;
  switch (credential.kind) {
    case "key": {
      const gateway = transport === "Mqtt" ? `;GatewayHostName=${dialled}` : "";
      const written = `HostName=${hostName}${gateway};${named};SharedAccessKey=${credential.key}`;
      return kind.fromConnectionString(written, carrier);
    }
    case "token":
      return kind.fromSharedAccessSignature(
        sasToken(dialled, who, credential.key, credential.seconds),
        carrier,
      );
    case "certificate":
      return kind.fromConnectionString(`HostName=${dialled};${named};x509=true`, carrier);
  }
}
