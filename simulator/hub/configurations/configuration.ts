import type { JsonObject, JsonValue } from "../../base/json.ts";
import type { TargetCondition } from "./conditions.ts";

export type ConfigurationKind = "device" | "module" | "standard" | "layered";

/** One value that a configuration sets. `path` is below the desired properties; an empty one is all of them. */
export type Setting = { readonly path: readonly string[]; readonly value: JsonValue };

export type Configuration = {
  readonly id: string;
  readonly kind: ConfigurationKind;
  readonly content: JsonObject;
  /** By module; the device twin, and the module twin of a module configuration, are under the empty name. */
  readonly settings: Readonly<Record<string, readonly Setting[]>>;
  readonly labels: JsonObject | null;
  readonly priority: number;
  readonly condition: TargetCondition;
  readonly metrics: Readonly<Record<string, string>>;
  readonly schemaVersion: string;
  /** Counts writes; the etag is its decimal in base64. */
  readonly counter: number;
  /** Order of creation: of two equal priorities the younger wins. */
  readonly order: number;
  readonly createdTimeUtc: string;
  readonly lastUpdatedTimeUtc: string;
};

export type MetricResults = {
  readonly system: Readonly<Record<string, number>>;
  readonly custom: Readonly<Record<string, number>>;
};

export function configurationEtag(configuration: Configuration): string {
  return Buffer.from(String(configuration.counter)).toString("base64");
}

/** Texts of the hub's own metrics: they can be run to list the devices behind a number. */
function systemMetricQueries(configuration: Configuration): Readonly<Record<string, string>> {
  const { id, kind, condition } = configuration;
  const where = condition.text === "*" || condition.text === "" ? "" : condition.text;
  const applied = `configurations.[[${id}]].status = 'Applied'`;
  if (kind === "device")
    return {
      targetedCount: `select deviceId from devices${where === "" ? "" : ` where ${where}`}`,
      appliedCount: `select deviceId from devices where ${applied}`,
    };
  if (kind === "module")
    return {
      targetedCount: `select deviceId, moduleId ${where === "" ? "from devices.modules" : where}`,
      appliedCount: `select deviceId, moduleId from devices.modules where ${applied}`,
    };
  const agent = `select deviceId from devices.modules where moduleId = '$edgeAgent' and ${applied}`;
  const caughtUp = "properties.desired.$version = properties.reported.lastDesiredVersion";
  return {
    targetedCount: `select deviceId from devices where capabilities.iotEdge = true${where === "" ? "" : ` and (${where})`}`,
    appliedCount: agent,
    reportedSuccessfulCount: `${agent} and ${caughtUp} and properties.reported.lastDesiredStatus.code = 200`,
    reportedFailedCount: `${agent} and ${caughtUp} and properties.reported.lastDesiredStatus.code != 200`,
  };
}

/** As the service API answers with it; without results before the first evaluation. */
export function configurationDocument(
  configuration: Configuration,
  results: MetricResults | undefined,
): JsonObject {
  return {
    id: configuration.id,
    schemaVersion: configuration.schemaVersion,
    labels: configuration.labels,
    content: configuration.content,
    contentType: null,
    targetCondition: configuration.condition.text,
    createdTimeUtc: configuration.createdTimeUtc,
    lastUpdatedTimeUtc: configuration.lastUpdatedTimeUtc,
    priority: configuration.priority,
    systemMetrics: { results: results?.system ?? {}, queries: systemMetricQueries(configuration) },
    metrics: { results: results?.custom ?? {}, queries: configuration.metrics },
    etag: configurationEtag(configuration),
  };
}
