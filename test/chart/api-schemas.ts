import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { Agent, fetch } from "undici";

type Definition = {
  readonly "x-kubernetes-group-version-kind"?: readonly {
    readonly group: string;
    readonly version: string;
    readonly kind: string;
  }[];
};

/**
 * Writes a JSON Schema for each kind that the API server knows, in the form that kubeconform reads; answers its
 * `-schema-location`. The schemas are closed: a field that the server does not know is a mistake.
 */
export async function writeApiSchemas(kubeconfig: string, directory: string): Promise<string> {
  const definitions = await definitionsOf(kubeconfig);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "_definitions.json"), JSON.stringify({ definitions: closed(definitions) }));
  for (const [name, definition] of Object.entries(definitions))
    for (const { group, version, kind } of definition["x-kubernetes-group-version-kind"] ?? [])
      writeFileSync(
        join(directory, `${kind.toLowerCase()}-${group || version}-${version}.json`),
        JSON.stringify({ $ref: `_definitions.json#/definitions/${name}` }),
      );
  return `${directory}/{{ .ResourceKind }}-{{ .Group }}-{{ .ResourceAPIVersion }}.json`;
}

async function definitionsOf(kubeconfig: string): Promise<Readonly<Record<string, Definition>>> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const cluster = config.getCurrentCluster();
  const user = config.getCurrentUser();
  if (cluster === null || user === null) throw new Error(`${kubeconfig} has no usable context`);
  const pem = (data: string | undefined) => Buffer.from(data ?? "", "base64");
  const dispatcher = new Agent({
    connect: { ca: pem(cluster.caData), cert: pem(user.certData), key: pem(user.keyData) },
  });
  try {
    const answer = await fetch(`${cluster.server}/openapi/v2`, { dispatcher });
    const body = (await answer.json()) as { readonly definitions: Readonly<Record<string, Definition>> };
    return body.definitions;
  } finally {
    await dispatcher.close();
  }
}

function closed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closed);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  const inner = Object.fromEntries(entries.map(([key, one]) => [key, closed(one)]));
  const has = new Map<string, unknown>(entries);
  // OpenAPI 2 has no type for a port or a share.
  if (has.get("format") === "int-or-string") return { ...inner, type: ["string", "integer"] };
  const isOpen = has.has("additionalProperties") || has.get("x-kubernetes-preserve-unknown-fields") === true;
  return typeof has.get("properties") === "object" && !isOpen
    ? { ...inner, additionalProperties: false }
    : inner;
}
