import type { Operation } from "fast-json-patch";
import jsonpatch from "fast-json-patch";
import { FINALIZER, GROUP, objectKey, type Resource, splitKey, VERSION } from "../api/resource.ts";
import { UNOBSERVED } from "../api/schema.ts";
import type { Fault } from "../base/fault.ts";
import { isRecord } from "../base/guards.ts";
import { createIntern, type Intern } from "../base/intern.ts";
import { own, setOwn } from "../base/lookup.ts";
import { err, ok, type Result } from "../base/result.ts";
import { instant, parseTimestamp } from "../base/time.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { createListWatch, type ListWatchOptions } from "./informer/list-watch.ts";
import { createReflector, firstProblem, type Reflector } from "./informer/reflector.ts";
import type { Resources } from "./kube.ts";
import { FIELD_MANAGER, JSON_PATCH, type KubeFault } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

export type ResourcesOptions = ListWatchOptions & {
  /** As in the URL: `edgedevices`. */
  readonly plural: string;
  /** `null`: all namespaces. Otherwise only these are listed and watched, each on its own. */
  readonly namespaces: readonly string[] | null;
};

/** The port, and what runs its cache. */
export type CachedResources<Spec, Status> = Resources<Spec, Status> & {
  /** Called after the cache has changed, by a watch or by a write of ours. */
  readonly onChange: (
    listener: (before: Resource<Spec, Status> | undefined, after: Resource<Spec, Status> | undefined) => void,
  ) => void;
  readonly synced: (signal: AbortSignal) => Promise<void>;
  readonly isSynced: () => boolean;
  /** Why the API server does not let it list or watch; `null`: it does. */
  readonly problem: () => string | null;
  readonly isCurrent: () => boolean;
  readonly run: (signal: AbortSignal) => Promise<void>;
};

/** One kind of ours on the API server: cached reads, optimistic writes that the cache shows at once. */
export function createResources<Spec, Status>(
  transport: Transport,
  options: ResourcesOptions,
  deps: RuntimeDeps,
): CachedResources<Spec, Status> {
  type Object = Resource<Spec, Status>;
  const { plural, namespaces } = options;
  const project = createProjection<Spec, Status>();
  // "" is the reflector of all namespaces.
  const reflectors = new Map<string, Reflector<Object>>(
    (namespaces ?? [""]).map((namespace) => {
      const source = createListWatch(transport, listPath(namespace), project, deps.random, options);
      return [namespace, createReflector(source, plural, deps)];
    }),
  );
  const reflectorOf = (namespace: string) => reflectors.get(namespaces === null ? "" : namespace);

  function listPath(namespace: string): string {
    const scope = namespace === "" ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
    return `/apis/${GROUP}/${VERSION}${scope}/${plural}`;
  }

  async function patch(
    had: Object,
    subresource: "" | "/status",
    operations: readonly Operation[],
    signal: AbortSignal,
  ): Promise<Result<Object, KubeFault>> {
    const path = `${listPath(had.namespace)}/${encodeURIComponent(had.name)}${subresource}?fieldManager=${FIELD_MANAGER}`;
    const body = [
      { op: "test", path: "/metadata/resourceVersion", value: had.resourceVersion },
      ...operations,
    ];
    const answer = await transport.call({ method: "PATCH", path, body, contentType: JSON_PATCH }, signal);
    if (!answer.ok) return answer;
    const object = project(answer.value);
    reflectorOf(object.namespace)?.remember(object);
    return ok(object);
  }

  return {
    get: (key) => reflectorOf(splitKey(key).namespace)?.get(key),
    list: (namespace) => {
      if (namespaces === null) return reflectors.get("")?.list(namespace) ?? [];
      if (namespace !== undefined) return reflectors.get(namespace)?.list() ?? [];
      return [...reflectors.values()].flatMap((reflector) => reflector.list());
    },
    onChange: (listener) => {
      for (const reflector of reflectors.values()) reflector.onChange(listener);
    },
    synced: async (signal) => {
      await Promise.all([...reflectors.values()].map((reflector) => reflector.synced(signal)));
    },
    isSynced: () => [...reflectors.values()].every((reflector) => reflector.isSynced()),
    problem: () => firstProblem([...reflectors.values()]),
    isCurrent: () => [...reflectors.values()].every((reflector) => reflector.isCurrent()),
    run: async (signal) => {
      await Promise.all([...reflectors.values()].map((reflector) => reflector.run(signal)));
    },
    writeStatus: async (had, next, signal) => {
      const operations = statusPatch(had.status, next);
      return operations.length === 0 ? ok(had) : written(await patch(had, "/status", operations, signal));
    },
    setFinalizer: async (had, on, signal) => {
      const operations = finalizerPatch(had.finalizers, on);
      if (operations.length === 0) return ok(had);
      const patched = await patch(had, "", operations, signal);
      // The cache may lag behind the deletion: the object is gone, which is what was wanted.
      if (on === "remove" && !patched.ok && patched.error.kind === "missing") return ok(had);
      return written(patched);
    },
  };
}

