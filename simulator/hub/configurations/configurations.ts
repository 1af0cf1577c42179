import type { JsonObject } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import { createListeners, type PersistedRecords } from "../persistence.ts";
import { checkEtag, type IfMatch } from "../preconditions.ts";
import { UNDOCUMENTED_DEFAULTS } from "../undocumented.ts";
import {
  type Configuration,
  configurationDocument,
  configurationEtag,
  type MetricResults,
} from "./configuration.ts";
import { parseConfiguration, type Rules } from "./configuration-body.ts";

export type Configurations = {
  readonly get: (id: string) => Configuration | undefined;
  readonly list: () => readonly Configuration[];
  readonly put: (id: string, body: JsonObject, ifMatch: IfMatch) => Answer<Configuration>;
  readonly remove: (id: string, ifMatch: IfMatch) => Answer<void>;
  /** As of the last evaluation; `undefined` before the first. */
  readonly resultsOf: (id: string) => MetricResults | undefined;
  readonly setResults: (id: string, results: MetricResults) => void;
  readonly document: (configuration: Configuration) => JsonObject;
  readonly onChange: (listener: () => void) => void;
  readonly persisted: PersistedRecords;
};

const ID_PATTERN = /^[a-z0-9\-+%_*!']{1,128}$/;

/** What was accepted once is not refused when it comes back from a state. */
const LENIENT: Rules = {
  undocumented: { ...UNDOCUMENTED_DEFAULTS, "condition-functions": "accepted", "query-order": "accepted" },
  maximumLabels: null,
};

/** The table of configurations: operations of a few lines each. */
export function createConfigurations(
  options: Rules & {
    readonly now: () => number;
    /** 100 on paid hubs, 10 on free ones. */
    readonly maximum: number;
  },
): Configurations {
  const configurations = new Map<string, Configuration>();
  const results = new Map<string, MetricResults>();
  const listeners: (() => void)[] = [];
  const changes = createListeners();
  let order = 0;

  const changed = (id: string) => {
    changes.notify(id);
    for (const listener of listeners) listener();
  };

  function put(id: string, body: JsonObject, ifMatch: IfMatch): Answer<Configuration> {
    const before = configurations.get(id);
    const allowed = checkPut(
      { id, body, before, ifMatch },
      configurations.size >= options.maximum ? options.maximum : null,
    );
    if (!allowed.ok) return allowed;
    const parsed = parseConfiguration(body, before, options);
    if (!parsed.ok) return parsed;
    const now = new Date(options.now()).toISOString();
    const after: Configuration = {
      ...parsed.value,
      id,
      counter: (before?.counter ?? 0) + 1,
      order: before?.order ?? order++,
      createdTimeUtc: before?.createdTimeUtc ?? now,
      lastUpdatedTimeUtc: now,
    };
    configurations.set(id, after);
    changed(id);
    return ok(after);
  }

  function remove(id: string, ifMatch: IfMatch): Answer<void> {
    const configuration = configurations.get(id);
    if (configuration === undefined)
      return refuse("ConfigurationNotFound", `Configuration ${id} does not exist`);
    const matched = checkEtag(ifMatch, configurationEtag(configuration));
    if (!matched.ok) return matched;
    configurations.delete(id);
    results.delete(id);
    changed(id);
    return matched;
  }

  return {
    get: (id) => configurations.get(id),
    list: () => [...configurations.values()],
    put,
    remove,
    resultsOf: (id) => results.get(id),
    setResults: (id, counted) => {
      if (!configurations.has(id)) return;
      results.set(id, counted);
      changes.notify(id);
    },
    document: (configuration) => configurationDocument(configuration, results.get(configuration.id)),
    onChange: (listener) => {
      listeners.push(listener);
    },
    persisted: {
      kind: "configuration",
      record: (id) => {
        const configuration = configurations.get(id);
        return configuration === undefined ? undefined : storedOf(configuration, results.get(id));
      },
      restore: (id, record) => {
        const rules = {
          ...LENIENT,
          undocumented: { ...LENIENT.undocumented, "edge-star": options.undocumented["edge-star"] },
        };
        const { configuration, counted } = restoredFrom(record as unknown as StoredConfiguration, rules);
        configurations.set(id, configuration);
        if (counted !== undefined) results.set(id, counted);
        order = Math.max(order, configuration.order + 1);
      },
      onChange: changes.add,
    },
  };
}

/** Whether a PUT may be carried out; `full` is the number of configurations where no further one fits. */
function checkPut(
  {
    id,
    body,
    before,
    ifMatch,
  }: {
    readonly id: string;
    readonly body: JsonObject;
    readonly before: Configuration | undefined;
    readonly ifMatch: IfMatch;
  },
  full: number | null,
): Answer<void> {
  if (!ID_PATTERN.test(id))
    return refuse(
      "ArgumentInvalid",
      `The configuration id ${JSON.stringify(id)} must have 1 to 128 lower-case letters, digits or - + % _ * ! '`,
    );
  if (body["id"] !== undefined && body["id"] !== id)
    return refuse("ArgumentInvalid", "id of the body is not that of the path");
  if (before !== undefined && ifMatch === null)
    return refuse("ConfigurationAlreadyExists", `Configuration ${id} already exists on the hub`);
  if (before === undefined && ifMatch !== null)
    return refuse("ConfigurationNotFound", `Configuration ${id} does not exist`);
  if (before !== undefined) return checkEtag(ifMatch, configurationEtag(before));
  if (full === null) return ok(undefined);
  return refuse(
    "ConfigurationCountLimitExceeded",
    `The maximum quota of ${full} configurations of this hub has been reached`,
  );
}

/** What was understood is left out: it is read again from what was written. */
type StoredConfiguration = Omit<Configuration, "kind" | "settings" | "condition"> & {
  readonly targetCondition: string;
  readonly results?: MetricResults;
};

function storedOf(configuration: Configuration, counted: MetricResults | undefined): StoredConfiguration {
  const { kind: _kind, settings: _settings, condition, ...rest } = configuration;
  return { ...rest, targetCondition: condition.text, ...(counted === undefined ? {} : { results: counted }) };
}

function restoredFrom(stored: StoredConfiguration, rules: Rules) {
  const { results: counted, targetCondition, ...written } = stored;
  const { content, labels, priority, schemaVersion, metrics } = written;
  const body = { content, labels, priority, schemaVersion, targetCondition, metrics: { queries: metrics } };
  const parsed = parseConfiguration(body, undefined, rules);
  if (!parsed.ok) throw new Error(`configuration ${stored.id}: ${parsed.refusal.message}`);
  const configuration: Configuration = { ...written, ...parsed.value };
  return { configuration, counted };
}
