import { isObject, type JsonValue } from "../../base/json.ts";

/** Root attribute first, in the spelling of the hub: `deviceId`, `tags.site`, `properties.reported.x`. */
export type Path = readonly string[];

export type Comparison = "=" | "!=" | "<" | "<=" | ">" | ">=";
export type Arithmetic = "+" | "-" | "*" | "/" | "%";

export type Expression =
  | { readonly kind: "literal"; readonly value: JsonValue }
  | { readonly kind: "path"; readonly path: Path }
  | { readonly kind: "not"; readonly inner: Expression }
  | { readonly kind: "and" | "or"; readonly left: Expression; readonly right: Expression }
  | {
      readonly kind: "compare";
      readonly operator: Comparison;
      readonly left: Expression;
      readonly right: Expression;
    }
  | {
      readonly kind: "calculate";
      readonly operator: Arithmetic;
      readonly left: Expression;
      readonly right: Expression;
    }
  | {
      readonly kind: "in";
      readonly negated: boolean;
      readonly subject: Expression;
      readonly list: readonly Expression[];
    }
  | { readonly kind: "call"; readonly name: FunctionName; readonly args: readonly Expression[] };

const FUNCTIONS = {
  IS_DEFINED: 1,
  IS_NULL: 1,
  IS_BOOL: 1,
  IS_NUMBER: 1,
  IS_STRING: 1,
  IS_OBJECT: 1,
  STARTSWITH: 2,
  STARTS_WITH: 2,
  ENDSWITH: 2,
  ENDS_WITH: 2,
  CONTAINS: 2,
  ARRAY_CONTAINS: 2,
} as const satisfies Readonly<Record<string, number>>;
export type FunctionName = keyof typeof FUNCTIONS;

/** `null` for a name that is no function; otherwise its proper spelling and its number of arguments. */
export function functionNamed(
  written: string,
): { readonly name: FunctionName; readonly takes: number } | null {
  const name = written.toUpperCase();
  return Object.hasOwn(FUNCTIONS, name)
    ? { name: name as FunctionName, takes: FUNCTIONS[name as FunctionName] }
    : null;
}

/** What an expression looks at: `undefined` where a twin has nothing at the path. */
export type Row = { readonly valueAt: (path: Path) => JsonValue | undefined };

/** `undefined` is "not known": a comparison with something that is missing, and everything that hangs on it. */
export type Evaluate = (row: Row) => JsonValue | undefined;

/** AND (decided by false) and OR (decided by true): one side that decides is enough, also where the other is not known. */
function decided(
  { left, right }: { readonly left: Expression; readonly right: Expression },
  by: boolean,
): Evaluate {
  const sides = [compile(left), compile(right)];
  return (row) => {
    let isKnown = true;
    for (const side of sides) {
      const value = side(row);
      if (value === by) return by;
      if (value !== !by) isKnown = false;
    }
    return isKnown ? !by : undefined;
  };
}

/** Turns an expression into a function once, so that ten thousand rows cost ten thousand calls. */
export function compile(expression: Expression): Evaluate {
  switch (expression.kind) {
    case "literal": {
      const { value } = expression;
      return () => value;
    }
    case "path": {
      const { path } = expression;
      return (row) => row.valueAt(path);
    }
    case "not": {
      const inner = compile(expression.inner);
      return (row) => {
        const value = inner(row);
        return typeof value === "boolean" ? !value : undefined;
      };
    }
    case "and":
      return decided(expression, false);
    case "or":
      return decided(expression, true);
    case "compare": {
      const { operator } = expression;
      const left = compile(expression.left);
      const right = compile(expression.right);
      return (row) => compare(operator, left(row), right(row));
    }
    case "calculate": {
      const { operator } = expression;
      const left = compile(expression.left);
      const right = compile(expression.right);
      return (row) => calculate(operator, left(row), right(row));
    }
    case "in": {
      const { negated } = expression;
      const subject = compile(expression.subject);
      const list = expression.list.map(compile);
      return (row) => {
        const value = subject(row);
        if (value === undefined) return undefined;
        const found = list.some((item) => compare("=", value, item(row)) === true);
        return found !== negated;
      };
    }
    case "call":
      return compileCall(expression.name, expression.args.map(compile));
  }
}

/** Only operands of one type compare; numbers by value, text by code units, booleans for equality only. */
function compare(
  operator: Comparison,
  left: JsonValue | undefined,
  right: JsonValue | undefined,
): boolean | undefined {
  if (left === undefined || right === undefined) return undefined;
  if (typeof left !== typeof right || isObject(left) || isObject(right)) return undefined;
  if (Array.isArray(left) || Array.isArray(right)) return undefined;
  switch (operator) {
    case "=":
      return left === right;
    case "!=":
      return left !== right;
    case "<":
      return isOrdered(left) && isOrdered(right) ? left < right : undefined;
    case "<=":
      return isOrdered(left) && isOrdered(right) ? left <= right : undefined;
    case ">":
      return isOrdered(left) && isOrdered(right) ? left > right : undefined;
    case ">=":
      return isOrdered(left) && isOrdered(right) ? left >= right : undefined;
  }
}

function isOrdered(value: JsonValue): value is number | string {
  return typeof value === "number" || typeof value === "string";
}

function calculate(
  operator: Arithmetic,
  left: JsonValue | undefined,
  right: JsonValue | undefined,
): number | undefined {
  if (typeof left !== "number" || typeof right !== "number") return undefined;
  switch (operator) {
    case "+":
      return left + right;
    case "-":
      return left - right;
    case "*":
      return left * right;
    case "/":
      return right === 0 ? undefined : left / right;
    case "%":
      return right === 0 ? undefined : left % right;
  }
}

function compileCall(name: FunctionName, args: readonly Evaluate[]): Evaluate {
  const [first = () => undefined, second = () => undefined] = args;
  const ofText = (test: (text: string, part: string) => boolean): Evaluate => {
    return (row) => {
      const text = first(row);
      const part = second(row);
      return typeof text === "string" && typeof part === "string" ? test(text, part) : undefined;
    };
  };
  switch (name) {
    case "IS_DEFINED":
      return (row) => first(row) !== undefined;
    case "IS_NULL":
      return (row) => first(row) === null;
    case "IS_BOOL":
      return (row) => typeof first(row) === "boolean";
    case "IS_NUMBER":
      return (row) => typeof first(row) === "number";
    case "IS_STRING":
      return (row) => typeof first(row) === "string";
    case "IS_OBJECT":
      return (row) => isObject(first(row));
    case "STARTSWITH":
    case "STARTS_WITH":
      return ofText((text, part) => text.startsWith(part));
    case "ENDSWITH":
    case "ENDS_WITH":
      return ofText((text, part) => text.endsWith(part));
    case "CONTAINS":
      return ofText((text, part) => text.includes(part));
    case "ARRAY_CONTAINS":
      return (row) => {
        const list = first(row);
        const item = second(row);
        if (!Array.isArray(list) || item === undefined) return undefined;
        return list.some((inner: JsonValue) => compare("=", inner, item) === true);
      };
  }
}
