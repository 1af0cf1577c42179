import { type Answer, refuse } from "../errors.ts";
import type { Hub } from "../hub.ts";
import { isBasic } from "../limits/tier.ts";
import type { CloudMessage, CloudMessageDraft } from "./cloud-messages.ts";

/** A message as a service sends it: to a device that is enabled, within tier, quota and budget. */
export function sendCloudMessage(
  hub: Pick<Hub, "options" | "registry" | "quota" | "throttle" | "messages">,
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
