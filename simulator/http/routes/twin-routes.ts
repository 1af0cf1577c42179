import { type Answer, refuse } from "../../hub/errors.ts";
import type { Hub } from "../../hub/hub.ts";
import { twinDocument } from "../../hub/query/document.ts";
import { type Twin, twinEtag, twinKey } from "../../hub/twins/twin.ts";
import { parseTwinChange } from "../../hub/twins/twins.ts";
import type { HttpReply } from "../transport/http-message.ts";
import { routeMethod } from "./method-routes.ts";
import { type Asked, type Operation, reply, withObject } from "./operation.ts";

/** `/twins` */
export function routeTwins(asked: Asked, segments: readonly string[]): Operation | null {
  const [device, second, third, fourth, beyond] = segments;
  if (device === undefined || beyond !== undefined) return null;
  if (second === undefined) return routeTwin(asked, device, null);
  if (second === "methods" && third === undefined) return routeMethod(asked, device, null);
  if (second !== "modules" || third === undefined) return null;
  if (fourth === undefined) return routeTwin(asked, device, third);
  return fourth === "methods" ? routeMethod(asked, device, third) : null;
}

function routeTwin(asked: Asked, device: string, module: string | null): Operation | null {
  const { hub, method, ifMatch } = asked;
  const key = twinKey(device, module);
  const base = { device, right: "ServiceConnect", cost: 1 } as const;
  const write = (name: "patch" | "replace") =>
    withObject(asked, (body) => {
      const change = parseTwinChange(body);
      if (!change.ok) return change;
      const written = hub.twins[name](key, change.value, ifMatch);
      return written.ok ? replyTwin(hub, written.value) : written;
    });
  switch (method) {
    case "GET":
      return {
        ...base,
        operation: "twinRead",
        name: "twin.get",
        writes: null,
        run: () => {
          const twin = hub.twins.get(key);
          if (twin !== undefined) return replyTwin(hub, twin);
          return module === null || hub.registry.get(device, null) === undefined
            ? refuse("DeviceNotFound", `Device ${device} not registered`)
            : refuse("ModuleNotFound", `Module ${module} on device ${device} not registered`);
        },
      };
    case "PATCH":
      return { ...base, operation: "twinWrite", name: "twin.patch", writes: "twin", run: write("patch") };
    case "PUT":
      return { ...base, operation: "twinWrite", name: "twin.replace", writes: "twin", run: write("replace") };
    default:
      return null;
  }
}

function replyTwin(hub: Hub, twin: Twin): Answer<HttpReply> {
  const identity = hub.registry.get(twin.deviceId, twin.moduleId);
  if (identity === undefined) return refuse("DeviceNotFound", `Device ${twin.deviceId} not registered`);
  const activity = hub.activityOf(twinKey(twin.deviceId, twin.moduleId));
  return reply(twinDocument(identity, twin, activity), { ETag: `"${twinEtag(twin)}"` });
}
