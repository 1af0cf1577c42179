import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, expect, test } from "vitest";
import { openStateFile, type StateFile } from "./state-file.ts";

const directory = mkdtempSync(join(tmpdir(), "simulator-state-file-"));
let files = 0;

afterAll(() => rmSync(directory, { recursive: true, force: true }));

function newFile(): string {
  files += 1;
  return join(directory, `${files}.state`);
}

function open(path: string): StateFile {
  const opened = openStateFile(path);
  if (!opened.ok) throw new Error(opened.problem);
  return opened.file;
}

function problemOf(path: string): string {
  const opened = openStateFile(path);
  if (!opened.ok) return opened.problem;
  opened.file.close();
  return "none";
}

function filled(): string {
  const path = newFile();
  const file = open(path);
  file.write(
    Array.from({ length: 200 }, (_, at) => ({
      kind: "twin",
      name: `cam-${at}`,
      value: { text: "x".repeat(500) },
      recreated: false,
    })),
  );
  file.close();
  return path;
}

test("records come back in the order in which they were made; one made again is the last", () => {
  const path = newFile();
  const file = open(path);
  expect(file.isNew).toBe(true);
  const put = (name: string, at: number, recreated = false) => ({
    kind: "twin",
    name,
    value: { at },
    recreated,
  });
  file.write([put("a", 1), put("b", 2), put("c", 3)]);
  file.write([put("a", 4), { ...put("b", 5), value: null }]);
  file.write([put("b", 6), put("a", 7, true)]);
  file.close();
  const again = open(path);
  expect(again.isNew).toBe(false);
  expect(again.read("twin")).toEqual([
    { name: "c", value: { at: 3 } },
    { name: "b", value: { at: 6 } },
    { name: "a", value: { at: 7 } },
  ]);
  expect(again.read("identity")).toEqual([]);
  again.close();
});

test("a write that fails has written nothing", () => {
  const path = newFile();
  const file = open(path);
  const endless: Record<string, unknown> = {};
  endless["self"] = endless;
  const change = { kind: "twin", name: "a", value: {}, recreated: false };
  expect(() => file.write([change, { ...change, name: "b", value: endless }])).toThrow("circular");
  expect(file.read("twin")).toEqual([]);
  file.write([change]);
  expect(file.read("twin")).toHaveLength(1);
  file.close();
});

test("only the owner can read it, for it holds keys", () => {
  const path = newFile();
  writeFileSync(path, "");
  chmodSync(path, 0o644);
  const file = open(path);
  file.write([{ kind: "twin", name: "a", value: {}, recreated: false }]);
  for (const end of ["", "-wal"]) expect(statSync(path + end).mode & 0o777).toBe(0o600);
  file.close();
});

test("a second simulator is kept out for as long as the first runs", () => {
  const path = newFile();
  const file = open(path);
  expect(problemOf(path)).toMatch(/in use by another simulator: stop that one, or name another file$/);
  file.close();
  expect(problemOf(path)).toBe("none");
});

test.each<[string, (path: string) => void, string]>([
  [
    "of another kind",
    (path) => writeFileSync(path, "- a: b\n".repeat(50)),
    "is not a state of the simulator",
  ],
  ["cut off", (path) => truncateSync(path, 60), "is not a state of the simulator"],
  ["cut in half", (path) => truncateSync(path, statSync(path).size / 2), "is damaged"],
  ["damaged in the middle", (path) => overwrite(path, 40_000), "is damaged"],
  ["of a newer simulator", (path) => alter(path, "PRAGMA user_version = 9"), "newer simulator (format 9"],
  ["of another program", (path) => alter(path, "PRAGMA application_id = 7"), "another program"],
])("a file %s is refused, and left as it is", (_, change, problem) => {
  const path = filled();
  change(path);
  const before = readFileSync(path);
  expect(problemOf(path)).toContain(`${path} `);
  expect(problemOf(path)).toContain(problem);
  expect(readFileSync(path).equals(before)).toBe(true);
});

test("a place where no file can be is reported as such", () => {
  expect(problemOf(directory)).toContain("is a directory");
  expect(problemOf(join(directory, "missing", "a.state"))).toContain("its directory is not there");
});

function overwrite(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes.fill(0xa5, at, at + 6000);
  writeFileSync(path, bytes);
}

function alter(path: string, statement: string): void {
  const database = new DatabaseSync(path);
  database.exec(statement);
  database.close();
}
