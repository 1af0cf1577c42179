import { writeFile } from "node:fs/promises";
import { isReleaseFault } from "../../src/api/reasons.ts";
import type { VerifyReport } from "../../src/verification/verification.ts";
import { buildSandbox } from "../../src/verifier/process/sandbox.ts";
import { EXIT, reportUsageErrors } from "../exit-status.ts";
import { fileFault } from "../file-fault.ts";
import type { Terminal } from "../terminal.ts";
import { readVerifyFlags, type VerifyOptions, verifyHelp } from "./flags.ts";
import { localFiles } from "./local-files.ts";
import { planVerification } from "./plan.ts";
import { startProgress } from "./progress.ts";
import { reportText } from "./report.ts";
import type { Subject } from "./subject.ts";
import { verifyHere } from "./verify-here.ts";

/** `edgefleet verify`; returns the exit status. */
export async function verifyCommand(
  args: readonly string[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const { options, problems } = readVerifyFlags(args);
  if (options.args.values.has("help")) {
    terminal.out(verifyHelp());
    return EXIT.passed;
  }
  const files = localFiles();
  const sandbox = buildSandbox();
  const plan = await planVerification(options, files, signal);
  if (signal.aborted) return interrupted(terminal);
  if (problems.length > 0 || !plan.ok)
    return reportUsageErrors([...problems, ...(plan.ok ? [] : plan.error)], terminal, "verify");
  const { request, notes, ...subject } = plan.value;
  for (const note of notes) terminal.err(`${note}\n`);

  const progress = startProgress(request.checks, options.quiet ? null : terminal);
  const { memoryBytes } = options;
  const verified = await verifyHere(request, { files, memoryBytes, sandbox, begin: progress.begin }, signal);
  progress.end();
  if (signal.aborted) return interrupted(terminal);
  return writeReports({ ...subject, verified, check: progress.check() }, options, terminal);
}

function interrupted(terminal: Terminal): number {
  terminal.err("interrupted: there is no verdict\n");
  return EXIT.environment;
}

async function writeReports(subject: Subject, options: VerifyOptions, terminal: Terminal): Promise<number> {
  const { verified } = subject;
  terminal.out(await reportText(options.output, subject, terminal.colours));
  let status = statusOf(verified.report);
  for (const { file, format } of options.reports) {
    try {
      await writeFile(file, await reportText(format, subject, false));
    } catch (thrown) {
      terminal.err(`--report ${file}: ${fileFault(thrown)}\n`);
      status = EXIT.environment;
    }
  }
  return status;
}

/** A golden set that does not fit says nothing about the model: it is a usage error. */
function statusOf(report: VerifyReport): number {
  if (report.kind === "passed") return EXIT.passed;
  if (report.kind !== "running" && isReleaseFault(report.reason)) return EXIT.usage;
  return report.kind === "failed" ? EXIT.failed : EXIT.environment;
}
