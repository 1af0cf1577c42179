import type { ConnectOptions, Credential, Device, Json, Message, MethodResponse, Who } from "./ports.ts";
import type { PythonProcess } from "./python-process.ts";
import { sasToken, type TestHub } from "./test-hub.ts";

export type PythonTransport = "MQTT" | "MQTT over WebSockets";

let devices = 0;

type Asked = { readonly request: string; readonly method: string; readonly payload: unknown };

/** PyPI azure-iot-device: `IoTHubDeviceClient` and `IoTHubModuleClient`. */
export async function pythonDevice(
  { hub, python }: { readonly hub: TestHub; readonly python: PythonProcess },
  transport: PythonTransport,
  who: Who,
  credential: Credential,
  { comesBack }: ConnectOptions,
): Promise<Device> {
  devices += 1;
  const on = `device-${devices}`;
  const { ca, hostName } = hub.endpoint;
  const heard = { desired: [] as Json[], messages: [] as Message[], lost: false };
  const answers = new Map<string, (payload: unknown) => MethodResponse | null>();
  const ask = (verb: string, options: Record<string, unknown> = {}) =>
    python.call({ do: `device.${verb}`, on, ...options }) as Promise<never>;
  python.listen(on, ({ event, data }) => {
    if (event === "desired") heard.desired.push(data as Json);
    if (event === "message") heard.messages.push(data as Message);
    if (event === "connected" && data === false && !comesBack) heard.lost = true;
    if (event !== "method") return;
    const { request, method, payload } = data as Asked;
    const answer = answers.get(method)?.(payload) ?? null;
    // A connection that ends meanwhile takes the answer along; the caller sees that.
    if (answer !== null) void ask("respond", { request, ...answer }).catch(() => {});
  });
  const brought =
    credential.kind === "token"
      ? { kind: "token", token: sasToken(hostName, who, credential.key, credential.seconds) }
      : credential;
  await ask("new", { who, credential: brought, transport, comesBack, ca });
  return {
    heard,
    open: () => ask("open"),
    close: async () => {
      await ask("close");
      python.listen(on, null);
    },
    twin: () => ask("twin"),
    report: (patch) => ask("report", { patch }),
    send: (message) => ask("send", { message }),
    listenToDesired: () => ask("listenToDesired"),
    listenToMessages: () => ask("listenToMessages"),
    answer: async (method, how) => {
      answers.set(method, how);
      await ask("listenToMethods");
    },
  };
}
