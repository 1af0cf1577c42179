// Bundles the programs into dist/, which is the application's folder in the image.
import { copyFile, cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { rolldown } from "rolldown";
import { billOfMaterials } from "./bill-of-materials.ts";
import { PROGRAMS, programFile } from "./programs.ts";

const ROOT = join(import.meta.dirname, "..");

/** Copied beside the bundles, of which it cannot be part: it has native libraries. */
const RUNTIME = ["onnxruntime-node", "onnxruntime-common"] as const;
/** Bundled; edgefleet loads its error messages with `require` from here as well, when there is an error to describe. */
const LAZY = "typebox";

/** V8 keeps the text of a program in memory: without white space the operator takes 12 MB less. Names stay. */
const COMPACT = { compress: false, mangle: false, codegen: { removeWhitespace: true } };

const NAMES = Object.keys(PROGRAMS) as (keyof typeof PROGRAMS)[];

/** As Node names them, from the names of either Node or Docker. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "x64", amd64: "x64", arm64: "arm64" };

const USAGE = `usage: node tools/build.ts [--out DIR] [--arch x64|arm64]

Bundles operator, verifier, simulator and edgefleet into one file each, with source maps, and copies what they load beside
them: the simulator's page, ONNX Runtime for Linux on one architecture, package.json. sbom.cdx.json lists every package.
  --out DIR    where to (default: dist); the directory is replaced
  --arch NAME  of ONNX Runtime: x64 (or amd64) or arm64; default: this machine's`;

/**
 * Builds the application's folder.
 * @param out an absolute path; whatever was there is removed.
 * @param arch as Node names it: x64 or arm64.
 */
export async function build(out: string, arch: string): Promise<void> {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  for (const name of NAMES) await bundle(name, out);
  await cp(join(ROOT, "simulator/page"), join(out, "page"), { recursive: true });
  await copyFile(join(ROOT, "package.json"), join(out, "package.json"));
  for (const name of [...RUNTIME, LAZY]) await copyPackage(name, out, arch);
  await writeFile(join(out, "sbom.cdx.json"), await billOfMaterials(ROOT));
}

async function bundle(name: keyof typeof PROGRAMS, out: string): Promise<void> {
  const bundled = await rolldown({
    input: programFile(name),
    platform: "node",
    external: RUNTIME.map((each) => new RegExp(`^${each}(/|$)`)),
    logLevel: "warn",
  });
  try {
    const file = join(out, `${name}.js`);
    await bundled.write({ file, format: "esm", sourcemap: true, codeSplitting: false, minify: COMPACT });
    await slimSourceMap(`${file}.map`);
  } finally {
    await bundled.close();
  }
}

/** Stack traces need the positions alone: the sources themselves are three quarters of a map. */
async function slimSourceMap(path: string): Promise<void> {
  const { sourcesContent: _, ...map } = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
  await writeFile(path, JSON.stringify(map));
}

async function copyPackage(name: string, out: string, arch: string): Promise<void> {
  const from = join(ROOT, "node_modules", name);
  const libraries = join(from, "bin");
  const wanted = join(libraries, "napi-v6/linux", arch);
  await cp(from, join(out, "node_modules", name), {
    recursive: true,
    filter: (path) =>
      !/\.(?:m?ts|map|md)$/.test(path) &&
      (!path.startsWith(`${libraries}/`) || wanted.startsWith(path) || path.startsWith(wanted)),
  });
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: join(ROOT, "dist") },
      arch: { type: "string", default: process.arch },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const arch = ARCHITECTURES[values.arch];
  if (values.help) console.log(USAGE);
  else if (arch === undefined) {
    console.error(`--arch ${values.arch}: ONNX Runtime exists for x64 and arm64`);
    process.exitCode = 2;
  } else {
    await build(values.out, arch);
    console.log(`built ${NAMES.length} programs in ${values.out}`);
  }
}
