import { parseMethodCall } from "../../hub/messaging/methods.ts";
import { twinKey } from "../../hub/twins/twin.ts";
import { payloadSize } from "./metering.ts";
import { type Asked, type Operation, reply, withObject } from "./operation.ts";

/** `POST /twins/{device}[/modules/{module}]/methods` */
export function routeMethod(asked: Asked, device: string, module: string | null): Operation | null {
  if (asked.method !== "POST") return null;
  return {
    operation: "method",
    name: "method",
    device,
    right: "ServiceConnect",
    cost: Math.max(1, Math.ceil(payloadSize(asked.request.body) / 4096)),
    writes: null,
    run: withObject(asked, async (body) => {
      const call = parseMethodCall(body);
      if (!call.ok) return call;
      const answered = await asked.hub.invoke(twinKey(device, module), call.value);
      return answered.ok ? reply(answered.value) : answered;
    }),
  };
}
