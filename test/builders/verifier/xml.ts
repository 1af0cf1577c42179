/** An element of an XML document. */
export type XmlElement = {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  /** All text directly inside it. */
  readonly text: string;
};

type Open = {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: XmlElement[];
  text: string;
};

const NAME = "[A-Za-z_][\\w.-]*";
const ATTRIBUTE = `\\s+(${NAME})="([^"<]*)"`;
const TOKEN = new RegExp(`<(${NAME})((?:${ATTRIBUTE})*)\\s*(/?)>|</(${NAME})>|([^<]+)`, "y");
const DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n';
/** What XML 1.0 can hold. */
const CHARACTERS = /^[\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]*$/u;
const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/** Strict on what it knows: elements, attributes in double quotes and text. It throws on everything else. */
export function parseXml(document: string): XmlElement {
  if (!document.startsWith(DECLARATION)) throw new Error("it does not begin with its declaration");
  if (!document.isWellFormed() || !CHARACTERS.test(document))
    throw new Error("there is a character that XML cannot hold");
  const body = document.slice(DECLARATION.length).trimEnd();
  const top: Open = { name: "", attributes: {}, children: [], text: "" };
  const stack: Open[] = [top];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < body.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(body);
    const here = stack.at(-1);
    if (match === null || here === undefined) throw new Error(`not XML: ${body.slice(at, at + 40)}`);
    const [, start, attributes = "", , , empty, end, text] = match;
    if (text !== undefined) here.text += unescaped(text);
    if (start !== undefined) {
      const element: Open = { name: start, attributes: attributesOf(attributes), children: [], text: "" };
      here.children.push(element);
      if (empty !== "/") stack.push(element);
    }
    if (end !== undefined && stack.pop()?.name !== end) throw new Error(`</${end}> closes something else`);
  }
  const [root, second] = top.children;
  if (stack.length !== 1) throw new Error("an element is not closed");
  if (root === undefined || second !== undefined || top.text !== "")
    throw new Error("there must be one element around all");
  return root;
}

function attributesOf(written: string): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [, name = "", value = ""] of written.matchAll(new RegExp(ATTRIBUTE, "g"))) {
    if (name in found) throw new Error(`attribute ${name} is there twice`);
    found[name] = unescaped(value);
  }
  return found;
}

function unescaped(text: string): string {
  return text.replaceAll(/&(?:#(\d+);|(\w+);|)/g, (written, code?: string, name?: string) => {
    const char = code === undefined ? ENTITIES[name ?? ""] : String.fromCodePoint(Number(code));
    if (char === undefined) throw new Error(`${written} is no reference`);
    return char;
  });
}
