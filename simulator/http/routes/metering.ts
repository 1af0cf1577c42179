import { isObject, type JsonValue } from "../../base/json.ts";
import type { Charged } from "../../hub/limits/quota.ts";
import type { HttpReply, HttpRequest } from "../transport/http-message.ts";
import type { Operation } from "./operation.ts";

// What the service's requests count for the daily quota, as Microsoft's page on the pricing of IoT Hub has it.

type Metered = Pick<Operation, "operation" | "name">;
type Charge = { readonly what: Charged; readonly bytes: number };

/** Whether a request is refused once the quota of the day is used up. */
export function isMetered({ operation, name }: Metered): boolean {
  return ["twinRead", "twinWrite", "query", "method"].includes(operation) || name === "configuration.apply";
}

/** Reads and queries are charged by what they give out, writes by what was sent; a request that is refused costs nothing. */
export function chargesOf(metered: Metered, request: HttpRequest, reply: HttpReply): readonly Charge[] {
  const { operation } = metered;
  if (operation === "method") return methodCharges(request, reply);
  if (reply.status >= 300 || !isMetered(metered)) return [];
  if (operation === "twinRead" || operation === "query")
    return [{ what: operation, bytes: sizeOf(reply.body) }];
  const what = operation === "twinWrite" ? operation : "applyConfiguration";
  return [{ what, bytes: sizeOf(request.body) }];
}

/** A method costs its request even where the device is offline or gives no answer. */
function methodCharges(request: HttpRequest, reply: HttpReply): readonly Charge[] {
  const sent =
    reply.status === 200 ||
    ["DeviceNotOnline", "GatewayTimeout", "BadGateway"].includes(reply.headers["iothub-errorcode"] ?? "");
  const asked: Charge = { what: "methodRequest", bytes: payloadSize(request.body) };
  if (reply.status !== 200) return sent ? [asked] : [];
  return [asked, { what: "methodResponse", bytes: payloadSize(reply.body) }];
}

/** Bytes of the field `payload` of a method's request or answer. */
export function payloadSize(body: string | null): number {
  try {
    const document = JSON.parse(body ?? "") as JsonValue;
    const payload = isObject(document) ? document["payload"] : undefined;
    return payload === undefined ? 0 : sizeOf(JSON.stringify(payload));
  } catch {
    return 0;
  }
}

function sizeOf(text: string | null): number {
  return Buffer.byteLength(text ?? "");
}
