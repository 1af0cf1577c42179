import { isObject, type JsonObject, setKey } from "../../base/json.ts";
import { parseTargetCondition } from "../../hub/configurations/conditions.ts";
import { configurationEtag } from "../../hub/configurations/configuration.ts";
import { metricProblem, parseModulesContent } from "../../hub/configurations/configuration-body.ts";
import { type Answer, ok, refuse } from "../../hub/errors.ts";
import type { Hub } from "../../hub/hub.ts";
import type { HttpReply } from "../transport/http-message.ts";
import {
  type Asked,
  empty,
  NO_CONTENT,
  type Operation,
  putStatus,
  reply,
  topOf,
  withObject,
} from "./operation.ts";

/** `/configurations` */
export function routeConfigurations(asked: Asked, segments: readonly string[]): Operation | null {
  const { hub, method, ifMatch, url } = asked;
  const [id, beyond] = segments;
  if (beyond !== undefined) return null;
  const base = { operation: "configuration", device: null, cost: 1 } as const;
  const looks = (name: string, run: Operation["run"]): Operation => ({
    ...base,
    name: `configuration.${name}`,
    right: "ServiceConnect",
    writes: null,
    run,
  });
  const writes = (name: string, run: Operation["run"]): Operation => ({
    ...base,
    name: `configuration.${name}`,
    right: "RegistryWrite",
    writes: "configuration",
    run,
  });
  if (id === undefined) {
    if (method !== "GET") return null;
    return looks("list", () =>
      reply(hub.configurations.list().slice(0, topOf(url)).map(hub.configurations.document)),
    );
  }
  if (id === "testQueries" && method === "POST")
    return looks(
      "test",
      withObject(asked, (body) => testQueries(hub, body)),
    );
  switch (method) {
    case "GET":
      return looks("get", () => {
        const configuration = hub.configurations.get(id);
        if (configuration === undefined)
          return refuse("ConfigurationNotFound", `Configuration ${id} does not exist`);
        return reply(hub.configurations.document(configuration), {
          ETag: `"${configurationEtag(configuration)}"`,
        });
      });
    case "PUT":
      return writes(
        ifMatch === null ? "create" : "update",
        withObject(asked, (body) => {
          const written = hub.configurations.put(id, body, ifMatch);
          if (!written.ok) return written;
          const etag = { ETag: `"${configurationEtag(written.value)}"` };
          return reply(hub.configurations.document(written.value), etag, putStatus(asked));
        }),
      );
    case "DELETE":
      return writes("delete", () => empty(hub.configurations.remove(id, ifMatch)));
    default:
      return null;
  }
}

function testQueries({ options: { undocumented } }: Hub, body: JsonObject): Answer<HttpReply> {
  const condition = parseTargetCondition(
    typeof body["targetCondition"] === "string" ? body["targetCondition"] : "",
    undocumented,
  );
  const metrics = isObject(body["customMetricQueries"]) ? body["customMetricQueries"] : {};
  const errors: Record<string, string> = {};
  for (const [name, text] of Object.entries(metrics)) {
    const problem = metricProblem(text, undocumented);
    if (problem !== null) setKey(errors, name, problem);
  }
  return reply({
    targetConditionError: condition.ok ? null : condition.refusal.message,
    customMetricQueryErrors: errors,
  });
}

/** `POST /devices/{device}/applyConfigurationContent` */
export function routeContent(asked: Asked, device: string): Operation {
  return {
    operation: "configuration",
    name: "configuration.apply",
    device,
    right: "RegistryWrite",
    cost: 1,
    writes: "configuration",
    run: withObject(asked, (body) => applyContent(asked.hub, device, body)),
  };
}

function applyContent(hub: Hub, device: string, body: JsonObject): Answer<HttpReply> {
  const identity = hub.registry.get(device, null);
  if (identity === undefined) return refuse("DeviceNotFound", `Device ${device} not registered`);
  if (body["deviceContent"] !== undefined || body["moduleContent"] !== undefined)
    return refuse("InvalidConfigurationContent", "only modulesContent can be applied to a device");
  const modules = body["modulesContent"];
  if (!isObject(modules)) return refuse("InvalidConfigurationContent", "modulesContent must be an object");
  if (!identity.iotEdge) return refuse("InvalidOperation", `${device} is not an IoT Edge device`);
  const content = parseModulesContent(modules, hub.options.undocumented.arrays);
  if (!content.ok) return content;
  hub.evaluation.applyOnce(device, content.value.settings);
  return ok(NO_CONTENT);
}
