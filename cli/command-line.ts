import { parseArgs } from "node:util";
import { nearest } from "../simulator/base/nearest.ts";
import { own } from "../src/base/lookup.ts";

// Flags as every command of the program has them: a table of them is what is understood, and what the help shows.

export type Flag = {
  /** What stands for the value in the help; `null`: a switch without one. */
  readonly value: string | null;
  readonly help: string;
  readonly short?: string;
  /** It may be given again, and each value counts. */
  readonly repeats?: true;
};

/** Flags by subject, as the help shows them. */
export type FlagGroups = Readonly<Record<string, Readonly<Record<string, Flag>>>>;

export type Arguments = {
  /** Every value of each flag that was given; a switch has one empty value. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
  readonly problems: readonly string[];
};

export const HELP: Flag = { value: null, help: "print this and end", short: "h" };

/** `--name value`, `--name=value`, `-n value`; what is not known is told with what may have been meant. */
export function readArguments(args: readonly string[], groups: FlagGroups): Arguments {
  const flags = flagsOf(groups);
  const values = new Map<string, string[]>();
  const positionals: string[] = [];
  const problems: string[] = [];
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      Object.entries(flags).map(([name, { value, short }]) => [
        name,
        { type: value === null ? "boolean" : "string", ...(short === undefined ? {} : { short }) },
      ]),
    ),
    strict: false,
    tokens: true,
  });
  let strayValue = -1;
  for (const token of tokens) {
    if (token.kind === "positional" && token.index !== strayValue) positionals.push(token.value);
    if (token.kind !== "option") continue;
    const { name, rawName: shown, value } = token;
    const flag = Object.hasOwn(flags, name) ? own(flags, name) : undefined;
    if (flag === undefined) {
      const near = nearest(name, Object.keys(flags));
      problems.push(`${shown} is not known${near === null ? "" : `; did you mean --${near}?`}`);
      // What follows is its value and no file, unless a switch was meant.
      if (near === null || own(flags, near)?.value !== null) strayValue = token.index + 1;
      continue;
    }
    const known = values.get(name);
    const fault = faultOf(flag, token.inlineValue === true, value);
    if (fault !== null) problems.push(`${shown} ${fault}`);
    else if (known === undefined) values.set(name, [value ?? ""]);
    else if (flag.repeats === true) known.push(value ?? "");
    else if (flag.value !== null) problems.push(`${shown} is given more than once`);
  }
  return { values, positionals, problems };
}

function faultOf(flag: Flag, inline: boolean, value: string | undefined): string | null {
  if (flag.value === null) return value === undefined ? null : "takes no value";
  if (value === undefined || value === "") return `needs a value: ${flag.value}`;
  return !inline && value.startsWith("--") ? `needs a value: ${flag.value}, not the flag ${value}` : null;
}

/** `; did you mean golden?`, or nothing where no name is near. */
export function suggestion(written: string, names: readonly string[]): string {
  const near = nearest(written, names);
  return near === null ? "" : `; did you mean ${near}?`;
}

export function flagNames(groups: FlagGroups): readonly string[] {
  return Object.keys(flagsOf(groups));
}

function flagsOf(groups: FlagGroups): Readonly<Record<string, Flag>> {
  return Object.assign({}, ...Object.values(groups)) as Readonly<Record<string, Flag>>;
}

const LEFT = 36;

/** The part of a help that tells the flags. */
export function flagsHelp(groups: FlagGroups): readonly string[] {
  return Object.entries(groups).flatMap(([title, flags]) => [
    `${title}:`,
    ...Object.entries(flags).map(([name, { value, short, help }]) =>
      row(`${short === undefined ? "" : `-${short}, `}--${name}${value === null ? "" : ` ${value}`}`, help),
    ),
    "",
  ]);
}

/** One line of a help; what is too wide for its column has a line of its own. */
export function row(left: string, help: string): string {
  return left.length > LEFT - 4 ? `  ${left}\n${" ".repeat(LEFT)}${help}` : `  ${left}`.padEnd(LEFT) + help;
}
