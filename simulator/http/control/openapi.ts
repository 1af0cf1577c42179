import type { JsonObject, JsonValue } from "../../base/json.ts";
import type { ControlOperation, ControlRoute } from "./control-route.ts";
import { REFUSAL } from "./control-schema.ts";
import { schemaOfParameter } from "./query-parameters.ts";

/** What every operation may answer with: a mistake, a foreign page, too large a body. */
export const COMMON_REFUSALS = [400, 403, 413] as const;

const MEANINGS: Readonly<Record<number, string>> = {
  400: "Something is wrong with the request; every problem is named",
  403: "The request comes from a page of another origin, or was refused by the hub",
  404: "There is no such thing",
  409: "Not possible in the state that the simulator is in",
  413: "The body is larger than 1 MiB",
  429: "A budget of the hub is used up",
};

/** OpenAPI 3.1 of the routes. */
export function openApiDocument(routes: readonly ControlRoute[]): JsonObject {
  return {
    openapi: "3.1.0",
    info: {
      title: "Control API of the IoT Hub simulator",
      version: "1",
      description: "What a test does to the simulated world. No key is asked for: serve it on loopback only.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    paths: Object.fromEntries(routes.map((route) => [route.path, pathItem(route)])),
    components: { schemas: { Refusal: plain(REFUSAL) } },
  };
}

/** Statuses of the refusals that an operation may answer with. */
export function refusalsOf(route: ControlRoute, operation: ControlOperation): readonly number[] {
  const missing = route.path.endsWith("/{id}") || operation.body !== undefined ? [404] : [];
  return [...new Set([...COMMON_REFUSALS, ...missing, ...(operation.refusals ?? [])])].sort();
}

function pathItem(route: ControlRoute): JsonObject {
  const parameters = route.path.endsWith("/{id}")
    ? { parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }] }
    : {};
  const operations = Object.entries(route.methods).map(([method, operation]) => [
    method.toLowerCase(),
    operationItem(route, method, operation),
  ]);
  return { ...parameters, ...Object.fromEntries(operations) };
}

function operationItem(route: ControlRoute, method: string, operation: ControlOperation): JsonObject {
  const { summary, query = {}, body, yaml, examples = {}, answer } = operation;
  const success =
    answer === null
      ? { "204": { description: "Done" } }
      : { "200": { description: "Done", content: json(plain(answer)) } };
  const refusals = refusalsOf(route, operation).map((status) => [
    String(status),
    {
      description: MEANINGS[status] ?? "Refused",
      content: json({ $ref: "#/components/schemas/Refusal" }),
    },
  ]);
  const named = Object.entries(examples).map(([name, value]) => [name, { value }]);
  return {
    operationId: operationId(method, route.path),
    summary,
    parameters: Object.entries(query).map(([name, parameter]) => ({
      name,
      in: "query",
      description: parameter.description,
      schema: schemaOfParameter(parameter),
    })),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: true,
            content: contentOf(plain(body), Object.fromEntries(named), yaml === true),
          },
        }),
    responses: { ...success, ...Object.fromEntries(refusals) },
  };
}

function json(schema: JsonValue, examples?: JsonObject): JsonObject {
  return { "application/json": { schema, ...(examples === undefined ? {} : { examples }) } };
}

function contentOf(schema: JsonObject, examples: JsonObject, yaml: boolean): JsonObject {
  return { ...json(schema, examples), ...(yaml ? { "application/yaml": { schema } } : {}) };
}

/** A schema without what the library keeps in it for itself. */
function plain(schema: object): JsonObject {
  return JSON.parse(JSON.stringify(schema)) as JsonObject;
}

/** `DELETE /sim/faults/{id}` → `deleteFaultsId`. */
function operationId(method: string, path: string): string {
  const words = path.split(/[^A-Za-z]+/).filter((word) => word !== "" && word !== "sim");
  return method.toLowerCase() + words.map((word) => word[0]?.toUpperCase() + word.slice(1)).join("");
}
