import { systemClock } from "./runtime/clock.ts";
import { createLog } from "./telemetry/log.ts";
import { parseSettings } from "./verifier/settings.ts";
import { startSidecar } from "./verifier/sidecar.ts";

// Main of the verifier sidecar: docs/verifier.md.

const parsed = parseSettings(process.argv.slice(2));
switch (parsed.kind) {
  case "help":
    process.stdout.write(parsed.text);
    break;
  case "mistakes":
    for (const mistake of parsed.mistakes) process.stderr.write(`${mistake}\n`);
    process.exitCode = 2;
    break;
  case "settings": {
    const log = createLog("info");
    const asked = Promise.withResolvers<void>();
    process.once("SIGTERM", asked.resolve);
    process.once("SIGINT", asked.resolve);
    const sidecar = await startSidecar(parsed.settings, { clock: systemClock(), log });
    if (!sidecar.ok) {
      log.error("verifier cannot start", sidecar.error);
      process.exitCode = 1;
      process.removeAllListeners("SIGTERM").removeAllListeners("SIGINT");
      break;
    }
    await asked.promise;
    await sidecar.value.stop();
    break;
  }
}
