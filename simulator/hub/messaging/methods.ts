import type { SimClock } from "../../base/clock.ts";
import { type JsonObject, type JsonValue, parseJson } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import type { TwinKey } from "../twins/twin.ts";

/** A direct method as a service calls it. */
export type MethodCall = {
  readonly name: string;
  /** `undefined`: the service sent none. */
  readonly payload: JsonValue | undefined;
  /** Milliseconds that a device may take to come online; 0 fails at once. */
  readonly connectTimeout: number;
  /** Milliseconds that a device may take to answer. */
  readonly responseTimeout: number;
};

/** What a device is handed: it answers with the id of the request. */
export type MethodRequest = {
  readonly requestId: string;
  readonly name: string;
  /** JSON, or empty. */
  readonly body: string;
};

export type Methods = {
  /** Registers the receiver of a device's methods; the returned function unregisters it. */
  readonly attach: (key: TwinKey, deliver: (request: MethodRequest) => void) => () => void;
  /** A device's answer; one that is no longer awaited is dropped. */
  readonly respond: (key: TwinKey, requestId: string, status: number, body: string) => void;
  /**
   * `{status, payload}` as the service gets it; 404103 offline, 504101 without an answer in time, 502 for no JSON.
   * Who aborts no longer waits for the device to come online.
   */
  readonly invoke: (key: TwinKey, call: MethodCall, signal?: AbortSignal) => Promise<Answer<JsonObject>>;
};

type Pending = {
  readonly key: TwinKey;
  readonly settle: (answer: Answer<JsonObject>) => void;
};

type Receiver = { readonly deliver: (request: MethodRequest) => void };

const NAME_PATTERN = /^[^/+#?\s\p{Cc}]{1,100}$/u;
const LARGEST_PAYLOAD = 128 * 1024;

/** Direct methods, whatever carries them to the device. Timeouts are by the clock of the simulated world. */
export function createMethods(clock: SimClock): Methods {
  const receivers = new Map<TwinKey, Receiver>();
  const waiting = new Map<TwinKey, Set<() => void>>();
  const pending = new Map<string, Pending>();
  let requests = 0;

  /** Resolves with the device's receiver once there is one; `null` when the time is up. */
  function receiverOf(
    key: TwinKey,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<Receiver | null> {
    const receiver = receivers.get(key);
    if (receiver !== undefined || timeout <= 0 || signal?.aborted === true)
      return Promise.resolve(receiver ?? null);
    return new Promise((resolve) => {
      const waiters = waiting.get(key) ?? new Set();
      waiting.set(key, waiters);
      const finish = () => {
        timer.cancel();
        signal?.removeEventListener("abort", finish);
        waiters.delete(finish);
        if (waiters.size === 0) waiting.delete(key);
        resolve(signal?.aborted === true ? null : (receivers.get(key) ?? null));
      };
      waiters.add(finish);
      signal?.addEventListener("abort", finish);
      const timer = clock.schedule(timeout, finish, undefined);
    });
  }

  function ask(receiver: Receiver, key: TwinKey, call: MethodCall): Promise<Answer<JsonObject>> {
    requests += 1;
    const requestId = requests.toString(16);
    return new Promise((resolve) => {
      const settle = (answer: Answer<JsonObject>) => {
        timer.cancel();
        pending.delete(requestId);
        resolve(answer);
      };
      const timer = clock.schedule(
        call.responseTimeout,
        () => settle(refuse("GatewayTimeout", "Timed out waiting for the response from device.", "B")),
        undefined,
      );
      pending.set(requestId, { key, settle });
      receiver.deliver({
        requestId,
        name: call.name,
        body: call.payload === undefined ? "" : JSON.stringify(call.payload),
      });
    });
  }

  return {
    attach(key, deliver) {
      const receiver = { deliver };
      receivers.set(key, receiver);
      for (const wake of [...(waiting.get(key) ?? [])]) wake();
      return () => {
        if (receivers.get(key) === receiver) receivers.delete(key);
      };
    },

    respond(key, requestId, status, body) {
      const asked = pending.get(requestId);
      // An id that was given to another device is not this one's to answer.
      if (asked === undefined || asked.key !== key) return;
      asked.settle(parseResponse(status, body));
    },

    async invoke(key, call, signal) {
      const receiver = await receiverOf(key, call.connectTimeout, signal);
      if (receiver !== null) return ask(receiver, key, call);
      return refuse(
        "DeviceNotOnline",
        "The operation failed because the requested device isn't online or hasn't registered the direct method callback.",
        "B",
      );
    },
  };
}

function parseResponse(status: number, body: string): Answer<JsonObject> {
  if (body.trim() === "") return ok({ status, payload: null });
  const parsed = parseJson(body);
  return parsed.ok
    ? ok({ status, payload: parsed.value })
    : refuse("BadGateway", `The device answered with a payload that is ${parsed.problem}.`, "B");
}

/** The body of a service's call: times in seconds, 30 to answer and 0 to come online where nothing is said. */
export function parseMethodCall(body: JsonObject): Answer<MethodCall> {
  const {
    methodName,
    payload,
    responseTimeoutInSeconds: response = 30,
    connectTimeoutInSeconds: connect = 0,
  } = body;
  if (typeof methodName !== "string") return refuse("ArgumentNull", "methodName is needed", "B");
  if (!NAME_PATTERN.test(methodName))
    return refuse(
      "ArgumentInvalid",
      "methodName must have 1 to 100 characters, none of / + # ? or blank",
      "B",
    );
  if (typeof response !== "number" || response < 5 || response > 300)
    return refuse("ArgumentInvalid", "responseTimeoutInSeconds must be 5 to 300", "B");
  if (typeof connect !== "number" || connect < 0 || connect > 300)
    return refuse("ArgumentInvalid", "connectTimeoutInSeconds must be 0 to 300", "B");
  if (payload !== undefined && Buffer.byteLength(JSON.stringify(payload)) > LARGEST_PAYLOAD)
    return refuse("MessageTooLarge", "The payload of a method may have 128 KB", "B");
  return ok({
    name: methodName,
    payload,
    connectTimeout: connect * 1000,
    responseTimeout: response * 1000,
  });
}
