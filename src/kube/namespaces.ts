import { CLOSED_GRANT, type Grant, type GrantOf, grantOf } from "../api/tenancy.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { createListWatch } from "./informer/list-watch.ts";
import { createReflector, firstProblem } from "./informer/reflector.ts";
import type { Transport } from "./transport/transport.ts";

/** What each namespace was granted, from the annotations of the Namespaces. */
export type Namespaces = {
  /** Nothing for a namespace that is not known. */
  readonly grants: GrantOf;
  /** Called with its name after what a namespace was granted has changed. */
  readonly onChange: (listener: (namespace: string) => void) => void;
  readonly synced: (signal: AbortSignal) => Promise<void>;
  readonly isSynced: () => boolean;
  /** Why the API server does not let it list or watch; `null`: it does. */
  readonly problem: () => string | null;
  readonly isCurrent: () => boolean;
  readonly run: (signal: AbortSignal) => Promise<void>;
};

type CachedNamespace = {
  readonly key: string;
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** Our annotations as text, to compare. */
  readonly ownAnnotations: string;
  readonly grant: Grant;
};

type RawNamespace = {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
};

/**
 * Lists and watches Namespaces; of each, only what our annotations grant is cached.
 * @param names `null`: all. Otherwise each by a list-watch of its own that names it, so that the right to these is enough.
 */
export function createNamespaces(
  transport: Transport,
  names: readonly string[] | null,
  deps: RuntimeDeps,
): Namespaces {
  const reflectors = (names ?? [null]).map((name) => {
    const options = name === null ? {} : { fieldSelector: `metadata.name=${name}` };
    const source = createListWatch(transport, "/api/v1/namespaces", project, deps.random, options);
    return createReflector<CachedNamespace>(source, "namespaces", deps);
  });

  return {
    grants: (namespace) => {
      for (const reflector of reflectors) {
        const found = reflector.get(namespace);
        if (found !== undefined) return found.grant;
      }
      return CLOSED_GRANT;
    },
    onChange: (listener) => {
      for (const reflector of reflectors)
        reflector.onChange((before, after) => {
          if (before?.ownAnnotations === after?.ownAnnotations) return;
          listener((after ?? before)?.key ?? "");
        });
    },
    synced: async (signal) => {
      await Promise.all(reflectors.map((reflector) => reflector.synced(signal)));
    },
    isSynced: () => reflectors.every((reflector) => reflector.isSynced()),
    problem: () => firstProblem(reflectors),
    isCurrent: () => reflectors.every((reflector) => reflector.isCurrent()),
    run: async (signal) => {
      await Promise.all(reflectors.map((reflector) => reflector.run(signal)));
    },
  };
}

function project(raw: unknown): CachedNamespace {
  const { name, uid, resourceVersion, annotations = {} } = (raw as RawNamespace).metadata;
  const ours = Object.entries(annotations)
    .filter(([key]) => key.startsWith("edgefleet.dev/"))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    ...{ key: name, namespace: "", uid, resourceVersion },
    ownAnnotations: JSON.stringify(ours),
    grant: grantOf(Object.fromEntries(ours)),
  };
}
