import { randomBytes } from "node:crypto";
import type { PublishPacket } from "aedes";
import { isObject, type JsonObject, parseJson } from "../base/json.ts";
import { type Answer, errorDetail, type Refusal, refuse } from "../hub/errors.ts";
import type { Hub } from "../hub/hub.ts";
import type { PropertyBag } from "../hub/messaging/message.ts";
import { type Connection, send } from "./connection.ts";
import type { DeviceLinks } from "./device-link.ts";
import { authMethodOf } from "./mqtt-auth.ts";
import { parseTopic, sortBag, twinReplyTopic } from "./mqtt-topics.ts";

/** What a client publishes, carried out. `null`, or why the client is disconnected: the protocol has no other way to say no. */
export type DeviceRequests = (connection: Connection, packet: PublishPacket) => string | null;

export function createDeviceRequests(hub: Hub, links: DeviceLinks): DeviceRequests {
  function receive(connection: Connection, packet: PublishPacket): string | null {
    const { client, known } = connection;
    if (known === null) return "the client has not been authenticated";
    if (hub.faults.cutsOff(known.who.deviceId)) return "the hub cannot be reached";
    if (packet.qos === 2) return "quality 2 is not served";
    const topic = parseTopic(packet.topic, known.who);
    if (topic === null) return "there is no such topic";
    const body = Buffer.from(packet.payload);
    switch (topic.kind) {
      case "telemetry": {
        const taken = take(connection, body, {
          ...topic.properties,
          // A connection that is closed publishes only what its client left for that case.
          ...(client.closed ? { "iothub-MessageType": "Will" } : {}),
          ...(packet.retain ? { "mqtt-retain": "true" } : {}),
        });
        return taken.ok ? null : taken.refusal.message;
      }
      case "getTwin":
        getTwin(connection, topic.requestId);
        return null;
      case "report":
        report(connection, topic.requestId, body);
        return null;
      case "methodResponse":
        hub.methods.respond(client.id, topic.requestId, topic.status, body.toString());
        return null;
    }
  }

  function take({ known }: Connection, body: Buffer, properties: PropertyBag): Answer<void> {
    if (known === null) return refuse("IotHubUnauthorized", "The client has not been authenticated");
    const { who, proof, modelId } = known;
    const { system, application } = sortBag(properties);
    return hub.telemetry.accept({
      ...who,
      generationId: hub.registry.get(who.deviceId, who.moduleId)?.generationId ?? "",
      authMethod: authMethodOf(proof, who),
      modelId,
      body,
      properties: application,
      systemProperties: system,
    });
  }

  function getTwin(connection: Connection, requestId: string): void {
    if (connection.session === null) return;
    const twin = links.getTwin(connection.session);
    if (!twin.ok) {
      decline(connection, requestId, twin.refusal);
      return;
    }
    const { desired, desiredVersion, reported, reportedVersion } = twin.value;
    const document = {
      desired: { ...desired, $version: desiredVersion },
      reported: { ...reported, $version: reportedVersion },
    };
    answer(connection, twinReplyTopic(200, requestId, null), JSON.stringify(document));
  }

  function report(connection: Connection, requestId: string, body: Buffer): void {
    if (connection.session === null) return;
    const patch = parsePatch(body.toString());
    const written = patch.ok ? links.report(connection.session, patch.value) : patch;
    const committed = hub.persistence.commit();
    if (!written.ok) decline(connection, requestId, written.refusal);
    else if (!committed.ok) decline(connection, requestId, committed.refusal);
    else answer(connection, twinReplyTopic(204, requestId, written.value), "");
  }

  /** The SDKs look for `errorCode` in the body and pass over the status. */
  function decline(connection: Connection, requestId: string, refusal: Refusal): void {
    const trackingId = randomBytes(16).toString("hex").toUpperCase();
    const body = errorDetail(refusal, trackingId, new Date(hub.clock.now()));
    answer(connection, twinReplyTopic(refusal.status, requestId, null), body);
  }

  function answer(connection: Connection, topic: string, payload: string): void {
    if (connection.wants.has("twinReplies")) send(connection, topic, payload);
  }

  return receive;
}

function parsePatch(text: string): Answer<JsonObject> {
  const patch = parseJson(text);
  if (!patch.ok) return refuse("ArgumentInvalid", `The reported properties are ${patch.problem}`);
  if (isObject(patch.value)) return { ok: true, value: patch.value };
  return refuse("ArgumentInvalid", "The reported properties must be a JSON object");
}
