import { parseArgs } from "node:util";

/** Reads `--devices N` and `--help`; `null`: help or a mistake was printed, and there is nothing to do. */
export function devicesAsked(help: string, fallback: number): number | null {
  const numbers = devicesListed(help, [fallback]);
  return numbers?.[0] ?? null;
}

/** As `devicesAsked`, for a program that goes through several sizes: `--devices 100,1000`. */
export function devicesListed(help: string, fallback: readonly number[]): readonly number[] | null {
  const { values } = parseArgs({
    options: { devices: { type: "string" }, help: { type: "boolean", short: "h", default: false } },
  });
  if (values.help) {
    console.log(help);
    return null;
  }
  if (values.devices === undefined) return fallback;
  const numbers = values.devices.split(",").map(Number);
  if (numbers.every((number) => Number.isInteger(number) && number >= 10 && number <= 100_000))
    return numbers;
  console.error(`--devices: "${values.devices}" is not a whole number from 10 to 100000`);
  process.exitCode = 2;
  return null;
}

const began = Date.now();

/** Progress, on standard error: figures alone go to standard output. */
export function say(line: string): void {
  console.error(`${((Date.now() - began) / 1000).toFixed(1).padStart(7)}s  ${line}`);
}
