import { afterAll, beforeAll, expect, test } from "vitest";
import { connectionStringOf, type Right } from "../../simulator/hub/sas.ts";
import { createSimulator, type Simulator } from "../../simulator/simulator.ts";
import { connectRegistry, problemOf, rawCall } from "../../simulator/testing/service-client.ts";

// Every route, asked for under every policy that a hub is born with: 401 where it lacks the right, anything else where not.

const ROUTES: readonly (readonly [method: string, path: string, right: Right])[] = [
  ["GET", "/devices", "RegistryRead"],
  ["POST", "/devices", "RegistryWrite"],
  ["POST", "/devices/query", "ServiceConnect"],
  ["GET", "/devices/d", "RegistryRead"],
  ["PUT", "/devices/d", "RegistryWrite"],
  ["DELETE", "/devices/d", "RegistryWrite"],
  ["DELETE", "/devices/d/commands", "ServiceConnect"],
  ["POST", "/devices/d/applyConfigurationContent", "RegistryWrite"],
  ["GET", "/devices/d/modules", "RegistryRead"],
  ["GET", "/devices/d/modules/m", "RegistryRead"],
  ["PUT", "/devices/d/modules/m", "RegistryWrite"],
  ["DELETE", "/devices/d/modules/m", "RegistryWrite"],
  ["GET", "/twins/d", "ServiceConnect"],
  ["PATCH", "/twins/d", "ServiceConnect"],
  ["PUT", "/twins/d", "ServiceConnect"],
  ["POST", "/twins/d/methods", "ServiceConnect"],
  ["GET", "/twins/d/modules/m", "ServiceConnect"],
  ["PATCH", "/twins/d/modules/m", "ServiceConnect"],
  ["PUT", "/twins/d/modules/m", "ServiceConnect"],
  ["POST", "/twins/d/modules/m/methods", "ServiceConnect"],
  ["GET", "/configurations", "ServiceConnect"],
  ["POST", "/configurations/testQueries", "ServiceConnect"],
  ["GET", "/configurations/c", "ServiceConnect"],
  ["PUT", "/configurations/c", "RegistryWrite"],
  ["DELETE", "/configurations/c", "RegistryWrite"],
  ["GET", "/statistics/devices", "RegistryRead"],
  ["GET", "/statistics/service", "RegistryRead"],
  ["GET", "/jobs", "RegistryRead"],
  ["POST", "/jobs/create", "RegistryWrite"],
  ["GET", "/jobs/j", "RegistryRead"],
  ["DELETE", "/jobs/j", "RegistryWrite"],
  ["GET", "/jobs/v2/query", "RegistryRead"],
  ["GET", "/jobs/v2/j", "RegistryRead"],
  ["PUT", "/jobs/v2/j", "RegistryWrite"],
  ["POST", "/jobs/v2/j/cancel", "RegistryWrite"],
];

const POLICIES: Readonly<Record<string, readonly Right[]>> = {
  iothubowner: ["RegistryRead", "RegistryWrite", "ServiceConnect"],
  service: ["ServiceConnect"],
  device: [],
  registryRead: ["RegistryRead"],
  registryReadWrite: ["RegistryRead", "RegistryWrite"],
};

let simulator: Simulator;
let endpoint: Awaited<ReturnType<Simulator["start"]>>;
beforeAll(async () => {
  simulator = createSimulator({ tier: "S3", autoStart: false, throttling: false });
  endpoint = await simulator.start();
});
afterAll(async () => {
  await simulator.stop();
});

function clientOf(policyName: string) {
  const policy = simulator.hub.policies.find(({ name }) => name === policyName)!;
  return connectRegistry(endpoint, connectionStringOf(endpoint.hostName, policy));
}

/** 200 for anything that is not refused. */
async function statusOf(client: unknown, method: string, path: string): Promise<number | undefined> {
  try {
    await rawCall(client, method, path, method === "GET" || method === "DELETE" ? null : {});
    return 200;
  } catch (problem) {
    return (problem as { readonly response?: { readonly statusCode: number } }).response?.statusCode;
  }
}

test("a hub is born with five policies", () => {
  expect(simulator.hub.policies.map(({ name }) => name)).toEqual(Object.keys(POLICIES));
});

test.each(Object.entries(POLICIES))(
  "policy %s may do what its rights say, and nothing else",
  async (name, rights) => {
    const client = clientOf(name);
    for (const [method, path, right] of ROUTES) {
      const status = await statusOf(client, method, path);
      expect(status === 401, `${method} ${path} as ${name}: ${status}`).toBe(!rights.includes(right));
      expect(status, `${method} ${path}`).toBeTypeOf("number");
      expect(status, `${method} ${path} is served`).not.toBe(500);
    }
  },
);

test("every route of the table is one: who may do everything finds none of them missing", async () => {
  const client = clientOf("iothubowner");
  for (const [method, path] of ROUTES) {
    const text = await rawCall(client, method, path).then(
      () => "",
      (problem: { readonly responseBody?: string }) => problem.responseBody ?? "",
    );
    expect(text, `${method} ${path}`).not.toContain("ResourceNotFound");
  }
  const unknown = rawCall(client, "GET", "/digitaltwins/d");
  expect((await problemOf(unknown)).responseBody).toContain("ResourceNotFound");
});
