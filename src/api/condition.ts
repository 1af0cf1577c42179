import { cut } from "../base/text.ts";
import { type Instant, timestampOf } from "../base/time.ts";
import { type conditionSchema, LONGEST_MESSAGE, type Of } from "./schema.ts";

export type Condition = Of<typeof conditionSchema>;
export type ConditionDraft = Omit<Condition, "lastTransitionTime">;

/**
 * The conditions to write: every draft, with a message that the API server takes, stamped with `now` where its status differs from what was there before, with
 * the old time where it does not. Conditions that are not drafted are dropped: a report is made from scratch.
 */
export function stampConditions(
  had: readonly Condition[],
  drafts: readonly ConditionDraft[],
  now: Instant,
): readonly Condition[] {
  return drafts.map((draft) => {
    const before = had.find((condition) => condition.type === draft.type);
    const unchanged = before !== undefined && before.status === draft.status;
    const message = cut(draft.message, LONGEST_MESSAGE);
    return {
      ...draft,
      message,
      lastTransitionTime: unchanged ? before.lastTransitionTime : timestampOf(now),
    };
  });
}

/**
 * The drafts with the words that were there before, where the reason is still the same passing one: outside systems put
 * times and tracking ids into their words, and each would be a write. A new generation hears the new words.
 */
export function keepMessages(
  had: readonly Condition[],
  drafts: readonly ConditionDraft[],
  passing: ReadonlySet<string>,
): readonly ConditionDraft[] {
  return drafts.map((draft) => {
    const before = findCondition(had, draft.type);
    const same =
      before?.status === draft.status &&
      before.reason === draft.reason &&
      before.observedGeneration === draft.observedGeneration;
    return same && passing.has(draft.reason) ? { ...draft, message: before.message } : draft;
  });
}

export function findCondition(
  conditions: readonly Condition[] | undefined,
  type: string,
): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}
