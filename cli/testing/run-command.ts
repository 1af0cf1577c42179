import type { Terminal } from "../terminal.ts";

type Command = (args: readonly string[], terminal: Terminal, signal: AbortSignal) => Promise<number>;

/**
 * Runs a command and collects what it writes.
 * @param watch receives what goes to stderr, as it is written.
 */
export async function runCommand(
  command: Command,
  args: readonly string[],
  watch: (text: string) => void = () => undefined,
): Promise<{ readonly out: string; readonly err: string; readonly status: number }> {
  const output = { out: "", err: "" };
  const terminal: Terminal = {
    out: (text) => {
      output.out += text;
    },
    err: (text) => {
      output.err += text;
      watch(text);
    },
    colours: false,
    rewrites: false,
  };
  const status = await command(args, terminal, new AbortController().signal);
  return { ...output, status };
}
