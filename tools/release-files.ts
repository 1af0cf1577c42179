// Makes the files of a release in dist/release: definitions, chart, bill of materials, notes, checksums.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { parse } from "yaml";
import { build } from "./build.ts";
import { chartTool } from "./go/chart-tools.ts";

const ROOT = join(import.meta.dirname, "..");
const CHART = join(ROOT, "charts/edge-fleet-operator");

const USAGE = `usage: node tools/release-files.ts [--out DIR] | --check vX.Y.Z | --helm

Makes what is attached to a release: crds.yaml, the chart, sbom.cdx.json, NOTES.md, SHA256SUMS.
  --out DIR      where to (default: dist/release); the directory is replaced
  --check TAG    only compares the tag with package.json, the chart and CHANGELOG.md; exit status 1 where they differ
  --helm         only prints the path of the Helm that packaged the chart`;

/** What differs from the version of the tag, such as "Chart.yaml has appVersion 0.1.0"; empty: everything has it. */
export async function versionProblems(tag: string): Promise<readonly string[]> {
  const wanted = /^v(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)$/.exec(tag)?.[1];
  if (wanted === undefined) return [`the tag ${tag} is not vX.Y.Z`];
  const manifest = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as {
    readonly version: string;
  };
  const chart = parse(await readFile(join(CHART, "Chart.yaml"), "utf8")) as {
    readonly version: string;
    readonly appVersion: string;
  };
  const found = [
    ["package.json has version", manifest.version],
    ["Chart.yaml has version", chart.version],
    ["Chart.yaml has appVersion", chart.appVersion],
  ] as const;
  const notes = notesOf(await readFile(join(ROOT, "CHANGELOG.md"), "utf8"), wanted);
  return [
    ...found
      .filter(([, version]) => version !== wanted)
      .map(([where, version]) => `${where} ${version}, not ${wanted}`),
    ...(notes === null ? [`CHANGELOG.md has no section "## ${wanted}"`] : []),
  ];
}

/** The section of a version, without its heading; `null`: there is none. */
export function notesOf(changelog: string, version: string): string | null {
  const sections = changelog.split(/^## /m).slice(1);
  const section = sections.find((text) => text.split(/\s/, 1)[0] === version);
  return section === undefined ? null : `${section.slice(section.indexOf("\n") + 1).trim()}\n`;
}

/** @param out an absolute path; whatever was there is removed. */
export async function makeReleaseFiles(out: string): Promise<void> {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as {
    readonly version: string;
  };
  await writeFile(join(out, "crds.yaml"), await definitions());
  await promisify(execFile)(await chartTool("helm"), ["package", CHART, "--destination", out]);
  const programs = join(out, "programs");
  await build(programs, process.arch);
  await copyFile(join(programs, "sbom.cdx.json"), join(out, "sbom.cdx.json"));
  await rm(programs, { recursive: true });
  const changelog = await readFile(join(ROOT, "CHANGELOG.md"), "utf8");
  await writeFile(
    join(out, "NOTES.md"),
    notesOf(changelog, version) ?? notesOf(changelog, "Unreleased") ?? "",
  );
  await writeFile(join(out, "SHA256SUMS"), await checksums(out));
}

/** For `kubectl apply --server-side -f crds.yaml`. */
async function definitions(): Promise<string> {
  const files = (await readdir(join(ROOT, "crds"))).sort();
  const texts = await Promise.all(files.map((file) => readFile(join(ROOT, "crds", file), "utf8")));
  return texts.join("---\n");
}

async function checksums(out: string): Promise<string> {
  const lines = (await readdir(out)).sort().map(async (file) => {
    const digest = createHash("sha256")
      .update(await readFile(join(out, file)))
      .digest("hex");
    return `${digest}  ${file}\n`;
  });
  return (await Promise.all(lines)).join("");
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: join(ROOT, "dist/release") },
      check: { type: "string" },
      helm: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) console.log(USAGE);
  else if (values.helm) console.log(await chartTool("helm"));
  else if (values.check !== undefined) {
    const problems = await versionProblems(values.check);
    for (const problem of problems) console.error(problem);
    process.exitCode = problems.length === 0 ? 0 : 1;
  } else {
    await makeReleaseFiles(values.out);
    console.log(`made the files of a release in ${values.out}`);
  }
}
