import type { SimClock } from "../../base/clock.ts";

export type ScheduleOptions = {
  /** Milliseconds between two evaluations of the configurations. */
  readonly evaluationInterval: number;
  /** Milliseconds between a change of a configuration and the evaluation that follows it; 0 is at once. */
  readonly evaluationDelay: number;
};

/** When the next evaluations are due, in milliseconds since the Unix epoch; it outlives the process. */
export type ScheduleNumbers = {
  readonly nextEvaluation: number | null;
  /** `null`: no change waits for its evaluation. */
  readonly evaluationAfterChange: number | null;
};

/** When configurations are evaluated: at an interval, and after each change of one. */
export type EvaluationSchedule = {
  /** A configuration has changed. */
  readonly changed: () => void;
  /** Starts the regular evaluations. One that was due before a restart is late, not lost. */
  readonly start: () => void;
  readonly numbers: () => ScheduleNumbers;
  readonly resume: (numbers: ScheduleNumbers) => void;
};

export function createEvaluationSchedule(
  clock: SimClock,
  now: () => number,
  options: ScheduleOptions,
  evaluate: () => void,
): EvaluationSchedule {
  const { evaluationInterval, evaluationDelay } = options;
  let afterChange: number | null = null;
  let next: number | null = null;

  function evaluateChange(): void {
    afterChange = null;
    evaluate();
  }

  function evaluateIn(delay: number): void {
    next = now() + delay;
    clock.schedule(delay, evaluateRegularly, undefined);
  }

  function evaluateRegularly(): void {
    evaluate();
    evaluateIn(evaluationInterval);
  }

  return {
    changed: () => {
      if (evaluationDelay <= 0) evaluate();
      else if (afterChange === null) {
        afterChange = now() + evaluationDelay;
        clock.schedule(evaluationDelay, evaluateChange, undefined);
      }
    },
    start: () =>
      evaluateIn(
        next === null ? evaluationInterval : Math.min(evaluationInterval, Math.max(0, next - now())),
      ),
    numbers: () => ({ nextEvaluation: next, evaluationAfterChange: afterChange }),
    resume: (numbers) => {
      next = numbers.nextEvaluation;
      afterChange = numbers.evaluationAfterChange;
      if (afterChange !== null) clock.schedule(Math.max(0, afterChange - now()), evaluateChange, undefined);
    },
  };
}
