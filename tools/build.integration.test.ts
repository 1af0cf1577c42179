import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { build } from "./build.ts";

const ROOT = join(import.meta.dirname, "..");
let out: string;

beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), "edgefleet-build-"));
  await build(out, "x64");
});
afterAll(() => rm(out, { recursive: true, force: true }));

async function bytesOf(path: string): Promise<number> {
  const about = await stat(path);
  if (!about.isDirectory()) return about.size;
  const sizes = await Promise.all((await readdir(path)).map((name) => bytesOf(join(path, name))));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** The rows of the table in docs/image.md: names in the application's folder, and kB for x64. */
async function documented(): Promise<ReadonlyMap<string, number>> {
  const page = await readFile(join(ROOT, "docs/image.md"), "utf8");
  const rows = [...page.matchAll(/^\| (`.+`) \| ([\d,]+) \|/gm)];
  return new Map(
    rows.map(([, names = "", kilobytes = ""]) => [names, Number(kilobytes.replaceAll(",", ""))]),
  );
}

test("docs/image.md says where the bytes are, and nothing has grown by more than a tenth", async () => {
  const entries = await readdir(out);
  const packages = (await readdir(join(out, "node_modules"))).map((name) => `node_modules/${name}`);
  const paths = [...entries.filter((name) => name !== "node_modules" && !name.endsWith(".map")), ...packages];
  const sizes = new Map<string, number>();
  for (const path of paths) sizes.set(`\`${path}\``, await bytesOf(join(out, path)));
  const maps = await Promise.all(
    entries.filter((name) => name.endsWith(".map")).map((name) => bytesOf(join(out, name))),
  );
  sizes.set(
    "`*.map`",
    maps.reduce((sum, size) => sum + size, 0),
  );

  // A few kilobytes are not worth a row.
  for (const [path, size] of sizes) if (size < 10_000) sizes.delete(path);
  const table = await documented();
  expect([...table.keys()].sort()).toEqual([...sizes.keys()].sort());
  for (const [name, size] of sizes) {
    const ratio = size / 1000 / (table.get(name) ?? 0);
    expect(ratio, `${name}: ${Math.round(size / 1000)} kB`).toBeLessThan(1.1);
    expect(ratio, `${name}: ${Math.round(size / 1000)} kB`).toBeGreaterThan(0.9);
  }
});

test("the image has no tests, no compiler, no types and ONNX Runtime of one platform", async () => {
  const files = (await readdir(out, { recursive: true })).map(String);
  expect(files.filter((file) => /\.test\.|(?:^|\/)(?:typescript|vitest|@types)(?:\/|$)/.test(file))).toEqual(
    [],
  );
  expect(files.filter((file) => file.endsWith(".so.1"))).toEqual([
    "node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime.so.1",
  ]);
});

test("the bill of materials names every package of the lock file that is not for development", async () => {
  type Lock = {
    readonly packages: Readonly<
      Record<
        string,
        {
          readonly dev?: true;
          readonly devOptional?: true;
          readonly optional?: true;
          readonly version: string;
        }
      >
    >;
  };
  type Bill = { readonly components: readonly { readonly name: string; readonly version: string }[] };
  const lock = JSON.parse(await readFile(join(ROOT, "package-lock.json"), "utf8")) as Lock;
  const bill = JSON.parse(await readFile(join(out, "sbom.cdx.json"), "utf8")) as Bill;
  const wanted = Object.entries(lock.packages)
    .filter(([path, about]) => path !== "" && !about.dev && !about.optional && !about.devOptional)
    .map(([path, { version }]) => `${path.slice(path.lastIndexOf("node_modules/") + 13)}@${version}`);
  expect([...new Set(bill.components.map(({ name, version }) => `${name}@${version}`))].sort()).toEqual(
    [...new Set(wanted)].sort(),
  );
});
