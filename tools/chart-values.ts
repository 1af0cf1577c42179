import { type Document, isMap, isScalar, type Pair, parseDocument, type YAMLMap } from "yaml";

// One annotated values.yaml is the source of a chart's values.schema.json and of the table in its README:
//   # -- Description, which may go on in further lines
//   # @schema {"minimum": 1}          what JSON Schema should hold beside the type of the default
//   key: default

type Schema = { readonly [key: string]: unknown };
type Value = {
  /** Dotted, as for `helm --set`. */
  readonly path: string;
  readonly description: string;
  readonly defaultText: string;
  readonly schema: Schema;
};
type Node = { readonly schema: Schema; readonly values: readonly Value[] };

export type ChartValues = {
  /** JSON Schema of the whole file: unknown keys are refused. */
  readonly schema: Schema;
  /** A Markdown table, a row for each value. */
  readonly table: string;
};

/** Throws an error that names the key where a value has no description, or an annotation that is not JSON. */
export function readChartValues(text: string): ChartValues {
  const document: Document = parseDocument(text);
  if (document.errors[0] !== undefined) throw document.errors[0];
  if (!isMap(document.contents)) throw new Error("values.yaml is not a map");
  const { schema, values } = readMap(document.contents, "");
  return {
    schema: { $schema: "http://json-schema.org/draft-07/schema#", ...schema },
    table: tableOf(values),
  };
}

function readMap(map: YAMLMap, path: string): Node {
  const properties: Record<string, Schema> = {};
  const values: Value[] = [];
  for (const [index, pair] of map.items.entries()) {
    const key = String(isScalar(pair.key) ? pair.key.value : pair.key);
    // The comment of a map's first key belongs to the map where it is not in the map's own lines.
    const comment = commentOf(pair) ?? (index === 0 ? (map.commentBefore ?? null) : null);
    const node = readPair(pair, path === "" ? key : `${path}.${key}`, comment ?? "");
    properties[key] = node.schema;
    values.push(...node.values);
  }
  // What Helm itself adds to the values of a chart that others depend on.
  if (path === "") properties["global"] = { type: "object" };
  return { schema: { type: "object", additionalProperties: false, properties }, values };
}

function readPair(pair: Pair, path: string, comment: string): Node {
  const { description, annotation } = readComment(comment, path);
  if (description === null && isMap(pair.value) && pair.value.items.length > 0)
    return readMap(pair.value, path);
  if (description === null) throw new Error(`${path} has no description: write "# -- …" above it`);
  const value: unknown = isScalar(pair.value) ? pair.value.value : (pair.value as YAMLMap).toJSON();
  const schema = { description, default: value, type: typeOf(value, path), ...annotation };
  const defaultText = value === "" ? "" : `\`${JSON.stringify(value)}\``;
  return { schema, values: [{ path, description, defaultText, schema }] };
}

function commentOf(pair: Pair): string | null {
  return (isScalar(pair.key) ? pair.key.commentBefore : null) ?? null;
}

function readComment(comment: string, path: string) {
  const lines = comment.split("\n").map((line) => line.trim());
  const start = lines.findLastIndex((line) => line.startsWith("-- "));
  if (start < 0) return { description: null, annotation: {} };
  const own = lines.slice(start);
  const annotations = own.filter((line) => line.startsWith("@schema "));
  const description = own
    .filter((line) => line !== "" && !line.startsWith("@schema "))
    .join(" ")
    .slice("-- ".length);
  const parts = annotations.map((line) => parseAnnotation(line.slice("@schema ".length), path));
  return { description, annotation: Object.assign({}, ...parts) as Schema };
}

function parseAnnotation(text: string, path: string): Schema {
  try {
    return JSON.parse(text) as Schema;
  } catch (error) {
    throw new Error(`the @schema of ${path} is not JSON: ${(error as Error).message}`);
  }
}

function typeOf(value: unknown, path: string): string {
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  if (value === null) throw new Error(`${path} has no default: write "" or {}`);
  return typeof value;
}

function tableOf(values: readonly Value[]): string {
  const rows = values.map(
    ({ path, description, defaultText }) =>
      `| \`${path}\` | ${defaultText.replaceAll("|", "\\|")} | ${description.replaceAll("|", "\\|")} |`,
  );
  return ["| value | default | what it does |", "|---|---|---|", ...rows].join("\n");
}
