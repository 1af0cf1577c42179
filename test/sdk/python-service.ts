import { Refused, type Service } from "./ports.ts";
import type { PythonProblem, PythonProcess } from "./python-process.ts";

let services = 0;

/** PyPI azure-iot-hub: `IoTHubRegistryManager` and `IoTHubConfigurationManager`. `token`: a bearer token; `null`: the policy's key. */
export async function pythonService(python: PythonProcess, token: string | null): Promise<Service> {
  services += 1;
  const on = `service-${services}`;
  const ask = async (verb: string, options: Record<string, unknown> = {}): Promise<never> => {
    try {
      return (await python.call({ do: `service.${verb}`, on, ...options })) as never;
    } catch (problem) {
      const { refused } = problem as PythonProblem;
      throw refused === null || refused === undefined ? problem : new Refused(refused.status, refused.code);
    }
  };
  await ask("new", { token });
  return {
    create: (who, registered, { iotEdge } = { iotEdge: false }) =>
      ask("create", { who, registered, iotEdge }),
    get: (who) => ask("get", { who }),
    setStatus: (deviceId, status) => ask("setStatus", { deviceId, status }),
    setKeys: (who, keys) => ask("setKeys", { who, keys }),
    delete: (who) => ask("delete", { who }),
    modules: (deviceId) => ask("modules", { deviceId }),
    createMany: (deviceIds) => ask("createMany", { deviceIds }),
    deleteMany: (deviceIds) => ask("deleteMany", { deviceIds }),
    twin: (who) => ask("twin", { who }),
    patchTwin: (who, patch, etag) => ask("patchTwin", { who, patch, etag }),
    invoke: (who, call) => ask("invoke", { who, call }),
    query: (sql, pageSize) => ask("query", { sql, pageSize }),
    statistics: () => ask("statistics"),
    createConfiguration: (configuration) => ask("createConfiguration", { configuration }),
    configuration: (configurationId) => ask("configuration", { configurationId }),
    configurations: () => ask("configurations"),
    updateConfiguration: (configuration) => ask("updateConfiguration", { configuration }),
    deleteConfiguration: (configurationId) => ask("deleteConfiguration", { configurationId }),
    applyContent: (deviceId, modulesContent) => ask("applyContent", { deviceId, modulesContent }),
  };
}
