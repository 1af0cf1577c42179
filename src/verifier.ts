import { whenAborted } from "./base/abort.ts";
import { systemClock } from "./runtime/clock.ts";
import { createLog } from "./telemetry/log.ts";
import { createMetrics, VERIFIER_METRICS } from "./telemetry/metrics.ts";
import { createProbes } from "./telemetry/probes.ts";
import type { Log } from "./telemetry/telemetry.ts";
import { parseSettings, type Settings } from "./verifier/service/settings.ts";
import { startSidecar } from "./verifier/service/sidecar.ts";

// Main of the verifier sidecar: docs/verifier.md.

/** What runs is killed, not waited for: longer than this is a stop that hangs. */
const STOP_WITHIN = 5000;

const parsed = parseSettings(process.argv.slice(2));
switch (parsed.kind) {
  case "help":
    process.stdout.write(parsed.text);
    break;
  case "mistakes":
    for (const mistake of parsed.mistakes) process.stderr.write(`${mistake}\n`);
    process.exitCode = 2;
    break;
  case "settings":
    process.exitCode = await serve(parsed.settings, createLog("info"));
    break;
}

/** Serves until a signal asks to stop; a second one ends the process at once. */
async function serve(settings: Settings, log: Log): Promise<number> {
  const asked = new AbortController();
  const ask = () => {
    process.removeListener("SIGTERM", ask).removeListener("SIGINT", ask);
    asked.abort();
    setTimeout(() => process.exit(1), STOP_WITHIN).unref();
  };
  process.on("SIGTERM", ask).on("SIGINT", ask);
  const metrics = createMetrics("ignore", VERIFIER_METRICS);
  const started = await startSidecar(settings, { clock: systemClock(), log, metrics });
  if (!started.ok) {
    log.error("verifier cannot start", started.error);
    process.removeListener("SIGTERM", ask).removeListener("SIGINT", ask);
    return 1;
  }
  const { health, stop } = started.value;
  const failed = await serveProbes(settings.probes, asked.signal, {
    ...health,
    listening: (port) => log.info("serving probes", { port }),
  }).catch((thrown: unknown) => {
    log.error("probes cannot be served", thrown);
    return true;
  });
  await stop();
  return failed ? 1 : 0;
}

/** Over TCP where that is asked for; else it only waits for `signal`. */
async function serveProbes(
  at: Settings["probes"],
  signal: AbortSignal,
  answers: Parameters<typeof createProbes>[1],
): Promise<false> {
  await (at === null ? whenAborted(signal) : createProbes(at, answers).run(signal));
  return false;
}
