import type { IncomingHttpHeaders } from "node:http";
import type { Fault } from "../base/fault.ts";
import { isRecord } from "../base/guards.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { Answer, Call } from "./azure-wire.ts";
import { cleanMessage, faultOfShape } from "./faults.ts";
import type {
  Configuration,
  DeviceHub,
  Identity,
  Json,
  Lane,
  NewConfiguration,
  Page,
  Twin,
  TwinPatch,
  TwinRef,
} from "./hub.ts";
import {
  configurationBody,
  configurationOf,
  DEVICES_QUERY,
  identityOf,
  MODULES_QUERY,
  newIdentityBody,
  twinOf,
} from "./wire.ts";

// The operations of the hub's service API that we use. None is retried here: the work queue is the retry policy.

const IDENTITY_READ = "RegistryRead, or the role IoT Hub Registry Contributor";
const IDENTITY_WRITE = "RegistryWrite, or the role IoT Hub Registry Contributor";
const TWIN = "ServiceConnect, or the role IoT Hub Twin Contributor";
const CONFIGURATION_READ = "ServiceConnect, or the role IoT Hub Data Contributor";
const CONFIGURATION_WRITE = "RegistryWrite and ServiceConnect, or the role IoT Hub Data Contributor";

/** How an operation is requested, and how its answer is read. `Input` is what the caller gives. */
export type Operation<Input, Output> = Pick<Call, "class" | "right" | "method"> & {
  readonly name: string;
  readonly path: (input: Input) => string;
  readonly headers?: (input: Input) => Readonly<Record<string, string>>;
  readonly ifMatch?: (input: Input) => string;
  readonly body?: (input: Input) => Json;
  /** `null`: the answer is not `expected`. */
  readonly parse: (body: unknown, input: Input, headers: IncomingHttpHeaders) => Output | null;
  readonly expected: string;
  /**
   * What a 404 of the hub means: `is`: this is the output; `gone`: what the caller has read was removed since (a conflict);
   * unexpected: the hub never answers this operation so, and something else answered in its place.
   */
  readonly absent: { readonly is: Output } | { readonly gone: string } | "unexpected";
};

export function callOf<Input>(operation: Operation<Input, unknown>, input: Input, lane: Lane): Call {
  const { name, class: operationClass, right, method, path, headers, ifMatch, body } = operation;
  return {
    operation: name,
    class: operationClass,
    lane,
    right,
    method,
    path: path(input),
    ...(headers === undefined ? {} : { headers: headers(input) }),
    ...(ifMatch === undefined ? {} : { ifMatch: ifMatch(input) }),
    ...(body === undefined ? {} : { body: body(input) }),
  };
}

export function outputOf<Input, Output>(
  operation: Operation<Input, Output>,
  input: Input,
  answered: Result<Answer, Fault>,
): Result<Output, Fault> {
  const { name, absent, parse, expected } = operation;
  if (!answered.ok) return answered;
  const answer = answered.value;
  if (answer.kind === "absent") {
    if (absent === "unexpected") return err(faultOfShape(name, expected));
    return "is" in absent ? ok(absent.is) : err(goneMeanwhile(name, absent.gone));
  }
  const output = parse(answer.body, input, answer.headers);
  return output === null ? err(faultOfShape(name, expected)) : ok(output);
}

export function goneMeanwhile(operation: string, what: string): Fault {
  return { kind: "conflict", message: `${operation}: ${what} no longer exists on the hub` };
}

// ── identities ──

/** The identity as the hub answers it: a write must return every field of it. */
export function readIdentity(name: "getIdentity" | "getKeys" | "setEnabled"): Operation<string, Json | null> {
  return {
    name,
    class: "identity",
    right: IDENTITY_READ,
    method: "GET",
    path: devicePath,
    parse: (body, device) => (isRecord(body) && identityOf(body, device) !== null ? body : null),
    expected: "a device identity",
    absent: { is: null },
  };
}

/** That the credential may not read keys, although the identity has some. */
export function keysDenied(operation: string): Fault {
  return {
    kind: "denied",
    message: `${operation}: the credential may not read the keys of the identity, and a write without them would replace them; it needs ${IDENTITY_READ}`,
  };
}

const identityWrite = {
  class: "identity",
  right: IDENTITY_WRITE,
  method: "PUT",
  expected: "a device identity",
  absent: { gone: "the identity" },
} as const;

export const createIdentity: Operation<Parameters<DeviceHub["createIdentity"]>[0], Identity> = {
  ...identityWrite,
  name: "createIdentity",
  path: ({ device }) => devicePath(device),
  body: newIdentityBody,
  parse: (body, { device }) => identityOf(body, device),
};

/** Replaces all of the identity. */
export const replaceIdentity: Operation<
  { readonly device: string; readonly etag: string; readonly body: Json },
  Identity
> = {
  ...identityWrite,
  name: "setEnabled",
  path: ({ device }) => devicePath(device),
  ifMatch: ({ etag }) => etag,
  body: ({ body }) => body,
  parse: (body, { device }) => identityOf(body, device),
};

