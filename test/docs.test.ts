import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { RELEASE_FLAGS } from "../cli/release/flags.ts";
import { BOUND_FLAGS } from "../cli/spec/bounds.ts";
import { VERIFY_FLAGS } from "../cli/verify/flags.ts";
import { ROLLBACK_REASONS } from "../src/api/inference-deployment.ts";
import { CHECK_NAMES } from "../src/api/model-release.ts";
import { REASONS } from "../src/api/reasons.ts";
import { allFlags } from "../src/base/flags.ts";
import { parseOperatorSettings } from "../src/operator-settings.ts";
import { METRICS, VERIFIER_METRICS } from "../src/telemetry/metrics.ts";
import { parseSettings } from "../src/verifier/service/settings.ts";
import { seriesIn, straysIn } from "./series-in-text.ts";

// What the documents say is compared with what the code does: a row that is missing, and a row too many, fail here.

const ROOT = join(import.meta.dirname, "..");
const SKIPPED = /(?:^|\/)(?:node_modules|dist|coverage|\.[^/]+)(?:\/|$)/;
const documents = globSync("**/*.md", { cwd: ROOT, exclude: (path) => SKIPPED.test(path) })
  .map((path) => path.replaceAll("\\", "/"))
  .sort()
  .map((path) => ({ path, text: read(path) }));

const schemas = readSchemas();
const metrics = { ...METRICS, ...VERIFIER_METRICS };

const SOURCES = globSync("{src,simulator,cli,test,tools}/**/*.ts", { cwd: ROOT }).filter(
  (path) => path !== "test/docs.test.ts",
);
const FILE_NAMES = new Set(
  globSync("{src,simulator,cli,test,tools,bench,examples}/**/*.ts", { cwd: ROOT }).map((path) =>
    basename(path),
  ),
);
/** What the walk-throughs of extending.md add. */
const EXAMPLES = new Set([
  ...["maximumDevices", "ClockBehind", "OutputSize", "OutputTooLarge", "slowAccept"],
  ...["output-size.ts", "output-size.test.ts"],
]);

describe("conditions.md", () => {
  const document = read("docs/reference/conditions.md");

  test.each([
    ["EdgeDevice", "devices/report"],
    ["ModelRelease", "releases"],
    ["InferenceDeployment", "rollouts/report"],
  ])("%s: its table of conditions has the types that are reported, and no others", (kind, folder) => {
    const told = rowsOf(section(document, kind), "condition").map((cells) => nameIn(cells[0]));
    expect(told.sort()).toEqual(conditionTypesIn(reportIn(folder)));
  });

  test.each([
    ["EdgeDevice", ["devices"], []],
    // What the verifier says about a model becomes the reason of the release.
    ["ModelRelease", ["releases", "verifier"], []],
    ["InferenceDeployment", ["rollouts"], ROLLBACK_REASONS],
  ])("%s: its table of reasons has those that are given, and no others", (kind, rooms, more) => {
    const told = rowsOf(section(document, kind), "reason").map((cells) => nameIn(cells[0]));
    const given = rooms.flatMap((room) =>
      sources(`src/${room}`).flatMap((text) =>
        [...text.matchAll(/\bREASONS\.(\w+)/g)].map(([, name = ""]) => name),
      ),
    );
    expect(told.sort()).toEqual([...new Set([...given, ...more])].sort());
  });

  test("a reason stands only beside conditions of its kind", () => {
    for (const kind of ["EdgeDevice", "ModelRelease", "InferenceDeployment"]) {
      const part = section(document, kind);
      const types = rowsOf(part, "condition").map((cells) => nameIn(cells[0]));
      const where = rowsOf(part, "reason").flatMap((cells) => (cells[1] ?? "").split(", "));
      expect([...new Set(where)].filter((one) => one !== "event" && !types.includes(one))).toEqual([]);
    }
  });

  test("no reason is there for nobody", () => {
    const used = sources("src").join("\n");
    const isGiven = (name: string) => new RegExp(`\\bREASONS\\.${name}\\b`).test(used);
    const isRollback = (name: string) => ROLLBACK_REASONS.some((reason) => reason === name);
    expect(Object.keys(REASONS).filter((name) => !isGiven(name) && !isRollback(name))).toEqual([]);
  });
});

