import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { TSchema } from "typebox";
import { inferenceReportSchema, modelPointerSchema } from "../src/api/device-contract.ts";

// Writes the JSON Schemas of the device contract into docs/device-contract.md.

const HELP = `usage: npx node tools/device-contract.ts

Writes the JSON Schemas of src/api/device-contract.ts into docs/device-contract.md. A test compares them.
`;

export const CONTRACT_DOCUMENT = join(import.meta.dirname, "../docs/device-contract.md");

const DIALECT = "https://json-schema.org/draft/2020-12/schema";

/** By the name that stands in the document's markers. */
export const CONTRACT_SCHEMAS = {
  model: plainSchema(modelPointerSchema),
  inference: plainSchema(inferenceReportSchema),
} as const;

/** The document with each schema between its markers; throws where a marker is missing. */
export function withSchemas(document: string): string {
  let text = document;
  for (const [name, schema] of Object.entries(CONTRACT_SCHEMAS)) {
    const marker = new RegExp(`(<!-- schema: ${name} -->\n)[\\s\\S]*?(<!-- end -->)`);
    if (!marker.test(text)) throw new Error(`docs/device-contract.md has no place for the schema ${name}`);
    const json = JSON.stringify(schema, null, 2);
    text = text.replace(
      marker,
      (_, start: string, end: string) => `${start}\`\`\`json\n${json}\n\`\`\`\n${end}`,
    );
  }
  return text;
}

/** What is JSON Schema of it: TypeBox keeps properties of its own on a schema, which JSON leaves behind. */
function plainSchema(schema: TSchema): Readonly<Record<string, unknown>> {
  return { $schema: DIALECT, ...(JSON.parse(JSON.stringify(schema)) as Readonly<Record<string, unknown>>) };
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { help: { type: "boolean", short: "h" } } });
  if (values.help) return void process.stdout.write(HELP);
  await writeFile(CONTRACT_DOCUMENT, withSchemas(await readFile(CONTRACT_DOCUMENT, "utf8")));
}

if (import.meta.main) await main();
