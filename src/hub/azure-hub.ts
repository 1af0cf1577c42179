import type { Attempt, Fault } from "../base/fault.ts";
import { isRecord } from "../base/guards.ts";
import { err, ok, type Result } from "../base/result.ts";
import { createHubAgent, type Endpoint } from "./azure-agent.ts";
import { type Answer, type AzureWireOptions, type Call, createCaller, openWire } from "./azure-wire.ts";
import { cleanWords, faultOfShape } from "./faults.ts";
import type { DeviceHub, Identity, Json, Page, Twin, TwinRef } from "./hub.ts";
import { createIntern } from "./reports.ts";
import {
  configurationBody,
  configurationOf,
  DEVICES_QUERY,
  deviceRowOf,
  identityOf,
  keysOf,
  MODULES_QUERY,
  moduleRowOf,
  newIdentityBody,
  twinOf,
} from "./wire.ts";

export type AzureHubOptions = AzureWireOptions & {
  /** Where to dial instead of the hub's name; `null`: the hub. */
  readonly endpoint: Endpoint | null;
  /** Rows that a page of a query may have; the hub may send fewer. */
  readonly pageSize?: number;
};

const IDENTITY_READ = "RegistryRead, or the role IoT Hub Registry Contributor";
const IDENTITY_WRITE = "RegistryWrite, or the role IoT Hub Registry Contributor";
const TWIN = "ServiceConnect, or the role IoT Hub Twin Contributor";
const CONFIGURATION_READ = "ServiceConnect, or the role IoT Hub Data Contributor";
const CONFIGURATION_WRITE = "RegistryWrite and ServiceConnect, or the role IoT Hub Data Contributor";

