import iothub from "azure-iothub";
import { type ClientError, redirect } from "../../simulator/testing/service-client.ts";
import { type BulkResult, type Json, Refused, type Service, type Who } from "./ports.ts";
import { bearerToken, type TestHub } from "./test-hub.ts";

export type ServiceCredential = "policy" | "bearer token";

/** npm azure-iothub: `Registry` and `Client`. */
export function nodeService({ endpoint }: TestHub, credential: ServiceCredential): Service {
  const { connectionString, hostName } = endpoint;
  const tokens = {
    getToken: () => Promise.resolve({ token: bearerToken(), expiresOnTimestamp: Date.now() + 3_600_000 }),
  };
  // The deadline is for a hub that hangs; methods may take a while.
  const [registry, client] =
    credential === "policy"
      ? [
          redirect(iothub.Registry.fromConnectionString(connectionString), endpoint, 60_000),
          redirect(iothub.Client.fromConnectionString(connectionString), endpoint, 60_000),
        ]
      : [
          redirect(iothub.Registry.fromTokenCredential(hostName, tokens as never), endpoint, 60_000),
          redirect(iothub.Client.fromTokenCredential(hostName, tokens as never), endpoint, 60_000),
        ];
  const body = async (call: Promise<{ readonly responseBody: unknown }>): Promise<Json> =>
    plain((await refusing(call)).responseBody);
  const get = ({ deviceId, moduleId }: Who) =>
    body(moduleId === null ? registry.get(deviceId) : registry.getModule(deviceId, moduleId));
  const put = (who: Who, identity: Json) =>
    body(
      who.moduleId === null
        ? registry.update(identity as never)
        : registry.updateModule(identity as never, true),
    );

  return {
    create: ({ deviceId, moduleId }, registered, more = { iotEdge: false }) => {
      const authentication = authenticationOf(registered);
      return moduleId === null
        ? body(registry.create({ deviceId, authentication, capabilities: more } as never))
        : body(registry.addModule({ deviceId, moduleId, authentication } as never));
    },
    get,
    setStatus: async (deviceId, status) => {
      const who = { deviceId, moduleId: null };
      return await put(who, { ...(await get(who)), status });
    },
    setKeys: async (who, keys) => await put(who, { ...(await get(who)), authentication: sas(keys) }),
    delete: async ({ deviceId, moduleId }) => {
      await refusing(
        moduleId === null ? registry.delete(deviceId) : registry.removeModule(deviceId, moduleId),
      );
    },
    modules: async (deviceId) =>
      plain((await refusing(registry.getModulesOnDevice(deviceId))).responseBody) as unknown as Json[],
    createMany: (deviceIds) =>
      bulk(registry.addDevices(deviceIds.map((deviceId) => ({ deviceId })) as never)),
    deleteMany: (deviceIds) =>
      bulk(registry.removeDevices(deviceIds.map((deviceId) => ({ deviceId })) as never, true)),
    twin: ({ deviceId, moduleId }) =>
      body(moduleId === null ? registry.getTwin(deviceId) : registry.getModuleTwin(deviceId, moduleId)),
    patchTwin: ({ deviceId, moduleId }, patch, etag) =>
      body(
        moduleId === null
          ? registry.updateTwin(deviceId, patch, etag)
          : registry.updateModuleTwin(deviceId, moduleId, patch, etag),
      ),
    invoke: async ({ deviceId, moduleId }, { method, ...call }) => {
      const asked = { methodName: method, ...call };
      const { result } = await refusing(
        moduleId === null
          ? client.invokeDeviceMethod(deviceId, asked)
          : client.invokeDeviceMethod(deviceId, moduleId, asked),
      );
      return plain(result) as never;
    },
    query: async (sql, pageSize) => {
      const query = registry.createQuery(sql, pageSize);
      const pages: Json[][] = [];
      for (let token: string | undefined; pages.length === 0 || query.hasMoreResults; ) {
        const { result } = await refusing(query.next(token as string));
        pages.push(plain(result) as never);
        token = query.continuationToken;
      }
      return pages;
    },
    statistics: () => body(registry.getRegistryStatistics()),
    createConfiguration: (configuration) => body(registry.addConfiguration(configuration as never)) as never,
    configuration: (id) => body(registry.getConfiguration(id)) as never,
    configurations: async () => plain((await refusing(registry.getConfigurations())).responseBody) as never,
    updateConfiguration: (configuration) =>
      body(registry.updateConfiguration(configuration as never)) as never,
    deleteConfiguration: async (id) => {
      await refusing(registry.removeConfiguration(id));
    },
    applyContent: async (deviceId, modulesContent) => {
      await refusing(registry.applyConfigurationContentOnDevice(deviceId, { modulesContent } as never));
    },
  };
}

function authenticationOf(registered: Parameters<Service["create"]>[1]): Json | undefined {
  if (registered === null) return undefined;
  if (registered === "authority") return { type: "certificateAuthority" };
  if ("primaryKey" in registered) return sas(registered);
  return { type: "selfSigned", x509Thumbprint: { ...registered, secondaryThumbprint: "" } };
}

function sas(symmetricKey: Json): Json {
  return { type: "sas", symmetricKey };
}

/** Classes of the SDK as what they hold. */
function plain(value: unknown): Json {
  return JSON.parse(JSON.stringify(value)) as Json;
}

async function refusing<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (problem) {
    const { response } = problem as ClientError;
    if (response === undefined) throw problem;
    throw new Refused(response.statusCode, response.headers["iothub-errorcode"] ?? "");
  }
}

/** The SDK rejects where an entry failed, and has the answer beside the error. */
async function bulk(call: Promise<{ readonly responseBody: unknown }>): Promise<BulkResult> {
  try {
    return plain((await call).responseBody) as never;
  } catch (problem) {
    const { responseBody } = problem as ClientError;
    if (responseBody === undefined) throw problem;
    return JSON.parse(responseBody) as BulkResult;
  }
}
