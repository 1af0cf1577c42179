import { Lexer } from "yaml";

// What our YAML library takes and the one of kubectl (libyaml's rules, in Go) refuses, found in the tokens of a document.

export type LexicalFault = { readonly offset: number; readonly message: string };

const SCALAR = "\u001f";
const DOCUMENT = "\u0002";
/** Stands for a bracket that is missing. */
const UNCLOSED = "\u0018";
const BLANK = /^[ \t]+$/;

export function lexicalFaults(text: string): readonly LexicalFault[] {
  const faults: LexicalFault[] = [];
  let offset = 0;
  let flow = 0;
  /** Whether a new key or item may begin here, and then only spaces may come before it. */
  let fresh = true;
  let isScalar = false;
  let started = false;
  for (const token of new Lexer().lex(text)) {
    if (token === SCALAR || token === DOCUMENT || token === UNCLOSED) {
      isScalar = token === SCALAR;
      continue;
    }
    if (token === "..." && !isScalar && started) break; // nothing behind it is read
    isScalar ||= /^["']/.test(token);
    const message =
      characterFault(token) ??
      (isScalar ? scalarFault(token, flow > 0) : indicatorFault(token, { flow, fresh, started }));
    if (message !== null) faults.push({ offset, message });
    if (!isScalar && "[{".includes(token)) flow += 1;
    if (!isScalar && "]}".includes(token)) flow = Math.max(0, flow - 1);
    if (isScalar) fresh = false;
    else if (!BLANK.test(token)) fresh = /^\n+$/.test(token) || token === "-" || token === "?";
    if (!BLANK.test(token) && !/^(\n|#)/.test(token)) started = true;
    isScalar = false;
    offset += token.length;
  }
  return faults;
}

function characterFault(token: string): string | null {
  if (/[\r\u0085\u2028\u2029]/.test(token)) return "a line may end in \\n or \\r\\n alone";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufeff\ufffe\uffff]/.test(token)
    ? "a control character: write it as an escape in double quotes"
    : null;
}

function scalarFault(token: string, inFlow: boolean): string | null {
  const [quote] = token;
  if (quote === '"') {
    if ([...token.matchAll(/\\./gs)].some(([written]) => written === "\\/"))
      return "\\/ is an escape of JSON alone: write / as it is";
    // Two escapes of UTF-16 are one character in JSON, and none in YAML.
    return /(?<!\\)(\\\\)*\\u[dD][89a-fA-F]/.test(token)
      ? "an escape of half a character: write the character itself, or \\U and eight digits"
      : null;
  }
  return inFlow && quote !== "'" && token.includes("?")
    ? "put a text with ? in quotes between brackets"
    : null;
}

function indicatorFault(
  token: string,
  at: { readonly flow: number; readonly fresh: boolean; readonly started: boolean },
): string | null {
  if (at.fresh && at.flow === 0 && BLANK.test(token) && token.includes("\t"))
    return "a tab cannot indent: use spaces";
  if (token.startsWith("%")) return "a directive is not read by kubectl: leave it out";
  if (token === "..." && !at.started) return "a document cannot end before it has begun";
  if (/^[&*]/.test(token) && !/^[&*][0-9A-Za-z_-]+$/.test(token))
    return `${token.slice(0, 40)} is not a name for an anchor: use letters, digits, - and _`;
  return null;
}
