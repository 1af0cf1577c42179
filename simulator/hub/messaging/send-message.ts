import { type Answer, refuse } from "../errors.ts";
import type { Quota } from "../limits/quota.ts";
import type { Throttle } from "../limits/throttle.ts";
import { isBasic, type Tier } from "../limits/tier.ts";
import type { Registry } from "../registry/registry.ts";
import type { CloudMessage, CloudMessageDraft, CloudMessages } from "./cloud-messages.ts";

/** The parts of a hub that a message passes. */
type SendingHub = {
  readonly options: { readonly tier: Tier; readonly throttling: boolean };
  readonly registry: Registry;
  readonly quota: Quota;
  readonly throttle: Throttle;
  readonly messages: CloudMessages;
};

/** A message as a service sends it: to a device that is enabled, within tier, quota and budget. */
export function sendCloudMessage(
  hub: SendingHub,
  deviceId: string,
  draft: CloudMessageDraft,
): Answer<CloudMessage> {
  const { tier, throttling } = hub.options;
  if (hub.registry.get(deviceId, null)?.enabled !== true)
    return refuse("DeviceNotFound", `there is no device ${deviceId} that is enabled`);
  if (isBasic(tier))
    return refuse("OperationNotAvailableInCurrentTier", `tier ${tier} has no messages to devices`);
  if (hub.quota.spent())
    return refuse("IotHubQuotaExceeded", "the daily quota of messages is used up until midnight UTC");
  if (throttling && !hub.throttle.take("cloudMessage", 1))
    return refuse("ThrottlingException", "too many messages to devices; try again later");
  const sent = hub.messages.send(deviceId, draft);
  if (sent.ok) hub.quota.charge("cloudMessage", sent.value.body.length);
  return sent;
}
