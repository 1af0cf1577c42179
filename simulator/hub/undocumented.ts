/**
 * What the documentation of the real hub leaves open, or contradicts itself about, and no report settles. The first
 * behaviour of each topic holds unless another is asked for (`--undocumented topic=behaviour`); help, manual and tests of the
 * flag are made from this table.
 */
export const UNDOCUMENTED = {
  "condition-functions": {
    about: "functions other than IS_DEFINED in target conditions",
    behaviours: ["refused", "accepted"],
  },
  "edge-star": {
    about: "edge devices that * as a target condition means",
    behaviours: ["all", "none"],
  },
  "twin-versions": {
    about: "counter in the etag of a twin: one behind version, or nothing to do with it",
    behaviours: ["together", "apart"],
  },
  "created-status": {
    about: "status of the answer to a PUT that creates a module or a configuration",
    behaviours: ["200", "201"],
  },
  "unquoted-etags": {
    about: "If-Match with an etag that is not quoted",
    behaviours: ["ignored", "refused", "compared"],
  },
  "bulk-etags": {
    about: "spelling of an etag in bulk requests",
    behaviours: ["either", "eTag", "etag"],
  },
  arrays: {
    about: "arrays in twins",
    behaviours: ["accepted", "refused"],
  },
  "query-order": {
    about: "ORDER BY and DISTINCT in queries",
    behaviours: ["refused", "accepted"],
  },
  "unnamed-counts": {
    about: "name of an aggregate without AS: $1, or the function's",
    behaviours: ["numbered", "named"],
  },
  "constant-conditions": {
    about: "constants other than true as the condition of a query, such as WHERE 1",
    behaviours: ["false", "refused"],
  },
} as const satisfies Readonly<
  Record<string, { readonly about: string; readonly behaviours: readonly string[] }>
>;

export type UndocumentedTopic = keyof typeof UNDOCUMENTED;

/** What the hub does about each topic. */
export type Undocumented = {
  readonly [Topic in UndocumentedTopic]: (typeof UNDOCUMENTED)[Topic]["behaviours"][number];
};

export const UNDOCUMENTED_TOPICS = Object.keys(UNDOCUMENTED) as readonly UndocumentedTopic[];

export const UNDOCUMENTED_DEFAULTS = Object.fromEntries(
  UNDOCUMENTED_TOPICS.map((topic) => [topic, UNDOCUMENTED[topic].behaviours[0]]),
) as Undocumented;

/** `topic=behaviour`, several with commas between them; a text says what is wrong. */
export function parseUndocumented(written: string): Partial<Undocumented> | string {
  const chosen: Partial<Record<UndocumentedTopic, string>> = {};
  for (const pair of written.split(",")) {
    const [name = "", behaviour = ""] = pair.split("=");
    const topic = UNDOCUMENTED_TOPICS.find((one) => one === name.trim());
    if (topic === undefined)
      return `must be TOPIC=BEHAVIOUR with one of the topics ${UNDOCUMENTED_TOPICS.join(", ")}`;
    const known: readonly string[] = UNDOCUMENTED[topic].behaviours;
    if (!known.includes(behaviour.trim())) return `${topic} must be one of ${known.join(", ")}`;
    chosen[topic] = behaviour.trim();
  }
  return chosen as Partial<Undocumented>;
}
