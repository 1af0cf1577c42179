import { join, relative } from "node:path";
import {
  type ElementAccessExpression,
  isBinaryExpression,
  isDeleteExpression,
  isElementAccessExpression,
  type Node,
  SyntaxKind,
} from "typescript/unstable/ast";
import { API, type Type, TypeFlags } from "typescript/unstable/sync";
import { expect, test } from "vitest";

// Every object inherits `constructor`, `toString` and their like, and an assignment to `__proto__` changes what it
// inherits. So a name that is only known at run time indexes no object, wherever it comes from: the compiler is asked about
// the type of every index, and `own`, `setOwn` and `dictionary` (in the simulator `ownValue` and `setKey`) are the way.

const ROOT = join(import.meta.dirname, "..");
/** The helpers themselves. */
const HELPERS = ["src/base/lookup.ts", "simulator/base/json.ts"];
const PROBE = "test/builders/indexing.ts";

const api = new API({ cwd: ROOT });
const [project] = api.updateSnapshot({ openProjects: ["tsconfig.json"] }).getProjects();
if (project === undefined) throw new Error("the compiler did not open tsconfig.json");
const { program, checker } = project;

test("no object is indexed by a name that is known at run time only", { timeout: 120_000 }, () => {
  const sources = program
    .getSourceFileNames()
    .map((path) => relative(ROOT, path))
    .filter((path) => /^(?:src|simulator|cli)\//.test(path) && !path.endsWith(".test.ts"));
  expect(sources.length).toBeGreaterThan(200);
  expect(sources.filter((path) => !HELPERS.includes(path)).flatMap(indexedIn)).toEqual([]);
});

test("the compiler finds each form of it", () => {
  expect(indexedIn(PROBE).map((found) => found.replace(/^.*?: /, ""))).toEqual([
    "written[name]",
    "byName[name]",
    "byName[name.trim()]",
    "maybe?.[name]",
    "untyped[name]",
    "name in byName",
  ]);
});

function indexedIn(path: string): readonly string[] {
  const file = program.getSourceFile(join(ROOT, path));
  if (file === undefined) throw new Error(`the compiler does not know ${path}`);
  const found: { readonly node: Node; readonly key: Node; readonly object: Node | null }[] = [];
  const visit = (node: Node): undefined => {
    // To delete what an object itself has is safe: what it inherits stays.
    if (isDeleteExpression(node) && isElementAccessExpression(node.expression))
      return visit(node.expression.expression);
    if (isElementAccessExpression(node)) found.push(indexOf(node));
    if (isBinaryExpression(node) && node.operatorToken.kind === SyntaxKind.InKeyword)
      found.push({ node, key: node.left, object: null });
    node.forEachChild(visit);
  };
  visit(file);
  const keys = found.length === 0 ? [] : checker.getTypeAtLocation(found.map(({ key }) => key));
  return found.flatMap(({ node, object }, at) => {
    if (!isAnyName(keys[at])) return [];
    if (object !== null && checker.getTypeAtLocation(object)?.getAliasSymbol()?.name === "Dictionary")
      return [];
    const line = file.text.slice(0, node.getStart(file)).split("\n").length;
    return [`${path}:${line}: ${node.getText(file).replaceAll(/\s+/g, " ")}`];
  });
}

function indexOf(node: ElementAccessExpression) {
  return { node, key: node.argumentExpression, object: node.expression };
}

/** Whether the type is more than a few names that stand in the source. */
function isAnyName(type: Type | undefined): boolean {
  if (type === undefined) return true;
  if ((type.flags & (TypeFlags.Union | TypeFlags.Intersection)) !== 0)
    return (type as { getTypes?: () => readonly Type[] | undefined }).getTypes?.()?.some(isAnyName) ?? true;
  return (type.flags & (TypeFlags.String | TypeFlags.TemplateLiteral | TypeFlags.Any)) !== 0;
}