/** Throws for a connection string that lacks a part; it never says what the string holds. */
export function createAzureHub(options: AzureHubOptions): DeviceHub & { readonly close: () => void } {
  const { log } = options;
  const pageSize = String(options.pageSize ?? 1000);
  const agent = createHubAgent(options.endpoint);
  const { host, send } = openWire(options, agent);
  const call = createCaller(options, send);
  const intern = createIntern();

  async function readIdentity(device: string, operation: string, signal: AbortSignal): Attempt<Json | null> {
    const path = `/devices/${encodeURIComponent(device)}`;
    const answered = await call(
      { operation, class: "identity", right: IDENTITY_READ, method: "GET", path },
      signal,
    );
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent") return ok(null);
    const { body } = answered.value;
    if (!isRecord(body) || identityOf(body, device) === null)
      return err(faultOfShape(operation, "a device identity"));
    return ok(body);
  }

  async function writeIdentity(
    device: string,
    write: Omit<Call, "class" | "right" | "method" | "path">,
    signal: AbortSignal,
  ) {
    const path = `/devices/${encodeURIComponent(device)}`;
    const answered = await call(
      { ...write, class: "identity", right: IDENTITY_WRITE, method: "PUT", path },
      signal,
    );
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent") return err(goneMeanwhile(write.operation, "the identity"));
    const identity = identityOf(answered.value.body, device);
    return identity === null ? err(faultOfShape(write.operation, "a device identity")) : ok(identity);
  }

  async function setEnabled(device: string, enabled: boolean, signal: AbortSignal): Attempt<Identity> {
    const operation = "setEnabled";
    const read = await readIdentity(device, operation, signal);
    if (!read.ok) return read;
    if (read.value === null) return err(goneMeanwhile(operation, "the identity"));
    const had = identityOf(read.value, device);
    if (had === null) return err(faultOfShape(operation, "a device identity"));
    if (had.enabled === enabled) return ok(had);
    // The write replaces all of the identity, and empty keys in it mean "make new ones": every device would be locked out.
    if (had.authentication === "sas" && keysOf(read.value) === null)
      return err({
        kind: "denied",
        message: `${operation}: the credential may not read the keys of the identity, and a write without them would replace them; it needs ${IDENTITY_READ}`,
      });
    const body = { ...read.value, status: enabled ? "enabled" : "disabled" };
    return await writeIdentity(device, { operation, ifMatch: had.etag, body }, signal);
  }

  async function patchTwin(...[ref, patch, lane, signal]: Parameters<DeviceHub["patchTwin"]>): Attempt<Twin> {
    const operation = "patchTwin";
    const body = {
      ...(patch.tags === undefined ? {} : { tags: patch.tags }),
      ...(patch.desired === undefined ? {} : { properties: { desired: patch.desired } }),
    };
    const request = {
      operation,
      class: "twinWrite",
      lane,
      right: TWIN,
      method: "PATCH",
      path: twinPath(ref),
    } as const;
    const answered = await call({ ...request, ifMatch: ref.etag, body }, signal);
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent") return err(goneMeanwhile(operation, "the twin"));
    const twin = twinOf(answered.value.body, ref);
    return twin === null ? err(faultOfShape(operation, "a twin")) : ok(twin);
  }

  async function putConfiguration(
    write: Omit<Call, "class" | "right" | "method" | "path">,
    id: string,
    signal: AbortSignal,
  ) {
    const request = {
      ...write,
      class: "configuration",
      right: CONFIGURATION_WRITE,
      method: "PUT",
      path: configurationPath(id),
    } as const;
    const answered = await call(request, signal);
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent") return err(goneMeanwhile(write.operation, "the configuration"));
    const written = configurationOf(answered.value.body);
    if (written === null || written.id !== id) return err(faultOfShape(write.operation, "a configuration"));
    return ok(written);
  }

  async function query<Row>(
    asked: {
      readonly operation: string;
      readonly text: string;
      readonly from: string | null;
      readonly rowOf: (row: unknown) => Row | null;
    },
    signal: AbortSignal,
  ): Attempt<Page<Row>> {
    const { operation, text, from, rowOf } = asked;
    const headers = {
      "x-ms-max-item-count": pageSize,
      ...(from === null ? {} : { "x-ms-continuation": from }),
    };
    const answered = await call(
      {
        operation,
        class: "query",
        right: TWIN,
        method: "POST",
        path: "/devices/query",
        headers,
        body: { query: text },
      },
      signal,
    );
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent" || !Array.isArray(answered.value.body))
      return err(faultOfShape(operation, "a page of rows"));
    const all: readonly unknown[] = answered.value.body;
    const rows = all.map(rowOf).filter((row) => row !== null);
    if (rows.length < all.length)
      log.warn("left out malformed rows of a query", { operation, rows: all.length - rows.length });
    const next = answered.value.headers["x-ms-continuation"];
    return ok({ rows, next: typeof next === "string" && next !== "" ? next : null });
  }

  return {
    host,
    getIdentity: async (device, signal) => {
      const read = await readIdentity(device, "getIdentity", signal);
      return read.ok ? ok(read.value === null ? null : identityOf(read.value, device)) : read;
    },
    getKeys: async (device, signal) => {
      const read = await readIdentity(device, "getKeys", signal);
      return read.ok ? ok(keysOf(read.value)) : read;
    },
    createIdentity: (identity, signal) =>
      writeIdentity(
        identity.device,
        { operation: "createIdentity", body: newIdentityBody(identity) },
        signal,
      ),
    setEnabled,
    removeIdentity: async (device, signal) => {
      const path = `/devices/${encodeURIComponent(device)}`;
      const request = {
        operation: "removeIdentity",
        class: "identity",
        right: IDENTITY_WRITE,
        method: "DELETE",
        path,
      } as const;
      return done(await call({ ...request, ifMatch: "*" }, signal));
    },
    getTwin: async (ref, lane, signal) => {
      const operation = "getTwin";
      const request = {
        operation,
        class: "twinRead",
        lane,
        right: TWIN,
        method: "GET",
        path: twinPath(ref),
      } as const;
      const answered = await call(request, signal);
      if (!answered.ok) return answered;
      if (answered.value.kind === "absent") return ok(null);
      const twin = twinOf(answered.value.body, ref);
      return twin === null ? err(faultOfShape(operation, "a twin")) : ok(twin);
    },
    patchTwin,
    listConfigurations: async (lane, signal) => {
      const operation = "listConfigurations";
      const request = {
        operation,
        class: "configuration",
        lane,
        right: CONFIGURATION_READ,
        method: "GET",
        path: "/configurations",
      } as const;
      const answered = await call(request, signal);
      if (!answered.ok) return answered;
      if (answered.value.kind === "absent" || !Array.isArray(answered.value.body))
        return err(faultOfShape(operation, "a list of configurations"));
      const listed = answered.value.body.map(configurationOf);
      const whole = listed.filter((one) => one !== null);
      // One that we cannot read might be one of ours: to go on without it would create it again.
      return whole.length === listed.length
        ? ok(whole)
        : err(faultOfShape(operation, "a list of configurations"));
    },
    createConfiguration: (configuration, lane, signal) =>
      putConfiguration(
        { operation: "createConfiguration", lane, body: configurationBody(configuration) },
        configuration.id,
        signal,
      ),
    updateConfiguration: (had, change, lane, signal) => {
      const body = configurationBody({ ...had, ...change });
      return putConfiguration(
        { operation: "updateConfiguration", lane, ifMatch: had.etag, body },
        had.id,
        signal,
      );
    },
    removeConfiguration: async (had, lane, signal) => {
      const path = configurationPath(had.id);
      const request = {
        operation: "removeConfiguration",
        class: "configuration",
        lane,
        right: CONFIGURATION_WRITE,
      } as const;
      return done(await call({ ...request, method: "DELETE", path, ifMatch: had.etag }, signal));
    },
    testCondition: async (targetCondition, signal) => {
      const operation = "testCondition";
      const request = {
        operation,
        class: "configuration",
        right: CONFIGURATION_READ,
        method: "POST",
      } as const;
      const body = { targetCondition, customMetricQueries: {} };
      const answered = await call({ ...request, path: "/configurations/testQueries", body }, signal);
      if (!answered.ok) return answered.error.kind === "rejected" ? ok(answered.error.message) : answered;
      if (answered.value.kind === "absent" || !isRecord(answered.value.body))
        return err(faultOfShape(operation, "the result of a test"));
      const error = answered.value.body["targetConditionError"];
      return ok(typeof error === "string" && error !== "" ? cleanWords(error) : null);
    },
    queryDevices: (from, signal) =>
      query(
        { operation: "queryDevices", text: DEVICES_QUERY, from, rowOf: (row) => deviceRowOf(row, intern) },
        signal,
      ),
    queryModules: (from, signal) =>
      query(
        { operation: "queryModules", text: MODULES_QUERY, from, rowOf: (row) => moduleRowOf(row, intern) },
        signal,
      ),
    close: () => agent.destroy(),
  };
}

function twinPath(ref: TwinRef): string {
  const device = `/twins/${encodeURIComponent(ref.device)}`;
  return ref.module === null ? device : `${device}/modules/${encodeURIComponent(ref.module)}`;
}

function configurationPath(id: string): string {
  return `/configurations/${encodeURIComponent(id)}`;
}

/** Removing what is not there is done. */
function done(answered: Result<Answer, Fault>): Result<void, Fault> {
  return answered.ok ? ok(undefined) : answered;
}

function goneMeanwhile(operation: string, what: string): Fault {
  return { kind: "conflict", message: `${operation}: ${what} is not on the hub any more` };
}
