import { globSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import {
  isExportDeclaration,
  isImportDeclaration,
  isNoSubstitutionTemplateLiteral,
  isStringLiteral,
  isTemplateExpression,
  type Node,
} from "typescript/unstable/ast";
import { API } from "typescript/unstable/sync";
import { expect, test } from "vitest";
import { isMap, isPair, isScalar, LineCounter, parseDocument, visit } from "yaml";
import { bannedWordsIn } from "./builders/wording.ts";

// What users read is plain English: messages and help texts of the programs, descriptions and rules of the API, the
// targets of the Makefile. The list of words, with what to write instead, is in builders/wording.ts.

const ROOT = join(import.meta.dirname, "..");
const ROOMS = ["src/", "cli/", "simulator/", "tools/", "bench/"];

type Text = { readonly line: number; readonly text: string };

test("no message or help text of a program has a banned word", { timeout: 120_000 }, () => {
  const api = new API({ cwd: ROOT });
  try {
    const [project] = api.updateSnapshot({ openProjects: ["tsconfig.json"] }).getProjects();
    const paths = (project?.program.getSourceFileNames() ?? [])
      .map((path) => relative(ROOT, path))
      .filter((path) => ROOMS.some((room) => path.startsWith(room)) && !path.endsWith(".test.ts"));
    expect(paths.length).toBeGreaterThan(80);
    const found = paths.flatMap((path) => {
      const file = project?.program.getSourceFile(join(ROOT, path));
      if (file === undefined) throw new Error(`the compiler does not know ${path}`);
      return complaints(path, messagesIn(file, file.text));
    });
    expect(found).toEqual([]);
  } finally {
    api.close();
  }
});

test("no description, message or column of the API has a banned word", () => {
  const paths = globSync("crds/*.yaml", { cwd: ROOT });
  expect(paths.length).toBeGreaterThan(2);
  expect(paths.flatMap((path) => complaints(path, proseIn(read(path))))).toEqual([]);
});

test("no help text of the Makefile has a banned word", () => {
  const lines = read("Makefile").split("\n");
  const help = lines.flatMap((text, index) =>
    /##|echo|printf/.test(text) ? [{ line: index + 1, text }] : [],
  );
  expect(help.length).toBeGreaterThan(3);
  expect(complaints("Makefile", help)).toEqual([]);
});

test.each([
  ["it was told to stop, and told again", ["told", "told"]],
  ["it will be tried again by itself", ["tried again", "by itself"]],
  ["Somebody's lock; whoever holds it must end", ["Somebody", "whoever"]],
  ["12x is no size", ["is no"]],
  ["there is no such release, and the lock is no longer held", []],
  ["an untold retelling", []],
])("%s", (text, words) => {
  expect(bannedWordsIn(text).map(({ word }) => word)).toEqual(words);
});

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

function complaints(path: string, texts: readonly Text[]): readonly string[] {
  return texts.flatMap(({ line, text }) =>
    bannedWordsIn(text).map(({ word, instead, index }) => {
      const at = line + (text.slice(0, index).match(/\n/g) ?? []).length;
      return `${path}:${at}: "${word}": write ${instead}`;
    }),
  );
}

/** String and template literals that have a space: what has none is a name, a key or a value. */
function messagesIn(file: Node, source: string): readonly Text[] {
  const found: Text[] = [];
  const add = (node: Node): void => {
    const text = source.slice(node.pos, node.end);
    found.push({ line: source.slice(0, node.pos).split("\n").length, text: withoutTrivia(text) });
  };
  const look = (node: Node): undefined => {
    if (isImportDeclaration(node) || isExportDeclaration(node)) return;
    if (isStringLiteral(node) || isNoSubstitutionTemplateLiteral(node)) {
      if (node.text.trim().includes(" ")) add(node);
      return;
    }
    if (isTemplateExpression(node)) {
      const parts = [node.head, ...node.templateSpans.map(({ literal }) => literal)];
      if (parts.some(({ text }) => text.includes(" "))) parts.forEach(add);
    }
    node.forEachChild(look);
  };
  look(file);
  return found;
}

/** Without the comments and blanks before a literal, line by line, so that lines can still be counted. */
function withoutTrivia(text: string): string {
  const start = /^(?:\s|\/\/[^\n]*|\/\*[\s\S]*?\*\/)*/.exec(text)?.[0] ?? "";
  return "\n".repeat(start.split("\n").length - 1) + text.slice(start.length);
}

function proseIn(yaml: string): readonly Text[] {
  const lines = new LineCounter();
  const found: Text[] = [];
  visit(parseDocument(yaml, { lineCounter: lines }), {
    Map: (_key, map) => {
      if (!isMap(map)) return;
      for (const pair of map.items)
        if (isPair(pair) && isScalar(pair.key) && ["description", "message"].includes(String(pair.key.value)))
          if (isScalar(pair.value) && typeof pair.value.value === "string")
            found.push({ line: lines.linePos(pair.key.range?.[0] ?? 0).line, text: pair.value.value });
    },
  });
  return found;
}
