import { CHECK_NAMES, type Verification } from "../../src/api/model-release.ts";
import { own } from "../../src/base/lookup.ts";
import type { Terminal } from "../terminal.ts";

export type Progress = {
  readonly begin: (check: string) => void;
  /** The check that started last. */
  readonly check: () => string;
  readonly end: () => void;
};

const WIDTH = 20;
const REDRAW_EVERY = 200;
const CLEAR_LINE = "\r\u001b[K";

/**
 * Which check is running, and for how long: a bar where a line can be redrawn, otherwise a line for each check.
 * @param terminal `null`: nothing is printed.
 */
export function startProgress(checks: Verification, terminal: Terminal | null): Progress {
  const asked: readonly string[] = CHECK_NAMES.filter(
    (name) => isAlways(name) || checkOf(checks, name) !== undefined,
  );
  let current = "";
  let began = performance.now();
  const draw = () => {
    if (current === "") return;
    const before = Math.max(0, asked.indexOf(current));
    const full = Math.round((WIDTH * before) / asked.length);
    const took = Math.floor((performance.now() - began) / 1000);
    const bar = "#".repeat(full) + "-".repeat(WIDTH - full);
    terminal?.err(
      `${CLEAR_LINE}[${bar}] ${before + 1}/${asked.length} ${current}${took > 0 ? ` ${took} s` : ""}`,
    );
  };
  const timer = terminal?.rewrites === true ? setInterval(draw, REDRAW_EVERY) : null;
  return {
    begin: (check) => {
      current = check;
      began = performance.now();
      if (timer !== null) draw();
      else terminal?.err(`${check} …\n`);
    },
    check: () => current,
    end: () => {
      if (timer === null) return;
      clearInterval(timer);
      terminal?.err(CLEAR_LINE);
    },
  };
}

function isAlways(name: string): boolean {
  return name === "Digest" || name === "Load";
}

function checkOf(checks: Verification, name: string): unknown {
  const fields: Readonly<Record<string, unknown>> = checks;
  return own(fields, `${name.slice(0, 1).toLowerCase()}${name.slice(1)}`);
}
