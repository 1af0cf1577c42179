// Makes a base image for `make image` on a machine that can pull none: Debian bookworm with the Node of this checkout.
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

const USAGE = `usage: npm run image-base -- [--tag edge-fleet-base:dev]

Needs root, debootstrap and a Docker engine. Then: make image BASE=edge-fleet-base:dev`;

const AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt";

const { values } = parseArgs({
  options: {
    tag: { type: "string", default: "edge-fleet-base:dev" },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) console.log(USAGE);
else makeBase(values.tag);

function makeBase(tag: string): void {
  // npm gives its own path to scripts.
  const npm = process.env["npm_execpath"];
  if (npm === undefined || !existsSync(npm)) throw new Error("run it through npm: npm run image-base");
  const root = mkdtempSync(join(tmpdir(), "edgefleet-base-"));
  try {
    // libstdc++ is what Node's own slim image has on top of Debian, and apt's certificates are what npm needs.
    run("debootstrap", ["--variant=minbase", "--include=libstdc++6,ca-certificates", "bookworm", root]);
    cpSync(realpathSync(process.execPath), join(root, "usr/local/bin/node"));
    cpSync(join(dirname(realpathSync(npm)), ".."), join(root, "usr/local/lib/node_modules/npm"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    symlinkSync("../lib/node_modules/npm/bin/npm-cli.js", join(root, "usr/local/bin/npm"));
    // A company's proxy may have an authority of its own, which this machine trusts.
    copyFileSync(AUTHORITIES, join(root, AUTHORITIES));
    const trust = "ENV NODE_USE_SYSTEM_CA=1";
    run("sh", ["-c", 'tar -C "$1" -c . | docker import --change "$3" - "$2"', "sh", root, tag, trust]);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

function run(command: string, args: readonly string[]): void {
  const { status, error } = spawnSync(command, args, { stdio: "inherit" });
  if (error !== undefined) throw new Error(`${command}: ${error.message}`);
  if (status !== 0) throw new Error(`${command} ended with ${status}`);
}
