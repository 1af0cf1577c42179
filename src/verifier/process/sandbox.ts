import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { chmod, chown, mkdir } from "node:fs/promises";
import { findPackageJSON } from "node:module";
import { platform } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Millis } from "../../base/time.ts";

// The restrictions on the process of a model. Node can set few of them itself, so the process is started through small
// programs that every Linux distribution has (util-linux: unshare, setpriv; the shell: ulimit). Each of them becomes the
// next by exec: there is one process, and its id is known. What the machine cannot do is found out once, and logged.

/** What a model's process is kept from, as far as this machine allows: false where it cannot be enforced here. */
export type SandboxFeatures = {
  /** Allocate beyond the limit, use the processor without end, write into files, open many, leave a core file. */
  readonly limits: boolean;
  /** Reach a network: it has one of its own, without as much as a loopback that is up. */
  readonly network: boolean;
  /** Read, signal or trace what is the sidecar's: its user is one that owns nothing. */
  readonly user: boolean;
  /** Gain privileges by a set-user-id program. */
  readonly privileges: boolean;
  /** Start processes and threads without end. */
  readonly processes: boolean;
  /** Outlive the sidecar. */
  readonly orphans: boolean;
  /** By JavaScript, start processes and threads, write files, read others than the program's and the model's. */
  readonly permissions: boolean;
};

export type Sandbox = {
  readonly features: SandboxFeatures;
  /** Why each missing feature is missing: sentences for the log. */
  readonly lacking: readonly string[];
  /** Makes `directory`, which must be the sidecar's alone, the one that processes of one verification can read. */
  readonly prepare: (directory: string) => Promise<SandboxSession>;
};

/** Where the processes of one verification run. */
export type SandboxSession = {
  /** Empty and read-only. Files in the directory around it are `../name`. */
  readonly cwd: string;
  /** The command line of `program`, one of our own modules. */
  readonly command: (program: string, limits: SandboxLimits) => readonly [string, ...string[]];
  /** Ends everything else that runs as its user: processes that a child has started and detached. */
  readonly sweep: () => Promise<void>;
};

export type SandboxLimits = {
  readonly memoryBytes: number;
  readonly deadline: Millis;
  readonly threads: number;
};

/** Data that Node and ONNX Runtime reserve before there is a model: measured at 575 MiB on Linux, with 2 threads. */
const OWN_DATA = 768 * 2 ** 20;
const DATA_PER_THREAD = 16 * 2 ** 20;
/** Processor seconds beyond those of the deadline: in case no sidecar is left to enforce it. */
const SPARE_CPU_SECONDS = 60;
/** Node has 11 before it does anything; two models at a time may have one number. */
const OWN_THREADS = 64;
const OPEN_FILES = 64;
/** Of the users that systemd sets aside for services without one of their own; within what a container may use. */
const FIRST_USER = 61_184;
const USERS = 4336;
const SHELL = "/bin/sh";
const PROBE_TIMEOUT = 10_000;
/** A process may start another one while it is being ended: looked at again, so many times, after a pause. */
const SWEEPS = 20;
const SWEEP_PAUSE = 5;

// Limits are set by a shell because Node has no setrlimit; `exec` makes the shell become the child. Sizes in KiB, none
// of it is text from outside. No core file: a crashed model would leave one as large as itself.
const LIMIT_AND_RUN = [
  "ulimit -c 0",
  "ulimit -f 0",
  `ulimit -n ${OPEN_FILES}`,
  'ulimit -d "$0" 2>/dev/null',
  // First SIGXCPU, which names itself, then SIGKILL.
  'ulimit -S -t "$1" 2>/dev/null',
  'ulimit -H -t "$(($1 + 5))" 2>/dev/null',
  // Bash calls it u, dash calls it p.
  '[ "$2" = 0 ] || ulimit -u "$2" 2>/dev/null || ulimit -p "$2" 2>/dev/null',
  "shift 2",
  'exec "$@"',
].join("; ");

type Tools = { readonly unshare: string | null; readonly setpriv: string | null };

/** Tries what this machine can do. It never fails: a feature that cannot be had is missing, and the reason is listed. */
export async function buildSandbox(): Promise<Sandbox> {
  const linux = platform() === "linux";
  const root = process.getuid?.() === 0;
  const tools = {
    unshare: linux ? toolNamed("unshare") : null,
    setpriv: linux ? toolNamed("setpriv") : null,
  };
  const limits = linux && existsSync(SHELL);
  // Side by side: each of them starts a process or two.
  const privileged =
    tools.setpriv !== null && tries([...privilegeCommand(tools.setpriv, null), SHELL, "-c", "exit 0"]);
  const [network, privileges, user] = await Promise.all([
    tools.unshare !== null && tries([...networkCommand(tools.unshare, root), SHELL, "-c", "exit 0"]),
    privileged,
    root && tools.setpriv !== null && hasUser(tools.setpriv, privileged),
  ]);
  const processes = limits && (user || (network && !root));
  const lacking = [
    ...(limits ? [] : [`limits: this is not Linux, or it lacks ${SHELL}`]),
    ...(network ? [] : [`network: ${noNetwork(tools)}`]),
    ...(privileges ? [] : ["privileges: no working setpriv (util-linux) was found"]),
    ...(user ? [] : [`user: ${noUser(root)}`]),
    ...(processes ? [] : ["processes: limiting processes needs a user or a namespace of its own"]),
  ];
  const features = { limits, network, user, privileges, processes, orphans: privileges, permissions: true };
  return {
    features,
    lacking,
    prepare: async (directory) => {
      const own = user ? FIRST_USER + Math.floor(Math.random() * USERS) : null;
      if (own !== null) {
        // Files that are made in it belong to the group, too.
        await chown(directory, process.getuid?.() ?? 0, own);
        await chmod(directory, 0o2710);
      }
      const cwd = join(directory, "cwd");
      await mkdir(cwd);
      await chmod(cwd, 0o555);
      return {
        cwd,
        command: (program, asked) => commandOf({ features, tools, root, own, directory }, program, asked),
        sweep: async () => {
          if (own !== null) await killAllOf(own);
        },
      };
    },
  };
}

