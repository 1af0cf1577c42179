import type { JsonObject, JsonValue } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../../hub/errors.ts";
import type { Hub } from "../../hub/hub.ts";
import { identityDocument } from "../../hub/query/document.ts";
import type { Identity } from "../../hub/registry/identity.ts";
import { twinKey } from "../../hub/twins/twin.ts";
import { type HttpReply, JSON_HEADERS } from "../transport/http-message.ts";
import { routeContent } from "./configuration-routes.ts";
import {
  type Asked,
  changes,
  empty,
  type Operation,
  putStatus,
  reads,
  reply,
  topOf,
  withObject,
} from "./operation.ts";
import { routeQuery } from "./query-routes.ts";

/** `/devices` */
export function routeDevices(asked: Asked, segments: readonly string[]): Operation | null {
  const { method } = asked;
  const [device, second, module, beyond] = segments;
  if (beyond !== undefined) return null;
  if (device === undefined) {
    if (method === "GET") return listDevices(asked);
    return method === "POST" ? bulk(asked) : null;
  }
  if (device === "query" && second === undefined && method === "POST") return routeQuery(asked);
  if (second === undefined) return routeIdentity(asked, device, null);
  if (second === "applyConfigurationContent" && module === undefined && method === "POST")
    return routeContent(asked, device);
  if (second === "commands" && module === undefined && method === "DELETE") return purge(asked, device);
  if (second !== "modules") return null;
  return module === undefined ? listModules(asked, device) : routeIdentity(asked, device, module);
}

/** @param module `null`: the device itself. */
function routeIdentity(asked: Asked, device: string, module: string | null): Operation | null {
  const { hub, method, ifMatch } = asked;
  const { registry } = hub;
  const base = { operation: "identity", device, cost: 1 } as const;
  const kind = module === null ? "identity" : "module";
  switch (method) {
    case "GET":
      return reads(base, `${kind}.get`, () => {
        const identity = registry.get(device, module);
        if (identity !== undefined) return replyIdentity(hub, identity);
        return module === null
          ? refuse("DeviceNotFound", `Device ${device} not registered`)
          : refuse("ModuleNotFound", `Module ${module} on device ${device} not registered`);
      });
    case "PUT":
      return changes(
        base,
        ifMatch === null ? `${kind}.create` : `${kind}.update`,
        withObject(asked, (body) => {
          const written =
            module === null
              ? registry.putDevice(device, body, ifMatch)
              : registry.putModule(device, module, body, ifMatch);
          if (!written.ok) return written;
          return replyIdentity(hub, written.value, module === null ? 200 : putStatus(asked));
        }),
      );
    case "DELETE":
      return changes(base, `${kind}.delete`, () =>
        empty(
          module === null
            ? registry.removeDevice(device, ifMatch)
            : registry.removeModule(device, module, ifMatch),
        ),
      );
    default:
      return null;
  }
}

function replyIdentity(hub: Hub, identity: Identity, status = 200): Answer<HttpReply> {
  const activity = hub.activityOf(twinKey(identity.deviceId, identity.moduleId));
  return reply(identityDocument(identity, activity), { ETag: `"${identity.etag}"` }, status);
}

function listDevices({ hub, url }: Asked): Operation {
  return {
    operation: "identity",
    name: "identity.list",
    device: null,
    right: "RegistryRead",
    cost: 1,
    writes: null,
    run: () => {
      const listed: JsonObject[] = [];
      const top = topOf(url);
      for (const identity of hub.registry.devices()) {
        if (listed.length >= top) break;
        listed.push(identityDocument(identity, hub.activityOf(identity.deviceId)));
      }
      return reply(listed);
    },
  };
}

function listModules({ hub, method }: Asked, device: string): Operation | null {
  if (method !== "GET") return null;
  return reads({ operation: "identity", device, cost: 1 }, "module.list", () => {
    if (hub.registry.get(device, null) === undefined)
      return refuse("DeviceNotFound", `Device ${device} not registered`);
    return reply(
      hub.registry
        .modulesOf(device)
        .map((identity) =>
          identityDocument(identity, hub.activityOf(twinKey(identity.deviceId, identity.moduleId))),
        ),
    );
  });
}

function bulk({ hub, body }: Asked): Operation {
  const entries = Array.isArray(body) ? (body as readonly JsonValue[]) : null;
  return {
    operation: "identity",
    name: "identity.bulk",
    device: null,
    right: "RegistryWrite",
    cost: Math.max(1, entries?.length ?? 1),
    writes: "identity",
    run: () => {
      if (entries === null) return refuse("ArgumentInvalid", "The body must be a JSON array");
      const done = hub.bulk.apply(entries);
      if (!done.ok) return done;
      const answer = { isSuccessful: done.value.errors.length === 0, ...done.value };
      const status = answer.isSuccessful ? 200 : 400;
      return ok({ status, headers: JSON_HEADERS, body: JSON.stringify(answer) });
    },
  };
}

/** `DELETE /devices/{device}/commands`: forgets the messages that wait for the device. */
function purge({ hub }: Asked, device: string): Operation {
  return {
    operation: "cloudMessage",
    name: "cloudMessage.purge",
    device,
    right: "ServiceConnect",
    cost: 1,
    writes: null,
    run: () => {
      if (hub.registry.get(device, null) === undefined)
        return refuse("DeviceNotFound", `Device ${device} not registered`);
      return reply({ totalMessagesPurged: hub.messages.purge(device), deviceId: device, moduleId: null });
    },
  };
}
