import type { Attempt, Fault } from "../base/fault.ts";
import { createIntern } from "../base/intern.ts";
import { err, ok, type Result } from "../base/result.ts";
import { createHubAgent, type Endpoint } from "./azure-agent.ts";
import * as operations from "./azure-operations.ts";
import { callOf, goneMeanwhile, keysDenied, type Operation, outputOf } from "./azure-operations.ts";
import { type AzureWireOptions, createCaller, openWire } from "./azure-wire.ts";
import type { DeviceHub, Identity, Lane, Page } from "./hub.ts";
import { deviceRowOf, identityOf, keysOf, moduleRowOf } from "./wire.ts";

export type AzureHubOptions = AzureWireOptions & {
  /** Where to dial instead of the hub's name; `null`: the hub. */
  readonly endpoint: Endpoint | null;
  /** Rows that a page of a query may have; the hub may send fewer. */
  readonly pageSize?: number;
};

type Run = <Input, Output>(
  operation: Operation<Input, Output>,
  input: Input,
  lane: Lane,
  signal: AbortSignal,
) => Attempt<Output>;

/** Throws for a connection string that lacks a part; it never says what the string holds. */
export function createAzureHub(options: AzureHubOptions): DeviceHub & { readonly close: () => void } {
  const { log, pageSize: size = 1000 } = options;
  const agent = createHubAgent(options.endpoint);
  const { host, send } = openWire(options, agent);
  const call = createCaller(options, send);
  const intern = createIntern();

  const run: Run = async (operation, input, lane, signal) =>
    outputOf(operation, input, await call(callOf(operation, input, lane), signal));

  function rowsOf<Row>(
    { name }: { readonly name: string },
    page: Result<Page<unknown>, Fault>,
    rowOf: (row: unknown) => Row | null,
  ): Result<Page<Row>, Fault> {
    if (!page.ok) return page;
    const all = page.value.rows;
    const rows = all.map(rowOf).filter((row) => row !== null);
    if (rows.length < all.length)
      log.warn("left out malformed rows of a query", { operation: name, rows: all.length - rows.length });
    return ok({ rows, next: page.value.next });
  }

  return {
    host,
    getIdentity: async (device, signal) => {
      const read = await run(operations.readIdentity("getIdentity"), device, "normal", signal);
      return read.ok ? ok(identityOf(read.value, device)) : read;
    },
    getKeys: async (device, signal) => {
      const read = await run(operations.readIdentity("getKeys"), device, "normal", signal);
      return read.ok ? ok(keysOf(read.value)) : read;
    },
    createIdentity: (identity, signal) => run(operations.createIdentity, identity, "normal", signal),
    setEnabled: (device, enabled, signal) => setEnabled(run, device, enabled, signal),
    removeIdentity: (device, signal) => run(operations.removeIdentity, device, "normal", signal),
    getTwin: (ref, lane, signal) => run(operations.getTwin, ref, lane, signal),
    patchTwin: (ref, patch, lane, signal) => run(operations.patchTwin, { ref, patch }, lane, signal),
    listConfigurations: (lane, signal) => run(operations.listConfigurations, null, lane, signal),
    createConfiguration: (configuration, lane, signal) =>
      run(operations.createConfiguration, configuration, lane, signal),
    updateConfiguration: (had, change, lane, signal) =>
      run(operations.updateConfiguration, { ...had, ...change }, lane, signal),
    removeConfiguration: (had, lane, signal) => run(operations.removeConfiguration, had, lane, signal),
    testCondition: async (targetCondition, signal) => {
      const tested = await run(operations.testCondition, targetCondition, "normal", signal);
      if (tested.ok) return ok(tested.value.message);
      return tested.error.kind === "rejected" ? ok(tested.error.message) : tested;
    },
    queryDevices: async (from, signal) => {
      const page = await run(operations.queryDevices, { from, size }, "normal", signal);
      return rowsOf(operations.queryDevices, page, (row) => deviceRowOf(row, intern));
    },
    queryModules: async (from, signal) => {
      const page = await run(operations.queryModules, { from, size }, "normal", signal);
      return rowsOf(operations.queryModules, page, (row) => moduleRowOf(row, intern));
    },
    close: () => agent.destroy(),
  };
}

async function setEnabled(
  run: Run,
  device: string,
  enabled: boolean,
  signal: AbortSignal,
): Attempt<Identity> {
  const operation = "setEnabled";
  const read = await run(operations.readIdentity(operation), device, "normal", signal);
  if (!read.ok) return read;
  const had = identityOf(read.value, device);
  if (had === null) return err(goneMeanwhile(operation, "the identity"));
  if (had.enabled === enabled) return ok(had);
  // The write replaces all of the identity, and empty keys in it mean "make new ones": every device would be locked out.
  if (had.authentication === "sas" && keysOf(read.value) === null) return err(keysDenied(operation));
  const body = { ...read.value, status: enabled ? "enabled" : "disabled" };
  return await run(operations.replaceIdentity, { device, etag: had.etag, body }, "normal", signal);
}