/** Another user may read the program, and it can be switched to. */
async function hasUser(setpriv: string, privileges: false | Promise<boolean>): Promise<boolean> {
  const reads = [SHELL, "-c", 'test -x "$0" && test -r "$1"', process.execPath, thisFile()];
  const [read, privileged] = await Promise.all([
    tries([...privilegeCommand(setpriv, FIRST_USER), ...reads]),
    privileges,
  ]);
  return read && privileged;
}

function noNetwork({ unshare }: Tools): string {
  return unshare === null ? "unshare (util-linux) was not found" : "the system allows no network namespaces";
}

function noUser(root: boolean): string {
  return root
    ? "no other user can read the program, or it cannot be switched to"
    : "only root can give a model a user of its own";
}

function commandOf(
  {
    features,
    tools: { unshare, setpriv },
    root,
    own,
    directory,
  }: {
    readonly features: SandboxFeatures;
    readonly tools: Tools;
    readonly root: boolean;
    readonly own: number | null;
    readonly directory: string;
  },
  program: string,
  { memoryBytes, deadline, threads }: SandboxLimits,
): readonly [string, ...string[]] {
  const node = [process.execPath, ...nodeFlags(directory), program] as const;
  if (!features.limits) return node;
  const numbers = [
    Math.ceil((memoryBytes + OWN_DATA + threads * DATA_PER_THREAD) / 1024),
    Math.ceil((deadline / 1000) * Math.max(2, threads)) + SPARE_CPU_SECONDS,
    features.processes ? OWN_THREADS + threads : 0,
  ];
  const [first = SHELL, ...rest] = [
    ...(features.network && unshare !== null ? networkCommand(unshare, root) : []),
    ...(features.privileges && setpriv !== null ? privilegeCommand(setpriv, own) : []),
    ...[SHELL, "-c", LIMIT_AND_RUN, ...numbers.map(String)],
  ];
  return [first, ...rest, ...node];
}

/** A user other than root may have a network namespace inside of a user namespace, where the system allows that. */
function networkCommand(unshare: string, root: boolean): readonly string[] {
  return [unshare, ...(root ? [] : ["--user"]), "--net", "--ipc", "--"];
}

/** Only root has capabilities to drop, and may change its user. The child dies with the thread that started it. */
function privilegeCommand(setpriv: string, own: number | null): readonly string[] {
  const user =
    own === null
      ? []
      : [
          ...["--reuid", String(own), "--regid", String(own), "--clear-groups"],
          ...["--bounding-set=-all", "--inh-caps=-all"],
        ];
  return [setpriv, ...user, "--no-new-privs", "--pdeathsig", "KILL", "--"];
}

/** Node's own permissions: https://nodejs.org/docs/latest-v24.x/api/permissions.html. It binds JavaScript, not native code. */
function nodeFlags(directory: string): readonly string[] {
  // The star says that it is a directory: its own user may be unable to see that from the outside.
  const readable = [...[...programRoots(), directory].map((path) => join(path, "*")), "/proc/self/status"];
  return [
    "--disable-warning=ExperimentalWarning",
    "--disable-warning=PERM0001",
    "--permission",
    "--allow-addons",
    ...[...new Set(readable)].map((path) => `--allow-fs-read=${path}`),
    // Sets the mark from which the highest resident memory is counted.
    "--allow-fs-write=/proc/self/clear_refs",
  ];
}

/** Directories that our modules, and those that they import, are loaded from. */
function programRoots(): readonly string[] {
  const own = dirname(findPackageJSON(import.meta.url) ?? thisFile());
  const runtime = findPackageJSON("onnxruntime-node", import.meta.url);
  return [
    own,
    realpathSync(own),
    ...(runtime === undefined ? [] : [dirname(dirname(realpathSync(runtime)))]),
  ];
}

function thisFile(): string {
  return fileURLToPath(import.meta.url);
}

/** One by one, each looked at: `kill -1` as that user would end everything, were the user ever another one. */
async function killAllOf(user: number): Promise<void> {
  for (let round = 0; round < SWEEPS; round += 1) {
    const left = processesOf(user);
    if (left.length === 0) return;
    for (const pid of left) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has already ended.
      }
    }
    await sleep(SWEEP_PAUSE);
  }
}

/** Whose real user is that one; what has ended and only waits to be collected is none. */
function processesOf(user: number): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^[1-9]\d*$/.test(name))
    .filter((pid) => {
      try {
        const status = readFileSync(`/proc/${pid}/status`, "utf8");
        return status.includes(`\nUid:\t${user}\t`) && !/^State:\t[ZX]/m.test(status);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** A model's environment has no PATH, and ours cannot be relied on. */
function toolNamed(name: string): string | null {
  return (
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map((place) => join(place, name)).find(existsSync) ?? null
  );
}

function tries([file = "", ...args]: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    execFile(file, args, { env: {}, timeout: PROBE_TIMEOUT }, (error) => resolve(error === null));
  });
}
