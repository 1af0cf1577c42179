import {
  isObject,
  type JsonObject,
  type JsonValue,
  NOTHING,
  sameJson,
  setKey,
  withValueAt,
} from "../../base/json.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import { parseQuery } from "../query/query.ts";
import { checkId } from "../registry/identity.ts";
import { checkPatch, checkSize } from "../twins/twin.ts";
import type { Undocumented } from "../undocumented.ts";
import { parseTargetCondition } from "./conditions.ts";
import type { Configuration, Setting } from "./configuration.ts";

const MOST_METRICS = 5;
const MOST_MODULES = 50;
const KINDS = ["deviceContent", "moduleContent", "modulesContent"] as const;

/** What holds for what is written to a configuration. */
export type Rules = {
  readonly undocumented: Undocumented;
  /** Labels of one configuration at most; `null`: any number. */
  readonly maximumLabels: number | null;
};

type ParsedConfiguration = Omit<
  Configuration,
  "id" | "counter" | "order" | "createdTimeUtc" | "lastUpdatedTimeUtc"
>;

/** The body of a PUT; `before` is what it changes, whose content it must leave alone. */
export function parseConfiguration(
  body: JsonObject,
  before: Configuration | undefined,
  { undocumented, maximumLabels }: Rules,
): Answer<ParsedConfiguration> {
  const content = parseContent(body["content"], before, undocumented.arrays);
  if (!content.ok) return content;
  const { kind } = content.value;
  const isEdge = kind === "standard" || kind === "layered";
  const written = body["targetCondition"] ?? "";
  if (typeof written !== "string") return refuse("ArgumentInvalid", "targetCondition must be text");
  const condition = parseTargetCondition(written, undocumented);
  if (!condition.ok) return condition;
  if (written !== "" && (condition.value.subject === "modules") !== (kind === "module"))
    return refuse(
      "InvalidConfigurationTargetCondition",
      "A condition that begins with from devices.modules belongs to moduleContent, and to nothing else",
    );
  const priority = body["priority"] ?? 0;
  if (typeof priority !== "number" || !Number.isInteger(priority) || priority < 0)
    return refuse("ArgumentInvalid", "priority must be a whole number, 0 or more");
  const labels = parseLabels(body["labels"], maximumLabels);
  if (!labels.ok) return labels;
  const metrics = parseMetrics(body["metrics"], undocumented);
  if (!metrics.ok) return metrics;
  return ok({
    ...content.value,
    labels: labels.value,
    priority,
    condition:
      isEdge && written.trim() === "*" && undocumented["edge-star"] === "none"
        ? { ...condition.value, matches: () => false }
        : condition.value,
    metrics: metrics.value,
    schemaVersion: typeof body["schemaVersion"] === "string" ? body["schemaVersion"] : "1.0",
  });
}

type ParsedContent = Pick<Configuration, "kind" | "content" | "settings">;

function parseContent(
  written: JsonValue | undefined,
  before: Configuration | undefined,
  arrays: Undocumented["arrays"],
): Answer<ParsedContent> {
  if (before !== undefined) {
    if (written !== undefined && !sameJson(withoutNulls(written), before.content))
      return refuse(
        "CannotModifyImmutableConfigurationContent",
        `The content of configuration ${before.id} cannot be changed; create another configuration`,
      );
    return ok(before);
  }
  const content = withoutNulls(written ?? null);
  const kinds = KINDS.filter((known) => isObject(content) && content[known] !== undefined);
  const [kind, second] = kinds;
  if (kind === undefined || second !== undefined)
    return invalidContent(`exactly one of ${KINDS.join(", ")} is needed`);
  const inner = isObject(content) ? content[kind] : undefined;
  if (!isObject(content) || !isObject(inner)) return invalidContent(`${kind} must be an object`);
  if (kind === "modulesContent") {
    const parsed = parseModulesContent(inner, arrays);
    return parsed.ok ? ok({ ...parsed.value, content }) : parsed;
  }
  const settings = parseSettings(inner, kind, arrays);
  if (!settings.ok) return settings;
  return ok({
    kind: kind === "deviceContent" ? "device" : "module",
    content,
    settings: { "": settings.value },
  });
}

/** Serialisers of other languages send kinds that are not meant as null. */
function withoutNulls(content: JsonValue): JsonValue {
  if (!isObject(content)) return content;
  return Object.fromEntries(Object.entries(content).filter(([, value]) => value !== null));
}

/**
 * Modules of an edge deployment. It is a standard one when it gives `$edgeAgent` its whole desired properties, and a
 * layered one when it sets paths.
 */
