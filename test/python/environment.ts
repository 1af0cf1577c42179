import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/** Files for pip, complete and by hash: nothing else is installed than what they name. */
export type PythonPackages = {
  readonly requirements: string;
  /** Packages of which the source archives are wanted, unbuilt. They need setuptools among the requirements. */
  readonly sources?: string;
  /** Whose packages they are, for the sentence that says what is missing: `the tests of …`. */
  readonly whose: string;
};

export type PythonEnvironment = { readonly python: string; readonly sources: string };

/**
 * An environment that holds exactly these packages. It is made once and kept outside of the checkout, under a name that
 * changes with the packages and with the version of Python.
 */
export async function preparePython(packages: PythonPackages): Promise<PythonEnvironment> {
  const { requirements, sources, whose } = packages;
  const run = promisify(execFile);
  const attempt = async (command: string, ...args: readonly string[]) => {
    try {
      return (await run(command, args, { maxBuffer: 16 * 1024 * 1024 })).stdout;
    } catch (problem) {
      const said = (problem as { readonly stderr?: string }).stderr?.trim() ?? String(problem);
      throw new Error(
        `The tests of ${whose} need python3 (with venv and pip) and, the first time, PyPI.\n` +
          `This failed: ${[command, ...args].join(" ")}\n${said}\n` +
          `Install python3-venv, or see why pip cannot fetch packages; everything else runs without: make test ARGS="--project unit --project integration"`,
      );
    }
  };
  const version = await attempt("python3", "--version");
  const hash = createHash("sha256").update(version);
  for (const file of [requirements, sources]) if (file !== undefined) hash.update(readFileSync(file));
  const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "edge-fleet-operator");
  const home = join(cache, `python-${hash.digest("hex").slice(0, 16)}`);
  const made = { python: join(home, "bin/python"), sources: join(home, "sources") };
  const ready = join(home, "ready");
  if (existsSync(ready)) return made;
  mkdirSync(cache, { recursive: true });
  rmSync(home, { recursive: true, force: true });
  await attempt("python3", "-m", "venv", home);
  const pip = (...args: readonly string[]) =>
    attempt(
      made.python,
      "-m",
      "pip",
      ...args,
      "--quiet",
      "--disable-pip-version-check",
      "--no-input",
      "--no-deps",
      "--require-hashes",
    );
  await pip("install", "-r", requirements);
  if (sources !== undefined)
    await pip("download", "--no-build-isolation", "--no-binary", ":all:", "-d", made.sources, "-r", sources);
  // Last and at once: an environment that is half made is made again.
  writeFileSync(`${ready}.new`, version);
  renameSync(`${ready}.new`, ready);
  return made;
}