describe("metrics.md", () => {
  const document = read("docs/reference/metrics.md");
  const rows = rowsOf(document, "metric");

  test("the table has every metric with its type and labels, and no others", () => {
    const told = rows.map(([name, type, labels]) => ({
      name: nameIn(name),
      type,
      labels: codeIn(labels ?? ""),
    }));
    const declared = Object.entries(metrics).map(([name, { type, labels }]) => ({
      name,
      type,
      labels: [...labels],
    }));
    expect(told.sort(byName)).toEqual(declared.sort(byName));
  });

  test("a star marks exactly the metrics that nobody writes", () => {
    const starred = rows.flatMap(([name = ""]) => (name.endsWith("*") ? [nameIn(name)] : []));
    const written = globSync("src/**/*.ts", { cwd: ROOT })
      .filter((path) => !path.endsWith(".test.ts") && !path.endsWith("telemetry/metrics.ts"))
      .map(read)
      .join("\n");
    const idle = Object.keys(metrics).filter((name) => !written.includes(`"${name}"`));
    expect(starred.sort()).toEqual(idle.sort());
  });

  test("queries name metrics and labels that exist", () => {
    expect(seriesIn(document).length).toBeGreaterThan(Object.keys(metrics).length);
    expect(straysIn(document)).toEqual([]);
  });
});

describe("settings.md", () => {
  const document = read("docs/reference/settings.md");

  test("the operator's flags, variables and defaults are those of --help", () => {
    const help = helpOf(parseOperatorSettings(["--help"], {}, { name: "host", random: "0" }));
    const told = rowsOf(section(document, "Operator"), "flag").map(([flag, variable, fallback]) =>
      [nameIn(flag), nameIn(variable), nameIn(fallback)].join(" "),
    );
    const flags = flagsIn(help).map(({ flag, fallback }) =>
      [flag, `EDGEFLEET_${flag.slice(2).toUpperCase().replaceAll("-", "_")}`, fallback].join(" "),
    );
    expect(told).toEqual(flags);
    const secrets = rowsOf(section(document, "Operator"), "variable").map(([name]) => nameIn(name));
    expect(secrets).toEqual([...help.matchAll(/^ {2}(EDGEFLEET_\w+)/gm)].map(([, name]) => name));
  });

  test("the verifier's flags and defaults are those of --help", () => {
    const help = helpOf(parseSettings(["--help"]));
    const told = rowsOf(section(document, "Verifier"), "flag").map(([flag, fallback]) => ({
      flag: nameIn(flag),
      fallback: nameIn(fallback),
    }));
    expect(told).toEqual(flagsIn(help));
  });
});

describe("cli.md", () => {
  const document = read("docs/cli.md");
  /** Flags of the tables of a section, those of `a … b` left out. */
  const told = (heading: string) =>
    rowsOf(section(document, heading), "flag")
      .filter(([cell = ""]) => !cell.includes("…"))
      .flatMap(([cell = ""]) => codeIn(cell).filter((code) => code.startsWith("--")));

  test("the flags of verify are those of its help", () => {
    expect(told("Verify").sort()).toEqual(
      Object.keys(allFlags(VERIFY_FLAGS.groups))
        .map((name) => `--${name}`)
        .sort(),
    );
  });

  test("the flags of release new are those of its help; bounds are told once", () => {
    const bounds = Object.keys(allFlags(BOUND_FLAGS));
    const own = Object.keys(allFlags(RELEASE_FLAGS.groups)).filter((name) => !bounds.includes(name));
    expect(told("Write a release").sort()).toEqual(own.map((name) => `--${name}`).sort());
  });
});

describe("verifier.md", () => {
  test("its table has the checks, in the order in which they are made", () => {
    const named = rowsOf(read("docs/verifier.md"), "check").map(([name]) => name);
    expect(named).toEqual([...CHECK_NAMES, "any"]);
  });
});

describe("limits.md", () => {
  const fields = rowsOf(read("docs/limits.md"), "field").map(([field]) => nameIn(field));

  test("the fields that are said not to exist do not exist", () => {
    expect(fields.length).toBeGreaterThan(10);
    expect(fields.filter((field) => isInSchema(field))).toEqual([]);
  });

  test("but the field that would hold them does: the table is about this API", () => {
    const parents = fields.map((field) => field.slice(0, field.lastIndexOf(".")));
    expect(parents.filter((parent) => !isInSchema(parent))).toEqual([]);
  });
});

describe("ADR 10", () => {
  test("names every package that package.json names", () => {
    const text = read("docs/adr/0010-dependencies.md");
    const manifest = JSON.parse(read("package.json")) as Readonly<
      Record<string, Readonly<Record<string, string>> | undefined>
    >;
    const names = ["dependencies", "optionalDependencies", "devDependencies"].flatMap((group) =>
      Object.keys(manifest[group] ?? {}),
    );
    expect(names.length).toBeGreaterThan(10);
    expect(names.filter((name) => !new RegExp(`(^|[\\s(|])${name}(?=[\\s,)|])`, "m").test(text))).toEqual([]);
  });
});

