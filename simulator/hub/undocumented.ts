/**
 * What the documentation of the real hub leaves open, or contradicts itself about, and no report settles. The first
 * behaviour of each topic holds unless another is asked for (`--unsure topic=behaviour`); help, manual and tests of the
 * flag are made from this table.
 */
export const UNSURE = {
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

export type UnsureTopic = keyof typeof UNSURE;

/** What the hub does about each topic. */
export type Unsure = {
  readonly [Topic in UnsureTopic]: (typeof UNSURE)[Topic]["behaviours"][number];
};

export const UNSURE_TOPICS = Object.keys(UNSURE) as readonly UnsureTopic[];

export const DEFAULT_UNSURE = Object.fromEntries(
  UNSURE_TOPICS.map((topic) => [topic, UNSURE[topic].behaviours[0]]),
) as Unsure;

/** `topic=behaviour`, several with commas between them; a text says what is wrong. */
export function parseUnsure(written: string): Partial<Unsure> | string {
  const chosen: Partial<Record<UnsureTopic, string>> = {};
  for (const pair of written.split(",")) {
    const [name = "", behaviour = ""] = pair.split("=");
    const topic = UNSURE_TOPICS.find((one) => one === name.trim());
    if (topic === undefined)
      return `must be TOPIC=BEHAVIOUR with one of the topics ${UNSURE_TOPICS.join(", ")}`;
    const known: readonly string[] = UNSURE[topic].behaviours;
    if (!known.includes(behaviour.trim())) return `${topic} must be one of ${known.join(", ")}`;
    chosen[topic] = behaviour.trim();
  }
  return chosen as Partial<Unsure>;
}
