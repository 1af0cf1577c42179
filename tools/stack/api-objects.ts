import type { Result } from "../../src/base/result.ts";
import { minutes, seconds } from "../../src/base/time.ts";
import type { KubeFault } from "../../src/kube/transport/call.ts";
import { loadKubeConfig } from "../../src/kube/transport/kubeconfig.ts";
import { createTransport } from "../../src/kube/transport/transport.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { eachLimited } from "../../src/runtime/each-limited.ts";

/** Objects by the thousand: what kubectl does one after the other, side by side on one pool of connections. */
export type ApiObjects = {
  /** Creates all in the collection at `path`; rejects with the first refusal. */
  readonly create: (path: string, objects: readonly object[], signal: AbortSignal) => Promise<void>;
  /** All objects of the collection at `path`, page by page. */
  readonly list: <T>(path: string, signal: AbortSignal) => Promise<readonly T[]>;
  readonly get: <T>(path: string, signal: AbortSignal) => Promise<T>;
  readonly mergePatch: <T>(path: string, patch: object, signal: AbortSignal) => Promise<T>;
  /** Takes the finalizers off the objects of the collection at `path`: for when their controller has gone for good. */
  readonly unbind: (path: string, signal: AbortSignal) => Promise<void>;
  /** Deletes all objects of the collection at `path`, with one request. */
  readonly deleteAll: (path: string, signal: AbortSignal) => Promise<void>;
  /** What a watch says, line by line. */
  readonly watch: (path: string, signal: AbortSignal) => Promise<AsyncIterable<string>>;
  readonly close: () => Promise<void>;
};

const PARALLEL = 16;
const PAGE = 500;
/** The API server answers the deletion of ten thousand objects when the last of them is gone. */
const PATIENCE = minutes(10);

export function createApiObjects(kubeconfig: string): ApiObjects {
  const ignore = () => undefined;
  const meter = { count: ignore, gauge: ignore, observe: ignore };
  const deps = { clock: systemClock(), meter };
  const transport = createTransport(
    loadKubeConfig(kubeconfig, null),
    { timeout: PATIENCE, deadline: PATIENCE },
    deps,
  );

  async function list<T>(path: string, signal: AbortSignal): Promise<readonly T[]> {
    const items: T[] = [];
    let next = "";
    do {
      const query = new URLSearchParams({ limit: String(PAGE), ...(next === "" ? {} : { continue: next }) });
      const page = found(await transport.call({ method: "GET", path: `${path}?${query}` }, signal)) as {
        readonly items: readonly T[];
        readonly metadata: { readonly continue?: string };
      };
      items.push(...page.items);
      next = page.metadata.continue ?? "";
    } while (next !== "");
    return items;
  }

  async function mergePatch<T>(path: string, body: object, signal: AbortSignal): Promise<T> {
    const contentType = "application/merge-patch+json";
    return found(await transport.call({ method: "PATCH", path, body, contentType }, signal)) as T;
  }

  return {
    create: async (path, objects, signal) => {
      await eachLimited(
        objects,
        PARALLEL,
        async (body) => found(await transport.call({ method: "POST", path, body }, signal)),
        signal,
      );
    },
    list,
    get: async <T>(path: string, signal: AbortSignal) =>
      found(await transport.call({ method: "GET", path }, signal)) as T,
    mergePatch,
    unbind: async (path, signal) => {
      const held = (await list<Meta>(path, signal)).filter(
        ({ metadata }) => (metadata.finalizers ?? []).length > 0,
      );
      const free = ({ metadata }: Meta) =>
        mergePatch(`${path}/${metadata.name}`, { metadata: { finalizers: null } }, signal);
      await eachLimited(held, PARALLEL, free, signal);
    },
    deleteAll: async (path, signal) => {
      found(await transport.call({ method: "DELETE", path }, signal));
    },
    watch: async (path, signal) => found(await transport.lines(path, seconds(300), signal)),
    close: transport.close,
  };
}

type Meta = { readonly metadata: { readonly name: string; readonly finalizers?: readonly string[] } };

function found<T>(result: Result<T, KubeFault>): T {
  if (!result.ok) throw new Error(`${result.error.kind}: ${result.error.message}`);
  return result.value;
}
