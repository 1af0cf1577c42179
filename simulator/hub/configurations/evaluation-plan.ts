import { isObject, type JsonObject, NOTHING, ownValue, setKey } from "../../base/json.ts";
import type { ConfigurationStatus } from "../twins/twin.ts";
import type { Configuration, Setting } from "./configuration.ts";

/** One value that won, and the configuration it is from. */
export type Owned = Setting & { readonly owner: string };

/** What a set of configurations makes of one twin. */
export type Plan = {
  /** The whole of the desired properties, where a configuration gives them; `null` where only paths are set. */
  readonly whole: JsonObject | null;
  /** Set after `whole`, in this order. No path lies within a later one. */
  readonly paths: readonly Owned[];
  readonly status: Readonly<Record<string, ConfigurationStatus>>;
};

/** Plans of the module twins of an edge device, and whether a base deployment owns them. */
export type EdgePlan = {
  readonly owned: boolean;
  readonly modules: Readonly<Record<string, Plan>>;
};

export type EqualPriorityLayers = "newestOnly" | "perPath";

export const NO_PLAN: Plan = { whole: null, paths: [], status: {} };

/** Highest priority first; of two equal ones the younger. */
export function byRank(a: Configuration, b: Configuration): number {
  return b.priority - a.priority || b.order - a.order;
}

/**
 * Device or module configurations of one twin, highest rank first: all apply, and conflicts are settled path by path.
 * One that wins no path stays Targeted.
 */
export function planPaths(ranked: readonly Configuration[]): Plan {
  if (ranked.length === 0) return NO_PLAN;
  const built = fold(ranked.toReversed().map((one) => ({ owner: one.id, settings: one.settings[""] ?? [] })));
  const winners = new Set(built.paths.map((path) => path.owner));
  const status: Record<string, ConfigurationStatus> = {};
  for (const { id, settings } of ranked)
    setKey(
      status,
      id,
      winners.has(id) || (settings[""] ?? []).length === 0 || built.wholeOwner === id
        ? "Applied"
        : "Targeted",
    );
  return { whole: null, paths: built.wholeAsPaths, status };
}

/**
 * Edge deployments that match one device, highest rank first. The first standard one is the base; layers above its
 * priority go on top of it in order of rank. A layer at or below the base's priority, or without any base, does nothing.
 */
export function planEdge(ranked: readonly Configuration[], equal: EqualPriorityLayers): EdgePlan {
  const base = ranked.find((one) => one.kind === "standard");
  const layers = base === undefined ? [] : layersAbove(ranked, base, equal);
  const applied = base === undefined ? [] : [base, ...layers.toReversed()];
  const modules: Record<string, Plan> = {};
  const names = new Set(applied.flatMap((one) => Object.keys(one.settings)));
  for (const name of [...names, "$edgeAgent"]) {
    const setters = applied.filter((one) => (ownValue(one.settings, name) ?? []).length > 0);
    const built = fold(
      setters.map((one) => ({ owner: one.id, settings: ownValue(one.settings, name) ?? [] })),
    );
    const status: Record<string, ConfigurationStatus> = {};
    // A layer that says nothing about the agent stays Targeted there, and so is never counted as applied.
    if (name === "$edgeAgent") for (const one of ranked) setKey(status, one.id, "Targeted");
    for (const one of setters) setKey(status, one.id, "Applied");
    setKey(modules, name, { whole: built.whole, paths: built.paths, status });
  }
  return { owned: base !== undefined, modules };
}

function layersAbove(
  ranked: readonly Configuration[],
  base: Configuration,
  equal: EqualPriorityLayers,
): readonly Configuration[] {
  const layers = ranked.filter((one) => one.kind === "layered" && one.priority > base.priority);
  if (equal === "perPath") return layers;
  return layers.filter((one, index) => layers[index - 1]?.priority !== one.priority);
}

type Contribution = { readonly owner: string; readonly settings: readonly Setting[] };

/** Later contributions win: a path replaces what was set at it or below it, the empty path replaces everything. */
function fold(contributions: readonly Contribution[]) {
  let whole: JsonObject | null = null;
  let wholeOwner: string | null = null;
  let paths: Owned[] = [];
  let wholeAsPaths: Owned[] = [];
  for (const { owner, settings } of contributions) {
    for (const { path, value } of settings) {
      if (path.length === 0) {
        whole = isObject(value) ? value : NOTHING;
        wholeOwner = owner;
        paths = [];
        wholeAsPaths = Object.entries(whole).map(([key, inner]) => ({ path: [key], value: inner, owner }));
        continue;
      }
      const owned = { path, value, owner };
      paths = [...paths.filter((had) => !isWithin(had.path, path)), owned];
      wholeAsPaths = [...wholeAsPaths.filter((had) => !isWithin(had.path, path)), owned];
    }
  }
  return { whole, wholeOwner, paths, wholeAsPaths };
}

export function isWithin(inner: readonly string[], outer: readonly string[]): boolean {
  return outer.length <= inner.length && outer.every((step, index) => inner[index] === step);
}

/** Devices get one of few sets of configurations, and each set is planned once. */
export function createPlanCache(equalPriorityLayers: EqualPriorityLayers) {
  const edgePlans = new Map<string, EdgePlan>();
  const pathPlans = new Map<string, Plan>();
  const keyOf = (matching: readonly Configuration[]) => matching.map((one) => one.id).join(" ");
  return {
    clear: () => {
      edgePlans.clear();
      pathPlans.clear();
    },
    paths: (matching: readonly Configuration[]): Plan => {
      if (matching.length === 0) return NO_PLAN;
      const key = keyOf(matching);
      const plan = pathPlans.get(key) ?? planPaths(matching);
      pathPlans.set(key, plan);
      return plan;
    },
    edge: (matching: readonly Configuration[]): EdgePlan => {
      const key = keyOf(matching);
      const plan = edgePlans.get(key) ?? planEdge(matching, equalPriorityLayers);
      edgePlans.set(key, plan);
      return plan;
    },
  };
}
