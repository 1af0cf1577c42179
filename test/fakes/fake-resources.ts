import { FINALIZER, type ObjectKey, objectKey, type Resource } from "../../src/api/resource.ts";
import { canonicalJson } from "../../src/base/digest.ts";
import type { Fault } from "../../src/base/fault.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import { type Instant, instant } from "../../src/base/time.ts";
import type { Resources } from "../../src/kube/kube.ts";
import { type Calls, createCalls } from "./calls.ts";

/** What a test says of an object; the rest is filled in. */
export type Draft<Spec, Status> = {
  readonly namespace?: string;
  readonly name: string;
  readonly spec: Spec;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly createdAt?: Instant;
  readonly status?: Status;
};

export type FakeResources<Spec, Status> = Resources<Spec, Status> & {
  /** As `kubectl create`. */
  readonly create: (draft: Draft<Spec, Status>) => Resource<Spec, Status>;
  /** As `kubectl edit`: a changed spec is a new generation. */
  readonly edit: (
    key: ObjectKey,
    change: Partial<Pick<Resource<Spec, Status>, "spec" | "labels" | "annotations">>,
  ) => Resource<Spec, Status>;
  /** Another writer's status. */
  readonly setStatus: (key: ObjectKey, status: Status | null) => Resource<Spec, Status>;
  readonly onChange: (
    listener: (before: Resource<Spec, Status> | undefined, after: Resource<Spec, Status> | undefined) => void,
  ) => void;
  /** As `kubectl delete`: gone at once, or once the last finalizer is off. */
  readonly remove: (key: ObjectKey) => void;
};

/** One kind of objects in memory, with optimistic versions, generations and finalizers as the API server has them. */
export function createFakeResources<Spec, Status>(
  kind: string,
  calls: Calls = createCalls(),
): FakeResources<Spec, Status> {
  type Object = Resource<Spec, Status>;
  const objects = new Map<ObjectKey, Object>();
  const listeners: ((before: Object | undefined, after: Object | undefined) => void)[] = [];
  let version = 0;

  function store(object: Object): Object {
    version += 1;
    const stored = { ...object, resourceVersion: String(version) };
    const before = objects.get(stored.key);
    const isGone = stored.deleting && stored.finalizers.length === 0;
    if (isGone) objects.delete(stored.key);
    else objects.set(stored.key, stored);
    for (const listener of listeners) listener(before, isGone ? undefined : stored);
    return stored;
  }

  function current(key: ObjectKey): Object {
    const object = objects.get(key);
    if (object === undefined) throw new Error(`no ${kind} ${key}`);
    return object;
  }

  function guarded(had: Object, change: (object: Object) => Object): Result<Object, Fault> {
    const object = objects.get(had.key);
    if (object === undefined || object.resourceVersion !== had.resourceVersion)
      return err({ kind: "conflict", message: `${kind} ${had.key} was changed meanwhile` });
    const next = change(object);
    return ok(canonicalJson(next) === canonicalJson(object) ? object : store(next));
  }

  return {
    get: (key) => objects.get(key),
    onChange: (listener) => void listeners.push(listener),
    list: (namespace) =>
      [...objects.values()].filter((object) => namespace === undefined || object.namespace === namespace),
    writeStatus: (had, status) =>
      calls.run(`${kind}.writeStatus`, () => guarded(had, (o) => ({ ...o, status }))),
    setFinalizer: (had, on) =>
      calls.run(`${kind}.setFinalizer`, () =>
        guarded(had, (object) => {
          const others = object.finalizers.filter((name) => name !== FINALIZER);
          return { ...object, finalizers: on === "add" ? [...others, FINALIZER] : others };
        }),
      ),
    create: ({
      namespace = "plant-a",
      name,
      spec,
      labels = {},
      annotations = {},
      finalizers = [],
      createdAt = instant(0),
      status,
    }) => {
      const key = objectKey(namespace, name);
      return store({
        key,
        namespace,
        name,
        uid: `uid-of-${key}`,
        generation: 1,
        createdAt,
        resourceVersion: "",
        deleting: false,
        finalizers,
        labels,
        annotations,
        spec,
        status: status ?? null,
      });
    },
    edit: (key, change) => {
      const object = current(key);
      const changed = change.spec !== undefined && canonicalJson(change.spec) !== canonicalJson(object.spec);
      return store({ ...object, ...change, generation: object.generation + (changed ? 1 : 0) });
    },
    setStatus: (key, status) => store({ ...current(key), status }),
    remove: (key) => {
      const object = current(key);
      store({ ...object, deleting: true, generation: object.generation + 1 });
    },
  };
}
