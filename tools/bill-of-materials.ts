import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

type Bill = {
  readonly metadata: { readonly component: object };
  readonly components: readonly { readonly "bom-ref": string }[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn?: readonly string[] }[];
};
type Manifest = {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
};

/**
 * Every package that a program of the product may contain, as a CycloneDX 1.5 document in JSON.
 *
 * It is `npm sbom` of the whole installation, reduced to what the production dependencies lead to: `npm sbom --omit dev`
 * also leaves out packages that development uses as well.
 * @param root the folder of package.json, with its packages installed.
 */
export async function billOfMaterials(root: string): Promise<string> {
  const flags = ["--sbom-format", "cyclonedx", "--sbom-type", "application"];
  const { stdout } = await promisify(execFile)("npm", ["sbom", ...flags], { cwd: root, maxBuffer: 2 ** 26 });
  const bill = JSON.parse(stdout) as Bill;
  const { name, version, dependencies } = JSON.parse(
    await readFile(join(root, "package.json"), "utf8"),
  ) as Manifest;
  const own = `${name}@${version}`;
  const direct = Object.entries(dependencies).map(([each, exact]) => `${each}@${exact}`);
  const edges = new Map(bill.dependencies.map(({ ref, dependsOn = [] }) => [ref, dependsOn]));
  edges.set(own, direct);
  const reached = new Set([own]);
  for (const ref of reached) for (const next of edges.get(ref) ?? []) reached.add(next);
  return JSON.stringify(
    {
      ...bill,
      metadata: { ...bill.metadata, component: { ...bill.metadata.component, name } },
      components: bill.components
        .filter((component) => reached.has(component["bom-ref"]))
        .map((component) => ({ ...component, name: nameIn(component["bom-ref"]) })),
      dependencies: [...reached].map((ref) => ({ ref, dependsOn: edges.get(ref) ?? [] })),
    },
    null,
    1,
  );
}

/** npm names a package after its folder, which an alias of development may be. */
function nameIn(ref: string): string {
  return ref.slice(0, ref.lastIndexOf("@"));
}