/** The operations that turn `had` into `next`; none when they are equal, whatever the order of their keys. */
export function statusPatch(had: unknown, next: unknown): readonly Operation[] {
  const plain = withoutUndefined(next) as object;
  if (had === null) return [{ op: "add", path: "/status", value: plain }];
  return jsonpatch
    .compare(had as object, plain)
    .map((operation) => ({ ...operation, path: `/status${operation.path}` }));
}

/** As JSON would write it: a key without a value is no key. */
function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUndefined);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return Object.fromEntries(entries.map(([key, inner]) => [key, withoutUndefined(inner)]));
}

export function finalizerPatch(finalizers: readonly string[], on: "add" | "remove"): readonly Operation[] {
  const index = finalizers.indexOf(FINALIZER);
  if (on === "remove") return index < 0 ? [] : [{ op: "remove", path: `/metadata/finalizers/${index}` }];
  if (index >= 0) return [];
  if (finalizers.length === 0) return [{ op: "add", path: "/metadata/finalizers", value: [FINALIZER] }];
  return [{ op: "add", path: "/metadata/finalizers/-", value: FINALIZER }];
}

function written<T>(result: Result<T, KubeFault>): Result<T, Fault> {
  return result.ok ? result : err(writeFaultOf(result.error));
}

/** A write is based on what was read: an object that is gone was changed since. */
function writeFaultOf(fault: KubeFault): Fault {
  if (fault.kind === "missing")
    return { kind: "conflict", message: `${fault.message} (it was deleted since it was read)` };
  if (fault.kind === "expired") return { kind: "unavailable", message: fault.message };
  return fault;
}

type RawObject = {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly generation?: number;
    readonly creationTimestamp?: string;
    readonly resourceVersion: string;
    readonly deletionTimestamp?: string;
    readonly finalizers?: readonly string[];
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: unknown;
  readonly status?: unknown;
};

const NOTHING: Readonly<Record<string, string>> = Object.freeze({});
const NO_FINALIZERS: readonly string[] = Object.freeze([]);
const OUR_FINALIZER: readonly string[] = Object.freeze([FINALIZER]);

/**
 * What is cached of an object: no managedFields, no annotations of others, and equal strings of all
 * objects only once. `raw` is not to be used afterwards. The API server has checked spec and status against the schema.
 */
export function createProjection<Spec, Status>(): (raw: unknown) => Resource<Spec, Status> {
  const shared = createIntern();
  return (raw) => {
    const { metadata, spec, status } = raw as RawObject;
    const namespace = shared(metadata.namespace ?? "");
    return {
      key: objectKey(namespace, metadata.name),
      namespace,
      name: metadata.name,
      uid: metadata.uid,
      generation: metadata.generation ?? 0,
      createdAt: parseTimestamp(metadata.creationTimestamp ?? "") ?? instant(0),
      resourceVersion: metadata.resourceVersion,
      deleting: metadata.deletionTimestamp !== undefined,
      finalizers: finalizersOf(metadata.finalizers),
      labels: mapOf(metadata.labels, shared, () => true),
      annotations: mapOf(metadata.annotations, shared, (name) => name.startsWith(`${GROUP}/`)),
      spec: sharedTree(spec, shared) as Spec,
      status: isUnobserved(status) ? null : (sharedTree(status, shared) as Status),
    };
  };
}

/** The API server fills in what a status says before there is one. */
function isUnobserved(status: unknown): boolean {
  if (!isRecord(status)) return true;
  return status["observedGeneration"] === UNOBSERVED && Object.keys(status).length === 1;
}

function finalizersOf(finalizers: readonly string[] | undefined): readonly string[] {
  if (finalizers === undefined || finalizers.length === 0) return NO_FINALIZERS;
  return finalizers.length === 1 && finalizers[0] === FINALIZER ? OUR_FINALIZER : finalizers;
}

function mapOf(
  map: Readonly<Record<string, string>> | undefined,
  shared: Intern,
  keeps: (name: string) => boolean,
): Readonly<Record<string, string>> {
  const entries = Object.entries(map ?? NOTHING).filter(([name]) => keeps(name));
  return entries.length === 0
    ? NOTHING
    : Object.fromEntries(entries.map(([name, value]) => [name, shared(value)]));
}

/** Shares all strings of a tree that was just parsed and has no other reader: it is changed in place. */
function sharedTree(value: unknown, shared: Intern): unknown {
  if (typeof value === "string") return shared(value);
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index += 1) value[index] = sharedTree(value[index], shared);
  } else if (value !== null && typeof value === "object") {
    const tree = value as Record<string, unknown>;
    for (const key in tree) {
      const inner = own(tree, key);
      // Numbers and booleans, the most of them, need no write.
      if (typeof inner === "string") setOwn(tree, key, shared(inner));
      else if (typeof inner === "object") sharedTree(inner, shared);
    }
  }
  return value;
}
