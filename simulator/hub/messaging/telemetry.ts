import { type Answer, ok, refuse } from "../errors.ts";
import type { Counters } from "../limits/counters.ts";
import type { Quota } from "../limits/quota.ts";
import type { Throttle } from "../limits/throttle.ts";
import type { EventFeed, TelemetryMessage } from "./event-feed.ts";
import { messageSize } from "./message.ts";

const LARGEST_MESSAGE = 256 * 1024;

export type Telemetry = {
  /** 413 beyond 256 KB; where devices are charged, 403 when the day's quota is used up and 429 beyond the budget. */
  readonly accept: (message: TelemetryMessage) => Answer<void>;
};

/** The one place where a message of a device is taken, whatever carried it. */
export function createTelemetry(
  hub: {
    readonly events: EventFeed;
    readonly counters: Counters;
    readonly throttle: Throttle;
    readonly quota: Quota;
  },
  options: { readonly throttling: boolean; readonly chargeDevices: boolean },
): Telemetry {
  const { events, counters, throttle, quota } = hub;
  const { throttling, chargeDevices } = options;

  function refused(answer: Answer<never>): Answer<never> {
    counters.device("refused");
    return answer;
  }

  return {
    accept(message) {
      const size = messageSize(message);
      if (size > LARGEST_MESSAGE)
        return refused(refuse("MessageTooLarge", "A message of a device may have 256 KB"));
      if (chargeDevices && quota.spent())
        return refused(
          refuse("IotHubQuotaExceeded", "The daily quota of messages is used up until midnight UTC"),
        );
      if (chargeDevices && throttling && !throttle.take("telemetry", 1))
        return refused(refuse("ThrottlingException", "Too many messages of devices"));
      if (chargeDevices) quota.charge("telemetry", size);
      counters.device("messages");
      events.telemetry(message);
      return ok(undefined);
    },
  };
}