describe("map.md", () => {
  test("has every room and every main of src, and every folder of the repository with code in it", () => {
    const [, table = ""] = /\| room \|.*\n([\s\S]*?)\n\n/.exec(read("docs/map.md")) ?? [];
    const named = table.split("\n").flatMap((row) => codeIn(row.split("|")[1] ?? ""));
    const rooms = globSync("src/*/", { cwd: ROOT }).map((path) => `${path.replace(/\/$/, "")}/`);
    const mains = globSync("src/*.ts", { cwd: ROOT }).filter((path) => !path.endsWith(".test.ts"));
    const folders = globSync("*/**/*.ts", { cwd: ROOT, exclude: (path) => SKIPPED.test(path) })
      .map((path) => `${path.split("/")[0]}/`)
      .filter((folder) => folder !== "src/");
    expect(named.sort()).toEqual([...new Set([...rooms, ...mains, ...folders])].sort());
  });
});

describe("extending.md", () => {
  test("what it names of the code is there, but for what its examples add", () => {
    const words = new Set(SOURCES.flatMap((path) => read(path).match(/[A-Za-z_]\w+/g) ?? []));
    const named = codeIn(withoutFences(read("docs/extending.md"))).filter((code) =>
      /^(?!EDGEFLEET_)(?:[a-z]+[A-Z]\w*|[A-Z]+(?:_[A-Z]+)+|[A-Z][a-z]+[A-Z]\w*)$/.test(code),
    );
    expect(named.length).toBeGreaterThan(25);
    expect(named.filter((name) => !words.has(name) && !EXAMPLES.has(name))).toEqual([]);
  });

  test("the functions that its examples call are there", () => {
    const declared = new Set(
      SOURCES.flatMap((path) => [...read(path).matchAll(/\b(?:function|const) (\w+)/g)]).map(
        ([, name]) => name,
      ),
    );
    const examples = read("docs/extending.md").match(/^ *```ts\n[\s\S]*?^ *```$/gm) ?? [];
    expect(examples.length).toBeGreaterThan(8);
    const called = examples.flatMap((text) => [...text.matchAll(/(?<![.\w])(?!function )(\w+)\(/g)]);
    const own = examples.flatMap((text) => [...text.matchAll(/\bfunction (\w+)/g)]).map(([, name]) => name);
    const known = [...own, "expect", "test"];
    expect(
      called.map(([, name]) => name).filter((name) => !declared.has(name) && !known.includes(name)),
    ).toEqual([]);
  });
});

describe.each(documents)("$path", ({ path, text }) => {
  test("its links lead somewhere", () => {
    const targets = [...withoutFences(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target);
    expect(targets.filter((target) => !leadsSomewhere(path, target))).toEqual([]);
  });

  test("the files that it names exist", () => {
    const named = codeIn(withoutFences(text)).filter((code) =>
      /^[\w.-]+(?:\/[\w.-]+)+\.(?:ts|md|json|yaml|onnx|npz)$/.test(code),
    );
    const homes = ["", "src", "simulator", "examples/models", "examples/models/files", dirname(path)];
    expect(named.filter((file) => !homes.some((home) => existsSync(join(ROOT, home, file))))).toEqual([]);
  });

  test("the files that it names without their folder exist somewhere", () => {
    const named = codeIn(withoutFences(text)).filter((code) => /^[\w.-]+\.ts$/.test(code));
    expect(named.filter((file) => !FILE_NAMES.has(file) && !EXAMPLES.has(file))).toEqual([]);
  });

  test("the scripts and targets that it says to run exist", () => {
    const code = [...codeIn(withoutFences(text)), ...fencedLines(text)].join("\n");
    const makes = [...code.matchAll(/^(?:\$ )?make ([a-z-]+)/gm)].map(([, target = ""]) => target);
    const scripts = [...code.matchAll(/\bnode (?!-)([\w./-]+\.ts)/g)].map(([, script = ""]) => script);
    const npm = [...code.matchAll(/\bnpm run (?:--silent )?([\w:-]+)/g)].map(([, script = ""]) => script);
    const targets = [...read("Makefile").matchAll(/^([a-z-]+):/gm)].map(([, target]) => target);
    const { scripts: known } = JSON.parse(read("package.json")) as {
      scripts: Readonly<Record<string, string>>;
    };
    expect(makes.filter((target) => !targets.includes(target))).toEqual([]);
    expect(npm.filter((script) => !(script in known))).toEqual([]);
    const homes = ["", dirname(path)];
    expect(scripts.filter((script) => !homes.some((home) => existsSync(join(ROOT, home, script))))).toEqual(
      [],
    );
  });

  test("it names no folder of somebody's machine", () => {
    expect(text.match(/(?<![\w.~>])\/(?:work|tmp|home|root|Users|mnt|private)\/[^\s`)]*/g) ?? []).toEqual([]);
  });

  test("somebody can find it", () => {
    const linked = documents
      .filter((other) => other.path !== path)
      .flatMap((other) =>
        [...other.text.matchAll(/\]\(([^)\s#]+)/g)].map(([, target = ""]) =>
          join(dirname(other.path), target),
        ),
      );
    const known = linked.map((target) => (target.endsWith("/") ? `${target}README.md` : target));
    expect(path === "README.md" || known.includes(path)).toBe(true);
  });
});

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

function sources(folder: string): readonly string[] {
  return globSync(`${folder}/**/*.ts`, { cwd: ROOT })
    .filter((path) => !path.endsWith(".test.ts"))
    .map(read);
}

/** The text under a heading of the second level. */
function section(document: string, heading: string): string {
  const found = document.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  if (found === undefined) throw new Error(`there is no section ${heading}`);
  return found;
}

/** The cells of every row of the tables whose first column has that heading. */
function rowsOf(text: string, first: string): readonly (readonly string[])[] {
  const tables = [...text.matchAll(/^(\|.*\|)\n\|[-| :]+\|\n((?:\|.*\|\n?)*)/gm)].filter(
    ([, head = ""]) => cellsOf(head)[0] === first,
  );
  const rows = tables.flatMap(([, , body = ""]) => body.trimEnd().split("\n").map(cellsOf));
  if (rows.length === 0) throw new Error(`there is no table of ${first}`);
  return rows;
}

function cellsOf(row: string): readonly string[] {
  return row
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim());
}

function codeIn(text: string): string[] {
  return [...text.matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => code);
}

function nameIn(cell: string | undefined): string {
  return codeIn(cell ?? "")[0] ?? "";
}

/** Words that are given as types of conditions; `Normal` and `Warning` are types of events. */
/** What makes the report of a kind: all of its folder, or the one file. */
function reportIn(folder: string): string {
  return folder.endsWith("/report") ? sources(`src/${folder}`).join("\n") : read(`src/${folder}/report.ts`);
}

function conditionTypesIn(source: string): readonly string[] {
  const lines = source.match(/^.*(?:\btype: |\bdraft\().*$|^\s*"[A-Z]\w+",\s*$/gm) ?? [];
  const words = lines.flatMap((line) =>
    [...line.matchAll(/(?:\btype: |\bdraft\()([^,)]*)|^\s*("[A-Z]\w+"),/g)].flatMap(([, given, alone]) => [
      ...`${given ?? ""}${alone ?? ""}`.matchAll(/"([A-Z]\w+)"/g),
    ]),
  );
  const others = new Set(["Normal", "Warning", "True", "False", "Unknown"]);
  return [...new Set(words.map(([, word = ""]) => word))].filter((word) => !others.has(word)).sort();
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}

function helpOf(parsed: { readonly kind: string; readonly text?: string }): string {
  if (parsed.text === undefined) throw new Error("there is no help");
  return parsed.text;
}

function flagsIn(help: string): readonly { readonly flag: string; readonly fallback: string }[] {
  return [...help.matchAll(/^ {2}(--[a-z-]+) .*$/gm)].map(([line, flag = ""]) => ({
    flag,
    fallback: /\(default ([^)]*)\)$/.exec(line)?.[1] ?? "",
  }));
}

type Schema = { readonly properties?: Readonly<Record<string, Schema>>; readonly items?: Schema };

/** `idep.spec.strategy.steps[].hold`: a short name of a kind, then a path into its schema. */
function isInSchema(field: string): boolean {
  const [short = "", ...path] = field.split(".");
  let at = schemas.get(short);
  if (at === undefined) throw new Error(`no kind is called ${short}`);
  for (const part of path) {
    at = at?.properties?.[part.replace("[]", "")];
    if (part.endsWith("[]")) at = at?.items;
  }
  return at !== undefined;
}

function readSchemas(): ReadonlyMap<string, Schema> {
  const crds = globSync("crds/*.yaml", { cwd: ROOT }).map(
    (file) =>
      parse(read(file)) as {
        readonly spec: {
          readonly names: { readonly shortNames: readonly string[] };
          readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[];
        };
      },
  );
  return new Map(
    crds.map(({ spec }) => [spec.names.shortNames[0] ?? "", spec.versions[0]?.schema.openAPIV3Schema ?? {}]),
  );
}

function withoutFences(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```/gm, "");
}

function fencedLines(text: string): readonly string[] {
  return [...text.matchAll(/^```(?:sh|console|bash|text)?\n([\s\S]*?)^```/gm)].flatMap(([, body = ""]) =>
    body.split("\n"),
  );
}

function leadsSomewhere(from: string, target: string): boolean {
  if (/^(?:https?|mailto):/.test(target)) return true;
  const [file = "", anchor] = target.split("#");
  const path = file === "" ? from : join(dirname(from), file);
  if (!existsSync(join(ROOT, path))) return false;
  if (anchor === undefined) return true;
  const headings = [...withoutFences(read(path)).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => heading);
  return headings.some((heading) => anchorOf(heading) === anchor);
}

function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, "")
    .replaceAll(/\s/g, "-");
}