/** Removing what is not there is done. */
const removal = {
  method: "DELETE",
  parse: () => undefined,
  expected: "an empty answer",
  absent: { is: undefined },
} as const;

export const removeIdentity: Operation<string, void> = {
  ...removal,
  name: "removeIdentity",
  class: "identity",
  right: IDENTITY_WRITE,
  path: devicePath,
  ifMatch: () => "*",
};

// ── twins ──

export const getTwin: Operation<TwinRef, Twin | null> = {
  name: "getTwin",
  class: "twinRead",
  right: TWIN,
  method: "GET",
  path: twinPath,
  parse: twinOf,
  expected: "a twin",
  absent: { is: null },
};

export const patchTwin: Operation<
  { readonly ref: TwinRef & { readonly etag: string }; readonly patch: TwinPatch },
  Twin
> = {
  name: "patchTwin",
  class: "twinWrite",
  right: TWIN,
  method: "PATCH",
  path: ({ ref }) => twinPath(ref),
  ifMatch: ({ ref }) => ref.etag,
  body: ({ patch: { tags, desired } }) => ({
    ...(tags === undefined ? {} : { tags }),
    ...(desired === undefined ? {} : { properties: { desired } }),
  }),
  parse: (body, { ref }) => twinOf(body, ref),
  expected: "a twin",
  absent: { gone: "the twin" },
};

// ── configurations ──

export const listConfigurations: Operation<null, readonly Configuration[]> = {
  name: "listConfigurations",
  class: "configuration",
  right: CONFIGURATION_READ,
  method: "GET",
  path: () => "/configurations",
  parse: (body) => {
    if (!Array.isArray(body)) return null;
    const whole = body.map(configurationOf).filter((one) => one !== null);
    // One that we cannot read might be one of ours: without it, it would be created again.
    return whole.length === body.length ? whole : null;
  },
  expected: "a list of configurations",
  absent: "unexpected",
};

export const createConfiguration = writeConfiguration("createConfiguration");
export const updateConfiguration: Operation<Configuration, Configuration> = {
  ...writeConfiguration("updateConfiguration"),
  ifMatch: ({ etag }) => etag,
};

function writeConfiguration(
  name: string,
): Operation<NewConfiguration & { readonly etag?: string }, Configuration> {
  return {
    name,
    class: "configuration",
    right: CONFIGURATION_WRITE,
    method: "PUT",
    path: ({ id }) => configurationPath(id),
    body: configurationBody,
    parse: (body, { id }) => {
      const written = configurationOf(body);
      return written?.id === id ? written : null;
    },
    expected: "a configuration",
    absent: { gone: "the configuration" },
  };
}

export const removeConfiguration: Operation<Pick<Configuration, "id" | "etag">, void> = {
  ...removal,
  name: "removeConfiguration",
  class: "configuration",
  right: CONFIGURATION_WRITE,
  path: ({ id }) => configurationPath(id),
  ifMatch: ({ etag }) => etag,
};

/** `message`: what the hub objects to; `null`: nothing. */
export const testCondition: Operation<string, { readonly message: string | null }> = {
  name: "testCondition",
  class: "configuration",
  right: CONFIGURATION_READ,
  method: "POST",
  path: () => "/configurations/testQueries",
  body: (targetCondition) => ({ targetCondition, customMetricQueries: {} }),
  parse: (body) => {
    if (!isRecord(body)) return null;
    const error = body["targetConditionError"];
    return { message: typeof error === "string" && error !== "" ? cleanMessage(error) : null };
  },
  expected: "the result of a test",
  absent: "unexpected",
};

// ── queries ──

/** `from`: where the page before ended, `null` for the first page. */
export type PageInput = { readonly from: string | null; readonly size: number };

export const queryDevices = query("queryDevices", DEVICES_QUERY);
export const queryModules = query("queryModules", MODULES_QUERY);

function query(name: string, text: string): Operation<PageInput, Page<unknown>> {
  return {
    name,
    class: "query",
    right: TWIN,
    method: "POST",
    path: () => "/devices/query",
    headers: ({ from, size }) => ({
      "x-ms-max-item-count": String(size),
      ...(from === null ? {} : { "x-ms-continuation": from }),
    }),
    body: () => ({ query: text }),
    parse: (body, _input, headers) => {
      if (!Array.isArray(body)) return null;
      const next = headers["x-ms-continuation"];
      return { rows: body, next: typeof next === "string" && next !== "" ? next : null };
    },
    expected: "a page of rows",
    absent: "unexpected",
  };
}

function devicePath(device: string): string {
  return `/devices/${encodeURIComponent(device)}`;
}

function twinPath(ref: TwinRef): string {
  const device = `/twins/${encodeURIComponent(ref.device)}`;
  return ref.module === null ? device : `${device}/modules/${encodeURIComponent(ref.module)}`;
}

function configurationPath(id: string): string {
  return `/configurations/${encodeURIComponent(id)}`;
}