export function parseModulesContent(
  modules: JsonObject,
  arrays: Undocumented["arrays"],
): Answer<{ readonly kind: "standard" | "layered"; readonly settings: Configuration["settings"] }> {
  const agent = modules["$edgeAgent"];
  if (!isObject(agent)) return invalidContent("modulesContent needs a $edgeAgent key (it may be empty)");
  const settings: Record<string, readonly Setting[]> = {};
  for (const [module, content] of Object.entries(modules)) {
    const named = checkId(module, "moduleId");
    if (!named.ok) return invalidContent(named.refusal.message);
    if (!isObject(content)) return invalidContent(`modulesContent.${module} must be an object`);
    const parsed = parseSettings(content, `modulesContent.${module}`, arrays);
    if (!parsed.ok) return parsed;
    const sized = checkSize("properties.desired", wholeOf(parsed.value));
    if (!sized.ok) return invalidContent(`modulesContent.${module}: ${sized.refusal.message}`);
    setKey(settings, module, parsed.value);
  }
  const whole = agent["properties.desired"];
  if (whole === undefined) return checkLayer(settings);
  const complete =
    isObject(whole) &&
    typeof whole["schemaVersion"] === "string" &&
    isObject(whole["systemModules"]) &&
    isObject(whole["runtime"]);
  if (!complete)
    return invalidContent("$edgeAgent properties.desired needs schemaVersion, runtime and systemModules");
  const hub = modules["$edgeHub"];
  if (!isObject(hub) || !isObject(hub["properties.desired"]))
    return invalidContent("a standard deployment needs $edgeHub with properties.desired");
  const named = checkModuleNames(isObject(whole["modules"]) ? Object.keys(whole["modules"]) : []);
  return named.ok ? ok({ kind: "standard", settings }) : named;
}

/** The desired properties as these settings alone make them. */
function wholeOf(settings: readonly Setting[]): JsonObject {
  return settings.reduce((whole, { path, value }) => withValueAt(whole, path, value), NOTHING);
}

/** Each becomes an identity on every device. */
function checkModuleNames(names: readonly string[]): Answer<void> {
  if (names.length > MOST_MODULES) return invalidContent(`at most ${MOST_MODULES} modules are allowed`);
  for (const name of names) {
    const named = checkId(name, "moduleId");
    if (!named.ok) return invalidContent(named.refusal.message);
  }
  return ok(undefined);
}

function checkLayer(
  settings: Configuration["settings"],
): Answer<{ readonly kind: "layered"; readonly settings: Configuration["settings"] }> {
  for (const { path } of settings["$edgeAgent"] ?? [])
    if (path[0] === "systemModules" || path[0] === "runtime")
      return invalidContent("a layered deployment must not define systemModules or runtime");
  const named = checkModuleNames(namedModules(settings["$edgeAgent"] ?? []));
  return named.ok ? ok({ kind: "layered", settings }) : named;
}

function namedModules(settings: readonly Setting[]): readonly string[] {
  const names = settings.flatMap(({ path: [first, name], value }) => {
    if (first !== "modules") return [];
    if (name !== undefined) return [name];
    return isObject(value) ? Object.keys(value) : [];
  });
  return [...new Set(names)];
}

function parseSettings(
  content: JsonObject,
  where: string,
  arrays: Undocumented["arrays"],
): Answer<readonly Setting[]> {
  const settings: Setting[] = [];
  for (const [key, value] of Object.entries(content)) {
    const [first, second, ...path] = key.split(".");
    if (first !== "properties" || second !== "desired" || path.includes(""))
      return invalidContent(`${where}: ${key} must begin with properties.desired`);
    if (path.length === 0 && !isObject(value)) return invalidContent(`${where}: ${key} must be an object`);
    const nested = path.reduceRight<JsonValue>((inner, step) => ({ [step]: inner }), value);
    const checked = checkPatch("properties.desired", isObject(nested) ? nested : NOTHING, arrays);
    if (!checked.ok) return invalidContent(`${where}: ${checked.refusal.message}`);
    settings.push({ path, value });
  }
  // Shorter paths first: a longer one of the same layer goes into what the shorter one sets.
  return ok(settings.sort((a, b) => a.path.length - b.path.length));
}

function invalidContent(message: string) {
  return refuse("InvalidConfigurationContent", message);
}

function parseLabels(written: JsonValue | undefined, maximum: number | null): Answer<JsonObject | null> {
  if (written === undefined || written === null) return ok(null);
  if (!isObject(written) || Object.values(written).some((value) => typeof value !== "string"))
    return refuse("ArgumentInvalid", "labels must be an object of texts");
  const count = Object.keys(written).length;
  if (maximum !== null && count > maximum)
    return refuse("ArgumentInvalid", `a configuration may have ${maximum} labels, not ${count}`);
  return ok(count === 0 ? null : written);
}

function parseMetrics(
  written: JsonValue | undefined,
  undocumented: Undocumented,
): Answer<Readonly<Record<string, string>>> {
  const queries = isObject(written) ? (written["queries"] ?? {}) : {};
  const entries = isObject(queries) ? Object.entries(queries) : [];
  if (entries.length > MOST_METRICS)
    return refuse(
      "InvalidConfigurationCustomMetricsQuery",
      `at most ${MOST_METRICS} custom metrics are allowed`,
    );
  const metrics: Record<string, string> = {};
  for (const [name, text] of entries) {
    const problem = metricProblem(text, undocumented);
    if (problem !== null) return refuse("InvalidConfigurationCustomMetricsQuery", `${name}: ${problem}`);
    setKey(metrics, name, String(text));
  }
  return ok(metrics);
}

/** `null` for a query that can be a metric. */
export function metricProblem(text: JsonValue | undefined, undocumented: Undocumented): string | null {
  if (typeof text !== "string") return "the query must be text";
  const query = parseQuery(text, undocumented);
  if (!query.ok) return query.refusal.message;
  return query.value.source === "devices.jobs" ? "a metric cannot be about devices.jobs" : null;
}
