import childProcess, { ChildProcess } from "node:child_process";
import { syncBuiltinESMExports } from "node:module";
import { Server, Socket } from "node:net";

// Keeps tests of the project `unit` from opening sockets and starting processes: those are slow, can hang, and depend on
// the machine. Only TypeScript's compiler may run, for tests that read the project's own sources.

const COMPILER = /@typescript\/[^/]+\/lib\/tsc$/;

function refuse(what: string): never {
  throw new Error(`a unit test must not ${what}: name its file *.integration.test.ts (see CONTRIBUTING.md)`);
}

Socket.prototype.connect = () => refuse("open a connection");
Server.prototype.listen = () => refuse("listen on a socket");

// Private to Node: every way of starting a process without waiting for it ends here.
const prototype = ChildProcess.prototype as unknown as {
  spawn: (options: { readonly file: string }) => unknown;
};
const { spawn } = prototype;
prototype.spawn = function (options) {
  return COMPILER.test(options.file) ? spawn.call(this, options) : refuse("start a process");
};
for (const name of ["spawnSync", "execSync", "execFileSync"] as const)
  childProcess[name] = () => refuse("start a process");
syncBuiltinESMExports();
