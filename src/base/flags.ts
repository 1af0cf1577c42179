import { parseArgs } from "node:util";
import { own } from "./lookup.ts";
import { nearest } from "./nearest.ts";

// The command lines of all our programs. A table of flags is what a program accepts and what its help shows; Node's own
// parser splits the arguments, and this reports everything that is wrong with them at once.

export type Flag = {
  /** What stands for the value in the help; `null`: a switch without one. */
  readonly value: string | null;
  readonly help: string;
  readonly short?: string;
  /** It may be given more than once, and every value counts. */
  readonly repeats?: true;
};

export type Flags = Readonly<Record<string, Flag>>;
/** Flags by subject, as the help shows them. */
export type FlagGroups = Readonly<Record<string, Flags>>;

/** `server`: the last value of a flag wins, and an empty one is as good as none, as with Kubernetes' own components. */
export type FlagStyle = "command" | "server";

export type Arguments = {
  /** Every value of each flag that was given; a switch has one empty value. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
  readonly problems: readonly string[];
};

/** A command's table of flags, which reads its arguments and prints its help. */
export type CommandFlags = {
  readonly groups: FlagGroups;
  readonly read: (args: readonly string[]) => Arguments;
  /** Lines of the help, by subject. */
  readonly help: () => readonly string[];
};

export function commandFlags(groups: FlagGroups): CommandFlags {
  return { groups, read: (args) => readFlags(args, allFlags(groups)), help: () => flagsHelp(groups) };
}

export const HELP: Flag = { value: null, help: "print this and exit", short: "h" };

/** Reads `--name value`, `--name=value` and `-n value`. An unknown flag is reported with the one that may be meant. */
export function readFlags(args: readonly string[], flags: Flags, style: FlagStyle = "command"): Arguments {
  const values = new Map<string, string[]>();
  const positionals: string[] = [];
  const problems: string[] = [];
  const { tokens } = parseArgs({
    args: withoutMissingValues(args, flags, problems),
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
    const flag = own(flags, name);
    if (flag === undefined) {
      const near = nearest(name, Object.keys(flags));
      problems.push(`${shown} is not known${near === null ? "" : `; did you mean --${near}?`}`);
      // The next argument is its value rather than a file, unless a switch was meant.
      const separate = token.inlineValue !== true && (near === null || own(flags, near)?.value !== null);
      if (separate) strayValue = token.index + 1;
      continue;
    }
    const known = values.get(name);
    const fault = faultOf(flag, value, style);
    if (fault !== null) problems.push(`${shown} ${fault}`);
    else if (known === undefined) values.set(name, [value ?? ""]);
    else if (flag.repeats === true || style === "server") known.push(value ?? "");
    else if (flag.value !== null) problems.push(`${shown} is given more than once`);
  }
  return { values, positionals, problems };
}

/** Node's parser takes whatever follows as a value, even the next flag. */
function withoutMissingValues(args: readonly string[], flags: Flags, problems: string[]): string[] {
  const end = args.indexOf("--");
  return args.filter((arg, index) => {
    const next = args[index + 1];
    if ((end >= 0 && index >= end) || next?.startsWith("--") !== true) return true;
    const value = arg.startsWith("--") ? own(flags, arg.slice(2))?.value : undefined;
    if (typeof value !== "string") return true;
    problems.push(`${arg} needs a value: ${value}, not the flag ${next}`);
    return false;
  });
}

function faultOf(flag: Flag, value: string | undefined, style: FlagStyle): string | null {
  if (flag.value === null) return value === undefined ? null : "takes no value";
  return value === undefined || (value === "" && style === "command") ? `needs a value: ${flag.value}` : null;
}

/** `; did you mean golden?`, or nothing where no name is near. */
export function suggestion(written: string, names: readonly string[]): string {
  const near = nearest(written, names);
  return near === null ? "" : `; did you mean ${near}?`;
}

export function allFlags(groups: FlagGroups): Flags {
  return Object.fromEntries(Object.values(groups).flatMap((flags) => Object.entries(flags)));
}

const LEFT = 36;

/** The part of a help text that lists the flags. */
export function flagsHelp(groups: FlagGroups): readonly string[] {
  return Object.entries(groups).flatMap(([title, flags]) => [
    `${title}:`,
    ...Object.entries(flags).map(([name, { value, short, help }]) =>
      row(`${short === undefined ? "" : `-${short}, `}--${name}${value === null ? "" : ` ${value}`}`, help),
    ),
    "",
  ]);
}

/** One line of a help text; what is too wide for its column has a line of its own. */
export function row(left: string, help: string): string {
  return left.length > LEFT - 4 ? `  ${left}\n${" ".repeat(LEFT)}${help}` : `  ${left}`.padEnd(LEFT) + help;
}
