import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

// The data of ONNX's own backend tests, as the Python package onnx brings it. It is fetched once and kept outside of
// the checkout. The wheel is the same on every machine: nothing of it is run.

const VERSION = "1.20.1";
const SHA256 = "9336b6b8e6efcf5c490a845f6afd7e041c89a56199aeda384ed7d58fb953b080";
const WHEEL = [
  ...["--platform", "manylinux_2_28_x86_64", "--implementation", "cp"],
  ...["--python-version", "3.12", "--abi", "abi3"],
];
const UNPACK = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith("onnx/backend/test/data/")])
`;

export type BackendTest = {
  readonly name: string;
  /** Its model.onnx, and test_data_set_0, …. */
  readonly directory: string;
};

/** @param kinds directories of onnx/backend/test/data. */
export async function backendTests(kinds: readonly string[]): Promise<readonly BackendTest[]> {
  const data = await prepareData();
  return kinds.flatMap((kind) =>
    readdirSync(join(data, kind))
      .filter((name) => existsSync(join(data, kind, name, "model.onnx")))
      .sort()
      .map((name) => ({ name, directory: join(data, kind, name) })),
  );
}

async function prepareData(): Promise<string> {
  const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "edge-fleet-operator");
  const home = join(cache, `onnx-${VERSION}`);
  const data = join(home, "onnx/backend/test/data");
  if (existsSync(data)) return data;
  const fresh = `${home}.${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  try {
    const quiet = ["--quiet", "--disable-pip-version-check", "--no-input"];
    const what = ["--no-deps", "--only-binary=:all:", ...WHEEL, `onnx==${VERSION}`];
    await attempt("python3", "-m", "pip", "download", ...quiet, ...what, "--dest", fresh);
    const wheel = join(fresh, readdirSync(fresh).find((name) => name.endsWith(".whl")) ?? "");
    const digest = createHash("sha256").update(readFileSync(wheel)).digest("hex");
    if (digest !== SHA256) throw new Error(`the wheel of onnx ${VERSION} is ${digest}, not ${SHA256}`);
    await attempt("python3", "-c", UNPACK, wheel, fresh);
    rmSync(wheel);
    // Last and at once: what is half made is made again.
    rmSync(home, { recursive: true, force: true });
    renameSync(fresh, home);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return data;
}

async function attempt(command: string, ...args: readonly string[]): Promise<void> {
  try {
    await promisify(execFile)(command, args);
  } catch (problem) {
    const said = (problem as { readonly stderr?: string }).stderr?.trim() ?? String(problem);
    throw new Error(
      `The tests of golden sets need python3 with pip and, the first time, PyPI.\nThis failed: ${command} ${args.slice(0, 3).join(" ")} …\n${said}\n` +
        `Everything else runs without: make test ARGS="--project unit --project integration"`,
    );
  }
}
